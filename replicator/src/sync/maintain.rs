//! Keeping the replica small and quick to restore: compaction, snapshots and retention of one database.
//!
//! Decides only *when*; what is merged and deleted is decided in [`crate::compact`]. Asks the store nothing while
//! nothing new was published.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::compact::schedule;
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;
use crate::ltx::Txid;
use crate::replica::{Entry, Inventory, Level, Level0Files, LtxName};

use super::base::{self, Sent, upload_image};
use super::failures::Work;
use super::task::{Shared, SnapshotRequest, SnapshotSource};

/// Longest sleep: after that the wall clock is looked at again, in case it was set.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Pause after a failed snapshot.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// How long a snapshot waits for its turn before other work goes on.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a snapshot that is made waits for its transaction to be in the store. Its view keeps the log from restarting
/// meanwhile.
const OWN_TRANSACTION_WAIT: Duration = Duration::from_secs(30);

/// Maintains the replica until dropped. `base` is the full copy with which the chain begins, as far as is known.
pub async fn run(shared: Arc<Shared>, requests: mpsc::Sender<SnapshotRequest>, base: Option<Txid>) {
    let snapshot_not_before = UnixMillis(i64::MIN);
    let mut maintenance =
        Maintenance { shared, requests, base, snapshot_not_before, snapshot_taken: None, gap: false };
    loop {
        maintenance.work().await;
        if maintenance.shared.stranger.borrow().is_some() {
            // The session ends because of it.
            return;
        }
        maintenance.forget_what_passed();
        let published = Arc::clone(&maintenance.shared.published);
        tokio::select! {
            () = tokio::time::sleep(maintenance.until_next()) => {}
            () = published.notified() => {}
        }
    }
}

struct Maintenance {
    shared: Arc<Shared>,
    requests: mpsc::Sender<SnapshotRequest>,
    base: Option<Txid>,
    snapshot_not_before: UnixMillis,
    /// When the last snapshot was complete. A directory tells only how old its content is.
    snapshot_taken: Option<UnixMillis>,
    /// Transactions are missing in the replica; only a snapshot makes it whole.
    gap: bool,
}

impl Maintenance {
    async fn work(&mut self) {
        let now = self.now();
        if self.compaction_due(now).is_some_and(|due| due <= now) {
            match self.shared.compactor.look().await {
                Ok(()) => self.shared.overcome(&[Work::List]),
                Err(error) => self.shared.report(Work::List, "list the replica", &error),
            }
        }
        if self.meets_stranger() {
            return;
        }
        if self.snapshot_due(now).is_some_and(|due| due <= now) {
            self.snapshot().await;
            if self.shared.stranger.borrow().is_some() {
                return;
            }
        }
        // Both may have taken long.
        let now = self.now();
        let compactor = &self.shared.compactor;
        let inventory = compactor.inventory();
        let is_safe = inventory.is_some_and(|inventory| exposed_base(&inventory).is_none());
        if is_safe && compactor.next_due(now).is_some_and(|due| due <= now) {
            let mut outcome = compactor.run_due(now).await;
            let is_lost = |error: &Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt);
            if outcome.as_ref().is_err_and(is_lost) {
                // An object has vanished, or is damaged: a new listing says whether that leaves a gap.
                outcome = compactor.run_due(now).await;
            }
            match outcome {
                Ok(report) => {
                    self.shared.overcome(&[Work::Compact]);
                    for merged in &report.merged {
                        let (name, size, inputs) = (merged.name, merged.size, merged.inputs);
                        tracing::info!(db = %self.shared.options.db.display(), %name, size, inputs, "compaction complete");
                    }
                    // One that begins where our transactions end is not for a snapshot of ours to close.
                    let replicated = self.shared.status().replicated_txid;
                    let gap = report.gap.is_some_and(|gap| Some(gap.after) < replicated);
                    self.count_verify_error(gap && !self.gap);
                    self.gap = gap;
                }
                Err(error) => {
                    self.shared.report(Work::Compact, "compact", &error);
                    let verified = !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound);
                    self.count_verify_error(!verified);
                }
            }
        }
        let now = self.now();
        if compactor.next_retention(now).is_some_and(|due| due <= now) {
            match compactor.enforce_retention(now).await {
                Ok(released) => {
                    self.shared.overcome(&[Work::Retain]);
                    for failure in &released.failures {
                        let error =
                            Error::new(failure.error.kind(), format!("{}: {}", failure.key, failure.error));
                        self.shared.report(Work::Retain, "delete", &error);
                    }
                }
                Err(error) => self.shared.report(Work::Retain, "enforce retention", &error),
            }
        }
    }

    /// Whether the replica holds a snapshot of what we have not published; tells the uploader.
    fn meets_stranger(&self) -> bool {
        let stranger = self.shared.compactor.stranger();
        if stranger.is_some() {
            self.shared.stranger.send_replace(stranger);
        }
        stranger.is_some()
    }

    /// What had failed, and is not to be done any more: a listing made for something else has told what there is, and that
    /// nothing is due. An idle database would complain of it for ever.
    fn forget_what_passed(&self) {
        if self.shared.compactor.inventory().is_none() {
            return;
        }
        let now = self.now();
        self.shared.overcome(&[Work::List]);
        if self.shared.compactor.next_due(now).is_none() {
            self.shared.overcome(&[Work::Compact]);
        }
        // During the pause after a failure nothing is due.
        let may_be_due = now >= self.snapshot_not_before;
        if may_be_due && self.snapshot_due(now).is_none_or(|due| due > now) {
            self.shared.overcome(&[Work::Snapshot]);
        }
    }

    fn now(&self) -> UnixMillis {
        self.shared.host.clock.now()
    }

    fn count_verify_error(&self, found: bool) {
        if found {
            self.shared.update(|status| status.compaction_verify_error_count += 1);
        }
    }

    /// When something can be merged. The first merge of all waits for the first snapshot, and that for the next
    /// boundary, so that a second full copy does not come on the heels of the first.
    fn compaction_due(&self, now: UnixMillis) -> Option<UnixMillis> {
        let due = self.shared.compactor.next_due(now)?;
        let inventory = self.shared.compactor.inventory();
        let Some(base) = inventory.as_deref().and_then(exposed_base) else { return Some(due) };
        let interval = *self.shared.options.levels.first()?;
        let first = if schedule::is_due(base.modified, now, interval) {
            now
        } else {
            schedule::next_boundary(now, interval)
        };
        Some(due.max(first).max(self.snapshot_not_before))
    }

    fn until_next(&self) -> Duration {
        let now = self.now();
        let compactor = &self.shared.compactor;
        let due = [self.compaction_due(now), compactor.next_retention(now), self.snapshot_due(now)];
        let next = due.into_iter().flatten().min().map_or(MAX_SLEEP, |next| {
            Duration::from_millis(u64::try_from(next.0.saturating_sub(now.0)).unwrap_or(0))
        });
        // Not in a busy loop, whatever the schedules say.
        next.clamp(Duration::from_millis(100).min(self.shared.options.l0_retention_check_interval), MAX_SLEEP)
    }

    /// When a snapshot is to be taken; `None` while the newest one covers everything.
    fn snapshot_due(&self, now: UnixMillis) -> Option<UnixMillis> {
        let inventory = self.shared.compactor.inventory()?;
        let replicated = self.shared.status().replicated_txid?;
        let protects =
            exposed_base(&inventory).is_some() && self.compaction_due(now).is_some_and(|due| due <= now);
        let newest = inventory.newest_snapshot();
        // A restore needs nothing before a full copy, but only a snapshot tells it so.
        let is_owed = self.base.filter(|&base| base > Txid(1));
        let is_owed = is_owed.is_some_and(|base| newest.is_none_or(|entry| entry.name.max < base));
        if self.gap || protects || is_owed {
            return Some(now.max(self.snapshot_not_before));
        }
        if !planted!("snapshot-of-nothing-new") && newest.is_some_and(|entry| entry.name.max >= replicated) {
            return None;
        }
        // A chain begins with a full copy: that counts as its first snapshot.
        let first = inventory.get(&LtxName::l0(Txid(1)));
        let last = newest.or(first).and_then(|entry| entry.modified);
        let interval = self.shared.options.snapshot_interval;
        let is_due = [last, self.snapshot_taken].iter().all(|&last| schedule::is_due(last, now, interval));
        let due = if is_due { now } else { schedule::next_boundary(now, interval) };
        Some(due.max(self.snapshot_not_before))
    }

    async fn snapshot(&mut self) {
        // Before anything is pinned. Others' stores may hang: what is due besides does not wait for them.
        let turn = tokio::time::timeout(PATIENCE, self.shared.turns.take_for_snapshot()).await;
        let Ok(_turn) = turn else {
            self.pause_snapshots(PATIENCE);
            return;
        };
        match take_snapshot(&self.shared, &self.requests).await {
            Ok(Snapshot::Complete { name, size }) => {
                self.gap = false;
                self.snapshot_taken = Some(self.now());
                self.shared.overcome(&[Work::Snapshot]);
                tracing::info!(db = %self.shared.options.db.display(), %name, size, "snapshot complete");
                return;
            }
            Ok(Snapshot::Ending) => return,
            Ok(Snapshot::TooEarly { txid }) => {
                tracing::info!(db = %self.shared.options.db.display(), %txid, "a snapshot waits for its transaction");
            }
            Err(error) => {
                self.shared.report(Work::Snapshot, "take a snapshot", &error);
                self.shared.compactor.distrust();
            }
        }
        self.pause_snapshots(RETRY_AFTER);
    }

    fn pause_snapshots(&mut self, pause: Duration) {
        let pause = i64::try_from(pause.as_millis()).unwrap_or(0);
        self.snapshot_not_before = UnixMillis(self.now().0 + pause);
    }
}

/// The newest full copy, if level 0 has the only ones. Litestream, should it take this replica over, deletes from
/// level 0 whatever lies below the end of level 1. So there must be no level 1 as long as this is all there is.
fn exposed_base(inventory: &Inventory) -> Option<Entry> {
    let bases = || inventory.iter().filter(|entry| entry.name.is_base());
    if bases().any(|entry| entry.name.level != Level::L0) {
        return None;
    }
    bases().max_by_key(|entry| entry.name.max).copied()
}

/// What became of a snapshot.
enum Snapshot {
    /// It is in the store.
    Complete {
        /// Its name.
        name: LtxName,
        /// Bytes.
        size: u64,
    },
    /// It was made, and its newest transaction was not in the store even then.
    TooEarly {
        /// That transaction.
        txid: Txid,
    },
    /// The session is ending.
    Ending,
}

async fn take_snapshot(shared: &Shared, requests: &mpsc::Sender<SnapshotRequest>) -> Result<Snapshot> {
    let (reply, answer) = oneshot::channel();
    if requests.send(reply).await.is_err() {
        return Ok(Snapshot::Ending);
    }
    let Ok(source) = answer.await else { return Ok(Snapshot::Ending) };
    let SnapshotSource { long, txid, header } = source?;
    let name = LtxName::snapshot(txid);
    let (view, reader) = long.into_parts();
    let known = shared.compactor.inventory().and_then(|inventory| inventory.get(&name).copied());
    if let Some(entry) = known
        && !planted!("snapshot-of-nothing-new")
    {
        shared.host.blocking(move || drop((view, reader))).await;
        return Ok(Snapshot::Complete { name, size: entry.size });
    }
    let is_ours = shared.until_replicated(txid, OWN_TRANSACTION_WAIT);
    let bucket = shared.bucket.as_ref();
    let uploaded = upload_image(&shared.host, bucket, Arc::new(view), (name, header), None, is_ours).await;
    // The connection is closed where it may block.
    shared.host.blocking(move || drop(reader)).await;
    match uploaded? {
        Sent::Done(image) => {
            // Not the time in its header, which is that of the last commit: it begins to serve now.
            shared.compactor.note_published(name, image.size, shared.host.clock.now());
            Ok(Snapshot::Complete { name, size: image.size })
        }
        Sent::Hidden => Ok(Snapshot::TooEarly { txid }),
        Sent::Taken => {
            // Its transaction is ours, and this is another state.
            if !planted!("strangers-believed") {
                shared.stranger.send_replace(Some(name));
            }
            Err(base::taken(bucket, name))
        }
    }
}

/// Maintenance of one replica on demand, beside its schedule.
#[derive(Clone)]
pub struct Upkeep {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: mpsc::Sender<SnapshotRequest>,
}

impl Upkeep {
    /// Publishes a snapshot of the current state, unless there is one. The state is that of the database now: what the
    /// status says may be older.
    ///
    /// # Errors
    /// What the database or the store says; `Cancelled` if replication ends meanwhile.
    pub async fn snapshot(&self) -> Result<()> {
        let _turn = self.shared.turns.take_for_snapshot().await;
        let error = match take_snapshot(&self.shared, &self.requests).await? {
            Snapshot::Complete { name, size } => {
                self.shared.overcome(&[Work::Snapshot]);
                tracing::info!(db = %self.shared.options.db.display(), %name, size, "snapshot complete");
                return Ok(());
            }
            Snapshot::Ending => Error::new(ErrorKind::Cancelled, "replication ended before the snapshot"),
            Snapshot::TooEarly { txid } => {
                Error::new(ErrorKind::Transient, format!("transaction {txid} is not in the store yet"))
            }
        };
        Err(error)
    }

    /// Files of level 0 in the replica at `now`, as far as is known.
    #[must_use]
    pub fn level0_files(&self, now: UnixMillis) -> Option<Level0Files> {
        self.shared.compactor.level0_files(now)
    }

    /// Deletes from the store what the retention no longer keeps.
    ///
    /// # Errors
    /// What the store says, also of single objects.
    pub async fn enforce_retention(&self) -> Result<()> {
        let released = self.shared.compactor.enforce_retention(self.shared.host.clock.now()).await?;
        match released.failures.into_iter().next() {
            Some(failure) => Err(failure.error.context(format!("cannot delete {}", failure.key))),
            None => {
                self.shared.overcome(&[Work::Retain]);
                Ok(())
            }
        }
    }
}
