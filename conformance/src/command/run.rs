//! `conformance run`: is this endpoint good enough to trust?

use std::path::PathBuf;
use std::process::ExitCode;

use conformance::checks::{self, Options};
use conformance::targets::{self, Entry, Running, Start};
use conformance::verdict::{Outcome, Report, as_declared, junit, table};
use futures::StreamExt as _;

/// Runs the named checks against an endpoint and says whether a replicator can trust it.
///
/// Exit code 0: usable. 10: usable with the settings printed. 20: not usable. 1: it could not be run, as with an
/// --only or --skip that no check's id begins with.
/// With --strict: 0 if every result is as declared in the target's data, else 30.
#[derive(clap::Args)]
pub struct Arguments {
    /// Names from `conformance targets`, or `ci` for all that CI must run; `real` takes a bucket from
    /// CONFORMANCE_S3_ENDPOINT, _ACCESS_KEY, _SECRET_KEY, _BUCKET and the optional ones that the README names.
    #[arg(required = true)]
    targets: Vec<String>,
    /// Only checks whose id begins with this; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// But not those whose id begins with this; may be given several times.
    #[arg(long)]
    skip: Vec<String>,
    /// Print the reports as JSON.
    #[arg(long)]
    json: bool,
    /// Also write JUnit XML here; its failures are what makes the exit code 20, or 30 with --strict.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also keep each result here as <target>.json, for `conformance page`.
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
    /// Targets to run at the same time; with more than one, figures of time mean little.
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: std::num::NonZeroUsize,
    /// Judge by the target's declared quirks, not by usability, and print only what differs from them. What differs and
    /// may be chance is looked at once more.
    #[arg(long)]
    strict: bool,
    /// Binary that the checks of the group `replica` run [default: CONFORMANCE_REPLICATOR, else the `replicator`
    /// beside this program]. Without one, `--skip replica` must be said.
    #[arg(long, value_name = "FILE")]
    replicator: Option<PathBuf>,
    /// Folder with the scripts that start servers.
    #[arg(long, value_name = "FOLDER", default_value = "scripts")]
    scripts: PathBuf,
}

/// Runs.
pub fn run(arguments: &Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result =
        runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run_all(arguments)));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::from(1)
        }
    }
}

async fn run_all(arguments: &Arguments) -> Result<ExitCode, String> {
    let options = options(arguments)?;
    let mut reports = Vec::new();
    let runs = chosen(&arguments.targets)?.into_iter().map(|entry| async {
        let report = run_one(&entry, arguments, &options).await;
        (entry, report)
    });
    // In the order in which they were named, whichever ends first.
    let mut runs = futures::stream::iter(runs).buffered(arguments.jobs.get());
    let mut failed = 0;
    while let Some((entry, report)) = runs.next().await {
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                eprintln!("Error: {error}");
                failed += 1;
                continue;
            }
        };
        if let Some(folder) = &arguments.record {
            super::page::record(folder, &entry, &report)?;
        }
        match (arguments.json, arguments.strict) {
            (true, _) => {}
            (false, true) => print!("{}", as_declared(&report)),
            (false, false) => println!("{}", table(&report)),
        }
        reports.push(report);
    }
    if arguments.json {
        let verdicts: Vec<_> = reports
            .iter()
            .map(|report| serde_json::json!({ "report": report, "verdict": report.verdict() }))
            .collect();
        println!("{}", serde_json::to_string_pretty(&verdicts).map_err(|error| error.to_string())?);
    }
    if let Some(file) = &arguments.junit {
        write(file, &junit(&reports, arguments.strict))?;
    }
    if failed > 0 {
        return Err(format!("{failed} of the targets could not be examined: see above"));
    }
    if arguments.strict {
        return Ok(strict_verdict(&reports));
    }
    Ok(ExitCode::from(reports.iter().map(|report| report.verdict().exit_code()).max().unwrap_or(0)))
}

/// Names once more, at the end, what is not as declared: of a long output that is what people see.
fn strict_verdict(reports: &[Report]) -> ExitCode {
    let surprises = || {
        reports.iter().flat_map(|report| report.surprises().into_iter().map(move |outcome| (report, outcome)))
    };
    for (report, outcome) in surprises() {
        let found = outcome.detail.as_deref().unwrap_or("nothing");
        eprintln!("not as declared: {} {}: {}: {found}", report.target, outcome.id, outcome.word());
    }
    if surprises().next().is_none() { ExitCode::SUCCESS } else { ExitCode::from(30) }
}

pub(super) fn write(file: &std::path::Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn chosen(names: &[String]) -> Result<Vec<Entry>, String> {
    let all = targets::catalogue().map_err(|error| error.to_string())?;
    let mut chosen = Vec::new();
    for name in names {
        if name == "ci" {
            chosen.extend(all.iter().filter(|entry| entry.in_ci).cloned());
            continue;
        }
        let entry = all.iter().find(|entry| entry.name == *name);
        let known: Vec<_> = all.iter().map(|entry| entry.name.as_str()).collect();
        chosen.push(
            entry
                .cloned()
                .ok_or_else(|| format!("no target is named {name:?}; there are: {}", known.join(", ")))?,
        );
    }
    Ok(chosen)
}

/// What is to be run, with the replicator's binary if any check needs it.
fn options(arguments: &Arguments) -> Result<Options, String> {
    let mut options =
        Options { only: arguments.only.clone(), skip: arguments.skip.clone(), ..Options::default() };
    let named = arguments
        .replicator
        .clone()
        .or_else(|| std::env::var_os("CONFORMANCE_REPLICATOR").map(PathBuf::from));
    let beside = || std::env::current_exe().ok().map(|path| path.with_file_name("replicator"));
    options.replicator = named.or_else(beside);
    options.validate()?;
    if !options.runs_replicator() {
        return Ok(options);
    }
    let binary = options.replicator.clone().unwrap_or_default();
    let says = std::process::Command::new(&binary).arg("version").output();
    match says {
        Ok(said) if said.status.success() => Ok(options),
        other => {
            let why = other.map_or_else(|error| error.to_string(), |said| said.status.to_string());
            Err(format!(
                "{} version: {why}; build it (cargo build -p replicator), name it with --replicator, or --skip replica",
                binary.display()
            ))
        }
    }
}

async fn run_one(entry: &Entry, arguments: &Arguments, options: &Options) -> Result<Report, String> {
    let running: Running = targets::start(entry, &arguments.scripts).await?;
    if matches!(entry.start, Start::Environment(_)) {
        let limit = checks::ceiling(options);
        eprintln!(
            "{:?}: at most {} requests and {} MiB, below {}; what cannot be removed afterwards is named",
            running.target,
            limit.requests,
            limit.bytes >> 20,
            running.target.prefix
        );
    }
    let mut report = checks::run(running.target.clone(), options).await;
    if let (true, Ok(report)) = (arguments.strict, &mut report) {
        look_again(&running, options, report).await;
    }
    running.stop().await;
    report.map_err(|error| format!("{}: {error}", entry.name))
}

/// Takes the second result of what may have been chance, and keeps what the first one was.
async fn look_again(running: &Running, options: &Options, report: &mut Report) {
    for outcome in report.outcomes.iter_mut().filter(|outcome| outcome.may_be_chance()) {
        let only = Options { only: vec![outcome.id.clone()], ..options.clone() };
        let Ok(again) = checks::run(running.target.clone(), &only).await else { continue };
        let Some(second) = again.outcomes.into_iter().find(|second| second.id == outcome.id) else {
            continue;
        };
        let first = outcome.detail.take().unwrap_or_else(|| "nothing to complain about".to_owned());
        let left_behind = outcome.left_behind.take().or(second.left_behind);
        *outcome = Outcome { first_look: Some(first), left_behind, ..second };
    }
}

/// Prints the list of targets.
pub fn list() -> ExitCode {
    match targets::catalogue() {
        Ok(all) => {
            for entry in all {
                println!("{:20} {:3} {}", entry.name, if entry.in_ci { "ci" } else { "" }, entry.about);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::from(1)
        }
    }
}
