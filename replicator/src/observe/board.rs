//! The states of all databases, for whoever shows them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::operations::Operations;
use crate::sync::Status;

/// Databases by path, each with its current state, and the requests made for all of them. Cheap to clone; clones
/// show the same.
#[derive(Clone, Default)]
pub struct Board {
    databases: Arc<Mutex<BTreeMap<PathBuf, watch::Receiver<Status>>>>,
    operations: Arc<Operations>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, watch::Receiver<Status>>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request counters.
    #[must_use]
    pub fn operations(&self) -> Arc<Operations> {
        Arc::clone(&self.operations)
    }

    /// Shows a database.
    pub fn add(&self, path: PathBuf, status: watch::Receiver<Status>) {
        self.lock().insert(path, status);
    }

    /// Shows it no longer.
    pub fn remove(&self, path: &Path) {
        self.lock().remove(path);
    }

    /// All states of this moment, by path.
    #[must_use]
    pub fn statuses(&self) -> Vec<(PathBuf, Status)> {
        self.lock().iter().map(|(path, status)| (path.clone(), status.borrow().clone())).collect()
    }
}
