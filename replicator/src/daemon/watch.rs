//! Directories whose databases come and go.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::discover;
use super::fleet::Fleet;
use crate::config::Directory;
use crate::error::Result;
use crate::host::Host;

/// Time between two looks at the watched directories.
pub const LOOK: Duration = Duration::from_secs(2);

/// A directory, and what was found in it at the last look.
pub struct Watched {
    directory: Directory,
    /// Databases (absolute paths) that were missing at the last look; gone if they are missing again.
    missing: BTreeSet<PathBuf>,
    /// Whether the last look failed, so that a lasting failure is logged once.
    failed: bool,
}

impl Watched {
    /// Begins with a directory whose databases are already started.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self { directory, missing: BTreeSet::new(), failed: false }
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

    async fn apply(&mut self, found: Vec<PathBuf>, fleet: &mut Fleet) {
        let present: BTreeSet<PathBuf> =
            found.iter().map(|relative| self.directory.path.join(relative)).collect();
        let mine = |path: &PathBuf| path.starts_with(&self.directory.path);
        let absent: BTreeSet<PathBuf> =
            fleet.paths().into_iter().filter(mine).filter(|path| !present.contains(path)).collect();
        for gone in absent.intersection(&self.missing) {
            fleet.remove(gone).await;
        }
        self.missing = absent.difference(&self.missing).cloned().collect();
        for relative in found {
            let database = self.directory.database(&relative);
            if !fleet.contains(&database.options.db) {
                tracing::info!(path = %database.options.db.display(), "found a new database");
                fleet.start(database).await;
            }
        }
    }
}

/// The databases of a directory, relative to it; those of the fleet are not opened.
///
/// # Errors
/// As [`discover::scan`].
pub async fn found(host: &Host, directory: &Directory, fleet: &Fleet) -> Result<Vec<PathBuf>> {
    let known: BTreeSet<PathBuf> = fleet.paths().into_iter().collect();
    let (disk, directory) = (host.disk.clone(), directory.clone());
    host.blocking(move || {
        let is_known = |relative: &Path| known.contains(&directory.path.join(relative));
        discover::scan(&*disk, &directory, &is_known)
    })
    .await
}
