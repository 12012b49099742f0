//! Two replicators of two databases on one replica.

use super::super::{Complaint, ensure};
use super::rig::{App, PATIENCE, Rig, committed_throughout, last_line};
use crate::process::Process;
use crate::workload::History;

/// Numbers of the second application's commits begin here, so that a state tells whose it is.
const SECOND: u64 = 1_000_000;
/// What the loser says.
const LOST: &str = "somebody else";
/// What a writer says each time that it cannot get its full copy in between the files of the other; it tries again.
const AT_WORK: &str = "another replicator is at work";

pub(super) fn two_writers(rig: &Rig) -> Result<(), Complaint> {
    // One history of both: a state is one of theirs, or a mixture.
    let (site, mut history) = (rig.site()?, History::new());
    let mut first = rig.app("first", 1, &mut history)?;
    let mut second = rig.app("second", SECOND, &mut history)?;
    let first_daemon = first.replicate(&site, &[])?;
    first.work(5, &mut history)?;
    rig.wait_for_seq(&site, first.seq())?;
    let second_daemon = second.replicate(&site, &[])?;
    notice(rig, &mut first, &mut second, &mut history)?;
    let ended = |daemon: Process| daemon.terminate(PATIENCE).map(|status| status.success());
    let (first_holds, second_holds) = (ended(first_daemon)?, ended(second_daemon)?);
    ensure!(!(first_holds && second_holds), "both ended with exit code 0");
    committed_throughout(&*site.store, &history)?;
    let state = rig.restored(&site, &[], &history, 0)?;
    for (holds, app) in [(first_holds, &first), (second_holds, &second)] {
        if holds && state.seq != app.seq() {
            return Err(untrue_success(app.seq(), state.seq, last_line(&app.log())));
        }
    }
    Ok(())
}

/// Lets both work until one of them says that it has found the other. That they do not is the fault that is looked for,
/// and never the machine's.
fn notice(rig: &Rig, first: &mut App, second: &mut App, history: &mut History) -> Result<(), Complaint> {
    let noticed = rig.wait_until("word of a second writer", || {
        first.work(2, history)?;
        second.work(2, history)?;
        Ok(says_so(&first.log()) || says_so(&second.log()))
    });
    noticed.map_err(Complaint::in_earnest)
}

/// Ending on the first attempt would leave the two no time to meet.
fn says_so(log: &str) -> bool {
    log.contains(LOST) || log.matches(AT_WORK).count() >= 3
}

/// Declared, with a mixture, of stores without conditions; see [`crate::verdict::Outcome::declare`].
fn untrue_success(at: u64, held: u64, said: &str) -> Complaint {
    Complaint::new(format!("a writer ended with exit code 0 at state {at}, the replica holds {held}: {said}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::super::Reason;
    use super::super::super::work::Stop;
    use super::*;
    use crate::client::{Budget, Client};
    use crate::targets::{Target, catalogue};
    use crate::verdict::covers;

    #[test]
    fn writers_that_do_not_notice_each_other_are_not_called_late() {
        let target = Target::local("nobody", "http://127.0.0.1:1", "a", "s");
        let client = Client::new(Arc::new(target), Arc::new(Budget::new(1, 1))).unwrap();
        let mut rig = Rig::new(client, "p/".to_owned(), PathBuf::new(), Stop::default()).unwrap();
        rig.patience = Duration::from_millis(10);
        let mut history = History::new();
        let (mut first, mut second) =
            (rig.app("first", 1, &mut history).unwrap(), rig.app("second", SECOND, &mut history).unwrap());
        let found = notice(&rig, &mut first, &mut second, &mut history).unwrap_err();
        assert_eq!(found, Complaint::new("no word of a second writer within 10ms"));
        let elsewhere = rig.wait_until("state", || Ok(false)).unwrap_err();
        assert_eq!(elsewhere.1, Reason::Late);
        let hangs = std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not end within 60s");
        assert_eq!(Complaint::from(hangs).1, Reason::Wrong);
    }

    #[test]
    fn a_writer_that_loses_or_tries_in_vain_has_noticed_the_other() {
        let in_vain =
            |times| format!("0003.ltx appeared while it was being written: {AT_WORK}\n").repeat(times);
        assert!(
            says_so("a/0003.ltx was written by somebody else; only one replicator may")
                && says_so(&in_vain(3))
        );
        assert!(!says_so(&in_vain(2)) && !says_so(""));
    }

    #[test]
    fn nothing_but_a_mixture_and_an_untrue_success_is_declared_of_any_target() {
        let entries = catalogue().unwrap();
        let declared = entries.iter().filter_map(|entry| entry.quirks.get("replica.two-writers"));
        let reasons: Vec<_> = declared.collect();
        assert!(!reasons.is_empty());
        for reason in reasons {
            assert!(
                reason.starts_with("sometimes") && covers(reason, &untrue_success(2, 1, "").0),
                "{reason}"
            );
            for other in
                ["both ended with exit code 0", "no word of a second writer within 60s", "restore []: x"]
            {
                assert!(!covers(reason, other), "{reason}");
            }
        }
    }
}
