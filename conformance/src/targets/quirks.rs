//! What providers do differently from S3 as documented: where it was seen, the check that shows it, and what the
//! replicator does about it. Data, held to the recorded runs by a test.

use serde::Deserialize;

/// Text of `quirks.toml`.
const BUILT_IN: &str = include_str!("../../quirks.toml");

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quirk {
    /// Whose.
    pub provider: String,
    /// What is different.
    pub quirk: String,
    /// Where it was seen.
    pub source: String,
    /// The target that plays it, or is it.
    pub target: String,
    /// The check that fails there, for a client that does nothing about it.
    pub fails: String,
    /// What the replicator does about it.
    pub answer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    quirk: Vec<Quirk>,
}

/// All of them.
///
/// # Errors
/// If the compiled-in data do not parse, which a test excludes.
pub fn quirks() -> Result<Vec<Quirk>, toml::de::Error> {
    Ok(toml::from_str::<File>(BUILT_IN)?.quirk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::catalogue;
    use crate::verdict::Recorded;

    /// What the latest recorded run on a target found.
    fn recorded(target: &str) -> Recorded {
        let file = format!("{}/runs/{target}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn each_fails_a_check_and_the_replicator_passes_its_own_run_there() {
        for quirk in quirks().unwrap() {
            let Quirk { provider, quirk: what, target, fails, .. } = &quirk;
            let run = recorded(target);
            assert!(run.failed.contains_key(fails), "{provider}, {what}: {fails} did not fail on {target}");
            let own: Vec<_> = run.ran.iter().filter(|id| id.starts_with("replica.")).collect();
            assert!(!own.is_empty(), "{provider}: the replicator did not run on {target}");
            let failed: Vec<_> = own.into_iter().filter(|id| run.failed.contains_key(*id)).collect();
            assert!(failed.is_empty(), "{provider}: on {target} the replicator fails {failed:?}");
        }
    }

    #[test]
    fn every_dialect_of_a_provider_is_in_the_list() {
        let listed: Vec<_> = quirks().unwrap().into_iter().map(|quirk| quirk.target).collect();
        for entry in catalogue().unwrap().into_iter().filter(|entry| entry.name.starts_with("dialect-")) {
            // The sum of all refusals, and the stand-ins for servers that are themselves in the list.
            let names = ["dialect-strict", "dialect-ceph", "dialect-garage"];
            let stands_for_another = names.contains(&entry.name.as_str());
            assert!(stands_for_another || listed.contains(&entry.name), "{} is not in the list", entry.name);
        }
    }
}
