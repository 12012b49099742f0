//! A restore of a moment gives nothing committed at or after it, and nothing older than what had been reported as
//! replicated before that moment. The second holds while level-0 files are kept; after that a moment is only as fine
//! as compaction left it: a restore at the end of a run gives the newest transaction before the moment with which any
//! file ends.

use std::collections::BTreeSet;

use replicator::bucket::KeyLayout;
use replicator::ltx::Txid;
use replicator::replica::LtxName;

use crate::evidence::{Asked, Evidence, RestoreError, RestoreRun, Violation};
use crate::plan::{Happening, ReplicatorPlan};

use super::valid::states_of;

pub const NAME: &str = "point-in-time";

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    evidence.restores.iter().filter_map(|restore| one(evidence, restore)).collect()
}

fn one(evidence: &Evidence, restore: &RestoreRun) -> Option<Violation> {
    let Asked::Before(millis) = restore.asked else { return None };
    let (restored, txid) = match &restore.outcome {
        Ok(outcome) => outcome,
        Err(error) => return refused(evidence, restore, millis, error),
    };
    let states = states_of(&evidence.history, restored);
    let violation = |promised: &str, happened: String| {
        Some(Violation { oracle: NAME, at_millis: restore.ended_millis, promised: promised.into(), happened })
    };
    let oldest = states.last().copied()?;
    let at = evidence.history.state(oldest).at_millis;
    if at > millis {
        let text = format!("asked for {millis} ms, got state {oldest}, committed at {at} ms");
        return violation("a point in time shows nothing from after it", text);
    }
    if let Some(passed_over) = passed_over(evidence, restore, millis)
        && *txid < Some(passed_over)
    {
        let text = format!("asked for {millis} ms, got TXID {txid:?}, but a file ends with {passed_over}");
        return violation("a point in time is as fine as the files that are kept", text);
    }
    let kept_millis = evidence.plan.settings().map(kept_whole).min().unwrap_or(0);
    // A restore that finds a file gone plans again, from what is kept by then (seed 400067168).
    if restore.ended_millis > millis + kept_millis {
        return None;
    }
    let claims = evidence.claims.iter().filter(|claim| claim.at_millis < millis);
    let claimed = claims.filter_map(|claim| claim.state).next_back()?;
    let head_then = evidence.history.head_before(millis)?;
    let on_path = evidence.history.is_ancestor(claimed, head_then);
    if on_path && !states.iter().any(|state| evidence.history.is_ancestor(claimed, *state)) {
        let text = format!(
            "asked for {millis} ms, got state {}, but state {claimed} had been replicated",
            states[0]
        );
        return violation("a point in time shows all that was replicated before it", text);
    }
    None
}

/// Milliseconds for which each transaction is kept: level 0 for twice the interval of level 1, and nothing for longer
/// than the retention (seed 40002844: a snapshot older than that let all before it go, but for one refused deletion).
fn kept_whole(settings: &ReplicatorPlan) -> u64 {
    u64::from(settings.level_millis.saturating_mul(2).min(settings.retention_millis))
}

/// The newest transaction with which a file ends and that had been reported as replicated before `millis`. Asked once
/// nothing changes any more, and not where another replicator's files lie between.
fn passed_over(evidence: &Evidence, restore: &RestoreRun, millis: u64) -> Option<Txid> {
    let is_foreign = |what: &Happening| matches!(what, Happening::SecondReplicator { .. });
    if restore.started_millis < evidence.at_rest.at_millis || evidence.planned(is_foreign) {
        return None;
    }
    let before = evidence.claims.iter().filter(|claim| claim.at_millis < millis);
    let claimed = before.filter_map(|claim| claim.txid).max()?;
    let names =
        evidence.at_rest.objects.iter().filter_map(|o| LtxName::parse_key(KeyLayout::HexLevel, &o.key));
    reachable(names.filter(|name| name.max <= claimed).collect())
}

/// The end of the longest way through files that join, from the first transaction on. A single file may lie beside the
/// way: one that a store applied after it had been deleted.
fn reachable(mut names: Vec<LtxName>) -> Option<Txid> {
    names.sort_by_key(|name| (name.min, name.max));
    let mut ends: BTreeSet<Txid> = BTreeSet::new();
    for name in names {
        let joins = name.min == Txid(1) || ends.iter().any(|end| name.min <= end.next() && *end < name.max);
        if joins {
            ends.insert(name.max);
        }
    }
    ends.last().copied()
}

/// A moment inside the retention, at which something had been replicated, can be restored.
fn refused(
    evidence: &Evidence,
    restore: &RestoreRun,
    millis: u64,
    error: &RestoreError,
) -> Option<Violation> {
    let kept_millis = evidence.plan.settings().map(|settings| settings.retention_millis).min();
    let kept_millis = u64::from(kept_millis.unwrap_or(0));
    let was_replicated =
        evidence.claims.iter().any(|claim| claim.at_millis < millis && claim.state.is_some());
    let is_kept = millis + kept_millis > restore.ended_millis;
    (was_replicated && is_kept && !restore.exposed).then(|| Violation {
        oracle: NAME,
        at_millis: restore.ended_millis,
        promised: "a point in time inside the retention can be restored".into(),
        happened: format!("asked for {millis} ms: {}", error.message),
    })
}

#[cfg(test)]
mod tests {
    use crate::evidence::Asked;
    use crate::oracles::fixture;

    #[test]
    fn a_state_from_the_future_is_seen() {
        let (mut evidence, newest) = fixture::evidence();
        evidence.restores.push(fixture::restored(Asked::Before(fixture::NEWEST_AT), newest.clone()));
        assert_eq!(super::check(&evidence), []);
        evidence.restores.push(fixture::restored(Asked::Before(fixture::NEWEST_AT - 1), newest));
        assert_eq!(super::check(&evidence).len(), 1);
    }

    #[test]
    fn a_file_that_is_passed_over_is_seen() {
        let (mut evidence, newest) = fixture::evidence();
        evidence.plan.faults.clear();
        let txid = Some(replicator::ltx::Txid(4));
        let claim = crate::evidence::Claim { at_millis: 2_500, state: None, txid, synced_millis: 0 };
        evidence.claims.push(claim);
        let mut restore = fixture::restored(Asked::Before(2_600), newest);
        restore.started_millis = evidence.at_rest.at_millis;
        evidence.restores.push(restore);
        let stored = |key: &str| crate::store::Stored {
            key: key.into(),
            size: 9,
            modified: replicator::host::UnixMillis(0),
            misread: false,
        };
        evidence.at_rest.objects.push(stored("0001/0000000000000005-0000000000000007.ltx"));
        assert_eq!(super::check(&evidence), [], "nobody had reported 7");
        evidence.at_rest.objects.push(stored("0000/0000000000000001-0000000000000001.ltx"));
        evidence.at_rest.objects.push(stored("0000/0000000000000004-0000000000000004.ltx"));
        assert_eq!(super::check(&evidence), [], "no way leads there");
        evidence.at_rest.objects.push(stored("0001/0000000000000002-0000000000000004.ltx"));
        assert_eq!(super::check(&evidence).len(), 1, "the restore ends at 1");
    }

    #[test]
    fn a_refused_moment_that_was_replicated_is_seen() {
        let (mut evidence, newest) = fixture::evidence();
        let claim = |at_millis| crate::evidence::Claim {
            at_millis,
            state: Some(0),
            txid: None,
            synced_millis: at_millis,
        };
        let mut restore = fixture::restored(Asked::Before(fixture::NEWEST_AT), newest);
        restore.outcome = Err(crate::evidence::RestoreError { kind: None, message: "no such state".into() });
        evidence.plan.replicator.retention_millis = 10_000;
        evidence.restores.push(restore);
        evidence.claims.push(claim(fixture::NEWEST_AT));
        assert_eq!(super::check(&evidence), [], "nothing was claimed before that moment");
        evidence.claims.push(claim(fixture::NEWEST_AT - 1));
        assert_eq!(super::check(&evidence).len(), 1);
        evidence.restores[0].ended_millis = 100_000;
        assert_eq!(super::check(&evidence), [], "it is older than what is kept");
    }
}
