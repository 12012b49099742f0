//! A power loss is survived whichever of its legal disk images comes out: the database opens and is sound, holds what
//! was acknowledged with `synchronous=FULL`, and a replicator that starts on it with its local state catches up.

use crate::evidence::{Evidence, Violation};

pub const NAME: &str = "survives";

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let found = evidence.crash_images.iter().map(|happened| Violation {
        oracle: NAME,
        at_millis: 0,
        promised: "every legal disk image of a power loss is one to go on from".into(),
        happened: happened.clone(),
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use crate::oracles::fixture;

    #[test]
    fn a_bad_image_is_seen() {
        let (mut evidence, _) = fixture::evidence();
        assert_eq!(super::check(&evidence), []);
        evidence.crash_images.push("image 2 of power loss 1: integrity_check: page 3 is never used".into());
        assert_eq!(super::check(&evidence).len(), 1);
    }
}
