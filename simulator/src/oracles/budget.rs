//! Requests and stored bytes stay within what the work explains.
//!
//! Requests: at most one upload per commit (commits are gathered, so in truth far fewer), and per interval of simulated
//! time one compaction per level, a snapshot and two kinds of retention. Each fault, and each answer that bad weather
//! may spoil, allows more: a session that starts anew lists, compares and may publish a full copy. The bound is loose
//! on purpose: it is there to see loops, not to tune.
//!
//! Bytes: the first full copy stays in level 0, it is not copied through the levels.

use replicator::bucket::KeyLayout;
use replicator::replica::LtxName;

use crate::evidence::{Evidence, Violation};
use crate::plan::{Happening, ReplicatorPlan};
use crate::store::Weather;

pub const NAME: &str = "budget";

/// Requests that one upload, compaction, retention or new session may take in fair weather.
const PER_ACT: u64 = 12;
/// In bad weather each act is repeated with growing pauses.
const WEATHER_FACTOR: u64 = 6;
/// Acts in the time of one interval: compaction of two levels, a snapshot, two kinds of retention.
const ACTS_PER_INTERVAL: u64 = 5;
/// Acts of a session that starts anew.
const ACTS_PER_SESSION: u64 = 10;
/// Requests of one restore per file: a listing, and the file in pieces.
const PER_RESTORED_FILE: u64 = 4;

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let violation = |promised: String, happened: String| Violation {
        oracle: NAME,
        at_millis: evidence.at_rest.at_millis,
        promised,
        happened,
    };
    let mut found = Vec::new();
    let (total, allowed) = (evidence.requests.values().sum::<u64>(), allowed(evidence));
    if total > allowed {
        let promised = format!(
            "at most {allowed} requests for {} commits in {} ms",
            evidence.history.len(),
            evidence.at_rest.at_millis
        );
        found.push(violation(promised, format!("{total}: {:?}", evidence.requests)));
    }
    // Whoever sees an old listing may not see the first full copy.
    if !evidence.planned(|what| matches!(what, Happening::StaleListings { .. })) {
        let copies = evidence.at_rest.objects.iter().filter(|object| is_copy_in_a_level(&object.key));
        found.extend(copies.map(|object| {
            let promised = "the first full copy is not copied through the levels".to_owned();
            violation(promised, format!("{} ({} bytes)", object.key, object.size))
        }));
    }
    found
}

fn is_copy_in_a_level(key: &str) -> bool {
    LtxName::parse_key(KeyLayout::HexLevel, key)
        .is_some_and(|name| name.min.0 == 1 && (1..9).contains(&name.level.number()))
}

/// The bound, from what was done.
fn allowed(evidence: &Evidence) -> u64 {
    let plan = &evidence.plan;
    let interval =
        |settings: &ReplicatorPlan| u64::from(settings.level_millis.min(settings.snapshot_millis)).max(1);
    let shortest = plan.settings().map(interval).min().unwrap_or(1);
    let scheduled = ACTS_PER_INTERVAL * (evidence.at_rest.at_millis / shortest + 1);
    let sessions = ACTS_PER_SESSION * (plan.faults.len() as u64 + 1);
    let commits = evidence.history.len() as u64;
    let factor = if plan.weather == Weather::default() { 1 } else { WEATHER_FACTOR };
    let restores = evidence.restores_made * PER_RESTORED_FILE * (commits + 20);
    PER_ACT * factor * (commits + scheduled + sessions) + restores
}

#[cfg(test)]
mod tests {
    use replicator::host::UnixMillis;

    use crate::oracles::fixture;
    use crate::store::Stored;

    #[test]
    fn a_loop_of_requests_is_seen() {
        let (mut evidence, _) = fixture::evidence();
        evidence.requests.insert("PUT", 20);
        assert_eq!(super::check(&evidence), []);
        evidence.requests.insert("LIST", 100_000_000);
        assert_eq!(super::check(&evidence).len(), 1);
    }

    #[test]
    fn a_full_copy_in_a_level_is_seen() {
        let (mut evidence, _) = fixture::evidence();
        evidence.plan.faults.clear();
        let stored = |key: &str| Stored { key: key.into(), size: 9, modified: UnixMillis(0), misread: false };
        evidence.at_rest.objects = vec![
            stored("0000/0000000000000001-0000000000000001.ltx"),
            stored("0009/0000000000000001-0000000000000004.ltx"),
        ];
        assert_eq!(super::check(&evidence), []);
        evidence.at_rest.objects.push(stored("0001/0000000000000001-0000000000000004.ltx"));
        assert_eq!(super::check(&evidence).len(), 1);
    }
}
