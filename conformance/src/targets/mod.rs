//! Endpoints that can be put to the test, and what they are known to do differently.

mod catalogue;
mod quirks;
mod start;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

pub use self::catalogue::{CatalogueError, Entry, Start, catalogue, embedded_target};
pub use self::quirks::{Quirk, quirks};
pub use self::start::{Running, start};
use crate::client::{Address, Style};

/// An endpoint with a bucket, ready to be used.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Name for reports.
    pub name: String,
    /// URL, with or without scheme, port and path.
    pub endpoint: String,
    /// Domain under which `bucket.<domain>` reaches the bucket, if it is not the endpoint's host.
    #[serde(default)]
    pub virtual_domain: Option<String>,
    /// How the bucket is named in requests.
    pub style: Style,
    /// Region to sign for.
    pub region: String,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// Session token of temporary keys.
    #[serde(default)]
    pub session_token: Option<String>,
    /// Bucket, which exists unless `create_bucket` is set.
    pub bucket: String,
    /// Text before all keys used.
    #[serde(default)]
    pub prefix: String,
    /// Make the bucket first.
    #[serde(default)]
    pub create_bucket: bool,
    /// Headers to send with every request, such as a provider's switch for consistent reads.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// File with the authorities to trust in place of the system's.
    #[serde(default)]
    pub ca_bundle: Option<PathBuf>,
    /// How a replicator is told to reach it, if not by the fields above.
    #[serde(skip)]
    pub guise: Option<Guise>,
    /// Checks known to fail here, each with the reason.
    #[serde(default)]
    pub quirks: BTreeMap<String, String>,
}

/// The same bucket under a provider's own name, as a user would write it in a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guise {
    /// Endpoint, without scheme; `None` where it is the default, as for AWS.
    pub endpoint: Option<String>,
    /// Region, where one must be given.
    pub region: Option<String>,
    /// `force-path-style`, where it must be given.
    pub path_style: Option<bool>,
    /// Variables that lead there: the proxy, and whom to trust.
    pub environment: Vec<(String, String)>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the keys.
        write!(f, "{} at {}/{}", self.name, self.endpoint, self.bucket)
    }
}

impl Target {
    /// An embedded or otherwise local server: path style, region `us-east-1`.
    #[must_use]
    pub fn local(name: &str, endpoint: &str, access_key: &str, secret_key: &str) -> Self {
        Self {
            name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            virtual_domain: Some("localhost".to_owned()),
            style: Style::Path,
            region: "us-east-1".to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            session_token: None,
            bucket: "conformance".to_owned(),
            prefix: "suite/".to_owned(),
            create_bucket: true,
            headers: provider_headers(endpoint),
            ca_bundle: None,
            guise: None,
            quirks: BTreeMap::new(),
        }
    }
}

/// Hosts of Tigris, where listings and reads lag unless the request asks for consistency.
const TIGRIS: [&str; 2] = ["fly.storage.tigris.dev", "t3.storage.dev"];

/// Without which a provider's answers may be of the past, by the endpoint's host.
fn provider_headers(endpoint: &str) -> BTreeMap<String, String> {
    let host = Address::parse(endpoint, None).map_or(String::new(), |address| address.host);
    let is_tigris = TIGRIS.contains(&host.to_ascii_lowercase().trim_end_matches('.'));
    is_tigris.then(|| ("x-tigris-consistent".to_owned(), "true".to_owned())).into_iter().collect()
}

/// A target described by environment variables: `<PREFIX>ENDPOINT`, `ACCESS_KEY`, `SECRET_KEY`, `BUCKET`, and
/// optionally `REGION`, `SESSION_TOKEN`, `STYLE` (`path` or `virtual`), `VIRTUAL_DOMAIN`, `KEY_PREFIX`, `CREATE_BUCKET`
/// (`true`), `HEADER` (`name: value`, sent with every request), `CA_BUNDLE` (a file; `AWS_CA_BUNDLE` if not set).
///
/// # Errors
/// A sentence naming the variable that is missing or wrong.
pub fn from_environment(name: &str, prefix: &str) -> Result<Target, String> {
    from_variables(name, prefix, |variable| std::env::var(variable).ok())
}

fn from_variables(name: &str, prefix: &str, get: impl Fn(&str) -> Option<String>) -> Result<Target, String> {
    let optional = |key: &str| get(&format!("{prefix}{key}")).filter(|value| !value.is_empty());
    let need =
        |key: &str| optional(key).ok_or_else(|| format!("{name} does not run: {prefix}{key} is not set"));
    let mut target = Target::local(name, &need("ENDPOINT")?, &need("ACCESS_KEY")?, &need("SECRET_KEY")?);
    target.virtual_domain = optional("VIRTUAL_DOMAIN");
    target.bucket = need("BUCKET")?;
    target.create_bucket = optional("CREATE_BUCKET").is_some_and(|value| value == "true");
    target.session_token = optional("SESSION_TOKEN");
    // Replicators take a slash at the beginning away, and what they write must lie where the suite cleans up.
    let key_prefix = optional("KEY_PREFIX").unwrap_or_else(|| "conformance-suite/".to_owned());
    target.prefix = key_prefix.trim_start_matches('/').to_owned();
    if let Some(header) = optional("HEADER") {
        let (name, value) =
            header.split_once(':').ok_or_else(|| format!("{prefix}HEADER is not `name: value`"))?;
        target.headers.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    target.ca_bundle = optional("CA_BUNDLE").or_else(|| get("AWS_CA_BUNDLE")).map(PathBuf::from);
    target.region = optional("REGION").unwrap_or(target.region);
    target.style = match optional("STYLE").as_deref() {
        None | Some("path") => Style::Path,
        Some("virtual") => Style::Virtual,
        Some(other) => return Err(format!("{prefix}STYLE is {other:?}; it must be path or virtual")),
    };
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(more: &[(&str, &str)]) -> Result<Target, String> {
        let mut all = BTreeMap::from([
            ("X_ENDPOINT", "https://h"),
            ("X_ACCESS_KEY", "a"),
            ("X_SECRET_KEY", "very secret"),
            ("X_BUCKET", "b"),
        ]);
        all.extend(more.iter().copied());
        from_variables("real", "X_", |name| all.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn tigris_is_asked_for_consistency() {
        for endpoint in ["https://fly.storage.tigris.dev", "T3.storage.dev:443", "https://t3.storage.dev./"] {
            let target = variables(&[("X_ENDPOINT", endpoint), ("X_HEADER", "a: b")]).unwrap();
            let headers: Vec<_> =
                target.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(headers, ["a=b", "x-tigris-consistent=true"], "{endpoint}");
        }
        assert_eq!(variables(&[("X_ENDPOINT", "https://storage.dev")]).unwrap().headers.len(), 0);
    }

    #[test]
    fn environment() {
        let target = variables(&[("X_STYLE", "virtual")]).unwrap();
        assert_eq!((target.style, target.create_bucket), (Style::Virtual, false));
        assert_eq!(target.prefix, "conformance-suite/");
        assert_eq!(variables(&[("X_KEY_PREFIX", "/ci/nightly/")]).unwrap().prefix, "ci/nightly/");
        assert!(!format!("{target:?}").contains("secret"));
        assert!(variables(&[("X_BUCKET", "")]).unwrap_err().contains("X_BUCKET is not set"));
        assert!(variables(&[("X_STYLE", "x")]).unwrap_err().contains("X_STYLE"));
    }
}
