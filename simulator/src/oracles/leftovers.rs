//! A restore leaves the database and nothing else: no foreign log that SQLite would replay into it, and nothing
//! unfinished, also when it fails.

use crate::evidence::{Evidence, Violation};

pub const NAME: &str = "leftovers";

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let restores = evidence.restores.iter().chain(evidence.damaged.iter().map(|damaged| &damaged.restore));
    let left = restores.filter(|restore| !restore.beside.is_empty());
    left.map(|restore| Violation {
        oracle: NAME,
        at_millis: restore.ended_millis,
        promised: "a restore leaves nothing beside the database".into(),
        happened: format!("left: {:?}", restore.beside),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use crate::evidence::Asked;
    use crate::oracles::fixture;

    #[test]
    fn a_file_beside_the_result_is_seen() {
        let (mut evidence, bytes) = fixture::evidence();
        evidence.restores.push(fixture::restored(Asked::Latest, bytes));
        assert_eq!(super::check(&evidence), []);
        evidence.restores[0].beside.push("/tmp/restored.db-wal".into());
        assert_eq!(super::check(&evidence).len(), 1);
    }
}
