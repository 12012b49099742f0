//! Two replicators of two databases on one replica.

use super::super::{Complaint, ensure};
use super::rig::{PATIENCE, Rig, last_line, wait_for_seq, wait_until, whole};
use crate::process::Process;
use crate::workload::History;

/// Numbers of the second application's commits begin here, so that a state tells whose it is.
const SECOND: u64 = 1_000_000;
/// What the loser says.
const LOST: &str = "somebody else";

pub(super) fn two_writers(rig: &Rig) -> Result<(), Complaint> {
    // One history of both: a state is one of theirs, or a mixture.
    let (site, mut history) = (rig.site()?, History::new());
    let mut first = rig.app("first", 1, &mut history)?;
    let mut second = rig.app("second", SECOND, &mut history)?;
    let first_daemon = first.replicate(&site, &[])?;
    first.work(5, &mut history)?;
    wait_for_seq(&site, first.seq())?;
    let second_daemon = second.replicate(&site, &[])?;
    wait_until("word of a second writer", || {
        first.work(2, &mut history)?;
        second.work(2, &mut history)?;
        Ok(first.log().contains(LOST) || second.log().contains(LOST))
    })?;
    let ended = |daemon: Process| daemon.terminate(PATIENCE).map(|status| status.success());
    let (first_holds, second_holds) = (ended(first_daemon)?, ended(second_daemon)?);
    ensure!(!(first_holds && second_holds), "both ended with exit code 0");
    whole(&site)?;
    let state = rig.restored(&site, &[], &history, 0)?;
    for (holds, app) in [(first_holds, &first), (second_holds, &second)] {
        if holds && state.seq != app.seq() {
            return Err(untrue_success(app.seq(), state.seq, last_line(&app.log())));
        }
    }
    Ok(())
}

/// The one complaint that may be declared of a store without conditions; see [`crate::verdict::Outcome::declare`].
fn untrue_success(at: u64, held: u64, said: &str) -> Complaint {
    Complaint::new(format!("a writer ended with exit code 0 at state {at}, the replica holds {held}: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::catalogue;
    use crate::verdict::covers;

    #[test]
    fn nothing_but_an_untrue_success_is_declared_of_any_target() {
        let entries = catalogue().unwrap();
        let declared = entries.iter().filter_map(|entry| entry.quirks.get("replica.two-writers"));
        let reasons: Vec<_> = declared.collect();
        assert!(!reasons.is_empty());
        for reason in reasons {
            assert!(reason.starts_with("sometimes") && covers(reason, &untrue_success(2, 1, "").0), "{reason}");
            for other in ["the replica is not whole: None", "both ended with exit code 0", "a panic"] {
                assert!(!covers(reason, other), "{reason}");
            }
        }
    }
}
