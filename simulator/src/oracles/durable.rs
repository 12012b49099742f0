//! Whoever restores gets at least what was reported as replicated before, on one line of history.
//!
//! A power loss may take the local database back behind what the store holds (`synchronous=NORMAL`). The local file
//! is then the truth: a restore may leave the abandoned branch, but only for the branch that replaced it; where the plan
//! may take the machine back twice, also for one that is abandoned in turn.

use crate::evidence::{Asked, Claim, Evidence, RestoreRun, Violation};
use crate::history::{History, StateId};
use crate::plan::Happening;

use super::valid::states_of;

pub const NAME: &str = "durable";

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let latest = evidence.restores.iter().filter(|restore| restore.asked == Asked::Latest);
    let one = |restore: &RestoreRun| restore.claimed.iter().find_map(|claim| one(evidence, restore, claim));
    latest.filter_map(one).collect()
}

fn one(evidence: &Evidence, restore: &RestoreRun, claim: &Claim) -> Option<Violation> {
    let happened = match &restore.outcome {
        // What weather did to it is no loss. That there is no replica would be.
        Err(error) if restore.exposed && !error.is_absence() => return None,
        // A stop before anything was committed promises nothing.
        Err(error) if error.is_absence() && (claim.txid, claim.state) == (None, None) => return None,
        Err(error) => format!("the restore failed: {}", error.message),
        Ok((restored, txid)) => {
            let states = states_of(&evidence.history, restored);
            if *txid < claim.txid {
                format!("the restore ends at TXID {txid:?}")
            } else if states.is_empty() && *txid == claim.txid && evidence.is_foreign(restored) {
                "the restore gives, under that very transaction, a state of the other machine".to_owned()
            } else if let (Some(claimed), false) = (claim.state, states.is_empty()) {
                let heads = [restore.heads.0, restore.heads.1];
                if states.iter().any(|state| satisfies(&evidence.history, claimed, *state, heads)) {
                    return None;
                }
                // A machine that goes back twice while a restore is under way, put back or by power losses, leaves a
                // branch between: published, and as dead as the claim's.
                let is_put_back = |what: &Happening| matches!(what, Happening::OldMachine { .. });
                let may_go_back_twice =
                    evidence.planned(is_put_back) || power_losses_before(evidence, restore.ended_millis) > 1;
                let committed = |state: StateId| evidence.history.state(state).at_millis;
                let is_dead =
                    heads.into_iter().flatten().all(|head| !evidence.history.is_ancestor(claimed, head));
                if may_go_back_twice
                    && is_dead
                    && states.iter().any(|state| committed(*state) > committed(claimed))
                {
                    return None;
                }
                format!("the restore gives state {}", states[0])
            } else {
                return None;
            }
        }
    };
    let state = claim.state.map_or(String::new(), |state| format!(" (state {state})"));
    Some(Violation {
        oracle: NAME,
        at_millis: restore.ended_millis,
        promised: format!(
            "at {} ms TXID {:?}{state} was reported as replicated",
            claim.at_millis, claim.txid
        ),
        happened,
    })
}

fn power_losses_before(evidence: &Evidence, millis: u64) -> usize {
    let planned = evidence.plan.faults.iter().filter(|fault| fault.at_millis < millis);
    planned.filter(|fault| matches!(fault.what, Happening::PowerLoss { .. })).count()
}

/// Whether `restored` keeps the promise made for `claimed`.
fn satisfies(history: &History, claimed: StateId, restored: StateId, heads: [Option<StateId>; 2]) -> bool {
    if history.is_ancestor(claimed, restored) {
        return true;
    }
    // The promised state was abandoned by the database itself, and the restore follows the database.
    heads.into_iter().flatten().any(|head| {
        !history.is_ancestor(claimed, head)
            && history.is_ancestor(restored, head)
            && history.is_ancestor(history.common_ancestor(claimed, head), restored)
    })
}

#[cfg(test)]
mod tests {
    use crate::evidence::{Asked, Claim};
    use crate::oracles::fixture;
    use replicator::ltx::Txid;

    #[test]
    fn an_older_state_than_the_promised_one_is_seen() {
        let (mut evidence, bytes) = fixture::evidence();
        let newest = evidence.history.head();
        let old = fixture::first_image();
        let claim = Claim { at_millis: 5, state: newest, txid: Some(Txid(1)), synced_millis: 5 };
        let mut good = fixture::restored(Asked::Latest, bytes);
        good.claimed = vec![claim];
        evidence.restores.push(good.clone());
        assert_eq!(super::check(&evidence), []);
        let mut stale = fixture::restored(Asked::Latest, old);
        stale.claimed = vec![claim];
        evidence.restores.push(stale);
        let mut failed = good;
        failed.outcome = Err(crate::evidence::RestoreError { kind: None, message: "nothing there".into() });
        evidence.restores.push(failed);
        assert_eq!(super::check(&evidence).len(), 2);
    }
}
