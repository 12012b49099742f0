//! The themed suites, some fresh seeds of each. `CHAOS_FROM=n` starts at a given seed, `CHAOS_SEEDS=n` says how many.

use chaos::suites::ALL;
use simulator::report;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn fresh() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_secs() % 1_000_000_000 * 1_000
}

#[test]
fn every_suite_keeps_every_promise() {
    let from = number("CHAOS_FROM").unwrap_or_else(fresh);
    for suite in ALL {
        for seed in from..from + number("CHAOS_SEEDS").unwrap_or(10) {
            let plan = suite.plan(seed);
            let outcome = simulator::run(&plan, false);
            let command = format!("CHAOS_FROM={seed} CHAOS_SEEDS=1 cargo test -p chaos --test suites");
            let report = || report::one_screen(&plan, &outcome, &command);
            assert!(outcome.violations.is_empty(), "\n{}\n{}", suite.name, report());
        }
    }
}

#[test]
fn a_suite_is_full_of_its_trouble_and_the_same_seed_is_the_same_plan() {
    for suite in ALL {
        let plan = suite.plan(7);
        assert!((3..=8).contains(&plan.faults.len()), "{}", suite.name);
        assert_eq!(plan, suite.plan(7), "{}", suite.name);
    }
}
