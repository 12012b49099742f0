//! A defect never hides: no panic is swallowed, and a stop that reports success leaves nothing behind.

use crate::evidence::{Evidence, Violation};

use super::valid::states_of;

pub const NAME: &str = "honest";

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found: Vec<Violation> = evidence
        .panics
        .iter()
        .map(|panic| violation(0, "the replicator never panics", panic.clone()))
        .collect();
    let after_stop = evidence.restores.last();
    if let (Some((Ok(()), _)), Some(restore)) = (&evidence.stopped, after_stop)
        && let Ok((bytes, _)) = &restore.outcome
    {
        let states = states_of(&evidence.history, bytes);
        let head = evidence.history.head();
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
    fn a_panic_and_a_false_success_are_seen() {
        let (mut evidence, _) = fixture::evidence();
        assert_eq!(super::check(&evidence), []);
        evidence.panics.push("index out of bounds".into());
        evidence.restores.push(fixture::restored(Asked::Latest, fixture::first_image()));
        assert_eq!(super::check(&evidence).len(), 2);
    }
}
