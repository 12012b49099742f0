//! Fresh seeds and regression cases, every time `cargo test` runs.
//!
//! The seeds are new each time and printed with a failure; `SIMULATOR_FROM=n` starts at a given one, and
//! `SIMULATOR_SEEDS=n` says how many.

use simulator::plan::Plan;
use simulator::report;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "fresh seeds come from outside the simulation")]
fn fresh() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_secs() % 1_000_000_000 * 1_000
}

#[test]
fn fresh_seeds_keep_every_promise() {
    let from = number("SIMULATOR_FROM").unwrap_or_else(fresh);
    for seed in from..from + number("SIMULATOR_SEEDS").unwrap_or(300) {
        let plan = Plan::draw(seed);
        let outcome = simulator::run(&plan, false);
        let command = format!("cargo run -p simulator -- replay --seed {seed}");
        assert!(outcome.violations.is_empty(), "\n{}", report::one_screen(&plan, &outcome, &command));
    }
}

/// A few with everything: turmoil's network, an S3 server with a provider's dialect, the real SDK.
#[test]
fn fresh_full_seeds_keep_every_promise() {
    let from = number("SIMULATOR_FROM").unwrap_or_else(fresh);
    for seed in from..from + number("SIMULATOR_FULL_SEEDS").unwrap_or(3) {
        let plan = Plan::draw_full(seed);
        let outcome = simulator::run(&plan, false);
        let command = format!("cargo run -p simulator -- replay --full --seed {seed}");
        assert!(outcome.violations.is_empty(), "\n{}", report::one_screen(&plan, &outcome, &command));
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "cases are files of this package")]
fn regression_cases_stay_fixed() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");
    let mut cases: Vec<_> = std::fs::read_dir(dir)
        .expect("the directory is checked in")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    cases.sort();
    for case in cases {
        let text = std::fs::read_to_string(&case).expect("readable");
        let plan: Plan = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let outcome = simulator::run(&plan, false);
        let command = format!("cargo run -p simulator -- replay --plan {}", case.display());
        assert!(outcome.violations.is_empty(), "\n{}", report::one_screen(&plan, &outcome, &command));
    }
}

/// The same seed twice in one process: every step, decision and event alike. `simulator meta` compares processes.
#[test]
fn a_seed_is_a_run() {
    for seed in fresh()..fresh() + 5 {
        let plan = Plan::draw(seed);
        let (one, two) = (simulator::run(&plan, true), simulator::run(&plan, true));
        let different = one.trace.iter().zip(&two.trace).find(|(a, b)| a != b);
        assert_eq!(different, None, "seed {seed}");
        assert_eq!((one.digest, one.steps), (two.digest, two.steps), "seed {seed}");
    }
}
