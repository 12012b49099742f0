//! Of two replicators with the same database and the same local state, one waits.

use crate::evidence::{Evidence, Violation};

pub const NAME: &str = "alone";

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let found = evidence.together.iter().map(|(at_millis, happened)| Violation {
        oracle: NAME,
        at_millis: *at_millis,
        promised: "one replicator at a time works with a local state".into(),
        happened: happened.clone(),
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use crate::oracles::fixture;

    #[test]
    fn two_at_work_are_seen() {
        let (mut evidence, _) = fixture::evidence();
        assert_eq!(super::check(&evidence), []);
        evidence.together.push((9, "processes [3, 5] replicate with the same local state".into()));
        assert_eq!(super::check(&evidence).len(), 1);
    }
}
