//! The `chaos` command.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use chaos::{demo, real};
use clap::{Parser, Subcommand};

/// Looks for faults in replicators by making everything around them go wrong.
#[derive(Parser)]
#[command(name = "chaos", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Real(real::Arguments),
    #[command(hide = true)]
    App(real::app::Arguments),
    /// The product's own command line, so that a demonstration needs no other binary.
    #[command(hide = true, disable_help_flag = true)]
    Replicator {
        /// As for the `replicator` binary.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    // Under this name it is the product it was built with, so that a run needs no second binary.
    let called_as = std::env::args_os().next().map(std::path::PathBuf::from);
    if called_as.is_some_and(|path| path.file_name() == Some(real::BUILT_IN.as_ref())) {
        return replicator::cli::main();
    }
    match Cli::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Real(arguments) => real::run(&arguments),
        Command::App(arguments) => real::app::run(&arguments),
        Command::Replicator { arguments } => replicator(arguments),
    }
}

fn replicator(arguments: Vec<OsString>) -> ExitCode {
    let outcome = replicator::cli::run(arguments, &replicator::config::Environment::of_process());
    print!("{}", outcome.stdout);
    // A reader that went away is no failure.
    let _ = std::io::stderr().write_all(outcome.stderr.as_bytes());
    ExitCode::from(outcome.code)
}
