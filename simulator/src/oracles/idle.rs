//! Idle means idle: a database that does not change costs (almost) no requests.

use crate::evidence::{Evidence, Violation};

pub const NAME: &str = "idle";

/// Length of the quiet time at the end of a run, in simulated milliseconds.
pub const QUIET_MILLIS: u64 = 60_000;

/// Requests that scheduled work (compaction, retention) may still make in that time.
const ALLOWED: u64 = 30;

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let total: u64 = evidence.idle_requests.values().sum();
    let puts = evidence.idle_requests.get("PUT").copied().unwrap_or_default();
    if total <= ALLOWED && puts <= ALLOWED / 4 {
        return Vec::new();
    }
    vec![Violation {
        oracle: NAME,
        at_millis: evidence.plan.run_millis,
        promised: format!("in {QUIET_MILLIS} quiet ms at most {ALLOWED} requests"),
        happened: format!("{:?}", evidence.idle_requests),
    }]
}

#[cfg(test)]
mod tests {
    use crate::oracles::fixture;

    #[test]
    fn a_busy_idle_is_seen() {
        let (mut evidence, _) = fixture::evidence();
        assert_eq!(super::check(&evidence), []);
        evidence.idle_requests.insert("LIST", 500);
        assert_eq!(super::check(&evidence).len(), 1);
    }
}
