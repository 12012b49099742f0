//! Idle means idle: a database that does not change costs (almost) no requests.

use crate::evidence::{Evidence, Violation};

pub const NAME: &str = "idle";

/// Length of the quiet time at the end of a run, in simulated milliseconds.
pub const QUIET_MILLIS: u64 = 60_000;

/// Requests that scheduled work (compaction, retention) may still make in that time.
const ALLOWED: u64 = 30;

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let total: u64 = evidence.at_rest.requests.values().sum();
    let of = |verb| evidence.at_rest.requests.get(verb).copied().unwrap_or_default();
    let written = of("PUT") + of("CREATE");
    if total <= ALLOWED && written == 0 {
        return Vec::new();
    }
    vec![Violation {
        oracle: NAME,
        at_millis: evidence.plan.run_millis,
        promised: format!("in {QUIET_MILLIS} quiet ms at most {ALLOWED} requests, and nothing is written"),
        happened: format!("{:?}", evidence.at_rest.requests),
    }]
}

#[cfg(test)]
mod tests {
    use crate::oracles::fixture;

    #[test]
    fn a_busy_idle_is_seen() {
        let (mut evidence, _) = fixture::evidence();
        assert_eq!(super::check(&evidence), []);
        evidence.at_rest.requests.insert("LIST", 500);
        assert_eq!(super::check(&evidence).len(), 1);
        evidence.at_rest.requests = [("CREATE", 1)].into();
        assert_eq!(super::check(&evidence).len(), 1, "nothing is new, so nothing is to be written");
    }
}
