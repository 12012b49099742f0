//! The outside of a replicated database: start, watch, stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::maintain::Upkeep;
use super::task::{self, Shared};
use super::{Options, Status};
use crate::bucket::Bucket;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;

/// A running replication. Dropping it ends it without a final sync.
pub struct Handle {
    status: watch::Receiver<Status>,
    sync_now: Arc<Notify>,
    stop: watch::Sender<Option<Duration>>,
    upkeep: Upkeep,
    task: JoinHandle<Result<()>>,
}

/// Starts replicating one database, on the current tokio runtime.
#[must_use]
pub fn start(host: Host, options: Options, bucket: Arc<dyn Bucket>) -> Handle {
    let (stop, stop_receiver) = watch::channel(None);
    let (shared, status) = Shared::new(host, options, bucket);
    let shared = Arc::new(shared);
    let sync_now = Arc::clone(&shared.sync_now);
    let (snapshots, requests) = mpsc::channel(1);
    let upkeep = Upkeep { shared: Arc::clone(&shared), requests: snapshots.clone() };
    let task = tokio::spawn(task::run(shared, stop_receiver, snapshots, requests));
    Handle { status, sync_now, stop, upkeep, task }
}

impl Handle {
    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Maintenance on demand.
    #[must_use]
    pub fn upkeep(&self) -> Upkeep {
        self.upkeep.clone()
    }

    /// Looks for new commits now instead of at the next interval.
    pub fn sync_now(&self) {
        self.sync_now.notify_one();
    }

    /// Stops after a final sync that may take up to `deadline`.
    ///
    /// # Errors
    /// Unless everything committed is durable in the store.
    pub async fn stop(mut self, deadline: Duration) -> Result<()> {
        // Nobody listens only if the task has ended already; its result tells.
        let _ = self.stop.send(Some(deadline));
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::new(ErrorKind::Cancelled, "replication was cancelled")),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
