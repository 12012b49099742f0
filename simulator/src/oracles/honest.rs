//! A defect never hides: no panic is swallowed, and a stop that reports success leaves nothing behind.
//!
//! Nothing that was *published*: a writer killed between writing its frames and publishing them in the WAL-index left a
//! commit that nobody was told of and no reader sees. Whether it ever becomes one is open until somebody recovers the
//! log, and who does that after the stop can blame the replicator for nothing.

use crate::evidence::{Evidence, Violation};

use super::valid::states_of;

pub const NAME: &str = "honest";

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found: Vec<Violation> = evidence
        .panics
        .iter()
        .map(|panic| violation(0, "the replicator never panics", panic.clone()))
        .collect();
    let after_stop = evidence.restores.last().filter(|_| !evidence.plan.may_meet_a_former_life());
    if let (Some((Ok(()), _)), Some(restore)) = (&evidence.stopped, after_stop)
        && let Ok((restored, _)) = &restore.outcome
    {
        let states = states_of(&evidence.history, restored);
        let head = restore.heads.1;
        if head.is_some_and(|head| !states.contains(&head)) {
            let text = format!("a restore after it gives states {states:?}, the newest is {head:?}");
            found.push(violation(
                restore.ended_millis,
                "a successful stop means everything is replicated",
                text,
            ));
        }
    }
    found
}

fn violation(at_millis: u64, promised: &str, happened: String) -> Violation {
    Violation { oracle: NAME, at_millis, promised: promised.into(), happened }
}

#[cfg(test)]
mod tests {
    use crate::evidence::Asked;
    use crate::oracles::fixture;

    #[test]
    fn a_commit_that_recovery_brings_to_light_after_the_stop_was_not_missed() {
        let (mut evidence, _) = fixture::evidence();
        let bytes = fixture::first_image();
        let seen = super::states_of(&evidence.history, &crate::history::FileImage::of(&bytes))[0];
        let mut restore = fixture::restored(Asked::Latest, bytes);
        restore.heads = (Some(seen), Some(seen));
        evidence.restores.push(restore.clone());
        assert_ne!(evidence.history.head(), Some(seen), "a newer state came to light");
        assert_eq!(super::check(&evidence), []);
        // The same restore, but the newer state had been published before it began.
        restore.heads = (evidence.history.head(), evidence.history.head());
        evidence.restores.push(restore);
        assert_eq!(super::check(&evidence).len(), 1);
    }

    #[test]
    fn a_panic_and_a_false_success_are_seen() {
        let (mut evidence, _) = fixture::evidence();
        assert_eq!(super::check(&evidence), []);
        evidence.panics.push("index out of bounds".into());
        evidence.restores.push(fixture::restored(Asked::Latest, fixture::first_image()));
        assert_eq!(super::check(&evidence).len(), 2);
    }
}
