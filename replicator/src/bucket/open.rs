//! From [`Settings`] to a [`Bucket`], sharing what can be shared.
//!
//! One [`Opener`] serves a whole process: buckets on the same server with the same credentials share one HTTP
//! client, so that hundreds of databases cost one connection pool. Opening makes no request; the first operation
//! does, with its retries.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::directory::DirectoryBucket;
use super::observer::RequestObserver;
use super::s3::Registry;
use super::settings::Settings;
use super::{Bucket, url, web};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;

/// What the process environment says about credentials, certificates and proxies. Passed in, so that a simulation
/// sees only what it was given.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    ambient: bool,
}

impl Environment {
    /// These variables only. AWS configuration files, instance metadata and the like are not consulted.
    pub fn hermetic(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { variables: variables.into_iter().collect(), ambient: false }
    }

    /// The variables of this process, then the usual AWS chain: profile, web identity, container, instance.
    #[must_use]
    pub fn process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { variables: std::env::vars_os().filter_map(text).collect(), ambient: true }
    }

    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether the AWS chain may look beyond these variables.
    pub(super) fn is_ambient(&self) -> bool {
        self.ambient
    }
}

/// Opens buckets. Cheap to clone; clones share.
#[derive(Clone)]
pub struct Opener {
    host: Host,
    environment: Arc<Environment>,
    observer: Option<Arc<dyn RequestObserver>>,
    s3: Arc<Registry>,
}

impl Opener {
    /// An opener without open clients.
    #[must_use]
    pub fn new(host: Host, environment: Environment) -> Self {
        Self { host, environment: Arc::new(environment), observer: None, s3: Arc::default() }
    }

    /// Reports requests of buckets opened from now on.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn RequestObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The proxies that the environment names.
    ///
    /// # Errors
    /// For one that cannot be used.
    pub(crate) fn proxies(&self) -> Result<web::Proxies> {
        web::Proxies::from_environment(&self.environment)
    }

    /// A variable of the environment that is set and not empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(str::to_owned)
    }

    /// Opens a bucket, without a request to it.
    ///
    /// # Errors
    /// `Usage` for contradictory settings, and for a directory that Litestream has elsewhere; what reading a key file or
    /// certificates gives.
    pub async fn open(&self, settings: &Settings) -> Result<Arc<dyn Bucket>> {
        match settings {
            Settings::Directory(settings) => {
                self.refuse_if_litestream_is_elsewhere(&settings.path).await?;
                Ok(Arc::new(DirectoryBucket::new(&self.host, settings)))
            }
            Settings::S3(settings) => {
                self.s3.open(&self.host, &self.environment, self.observer.as_ref(), settings).await
            }
        }
    }

    /// Finds settings that can never work, without opening anything.
    ///
    /// # Errors
    /// `Usage` for contradictory settings; what reading a key file gives.
    pub async fn check(&self, settings: &Settings) -> Result<()> {
        match settings {
            Settings::Directory(_) => Ok(()),
            Settings::S3(settings) => Registry::check(&self.host, &self.environment, settings).await,
        }
    }

    /// A directory that is not there, while the one that Litestream makes of its URL is: "no backup" would be untrue.
    async fn refuse_if_litestream_is_elsewhere(&self, path: &Path) -> Result<()> {
        let Some(stored) = url::as_litestream_stores(path) else { return Ok(()) };
        let (disk, here, there) = (Arc::clone(&self.host.disk), path.to_owned(), stored.clone());
        let is_elsewhere = move || {
            let absent =
                disk.metadata(&here).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
            absent && disk.metadata(&there).is_ok()
        };
        if !self.host.blocking(is_elsewhere).await {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{} does not exist, but {} does, which is where Litestream stores what a file:// URL with the former path \
                 names: write file://{1}, or make the former directory if the latter is not the replica",
                path.display(),
                stored.display()
            ),
        ))
    }
}

/// Opens one bucket with nothing but its settings: no environment, nothing shared. For tests and simulations;
/// programs keep an [`Opener`].
///
/// # Errors
/// As [`Opener::open`].
pub async fn open(host: &Host, settings: &Settings) -> Result<Arc<dyn Bucket>> {
    Opener::new(host.clone(), Environment::default()).open(settings).await
}
