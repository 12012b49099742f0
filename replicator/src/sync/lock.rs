//! One replicator for one local state: two would stage files under the same transaction ids, and tidy up each other's.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::host::{Disk, DiskFile};

use super::local::create_dir;

/// Held from the first opening of the database until replication of it ends. The kernel releases it with the process.
pub struct StateLock {
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl StateLock {
    /// Locks the local state below `meta_dir`.
    ///
    /// # Errors
    /// `Conflict` if another replicator has it; to be tried again, for that one may be about to end.
    pub fn take(disk: &dyn Disk, meta_dir: &Path) -> Result<Self> {
        let path = meta_dir.join("replicator.lock");
        create_dir(disk, meta_dir)?;
        match disk.lock(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "another replicator is at work with the local state in {}: stop one of them; this one goes on when \
                     the other has ended",
                    meta_dir.display()
                ),
            )),
            Err(error) => Err(Error::io(format!("cannot lock {}", path.display()), error)),
        }
    }

    /// Whether its name still means the locked file: somebody who deletes the local state takes the lock from us.
    #[must_use]
    pub fn is_current(&self, disk: &dyn Disk) -> bool {
        let identity = |facts: io::Result<crate::host::FileMetadata>| {
            facts.ok().map(|facts| (facts.device, facts.inode))
        };
        let named = identity(disk.metadata(&self.path));
        named.is_some() && named == identity(self.file.metadata())
    }
}
