//! The outside of a replicated database: start, watch, stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::maintain::Upkeep;
use super::task::{self, Shared};
use super::{Options, Status, Turns};
use crate::bucket::Bucket;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;

/// What a stop may take beyond its deadline. Work that cannot be interrupted, on a disk that hangs or in a database of
/// many gigabytes, is then given up: nothing of it was acknowledged.
const GRACE: Duration = Duration::from_secs(5);

/// What a final sync may take that is given no time: as in Litestream it is tried once then, and not repeated.
const ONE_ATTEMPT: Duration = Duration::from_secs(30);

/// The time that a final sync may take with this `deadline`.
pub(super) fn time_for_final_sync(deadline: Duration) -> Duration {
    if deadline.is_zero() { ONE_ATTEMPT } else { deadline }
}

/// A running replication. Dropping it ends it without a final sync.
pub struct Handle {
    status: watch::Receiver<Status>,
    sync_now: Arc<Notify>,
    stop: watch::Sender<Option<Duration>>,
    upkeep: Upkeep,
    task: JoinHandle<Result<()>>,
}

/// Starts replicating one database, on the current tokio runtime. It takes turns with the others of `turns`.
#[must_use]
pub fn start(host: Host, options: Options, bucket: Arc<dyn Bucket>, turns: Turns) -> Handle {
    let (stop, stop_receiver) = watch::channel(None);
    let (shared, status) = Shared::new(host, options, bucket, turns);
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

    /// Stops after a final sync that may take up to `deadline`, and a few seconds more if it cannot be interrupted. With a
    /// deadline of zero each upload is tried once.
    ///
    /// # Errors
    /// Unless everything committed is durable in the store.
    pub async fn stop(mut self, deadline: Duration) -> Result<()> {
        // Nobody listens only if the task has ended already; its result tells.
        let _ = self.stop.send(Some(deadline));
        let limit = time_for_final_sync(deadline).saturating_add(GRACE);
        match tokio::time::timeout(limit, &mut self.task).await {
            Ok(Ok(result)) => result,
            // Not passed on: the other databases of this process are to be stopped in order.
            Ok(Err(error)) if error.is_panic() => Err(Error::new(
                ErrorKind::Internal,
                format!("replication of {} ended in a panic", self.upkeep.shared.options.db.display()),
            )),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Cancelled, "replication was cancelled")),
            Err(_) => Err(Error::new(
                ErrorKind::Cancelled,
                format!(
                    "replication of {} did not end within {} ms and was given up; is its disk well?",
                    self.upkeep.shared.options.db.display(),
                    limit.as_millis(),
                ),
            )),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
