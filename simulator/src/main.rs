//! `simulator`: run seeds, replay, shrink and keep failures, check determinism.

mod command;

fn main() -> std::process::ExitCode {
    command::main()
}
