//! `simulator meta`: the same seed in two processes, compared in lockstep.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

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
    /// Only print one fingerprint per seed (what the two processes do).
    #[arg(long)]
    fingerprints: bool,
    /// Compare every step instead of a fingerprint per seed (slower; names the first difference).
    #[arg(long)]
    steps: bool,
    /// For the test of this command: an address gets into the fingerprint.
    #[arg(long, hide = true)]
    flawed: bool,
}

pub fn main(args: &Args) -> u8 {
    if args.fingerprints {
        return print_fingerprints(args);
    }
    let mut differing = 0;
    // Address-space randomisation is on in the first process and off in the second.
    let (mut one, mut two) = (start(args, false), start(args, true));
    let lines = |child: &mut Child| BufReader::new(child.stdout.take().expect("piped")).lines();
    let (first, second) = (lines(&mut one), lines(&mut two));
    let (mut compared, mut seed) = (0_u64, args.from);
    for (a, b) in first.zip(second) {
        let (a, b) = (a.expect("the child writes text"), b.expect("the child writes text"));
        if let Some(text) = a.strip_prefix("seed ") {
            seed = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(seed);
            compared += 1;
        }
        if a != b {
            differing += 1;
            println!("seed {seed} differs:\n  randomised addresses: {a}\n  fixed addresses:      {b}");
            if args.steps {
                break;
            }
        }
    }
    for mut child in [one, two] {
        // A child that is ahead of a difference may still be writing; it is not needed any more.
        let _ = child.kill();
        let _ = child.wait();
    }
    println!("{compared} of {} seeds compared in two processes, {differing} differences", args.seeds);
    if differing == 0 && compared == args.seeds { super::PASS } else { super::NONDETERMINISM }
}

fn print_fingerprints(args: &Args) -> u8 {
    for seed in args.from..args.from + args.seeds {
        let outcome = simulator::run(&super::draw(seed, args.full), args.steps);
        for line in &outcome.trace {
            println!("{line}");
        }
        let flaw = if args.flawed { (&raw const outcome).addr() as u64 } else { 0 };
        println!(
            "seed {seed} {:016x} {} steps {} events",
            outcome.digest ^ flaw,
            outcome.steps,
            outcome.events.len()
        );
    }
    super::PASS
}

fn start(args: &Args, fixed_addresses: bool) -> Child {
    use std::os::unix::process::CommandExt as _;
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args([
        "meta",
        "--fingerprints",
        "--seeds",
        &args.seeds.to_string(),
        "--from",
        &args.from.to_string(),
    ]);
    for (given, flag) in [(args.steps, "--steps"), (args.full, "--full"), (args.flawed, "--flawed")] {
        if given {
            command.arg(flag);
        }
    }
    command.stdout(Stdio::piped());
    if fixed_addresses {
        // SAFETY: one system call that only changes flags of the new process.
        unsafe {
            command.pre_exec(|| {
                libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
                Ok(())
            });
        }
    }
    command.spawn().expect("this program can be started again")
}
