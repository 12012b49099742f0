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
    match Cli::parse().command {
        Command::Real(arguments) => real::run(&arguments),
        Command::App(arguments) => real::app::run(&arguments),
    }
}
