//! `simulator shrink` and `simulator promote`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use simulator::evidence::Violation;
use simulator::lite::Outcome;
use simulator::plan::Plan;
use simulator::{report, shrink};

#[derive(clap::Args)]
pub struct Args {
    /// The failing seed.
    #[arg(long)]
    seed: Option<u64>,
    /// With an S3 server across a network, reached through the real SDK.
    #[arg(long)]
    full: bool,
    /// Or a plan file.
    #[arg(long, conflicts_with = "seed")]
    plan: Option<PathBuf>,
    /// Where the smallest plan, the report and the timeline go.
    #[arg(long, default_value = "failures")]
    out: PathBuf,
    /// Seconds to spend.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(clap::Args)]
pub struct PromoteArgs {
    /// The plan of a failing run, as `shrink` left it.
    #[arg(long)]
    plan: PathBuf,
    /// Name of the regression case: what was wrong, in a few words with dashes.
    #[arg(long)]
    name: String,
    /// Directory of the checked-in cases.
    #[arg(long, default_value = "simulator/cases")]
    cases: PathBuf,
}

pub fn main(args: &Args) -> u8 {
    let plan = super::load(args.seed, args.full, args.plan.as_deref());
    let outcome = simulator::run(&plan, false);
    let Some(first) = outcome.violations.first() else {
        println!("every promise was kept: nothing to shrink");
        return super::PASS;
    };
    let dir = args.out.join(format!("{}-{}", first.oracle, plan.seed));
    let (small, outcome) = minimise(&plan, &outcome, Duration::from_secs(args.seconds));
    save(&dir, &small, &outcome);
    super::exit_code(&outcome)
}

/// Shrinks a failing plan within a time budget; returns it with its outcome.
pub fn minimise(plan: &Plan, outcome: &Outcome, budget: Duration) -> (Plan, Outcome) {
    let broken = outcome.violations.first().map(kind);
    #[expect(clippy::disallowed_methods, reason = "a budget of the tool itself")]
    let started = Instant::now();
    let fails = |plan: &Plan| simulator::run(plan, false).violations.iter().any(|v| Some(kind(v)) == broken);
    let shrunk = shrink::shrink(plan, fails, || started.elapsed() < budget);
    println!("shrunk in {} runs, {} simplifications", shrunk.runs, shrunk.accepted);
    let outcome = simulator::run(&shrunk.plan, false);
    (shrunk.plan, outcome)
}

/// What is broken, without the numbers: a smaller plan must break the same, or it shows something else.
fn kind(violation: &Violation) -> (&'static str, String) {
    let words = violation.promised.chars().filter(|c| !c.is_ascii_digit()).collect();
    (violation.oracle, words)
}

/// Writes the plan, the report and the timeline, and prints the report.
#[expect(clippy::disallowed_methods, reason = "a command-line tool writes its results")]
pub fn save(dir: &Path, plan: &Plan, outcome: &Outcome) {
    let file = dir.join("plan.toml");
    let command = format!("simulator replay --plan {}", file.display());
    let report = report::one_screen(plan, outcome, &command);
    println!("{report}");
    let write = || {
        std::fs::create_dir_all(dir)?;
        std::fs::write(&file, toml::to_string(plan).expect("a plan is plain data"))?;
        std::fs::write(dir.join("REPORT.txt"), &report)?;
        std::fs::write(dir.join("timeline.html"), report::timeline(plan, outcome, &command))
    };
    if let Err(error) = write() {
        eprintln!("cannot write to {}: {error}", dir.display());
    }
}

#[expect(clippy::disallowed_methods, reason = "a command-line tool writes its results")]
pub fn promote(args: &PromoteArgs) -> u8 {
    let plan = super::load(None, false, Some(&args.plan));
    let outcome = simulator::run(&plan, false);
    let broken = outcome.violations.first();
    let what = broken.map_or("nothing (already fixed)".into(), |v| format!("{}: {}", v.oracle, v.happened));
    let case = format!(
        "# {}\n# When found, it broke {what}\n\n{}",
        args.name,
        toml::to_string(&plan).expect("plain data")
    );
    let file = args.cases.join(format!("{}.toml", args.name));
    match std::fs::write(&file, case) {
        Ok(()) => println!("{}: runs with every `cargo test` from now on", file.display()),
        Err(error) => {
            eprintln!("cannot write {}: {error}", file.display());
            return super::HARNESS;
        }
    }
    super::PASS
}
