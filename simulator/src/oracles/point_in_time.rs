//! A restore of a moment gives nothing committed at or after it, and nothing older than what had been reported as
//! replicated before that moment. The second holds while level-0 files are kept; after that a moment is only as fine
//! as compaction left it.

use crate::evidence::{Asked, Evidence, RestoreError, RestoreRun, Violation};

use super::valid::states_of;

pub const NAME: &str = "point-in-time";

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    evidence.restores.iter().filter_map(|restore| one(evidence, restore)).collect()
}

fn one(evidence: &Evidence, restore: &RestoreRun) -> Option<Violation> {
    let Asked::Before(millis) = restore.asked else { return None };
    let (bytes, _) = match &restore.outcome {
        Ok(restored) => restored,
        Err(error) => return refused(evidence, restore, millis, error),
    };
    let states = states_of(&evidence.history, bytes);
    let violation = |promised: &str, happened: String| {
        Some(Violation { oracle: NAME, at_millis: restore.ended_millis, promised: promised.into(), happened })
    };
    let oldest = states.last().copied()?;
    let at = evidence.history.state(oldest).at_millis;
    if at > millis {
        let text = format!("asked for {millis} ms, got state {oldest}, committed at {at} ms");
        return violation("a point in time shows nothing from after it", text);
    }
    let shortest = evidence.plan.settings().map(|settings| settings.level_millis).min().unwrap_or(0);
    let kept_millis = 2 * u64::from(shortest);
    if restore.started_millis > millis + kept_millis {
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
    let is_kept = millis + kept_millis > restore.started_millis;
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
        evidence.restores[0].started_millis = 100_000;
        assert_eq!(super::check(&evidence), [], "it is older than what is kept");
    }
}
