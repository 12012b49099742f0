//! `simulator scoreboard`: wakes each planted bug in turn and counts the seeds until an oracle objects.
//!
//! Every bug gets a process of its own, so that one that hangs or crashes costs only its own row. A seed counts only if
//! it keeps every promise while all bugs sleep.

use std::io::Read as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use replicator::planted::{BUGS, Bug, Lane, wake};
use serde::{Deserialize, Serialize};
use simulator::plan::Plan;

#[derive(clap::Args)]
pub struct Args {
    /// Bugs side by side.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Seeds without HTTP that a bug may need.
    #[arg(long, default_value_t = 300)]
    max_seeds: u64,
    /// Seeds with an S3 server that a bug may need.
    #[arg(long, default_value_t = 60)]
    max_full_seeds: u64,
    /// Seconds that a bug may need.
    #[arg(long, default_value_t = 600)]
    max_seconds: u64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only the bugs whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Only a few that need few seeds.
    #[arg(long)]
    quick: bool,
    /// Print JSON, one line per bug, instead of a table.
    #[arg(long)]
    json: bool,
    /// Look for this one bug in this process and print one line of JSON (what the processes do).
    #[arg(long, hide = true)]
    bug: Option<String>,
}

/// Bugs for `--quick`: one or more of each part without HTTP, each found within a few seeds.
const QUICK: &[&str] = &[
    "oldest-frame-wins",
    "image-without-the-log",
    "descriptor-closed",
    "restore-not-synced",
    "failed-upload-skipped",
    "resume-on-trust",
    "uncompacted-files-expire",
    "writers-wait",
    "base-in-every-level",
];

/// What became of one bug.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    bug: String,
    /// Oracle that objected; `None` if none did.
    found_by: Option<String>,
    /// What it said.
    happened: String,
    /// The seed, or the regression case, with which it was found.
    with: String,
    /// Seeds run until then, those left out that fail without any bug; 0 if a case was enough.
    seeds: u64,
    seconds: f64,
}

pub fn main(args: &Args) -> u8 {
    if let Some(name) = &args.bug {
        let Some(bug) = BUGS.iter().find(|bug| bug.name == name) else { return super::HARNESS };
        println!("{}", serde_json::to_string(&search(bug, args)).expect("plain data"));
        return super::PASS;
    }
    let wanted = |bug: &&Bug| {
        args.only.as_ref().is_none_or(|only| bug.name.contains(only.as_str()))
            && (!args.quick || QUICK.contains(&bug.name))
    };
    let bugs: Vec<&Bug> = BUGS.iter().filter(wanted).collect();
    let rows = side_by_side(&bugs, args);
    if !args.json {
        print_table(&bugs, &rows);
    }
    let missed: Vec<&str> = rows.iter().filter(|r| r.found_by.is_none()).map(|r| r.bug.as_str()).collect();
    eprintln!("{} of {} bugs found{}", rows.len() - missed.len(), rows.len(), list("; missed: ", &missed));
    if missed.is_empty() && !rows.is_empty() { super::PASS } else { super::HARNESS }
}

fn list(before: &str, names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!("{before}{}", names.join(", ")) }
}

/// Runs seeds with the bug awake until an oracle objects.
fn search(bug: &Bug, args: &Args) -> Row {
    #[expect(clippy::disallowed_methods, reason = "measures the simulator itself")]
    let started = Instant::now();
    let full = bug.lane() == Lane::Full;
    let most = if full { args.max_full_seeds } else { args.max_seeds };
    let mut row = Row {
        bug: bug.name.into(),
        found_by: None,
        happened: String::new(),
        with: String::new(),
        seeds: 0,
        seconds: 0.0,
    };
    for (name, plan) in plans(args.from..args.from + most, full) {
        let is_seed = u64::from(plan.seed.to_string() == name);
        row.seeds += is_seed;
        wake(Some(bug.name));
        let objection = objection(&plan);
        wake(None);
        if let Some((oracle, happened)) = objection {
            if self::objection(&plan).is_none() {
                row = Row { found_by: Some(oracle), happened, with: name, ..row };
                break;
            }
            row.seeds -= is_seed;
        }
        if started.elapsed() > Duration::from_secs(args.max_seconds) {
            row.happened = "out of time".into();
            break;
        }
    }
    row.seconds = started.elapsed().as_secs_f64();
    row
}

/// What `cargo test` would run: the regression cases of the lane without HTTP, then seeds.
fn plans(seeds: std::ops::Range<u64>, full: bool) -> impl Iterator<Item = (String, Plan)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    #[expect(clippy::disallowed_methods, reason = "cases are files of this package")]
    let entries = std::fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok);
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|_| !full).collect();
    cases.sort();
    let cases = cases.into_iter().map(|file| {
        let name = file.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
        (name, super::load(None, false, Some(&file)))
    });
    cases.chain(seeds.map(move |seed| (seed.to_string(), super::draw(seed, full))))
}

/// The first oracle that objects to a run, and what it says. A run that panics or does not end breaks off.
fn objection(plan: &Plan) -> Option<(String, String)> {
    let run = AssertUnwindSafe(|| simulator::run(plan, false));
    match std::panic::catch_unwind(run) {
        Ok(outcome) => {
            let first = outcome.violations.into_iter().next()?;
            Some((first.oracle.to_owned(), first.happened))
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(("(run broke off)".to_owned(), text.unwrap_or_default()))
        }
    }
}

/// Looks for all bugs, a few at a time.
fn side_by_side(bugs: &[&Bug], args: &Args) -> Vec<Row> {
    let mut waiting = bugs.iter().enumerate();
    let mut running: Vec<(usize, Instant, Child)> = Vec::new();
    let mut rows: Vec<(usize, Row)> = Vec::new();
    loop {
        while running.len() < args.jobs.max(1) {
            let Some((index, bug)) = waiting.next() else { break };
            #[expect(clippy::disallowed_methods, reason = "a budget of the tool itself")]
            running.push((index, Instant::now(), start(bug, args)));
        }
        if running.is_empty() {
            break;
        }
        #[expect(clippy::disallowed_methods, reason = "waits for other processes")]
        std::thread::sleep(Duration::from_millis(50));
        // A run that never ends must not hold up the others.
        let limit = Duration::from_secs(args.max_seconds + 60);
        let mut still_running = Vec::new();
        for (index, since, mut child) in running {
            let ended = child.try_wait().is_ok_and(|status| status.is_some());
            if !ended && since.elapsed() < limit {
                still_running.push((index, since, child));
                continue;
            }
            let row = collect(bugs[index], child, since.elapsed());
            if args.json {
                println!("{}", serde_json::to_string(&row).expect("plain data"));
            } else {
                let by = row.found_by.as_deref().unwrap_or("NOT FOUND");
                eprintln!("{:32} {by:16} {:4} seeds {:6.1} s", row.bug, row.seeds, row.seconds);
            }
            rows.push((index, row));
        }
        running = still_running;
    }
    rows.sort_by_key(|(index, _)| *index);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn start(bug: &Bug, args: &Args) -> Child {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["scoreboard", "--bug", bug.name]);
    for (flag, value) in [
        ("--max-seeds", args.max_seeds),
        ("--max-full-seeds", args.max_full_seeds),
        ("--max-seconds", args.max_seconds),
        ("--from", args.from),
    ] {
        command.args([flag, &value.to_string()]);
    }
    // Panics of product code are expected here, and are told in the row.
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("this program can be started again")
}

/// The row that an ended (or hanging) process leaves.
fn collect(bug: &Bug, mut child: Child, took: Duration) -> Row {
    let _ = child.kill();
    let _ = child.wait();
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        let _ = stdout.read_to_string(&mut text);
    }
    text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| Row {
        bug: bug.name.into(),
        found_by: None,
        happened: "the process crashed or hung".into(),
        with: String::new(),
        seeds: 0,
        seconds: took.as_secs_f64(),
    })
}

/// The table for the package's README.
fn print_table(bugs: &[&Bug], rows: &[Row]) {
    println!("| bug | part | what it does | repeats | found by | seeds | seconds |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (bug, row) in bugs.iter().zip(rows) {
        let found = row.found_by.as_deref().unwrap_or("**not found**");
        println!(
            "| `{}` | {} | {} | {} | {found} | {} | {:.1} |",
            bug.name,
            format!("{:?}", bug.part).to_lowercase(),
            bug.breaks,
            bug.source,
            if row.seeds == 0 { "case".to_owned() } else { row.seeds.to_string() },
            row.seconds,
        );
    }
    let mut seeds: Vec<u64> = rows.iter().filter(|r| r.found_by.is_some()).map(|r| r.seeds).collect();
    seeds.sort_unstable();
    if let Some(median) = seeds.get(seeds.len() / 2) {
        println!("\n{} of {} found; median {median} seeds.", seeds.len(), rows.len());
    }
}
