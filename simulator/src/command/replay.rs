//! `simulator replay`.

use simulator::lite;
use simulator::plan::Plan;

#[derive(clap::Args)]
pub struct Args {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Print every disk call, not only events.
    #[arg(long)]
    trace: bool,
}

pub fn main(args: &Args) -> u8 {
    let plan = Plan::draw(args.seed);
    println!("{}", toml::to_string(&plan).expect("a plan is plain data"));
    let outcome = lite::run(&plan, args.trace);
    for line in &outcome.trace {
        println!("{line}");
    }
    if !args.trace {
        for event in &outcome.events {
            println!("{:>8} {:<10} {:?} {}", event.at_millis, event.lane, event.mark, event.text);
        }
    }
    for violation in &outcome.violations {
        println!("\nVIOLATION {} at {} ms\n  promised: {}\n  happened: {}", violation.oracle, violation.at_millis, violation.promised, violation.happened);
    }
    println!("digest {:016x}, {} steps, {} ms simulated", outcome.digest, outcome.steps, outcome.sim_millis);
    super::exit_code(&outcome)
}
