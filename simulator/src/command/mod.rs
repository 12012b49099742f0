//! The command line.

mod crash;
mod replay;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use simulator::lite::Outcome;

/// A run is whole and kept every promise.
const PASS: u8 = 0;
/// A promise about data was broken.
const SAFETY: u8 = 10;
/// It did not catch up, or did not stop.
const LIVENESS: u8 = 11;
/// Product code panicked.
const PANIC: u8 = 12;
/// Requests or bytes beyond the budget.
const BUDGET: u8 = 14;

#[derive(Parser)]
#[command(version, about = "Runs the replicator in simulated worlds, each made from one seed")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds.
    Run(run::Args),
    /// Runs one seed, or one plan, and tells what happened.
    Replay(replay::Args),
    /// Power losses without the replicator: is the disk's crash model right?
    Crash(crash::Args),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let code = match Args::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Crash(args) => crash::main(&args),
    };
    ExitCode::from(code)
}

/// The exit code that says what kind of promise was broken first.
fn exit_code(outcome: &Outcome) -> u8 {
    if outcome.violations.iter().any(|violation| violation.promised.contains("never panics")) {
        return PANIC;
    }
    let codes = outcome.violations.iter().map(|violation| match violation.oracle {
        "catches-up" => LIVENESS,
        "idle" => BUDGET,
        _ => SAFETY,
    });
    codes.min().unwrap_or(PASS)
}
