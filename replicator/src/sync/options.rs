//! What can be set for the replication of one database, with Litestream's defaults unless a field says otherwise.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::host::with_suffix;

/// Settings of one replicated database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The database file.
    pub db: PathBuf,
    /// Directory for local state; a sibling of the database by default.
    pub meta_dir: PathBuf,
    /// How often the database is looked at when no change notification arrives.
    pub monitor_interval: Duration,
    /// Shortest time between two uploads under load; a commit after idle goes out at once.
    pub sync_interval: Duration,
    /// Longest time that copied frames stay in the WAL before a checkpoint is tried; zero turns the timer off.
    pub checkpoint_interval: Duration,
    /// WAL length in frames from which a (never blocking) checkpoint is tried.
    pub min_checkpoint_pages: u32,
    /// WAL length in frames from which writers are made to wait for one checkpoint; `None` never blocks them.
    pub truncate_pages: Option<u32>,
    /// How long our own connections wait for locks.
    pub busy_timeout: Duration,
    /// Upper bound for WAL bytes put into one file, exceeded only by a single larger transaction. Litestream takes
    /// 64 MiB; a file of 8 MiB still goes out as one or two requests, is durable sooner, and bounds the memory of an
    /// upload.
    pub max_batch_bytes: u64,
    /// Time between full snapshots.
    pub snapshot_interval: Duration,
    /// How long snapshots, and the history above the oldest kept one, are kept.
    pub snapshot_retention: Duration,
    /// Compaction interval of level 1, 2, …
    pub levels: Vec<Duration>,
    /// How long level-0 files are kept after level 1 covers them; zero keeps them for ever.
    pub l0_retention: Duration,
    /// How often Litestream's level-0 retention looks. Ours looks when something expires; from this it takes how soon a
    /// rival may delete from a directory, and the shortest pause of maintenance where that is below 100 ms.
    pub l0_retention_check_interval: Duration,
    /// Whether anything is ever deleted from the store.
    pub retention_enabled: bool,
    /// Bound for the final sync on stop.
    pub shutdown_timeout: Duration,
}

impl Options {
    /// Litestream's defaults for a database path.
    #[must_use]
    pub fn new(db: PathBuf) -> Self {
        Self {
            meta_dir: default_meta_dir(&db),
            db,
            monitor_interval: Duration::from_secs(1),
            sync_interval: Duration::from_secs(1),
            checkpoint_interval: Duration::from_secs(60),
            min_checkpoint_pages: 1000,
            truncate_pages: None,
            busy_timeout: Duration::from_secs(1),
            max_batch_bytes: 8 << 20,
            snapshot_interval: Duration::from_secs(24 * 3600),
            snapshot_retention: Duration::from_secs(24 * 3600),
            levels: vec![Duration::from_secs(30), Duration::from_secs(300), Duration::from_secs(3600)],
            l0_retention: Duration::from_secs(300),
            l0_retention_check_interval: Duration::from_secs(15),
            retention_enabled: true,
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

/// `.<name>-litestream` beside the database.
#[must_use]
pub fn default_meta_dir(db: &Path) -> PathBuf {
    let name = db.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    with_suffix(&db.with_file_name(format!(".{name}")), "-litestream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_dir_is_a_hidden_sibling() {
        assert_eq!(default_meta_dir(Path::new("/data/app.db")), PathBuf::from("/data/.app.db-litestream"));
        assert_eq!(default_meta_dir(Path::new("app.db")), PathBuf::from(".app.db-litestream"));
    }
}
