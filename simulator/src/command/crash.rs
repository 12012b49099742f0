//! `simulator crash`.

use std::time::Instant;

use simulator::crash_loop::{Durability, run};

#[derive(clap::Args)]
pub struct Args {
    /// Seeds per kind of durability; each has three power losses.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

pub fn main(args: &Args) -> u8 {
    let mut failed = false;
    for durability in [Durability::Full, Durability::Normal, Durability::Off, Durability::LyingDisk] {
        #[expect(clippy::disallowed_methods, reason = "measures the simulator itself")]
        let started = Instant::now();
        let (mut crashes, mut intact, mut lost, mut corrupt) = (0, 0, 0, 0);
        for seed in args.from..args.from + args.seeds {
            let tally = run(seed, durability, 3);
            crashes += tally.crashes;
            intact += tally.intact;
            lost += tally.lost;
            corrupt += tally.corrupt;
            let must_hold = match durability {
                Durability::Full => tally.lost == 0 && tally.corrupt == 0,
                Durability::Normal => tally.corrupt == 0,
                Durability::Off | Durability::LyingDisk => true,
            };
            if !must_hold {
                failed = true;
                println!("{durability:?}: seed {seed}: {tally:?}");
            }
        }
        let rate = crashes as f64 / started.elapsed().as_secs_f64();
        println!(
            "{durability:?}: {crashes} power losses, {intact} intact, {lost} lost an acknowledged commit, \
             {corrupt} corrupt, {rate:.0}/s"
        );
    }
    if failed { super::SAFETY } else { super::PASS }
}
