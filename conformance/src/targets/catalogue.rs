//! The list of targets, as data: how each is started and what it is known to do differently.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Guise, Target};
use crate::client::Style;
use crate::server::Secure;
use crate::server::dialect::{Addressing, Dialect};

/// Text of `targets.toml`.
const BUILT_IN: &str = include_str!("../../targets.toml");

/// How a target comes to be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Start {
    /// The embedded server with this dialect.
    Embedded(String),
    /// The same behind TLS.
    Secure(String),
    /// The same, which a replicator reaches through a proxy under the provider's own name.
    Provider(String),
    /// A script in `scripts/` that runs a server until it gets SIGTERM, and first prints `ENDPOINT=…`,
    /// `ACCESS_KEY=…`, `SECRET_KEY=…`, optionally `REGION=…` and `BUCKET=…`, then `READY`.
    Script(String),
    /// A server or a bucket that exists: variables with this prefix say where.
    Environment(String),
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name to ask for it by.
    pub name: String,
    /// What it is, for people.
    pub about: String,
    /// How it comes to be.
    pub start: Start,
    /// Whether it must run in CI; the others run on demand or nightly.
    #[serde(default)]
    pub in_ci: bool,
    /// Checks known to fail, and why.
    #[serde(default)]
    pub quirks: BTreeMap<String, String>,
    /// Dialect that stands for it in simulation, and is held to fail the same checks.
    #[serde(default)]
    pub model: Option<String>,
    /// Checks on which it and the model differ, and why that is no fault of the model.
    #[serde(default)]
    pub unlike_model: BTreeMap<String, String>,
    /// Differences from the model that `conformance diff` finds, and why they are no fault of the model.
    #[serde(default)]
    pub differences: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    target: Vec<Entry>,
}

/// Why the list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file does not parse.
    #[error("targets.toml: {0}")]
    Invalid(#[from] toml::de::Error),
    /// A dialect does not parse.
    #[error(transparent)]
    Dialect(#[from] crate::server::dialect::DialectError),
}

/// All targets: those of `targets.toml`, then one per dialect, named `dialect-<name>`.
///
/// # Errors
/// If the compiled-in data do not parse, which a test excludes.
pub fn catalogue() -> Result<Vec<Entry>, CatalogueError> {
    let mut entries = toml::from_str::<File>(BUILT_IN)?.target;
    for name in Dialect::names() {
        let dialect = Dialect::named(name)?;
        entries.push(Entry {
            name: format!("dialect-{name}"),
            about: format!("the embedded server speaking like {}", dialect.title),
            start: Start::Provider(name.to_owned()),
            in_ci: true,
            quirks: dialect.expected_failures,
            model: None,
            unlike_model: BTreeMap::new(),
            differences: BTreeMap::new(),
        });
    }
    Ok(entries)
}

/// The target that reaches an embedded server with a dialect.
#[must_use]
pub fn embedded_target(name: &str, endpoint: &str, dialect: &Dialect) -> Target {
    let mut target = Target::local(name, endpoint, "access", "secret");
    if dialect.addressing == Addressing::Virtual {
        target.style = Style::Virtual;
    }
    if let Some(region) = &dialect.region {
        target.region.clone_from(region);
    }
    if let Some(header) = &dialect.list.fresh_header {
        target.headers.insert(header.clone(), "true".to_owned());
    }
    target.quirks = dialect.expected_failures.clone();
    target
}

/// How a user would configure a replicator for the provider, when every name leads to `secure`.
pub(super) fn guise(dialect: &Dialect, secure: &Secure) -> Option<Guise> {
    let host = dialect.host.as_ref()?;
    let is_default = host.ends_with(".amazonaws.com");
    Some(Guise {
        endpoint: (!is_default).then(|| format!("{host}{}", dialect.path_prefix)),
        region: dialect.region.clone(),
        // Known from the host's name.
        path_style: None,
        environment: vec![
            ("HTTPS_PROXY".to_owned(), secure.proxy()),
            ("NO_PROXY".to_owned(), String::new()),
            ("AWS_CA_BUNDLE".to_owned(), secure.bundle().display().to_string()),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks;

    #[test]
    fn every_quirk_names_a_check_and_gives_a_reason() {
        let ids: Vec<_> = checks::all().iter().map(|check| check.id).collect();
        for entry in catalogue().unwrap() {
            for (id, reason) in &entry.quirks {
                assert!(ids.contains(&id.as_str()), "{}: no check is named {id}", entry.name);
                assert!(!reason.is_empty(), "{}: {id} has no reason", entry.name);
            }
        }
    }

    #[test]
    fn models_fail_what_the_real_servers_fail() {
        for entry in catalogue().unwrap() {
            let Some(model) = entry.model else { continue };
            let model = Dialect::named(&model).unwrap().expected_failures;
            let mut differ: Vec<_> = entry.quirks.keys().filter(|id| !model.contains_key(*id)).collect();
            differ.extend(model.keys().filter(|id| !entry.quirks.contains_key(*id)));
            differ.sort_unstable();
            let declared: Vec<_> = entry.unlike_model.keys().collect();
            assert_eq!(differ, declared, "{}: differences from its model", entry.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = catalogue().unwrap().into_iter().map(|entry| entry.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
