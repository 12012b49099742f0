//! The states of all databases, for whoever shows them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::operations::Operations;
use crate::error::Error;
use crate::host::UnixMillis;
use crate::replica::Level0Files;
use crate::sync::{Failures, Status, Work};

/// Counts the level-0 files of a replica at a time; `None` while they are not known.
pub type CountLevel0 = Arc<dyn Fn(UnixMillis) -> Option<Level0Files> + Send + Sync>;

/// What is shown of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The database file.
    pub path: PathBuf,
    /// Its replication.
    pub status: Status,
    /// Its replica's level-0 files.
    pub level0: Option<Level0Files>,
}

#[derive(Clone)]
struct Member {
    status: watch::Receiver<Status>,
    level0: CountLevel0,
}

/// Databases by path, each with its current state, and the requests made for all of them. Cheap to clone; clones
/// show the same.
#[derive(Clone, Default)]
pub struct Board {
    databases: Arc<Mutex<BTreeMap<PathBuf, Member>>>,
    operations: Arc<Operations>,
    /// Every configured database is among them, as far as anybody can know.
    complete: Arc<AtomicBool>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Member>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request counters.
    #[must_use]
    pub fn operations(&self) -> Arc<Operations> {
        Arc::clone(&self.operations)
    }

    /// Shows a database.
    pub fn add(&self, path: PathBuf, status: watch::Receiver<Status>, level0: CountLevel0) {
        self.lock().insert(path, Member { status, level0 });
    }

    /// Shows a database that cannot be started: it fails, and there is no heartbeat.
    pub fn add_broken(&self, path: PathBuf, error: &Error) {
        let mut failures = Failures::default();
        failures.note(Work::Session, error.to_string(), error);
        let (_, status) = watch::channel(Status { failures, ..Status::default() });
        self.add(path, status, Arc::new(|_| None));
    }

    /// Notes whether every configured database is shown. At first not.
    pub fn set_complete(&self, complete: bool) {
        self.complete.store(complete, Ordering::SeqCst);
    }

    /// Whether every configured database is shown: else what is shown says nothing about all of them.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::SeqCst)
    }

    /// Shows it no longer.
    pub fn remove(&self, path: &Path) {
        self.lock().remove(path);
    }

    /// Everything about all databases at this moment, by path.
    #[must_use]
    pub fn shown(&self, now: UnixMillis) -> Vec<Shown> {
        // Not counted under the lock: that takes as long as a replica is large.
        let members: Vec<(PathBuf, Member)> =
            self.lock().iter().map(|(path, member)| (path.clone(), member.clone())).collect();
        members
            .into_iter()
            .map(|(path, member)| {
                let status = member.status.borrow().clone();
                Shown { path, status, level0: (member.level0)(now) }
            })
            .collect()
    }

    /// All states of this moment, by path.
    #[must_use]
    pub fn statuses(&self) -> Vec<(PathBuf, Status)> {
        self.lock().iter().map(|(path, member)| (path.clone(), member.status.borrow().clone())).collect()
    }
}
