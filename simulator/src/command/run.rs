//! `simulator run`.

use std::time::Instant;

use simulator::lite;
use simulator::plan::Plan;

#[derive(clap::Args)]
pub struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Stop after so many failing seeds.
    #[arg(long, default_value_t = 10)]
    failures: usize,
}

pub fn main(args: &Args) -> u8 {
    #[expect(clippy::disallowed_methods, reason = "measures the simulator itself")]
    let started = Instant::now();
    let (mut sim_millis, mut steps, mut commits, mut restores, mut worst) = (0, 0, 0, 0, super::PASS);
    let (mut failed, mut done) = (Vec::new(), 0_u64);
    for seed in args.from..args.from + args.seeds {
        let outcome = lite::run(&Plan::draw(seed), false);
        sim_millis += outcome.sim_millis;
        steps += outcome.steps;
        commits += outcome.commits;
        restores += outcome.restores;
        done += 1;
        if let Some(first) = outcome.violations.first() {
            println!("seed {seed}: {}: {}: {}", first.oracle, first.promised, first.happened);
            worst = worst.max(super::exit_code(&outcome));
            failed.push(seed);
            if failed.len() >= args.failures {
                break;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{done} seeds, {} failed, {commits} commits, {restores} restores, {steps} disk calls; {:.1} seeds/s, \
         {:.0} simulated seconds per second",
        failed.len(),
        done as f64 / seconds,
        sim_millis as f64 / 1000.0 / seconds,
    );
    worst
}
