//! `simulator run`: many seeds, a few hundred in each process.
//!
//! A simulated process that is killed is abandoned inside its calls and never unwound, so that what it had allocated is
//! freed only when the real process ends. The parent hands out ranges of seeds and adds up what the children report,
//! one line of JSON for each seed.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

/// Seeds in one process: a few hundred MB of abandoned memory.
const RANGE: u64 = 100;

#[derive(clap::Args)]
pub struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// With an S3 server across a network, reached through the real SDK.
    #[arg(long)]
    full: bool,
    /// Processes side by side.
    #[arg(long, default_value = "1")]
    jobs: std::num::NonZeroUsize,
    /// Stop after so many failing seeds.
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// Seconds spent on shrinking the first failure of each kind in a process; 0 shrinks nothing.
    #[arg(long, default_value_t = 0)]
    shrink: u64,
    /// Where shrunk failures go.
    #[arg(long, default_value = "failures")]
    out: PathBuf,
    /// Print the sum as JSON.
    #[arg(long)]
    json: bool,
    /// Run the seeds in this process and report to the parent.
    #[arg(long, hide = true)]
    child: bool,
}

/// What became of one seed.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    seed: u64,
    sim_millis: u64,
    steps: u64,
    commits: u64,
    restores: u64,
    broken: Option<Broken>,
}

/// The first promise that was broken.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Broken {
    seed: u64,
    oracle: String,
    promised: String,
    happened: String,
    code: u8,
}

/// The sum over all seeds.
#[derive(Debug, Default, Serialize)]
struct Sum {
    seeds: u64,
    commits: u64,
    restores: u64,
    disk_calls: u64,
    simulated_seconds: f64,
    failed: Vec<Broken>,
    /// Ranges whose process did not end as it should.
    lost: Vec<String>,
}

pub fn main(args: &Args) -> u8 {
    if args.child { child(args) } else { parent(args) }
}

/// Runs the seeds one after the other and reports each.
fn child(args: &Args) -> u8 {
    let mut kinds = BTreeSet::new();
    for seed in args.from..args.from + args.seeds {
        let plan = super::draw(seed, args.full);
        let outcome = simulator::run(&plan, false);
        let broken = outcome.violations.first().map(|first| Broken {
            seed,
            oracle: first.oracle.to_owned(),
            promised: first.promised.clone(),
            happened: first.happened.clone(),
            code: super::exit_code(&outcome),
        });
        let line = Line {
            seed,
            sim_millis: outcome.sim_millis,
            steps: outcome.steps,
            commits: outcome.commits,
            restores: outcome.restores as u64,
            broken,
        };
        println!("{}", serde_json::to_string(&line).expect("plain data"));
        if let Some(first) = outcome.violations.first()
            && args.shrink > 0
            && kinds.insert(first.oracle)
        {
            let dir = args.out.join(format!("{}-{seed}", first.oracle));
            let (small, outcome) = super::shrink::minimise(&plan, &outcome, Duration::from_secs(args.shrink));
            super::shrink::save(&dir, &small, &outcome);
        }
    }
    super::PASS
}

/// Hands out ranges until there are none left, or enough has failed.
fn parent(args: &Args) -> u8 {
    #[expect(clippy::disallowed_methods, reason = "measures the simulator itself")]
    let started = Instant::now();
    let bar = ProgressBar::new(args.seeds);
    let style = ProgressStyle::with_template(
        "{wide_bar} {human_pos} of {human_len} seeds, {per_sec}, {eta} left{msg}",
    );
    bar.set_style(style.expect("a constant template"));
    let (sum, next) = (Mutex::new(Sum::default()), Mutex::new(args.from));
    let take = || {
        let mut next = next.lock().expect("no holder panics");
        let from = *next;
        let count = (args.from + args.seeds - from).min(RANGE);
        *next += count;
        (count > 0 && lock(&sum).failed.len() < args.failures).then_some((from, count))
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.get() {
            scope.spawn(|| {
                while let Some((from, count)) = take() {
                    range(args, from, count, &sum, &bar);
                }
            });
        }
    });
    bar.finish_and_clear();
    let sum = sum.into_inner().expect("no holder panics");
    tell(args, &sum, started.elapsed().as_secs_f64());
    let worst = sum.failed.iter().map(|broken| broken.code).max().unwrap_or(super::PASS);
    if sum.lost.is_empty() { worst } else { super::HARNESS }
}

/// Runs one range in a process of its own.
fn range(args: &Args, from: u64, count: u64, sum: &Mutex<Sum>, bar: &ProgressBar) {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["run", "--child", "--from", &from.to_string(), "--seeds", &count.to_string()]);
    command.args(["--shrink", &args.shrink.to_string()]).arg("--out").arg(&args.out);
    if args.full {
        command.arg("--full");
    }
    let mut process = command.stdout(Stdio::piped()).spawn().expect("this program can be started again");
    let mut ended_before = from;
    for text in BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<Line>(&text) else {
            // What the shrinker tells about its work.
            bar.suspend(|| eprintln!("{text}"));
            continue;
        };
        ended_before = line.seed + 1;
        bar.inc(1);
        if let Some(Broken { seed, oracle, promised, happened, .. }) = &line.broken {
            bar.suspend(|| eprintln!("seed {seed}: {oracle}: {promised}: {happened}"));
        }
        add(&mut lock(sum), line);
    }
    let status = process.wait();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) || ended_before < from + count {
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let lost = format!("seed {ended_before}: the process ended in the middle ({how})");
        bar.suspend(|| eprintln!("{lost}"));
        lock(sum).lost.push(lost);
    }
}

fn add(sum: &mut Sum, line: Line) {
    sum.seeds += 1;
    sum.commits += line.commits;
    sum.restores += line.restores;
    sum.disk_calls += line.steps;
    sum.simulated_seconds += line.sim_millis as f64 / 1000.0;
    sum.failed.extend(line.broken);
}

fn tell(args: &Args, sum: &Sum, seconds: f64) {
    if args.json {
        println!("{}", serde_json::to_string_pretty(sum).expect("plain data"));
        return;
    }
    let (rate, speed) = (sum.seeds as f64 / seconds, sum.simulated_seconds / seconds);
    println!(
        "{} seeds, {} failed, {} commits, {} restores, {} disk calls; {rate:.1} seeds/s, {speed:.0} simulated seconds \
         per second",
        sum.seeds,
        sum.failed.len(),
        sum.commits,
        sum.restores,
        sum.disk_calls,
    );
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}
