//! The `chaos` command.

use std::process::ExitCode;

use chaos::real;
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
    Real(real::Arguments),
    #[command(hide = true)]
    App(real::app::Arguments),
}

fn main() -> ExitCode {
    // Under this name it is the product it was built with, so that a run needs no second binary.
    let called_as = std::env::args_os().next().map(std::path::PathBuf::from);
    if called_as.is_some_and(|path| path.file_name() == Some(real::BUILT_IN.as_ref())) {
        return replicator::cli::main();
    }
    match Cli::parse().command {
        Command::Real(arguments) => real::run(&arguments),
        Command::App(arguments) => real::app::run(&arguments),
    }
}
