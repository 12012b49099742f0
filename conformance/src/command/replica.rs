//! `conformance replica`: is this replica whole?

use std::path::Path;
use std::process::ExitCode;

use conformance::Defect;
use conformance::replica::{Directory, Replica, Report, S3};

/// Reads a replica written by anything (the replicator, Litestream 0.5 or 0.3) and says whether it is whole.
///
/// Exit code 0: whole. 1: something that was stored cannot be restored. 2: it could not be read.
#[derive(clap::Args)]
pub struct Arguments {
    /// A directory, a file:// URL, or s3://bucket/path?endpoint=…&region=…&forcePathStyle=true: what the replicator
    /// was given. Keys come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; where the URL names
    /// none, the endpoint from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL and the region from AWS_REGION.
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
    if place.starts_with("s3://") {
        let store = S3::open(place, |name| std::env::var(name).ok())?;
        return Ok(Replica::read(&store)?.report());
    }
    let path = place.strip_prefix("file://").unwrap_or(place);
    if path.contains("://") {
        return Err(Defect::new(format!("{place}: only directories, file:// and s3:// URLs can be read")));
    }
    Ok(Replica::read(&Directory::new(Path::new(path)))?.report())
}
