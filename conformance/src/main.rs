//! The `conformance` command.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Judges replicas and S3 endpoints with code that shares nothing with the replicator.
#[derive(Parser)]
#[command(name = "conformance", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(command::run::Arguments),
    Diff(command::diff::Arguments),
    /// Lists the targets that `run` knows.
    Targets,
    Page(command::page::Arguments),
    Replica(command::replica::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(arguments) => command::run::run(&arguments),
        Command::Diff(arguments) => command::diff::run(&arguments),
        Command::Targets => command::run::list(),
        Command::Page(arguments) => command::page::run(&arguments),
        Command::Replica(arguments) => command::replica::run(&arguments),
    }
}
