//! `simulator run`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

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
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Stop after so many failing seeds (per process).
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// Seconds spent on shrinking the first failure of each kind; 0 shrinks nothing.
    #[arg(long, default_value_t = 0)]
    shrink: u64,
    /// Where shrunk failures go.
    #[arg(long, default_value = "failures")]
    out: PathBuf,
}

pub fn main(args: &Args) -> u8 {
    if args.jobs > 1 { side_by_side(args) } else { one_process(args) }
}

/// Each process gets its own range of seeds.
fn side_by_side(args: &Args) -> u8 {
    let program = std::env::current_exe().expect("this program has a path");
    let share = args.seeds.div_ceil(args.jobs);
    let mut children = Vec::new();
    for job in 0..args.jobs {
        let mut command = Command::new(&program);
        command.args([
            "run",
            "--seeds",
            &share.to_string(),
            "--from",
            &(args.from + job * share).to_string(),
        ]);
        command.args(["--failures", &args.failures.to_string(), "--shrink", &args.shrink.to_string()]);
        command.arg("--out").arg(&args.out);
        if args.full {
            command.arg("--full");
        }
        children.push(command.spawn().expect("this program can be started again"));
    }
    let codes = children.iter_mut().map(|child| child.wait().ok().and_then(|status| status.code()));
    codes.map(|code| code.map_or(super::HARNESS, |code| code as u8)).max().unwrap_or(super::PASS)
}

fn one_process(args: &Args) -> u8 {
    #[expect(clippy::disallowed_methods, reason = "measures the simulator itself")]
    let started = Instant::now();
    let (mut sim_millis, mut steps, mut commits, mut restores, mut worst) = (0, 0, 0, 0, super::PASS);
    let (mut failed, mut done, mut kinds) = (0, 0_u64, BTreeSet::new());
    for seed in args.from..args.from + args.seeds {
        let plan = super::draw(seed, args.full);
        let outcome = simulator::run(&plan, false);
        sim_millis += outcome.sim_millis;
        steps += outcome.steps;
        commits += outcome.commits;
        restores += outcome.restores;
        done += 1;
        let Some(first) = outcome.violations.first() else { continue };
        println!("seed {seed}: {}: {}: {}", first.oracle, first.promised, first.happened);
        worst = worst.max(super::exit_code(&outcome));
        failed += 1;
        if args.shrink > 0 && kinds.insert(first.oracle) {
            let dir = args.out.join(format!("{}-{seed}", first.oracle));
            let (small, outcome) = super::shrink::minimise(&plan, &outcome, Duration::from_secs(args.shrink));
            super::shrink::save(&dir, &small, &outcome);
        }
        if failed >= args.failures {
            break;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{done} seeds, {failed} failed, {commits} commits, {restores} restores, {steps} disk calls; {:.1} seeds/s, \
         {:.0} simulated seconds per second",
        done as f64 / seconds,
        sim_millis as f64 / 1000.0 / seconds,
    );
    worst
}
