//! `conformance page`: the table of all targets × checks, from recorded runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use conformance::checks::{self, Need};
use conformance::targets::{self, Entry};
use conformance::verdict::{Meaning, Recorded, Report, targets_page};

/// Writes the page of all targets from runs recorded with `conformance run --record`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder with recorded runs.
    #[arg(long, value_name = "FOLDER", default_value = "conformance/runs")]
    runs: PathBuf,
    /// File to write.
    #[arg(long, value_name = "FILE", default_value = "conformance/TARGETS.md")]
    output: PathBuf,
    /// Write nothing; exit code 1 if the file is not what would be written.
    #[arg(long)]
    check: bool,
}

/// Runs.
pub fn run(arguments: &Arguments) -> ExitCode {
    match page(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::from(1)
        }
    }
}

/// Keeps a run.
pub(super) fn record(folder: &Path, entry: &Entry, report: &Report) -> Result<(), String> {
    let kept = Recorded::of(report, &entry.about);
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let text = serde_json::to_string_pretty(&kept).map_err(|error| error.to_string())?;
    super::run::write(&folder.join(format!("{}.json", entry.name)), &(text + "\n"))
}

fn read(file: &Path) -> Result<String, std::io::Error> {
    std::fs::read_to_string(file)
}

fn page(arguments: &Arguments) -> Result<(), String> {
    let mut runs = Vec::new();
    for entry in targets::catalogue().map_err(|error| error.to_string())? {
        let file = arguments.runs.join(format!("{}.json", entry.name));
        match read(&file) {
            Ok(text) => {
                let run: Recorded =
                    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
                runs.push(run);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", file.display())),
        }
    }
    let rows: Vec<_> = checks::all()
        .iter()
        .map(|check| (check.id.to_owned(), meaning(check.need), check.requirement.to_owned()))
        .collect();
    let quirks = targets::quirks().map_err(|error| format!("quirks.toml: {error}"))?;
    let text = targets_page(&rows, &quirks, &runs);
    if !arguments.check {
        return super::run::write(&arguments.output, &text);
    }
    let there =
        read(&arguments.output).map_err(|error| format!("{}: {error}", arguments.output.display()))?;
    if there == text {
        Ok(())
    } else {
        Err(format!(
            "{} is not what the recorded runs give; run `conformance page`",
            arguments.output.display()
        ))
    }
}

fn meaning(need: Need) -> Meaning {
    match need {
        Need::Required => Meaning::Required,
        Need::Setting(_) => Meaning::Setting,
        Need::Optional => Meaning::Optional,
        Need::Figure => Meaning::Figure,
    }
}
