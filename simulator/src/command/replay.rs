//! `simulator replay`.

use std::path::PathBuf;

use simulator::report;

#[derive(clap::Args)]
pub struct Args {
    /// The seed.
    #[arg(long)]
    seed: Option<u64>,
    /// With an S3 server across a network, reached through the real SDK.
    #[arg(long)]
    full: bool,
    /// Or a plan file.
    #[arg(long, conflicts_with = "seed")]
    plan: Option<PathBuf>,
    /// Print every disk call, not only events.
    #[arg(long)]
    trace: bool,
    /// Print what the product logs, to standard error.
    #[arg(long)]
    log: bool,
    /// Print the plan, too.
    #[arg(long)]
    show_plan: bool,
    /// Write a timeline here.
    #[arg(long)]
    html: Option<PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "a command-line tool writes its results")]
pub fn main(args: &Args) -> u8 {
    let plan = super::load(args.seed, args.full, args.plan.as_deref());
    if args.show_plan {
        println!("{}", toml::to_string(&plan).expect("a plan is plain data"));
    }
    if args.log {
        let format = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time();
        format.with_writer(std::io::stderr).init();
    }
    let outcome = simulator::run(&plan, args.trace);
    for line in &outcome.trace {
        println!("{line}");
    }
    if !args.trace {
        for event in &outcome.events {
            println!("{:>8} {:<10} {:?} {}", event.at_millis, event.lane, event.mark, event.text);
        }
    }
    let command = match &args.plan {
        Some(plan) => format!("simulator replay --plan {}", plan.display()),
        None => super::replay_command(&plan),
    };
    println!("\n{}", report::one_screen(&plan, &outcome, &command));
    println!("digest {:016x}, {} steps, {} ms simulated", outcome.digest, outcome.steps, outcome.sim_millis);
    if let Some(file) = &args.html
        && let Err(error) = std::fs::write(file, report::timeline(&plan, &outcome, &command))
    {
        eprintln!("cannot write {}: {error}", file.display());
        return super::HARNESS;
    }
    super::exit_code(&outcome)
}
