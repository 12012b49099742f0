//! The command line.

mod crash;
mod meta;
mod replay;
mod run;
#[cfg(feature = "planted")]
mod scoreboard;
mod shrink;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use simulator::lite::Outcome;
use simulator::plan::Plan;

/// A run is whole and kept every promise.
const PASS: u8 = 0;
/// A promise about data was broken.
const SAFETY: u8 = 10;
/// It did not catch up, or did not stop.
const LIVENESS: u8 = 11;
/// Product code panicked.
const PANIC: u8 = 12;
/// The same seed gave two different runs.
const NONDETERMINISM: u8 = 13;
/// Requests or bytes beyond the budget.
const BUDGET: u8 = 14;
/// The harness itself could not do its work.
const HARNESS: u8 = 15;

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
    /// Makes a failing run as small as possible, and writes report and timeline.
    Shrink(shrink::Args),
    /// Turns a failing run into a regression case.
    Promote(shrink::PromoteArgs),
    /// The same seeds in two processes, compared in lockstep.
    Meta(meta::Args),
    /// Power losses without the replicator: is the disk's crash model right?
    Crash(crash::Args),
    /// Is every bug found that was planted in the product?
    #[cfg(feature = "planted")]
    Scoreboard(scoreboard::Args),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let code = match Args::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Shrink(args) => shrink::main(&args),
        Command::Promote(args) => shrink::promote(&args),
        Command::Meta(args) => meta::main(&args),
        Command::Crash(args) => crash::main(&args),
        #[cfg(feature = "planted")]
        Command::Scoreboard(args) => scoreboard::main(&args),
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
        "idle" | "budget" => BUDGET,
        _ => SAFETY,
    });
    codes.min().unwrap_or(PASS)
}

/// The plan of a seed or of a file.
#[expect(clippy::disallowed_methods, reason = "a command-line tool reads what it is given")]
fn load(seed: Option<u64>, full: bool, file: Option<&Path>) -> Plan {
    let Some(file) = file else { return draw(seed.unwrap_or(0), full) };
    let plan = std::fs::read_to_string(file)
        .map_err(|error| error.to_string())
        .and_then(|text| toml::from_str(&text).map_err(|error| error.to_string()));
    plan.unwrap_or_else(|error| {
        eprintln!("{}: {error}", file.display());
        std::process::exit(i32::from(HARNESS));
    })
}

/// The plan of a seed.
fn draw(seed: u64, full: bool) -> Plan {
    if full { Plan::draw_full(seed) } else { Plan::draw(seed) }
}

/// What to type to see a seed again.
fn replay_command(plan: &Plan) -> String {
    format!("simulator replay --seed {}{}", plan.seed, if plan.full { " --full" } else { "" })
}
