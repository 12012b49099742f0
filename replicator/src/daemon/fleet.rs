//! All databases being replicated: start, watch, stop.
//!
//! One that cannot be started is reported, tried again, and does not keep the others from running.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::bucket::settings::{Ownership, Settings};
use crate::bucket::{Bucket, Opener};
use crate::config::Database;
use crate::config::values::format_duration;
use crate::error::Result;
use crate::host::{Disk, Host};
use crate::observe::Board;
use crate::sync::{self, Handle, State, Status, Upkeep};

/// Databases that prove continuity or make their first copy at the same time.
const STARTING_AT_ONCE: usize = 16;
/// A database that takes longer than this to start lets the next one begin.
const LONGEST_START: Duration = Duration::from_secs(30);

/// The databases of this process.
pub struct Fleet {
    host: Host,
    opener: Opener,
    board: Board,
    starting: Arc<Semaphore>,
    members: BTreeMap<PathBuf, Handle>,
    stop_timeouts: BTreeMap<PathBuf, Duration>,
    broken: Vec<Database>,
}

impl Fleet {
    /// No databases yet; their states will be shown on `board`.
    #[must_use]
    pub fn new(host: Host, opener: Opener, board: Board) -> Self {
        Self {
            host,
            opener,
            board,
            starting: Arc::new(Semaphore::new(STARTING_AT_ONCE)),
            members: BTreeMap::new(),
            stop_timeouts: BTreeMap::new(),
            broken: Vec::new(),
        }
    }

    /// Whether a database is being replicated.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        self.members.contains_key(path)
    }

    /// Paths of the databases being replicated, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.members.keys().cloned().collect()
    }

    /// Starts one. Waits while too many others are starting. A failure is logged and remembered for
    /// [`Fleet::retry_broken`].
    pub async fn start(&mut self, database: Database) {
        let path = database.options.db.clone();
        if self.contains(&path) {
            return;
        }
        match self.try_start(&database).await {
            Ok(handle) => {
                self.stop_timeouts.insert(path.clone(), database.options.shutdown_timeout);
                self.members.insert(path, handle);
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot start replication");
                self.broken.push(database);
            }
        }
    }

    async fn try_start(&self, database: &Database) -> Result<Handle> {
        let permit = Arc::clone(&self.starting).acquire_owned().await.expect("the semaphore is never closed");
        let bucket = self.open(database).await?;
        let options = database.options.clone();
        tracing::info!(
            path = %options.db.display(), r#type = bucket.kind(), to = bucket.location(),
            sync_interval = format_duration(options.sync_interval), "replicating to"
        );
        let handle = sync::start(self.host.clone(), options, bucket);
        let mut status = handle.status();
        let upkeep = handle.upkeep();
        let level0 = Arc::new(move |now| upkeep.level0_files(now));
        self.board.add(database.options.db.clone(), status.clone(), level0);
        tokio::spawn(async move {
            let started = status.wait_for(|status| status.state != State::Starting);
            // Started, ended, or slow: in each case the next one's turn.
            let _ = tokio::time::timeout(LONGEST_START, started).await;
            drop(permit);
        });
        Ok(handle)
    }

    async fn open(&self, database: &Database) -> Result<Arc<dyn Bucket>> {
        let mut settings = database.replica.settings.clone();
        if let Settings::Directory(directory) = &mut settings
            && directory.ownership.is_none()
        {
            let (disk, db) = (self.host.disk.clone(), database.options.db.clone());
            directory.ownership = self.host.blocking(move || ownership(&*disk, &db)).await;
        }
        self.opener.open(&settings).await
    }

    /// Tries again what could not be started.
    pub async fn retry_broken(&mut self) {
        for database in std::mem::take(&mut self.broken) {
            self.start(database).await;
        }
    }

    /// Whether anything could not be started so far.
    #[must_use]
    pub fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// All databases: path, state, and maintenance on demand.
    #[must_use]
    pub fn members(&self) -> Vec<(PathBuf, watch::Receiver<Status>, Upkeep)> {
        self.members.iter().map(|(path, handle)| (path.clone(), handle.status(), handle.upkeep())).collect()
    }

    /// Stops one whose file is gone.
    pub async fn remove(&mut self, path: &Path) {
        self.board.remove(path);
        let timeout = self.stop_timeouts.remove(path).unwrap_or_default();
        if let Some(handle) = self.members.remove(path) {
            match handle.stop(timeout).await {
                Ok(()) => tracing::info!(path = %path.display(), "database is gone, replication stopped"),
                Err(error) => tracing::warn!(path = %path.display(), %error, "database is gone"),
            }
        }
    }

    /// Stops all, each with a final sync within its own time limit. Returns whether every replica is equal to its
    /// database.
    pub async fn stop(self) -> bool {
        let all_started = self.broken.is_empty();
        let timeouts = self.stop_timeouts;
        let stops = self.members.into_iter().map(|(path, handle)| {
            let timeout = timeouts.get(&path).copied().unwrap_or_default();
            async move {
                let result = stop_one(handle, timeout).await;
                if let Err(error) = &result {
                    tracing::error!(path = %path.display(), %error, "final sync failed, the replica is behind");
                }
                result.is_ok()
            }
        });
        let in_sync = join_all(stops).await.into_iter().all(|ok| ok);
        in_sync && all_started
    }
}

/// Lets a start come to its end first, as far as the time allows: stopping in the middle of it would leave the
/// replica behind although the store may be fine.
async fn stop_one(handle: Handle, timeout: Duration) -> Result<()> {
    let begun = Instant::now();
    let mut status = handle.status();
    let started = status.wait_for(|status| status.state != State::Starting);
    let _ = tokio::time::timeout(timeout, started).await;
    handle.stop(timeout.saturating_sub(begun.elapsed())).await
}

/// Permissions and owner of a database and its directory, for a replica in a directory.
fn ownership(disk: &dyn Disk, db: &Path) -> Option<Ownership> {
    let file = disk.metadata(db).ok()?;
    let directory = disk.metadata(db.parent()?).ok()?;
    Some(Ownership { file_mode: file.mode, directory_mode: directory.mode, uid: file.uid, gid: file.gid })
}
