//! Damage is reported, never returned: after an object was removed, cut or changed behind the store's back, a restore
//! gives an error, or the newest state all the same because it did not need that object or others stood for it.
//!
//! One thing nobody can notice from listings alone: that the object with the newest transaction is gone. Then the
//! newest state of which any object is left must come out. And what a restore gave right before the damage is no wrong answer after it; whether
//! it was right is a question to the other oracles (seed 40011502: a write from before the machine was set back,
//! applied when the replicator had nothing left to send).

use crate::evidence::{Asked, Damaged, Evidence, Violation};
use crate::history::FileImage;

use super::valid::states_of;

pub const NAME: &str = "damage";

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    evidence.damaged.iter().filter_map(|damaged| one(evidence, damaged)).collect()
}

fn one(evidence: &Evidence, damaged: &Damaged) -> Option<Violation> {
    let violation = |happened: String| Violation {
        oracle: NAME,
        at_millis: damaged.restore.ended_millis,
        promised: "damage to the replica is reported, never returned as a database".into(),
        happened: format!("{}; {happened}", damaged.what),
    };
    let (restored, txid) = match &damaged.restore.outcome {
        Ok(result) => result,
        Err(error) if error.is_absence() && !damaged.left.is_empty() => {
            return Some(violation(format!("although objects are left: {}", error.message)));
        }
        Err(_) => return None,
    };
    let states = states_of(&evidence.history, restored);
    let (newest, _) = damaged.restore.heads;
    let newest = newest?;
    // The state before the newest may be one of a second replicator's.
    let is_a_state = !states.is_empty() || evidence.is_foreign(restored);
    let is_right = states.contains(&newest)
        || damaged.newest_gone && is_a_state && *txid == damaged.left.iter().map(|name| name.max).max()
        || undamaged(evidence).is_some_and(|undamaged| undamaged == restored);
    (!is_right).then(|| violation(format!("TXID {txid:?} gave states {states:?}, the newest is {newest}")))
}

/// What the last restore of the newest state gave before anything was damaged.
fn undamaged(evidence: &Evidence) -> Option<&FileImage> {
    let latest = evidence.restores.iter().rev().find(|restore| matches!(restore.asked, Asked::Latest))?;
    latest.outcome.as_ref().ok().map(|(restored, _)| restored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::RestoreError;
    use crate::oracles::fixture;
    use replicator::ltx::Txid;
    use replicator::replica::LtxName;

    #[test]
    fn an_old_or_wrong_state_after_damage_is_seen_and_an_error_is_fine() {
        let (mut evidence, newest) = fixture::evidence();
        let damaged = |bytes: Vec<u8>, newest_gone| {
            let restore = fixture::restored(Asked::Latest, bytes);
            let left = vec![LtxName::l0(Txid(1))];
            vec![Damaged { what: "2-2 removed".into(), newest_gone, left, restore }]
        };
        evidence.damaged = damaged(newest.clone(), false);
        assert_eq!(check(&evidence), []);
        evidence.damaged = damaged(fixture::first_image(), true);
        assert_eq!(check(&evidence), []);
        evidence.damaged = damaged(fixture::first_image(), false);
        assert_eq!(check(&evidence).len(), 1);
        evidence.damaged = damaged(fixture::first_image(), true);
        evidence.damaged[0].left.push(LtxName::l0(Txid(2)));
        assert_eq!(check(&evidence).len(), 1, "a newer one is left");
        let mut wrong = newest;
        wrong[5000] ^= 1;
        evidence.damaged = damaged(wrong, true);
        assert_eq!(check(&evidence).len(), 1);
        let error = RestoreError { kind: Some(replicator::ErrorKind::Corrupt), message: "cut".into() };
        evidence.damaged[0].restore.outcome = Err(error);
        assert_eq!(check(&evidence), []);
        let error = RestoreError { kind: Some(replicator::ErrorKind::NotFound), message: "nothing".into() };
        evidence.damaged[0].restore.outcome = Err(error);
        assert_eq!(check(&evidence).len(), 1, "objects are left");
        evidence.damaged[0].left.clear();
        assert_eq!(check(&evidence), []);
    }
}
