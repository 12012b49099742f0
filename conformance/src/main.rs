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
    Replica(command::replica::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Replica(arguments) => command::replica::run(&arguments),
    }
}
