//! Directories whose databases come and go.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::discover::{self, Found};
use super::fleet::Fleet;
use crate::config::Directory;
use crate::error::Result;
use crate::host::Host;

/// Time between two looks at the watched directories.
pub const LOOK: Duration = Duration::from_secs(2);

/// A directory, and what was found in it at the last look.
pub struct Watched {
    directory: Directory,
    /// Databases (absolute paths) that were started because they were found here. Others below the same directory have an
    /// entry of their own and are not ours to stop.
    own: BTreeSet<PathBuf>,
    /// Databases (absolute paths) that were missing at the last look; gone if they are missing again.
    missing: BTreeSet<PathBuf>,
    /// Whether the last look failed, so that a lasting failure is logged once.
    failed: bool,
    /// Second names of databases, so that each is logged once.
    aliases: BTreeSet<PathBuf>,
}

impl Watched {
    /// Begins with a directory in which `own` were found and started, with these second names in it.
    #[must_use]
    pub fn new(directory: Directory, own: BTreeSet<PathBuf>, aliases: Vec<PathBuf>) -> Self {
        let aliases = aliases.into_iter().collect();
        Self { directory, own, missing: BTreeSet::new(), failed: false, aliases }
    }

    /// Starts what is new and stops what is gone. A directory that cannot be read changes nothing.
    pub async fn look(&mut self, host: &Host, fleet: &mut Fleet) {
        match found(host, &self.directory, fleet).await {
            Ok(found) => {
                self.failed = false;
                self.apply(found, fleet).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(dir = %self.directory.path.display(), %error, "cannot look for databases");
                }
            }
        }
    }

    async fn apply(&mut self, found: Found, fleet: &mut Fleet) {
        let Found { databases, aliases } = found;
        let aliases: BTreeSet<PathBuf> = aliases.into_iter().collect();
        for alias in aliases.difference(&self.aliases) {
            warn_of_alias(&self.directory, alias);
        }
        self.aliases = aliases;
        let present: BTreeSet<PathBuf> =
            databases.iter().map(|relative| self.directory.path.join(relative)).collect();
        let mut absent: BTreeSet<PathBuf> = self.own.difference(&present).cloned().collect();
        for gone in absent.intersection(&self.missing).cloned().collect::<Vec<_>>() {
            if fleet.remove(&gone).await {
                absent.remove(&gone);
                self.own.remove(&gone);
            }
        }
        self.missing = absent;
        for relative in databases {
            let database = self.directory.database(&relative);
            let path = database.options.db.clone();
            if !fleet.contains(&path) {
                tracing::info!(path = %path.display(), "found a new database");
                self.own.insert(path);
                fleet.start(database).await;
            }
        }
    }
}

/// Tells that a file is replicated under another name.
pub fn warn_of_alias(directory: &Directory, alias: &Path) {
    tracing::warn!(
        path = %directory.path.join(alias).display(),
        "is another name of a database that is replicated already, and is left alone"
    );
}

/// The databases of a directory; those of the fleet are not opened.
///
/// # Errors
/// As [`discover::scan`].
pub async fn found(host: &Host, directory: &Directory, fleet: &Fleet) -> Result<Found> {
    let members: BTreeSet<PathBuf> = fleet.paths().into_iter().collect();
    let (disk, directory) = (host.disk.clone(), directory.clone());
    host.blocking(move || discover::scan(&*disk, &directory, &members)).await
}
