//! `conformance replica`: is this replica whole?

use std::path::Path;
use std::process::ExitCode;

use conformance::Defect;
use conformance::replica::{Directory, Replica, Report};

/// Reads a replica written by anything (the replicator, Litestream 0.5 or 0.3) and says whether it is whole.
///
/// Exit code 0: whole. 1: something that was stored cannot be restored. 2: it could not be read.
#[derive(clap::Args)]
pub struct Arguments {
    /// A directory or a file:// URL: the path the replicator was given.
    replica: String,
    /// Print the report as JSON, with every state that can be restored.
    #[arg(long)]
    json: bool,
}

/// Prints the report.
pub fn run(arguments: &Arguments) -> ExitCode {
    match read(&arguments.replica) {
        Ok(report) => {
            if arguments.json {
                println!(
                    "{}",
                    serde_json::to_string_pretty(&report).expect("a report has no unserialisable part")
                );
            } else {
                print!("{report}");
            }
            if report.whole { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(defect) => {
            eprintln!("Error: {defect}");
            ExitCode::from(2)
        }
    }
}

fn read(place: &str) -> Result<Report, Defect> {
    let path = place.strip_prefix("file://").unwrap_or(place);
    if path.contains("://") {
        return Err(Defect::new(format!("{place}: only directories and file:// URLs can be read")));
    }
    Ok(Replica::read(&Directory::new(Path::new(path)))?.report())
}
