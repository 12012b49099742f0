//! Real processes under torture: any replicator binary with Litestream's command line, ours or Litestream's.
//!
//! A seeded application writes in a process of its own; it and the replicator are killed, frozen and restarted at
//! random moments, the database file is replaced, the S3 server fails, and all the while restores are judged by the
//! independent judge. The promises that are checked:
//!
//! | promise | meaning |
//! | --- | --- |
//! | prefix | a restored file is the application's state after some commit, undamaged |
//! | monotone | it is never older than one restored before |
//! | restorable | from the first success on, a restore succeeds at any moment with a healthy store |
//! | fresh | when the application is quiet, the replica becomes equal to it within a bound |
//! | honest exit | exit code 0 after SIGTERM means that the replica is equal to the quiet application's database |
//! | running | the replicator does not end by itself |
//! | source | the application never sees an error but busy, and its own file is undamaged in the end |
//! | whole | the independent decoders find no gap, no damage and no disagreement between levels |

pub mod app;
mod cast;
mod event;
mod report;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

pub use report::{Report, Violation};
use torture::Torture;

/// The name under which this program behaves as the product it was built with.
pub const BUILT_IN: &str = "replicator";

/// Tortures a replicator binary with real processes and signals.
///
/// Exit code 0: no promise was broken. 1: some were; the evidence is kept. 2: the run could not be made.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Any replicator with Litestream's command line (0.3.13 or 0.5); without it, ours as built into this program.
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Decides what happens; 0 draws one.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How long events go on, in seconds. The last checks come on top.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Where the replica goes.
    #[arg(long, value_enum, default_value_t = Destination::S3)]
    pub destination: Destination,
    /// Events that must not happen, by name.
    #[arg(long, value_delimiter = ',')]
    pub without: Vec<String>,
    /// A further line of the database entry in the configuration, such as `min-checkpoint-page-count: 10`.
    #[arg(long)]
    pub database_line: Vec<String>,
    /// Longest time in seconds the replica may take to catch up with a quiet application.
    #[arg(long, default_value_t = 20)]
    pub patience: u64,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where the replica goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Destination {
    /// An S3 server in this process.
    S3,
    /// A directory.
    Directory,
}

/// Makes the run and prints the report.
pub fn run(arguments: &Arguments) -> ExitCode {
    let report = Torture::new(arguments.clone()).and_then(Torture::run);
    match report {
        Ok(report) => {
            if arguments.json {
                println!(
                    "{}",
                    serde_json::to_string_pretty(&report).expect("a report has no unserialisable part")
                );
            } else {
                print!("{report}");
            }
            if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::from(2)
        }
    }
}
