//! The `replicator` binary: everything it does is in [`replicator::cli`].

fn main() -> std::process::ExitCode {
    replicator::cli::main()
}
