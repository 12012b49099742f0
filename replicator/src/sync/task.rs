//! The life of a replicated database: open, establish the chain, follow, and begin again when something breaks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::bucket::Bucket;
use crate::compact::{self, Compactor};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, UnixMillis};
use crate::ltx::{Header, Txid};
use crate::replica::{Inventory, LtxName, Retention};
use crate::sqlite::{LongView, Source, SourceFiles};

use super::backoff::Backoff;
use super::base::Published;
use super::capture::Chain;
use super::contact::{base_txid, check_reach};
use super::ending;
use super::failures::Work;
use super::first;
use super::follow::{Ended, Follower, Uploader};
use super::local::Staged;
use super::lock::StateLock;
use super::queue::{Queue, Queued};
use super::rest;
use super::rival::Sight;
use super::session::{self, LastRecord, Session, Start};
use super::turns::Turns;
use super::upload::{self, UploadEnd};
use super::{Options, Phase, Status, base, maintain, place, policy};

/// Longest wait between repeated failures.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Pause between attempts to get the lock on the local state.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// What all parts of one database's replication share.
pub struct Shared {
    /// Clock, disk and the rest.
    pub host: Host,
    /// Settings.
    pub options: Options,
    /// Where the replica is.
    pub bucket: Arc<dyn Bucket>,
    /// Staged files waiting for upload.
    pub queue: Queue,
    /// Someone asks to look for commits now.
    pub sync_now: Arc<Notify>,
    /// Something was published.
    pub published: Arc<Notify>,
    /// Compaction and retention.
    pub compactor: Compactor,
    /// Turns at the store, shared with the other databases.
    pub turns: Turns,
    /// The uploader is not to wait before its next attempt.
    pub hurry: Notify,
    /// How often the uploader has failed.
    pub failed_attempts: watch::Sender<u64>,
    /// A snapshot in the replica that cannot be ours.
    pub stranger: watch::Sender<Option<LtxName>>,
    status: watch::Sender<Status>,
}

/// A state of the database pinned for a snapshot.
pub struct SnapshotSource {
    /// The pages, and the reader that pins them.
    pub long: LongView,
    /// The transaction they stand for.
    pub txid: Txid,
    /// Header of the snapshot file.
    pub header: Header,
}

/// Asks the following task for a [`SnapshotSource`].
pub type SnapshotRequest = oneshot::Sender<Result<SnapshotSource>>;

/// Set once, to the time that a final sync may take.
pub type Stop = watch::Receiver<Option<Duration>>;

impl Shared {
    /// The shared part and the receiving end of its status.
    #[must_use]
    pub fn new(
        host: Host,
        options: Options,
        bucket: Arc<dyn Bucket>,
        turns: Turns,
    ) -> (Self, watch::Receiver<Status>) {
        let idle_pause = policy::idle_pause(options.monitor_interval);
        let (status, receiver) = watch::channel(Status { idle_pause, ..Status::default() });
        let settings = compact::Settings {
            levels: options.levels.clone(),
            retention: Retention { snapshot: options.snapshot_retention, level0: options.l0_retention },
            delete: options.retention_enabled,
        };
        let compactor = Compactor::new(host.clone(), Arc::clone(&bucket), settings);
        let (queue, sync_now, published) = (Queue::default(), Arc::default(), Arc::default());
        let (hurry, failed_attempts) = (Notify::new(), watch::Sender::new(0));
        let shared = Self {
            host,
            options,
            bucket,
            queue,
            sync_now,
            published,
            compactor,
            turns,
            hurry,
            failed_attempts,
            stranger: watch::Sender::new(None),
            status,
        };
        (shared, receiver)
    }

    /// Changes the status.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(change);
    }

    /// The current status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waiting between failures.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.options.sync_interval.max(Duration::from_millis(100)), MAX_BACKOFF)
    }

    /// Reports that the uploader failed, and waits before its next attempt; not for long if somebody is in a hurry.
    pub async fn wait_after(&self, what: &str, error: Error, backoff: &mut Backoff) {
        self.report(Work::Upload, what, &error);
        self.failed_attempts.send_modify(|count| *count += 1);
        tokio::select! {
            () = tokio::time::sleep(backoff.next(self.host.entropy.as_ref())) => {}
            () = self.hurry.notified() => {}
        }
    }

    /// Reports that `work` has failed: `what` could not be done.
    pub fn report(&self, work: Work, what: &str, error: &Error) {
        tracing::error!(db = %self.options.db.display(), %error, "cannot {what}");
        self.update(|status| {
            status.failures.note(work, format!("cannot {what}: {error}"), error);
            status.sync_error_count += u64::from(work.is_replication());
        });
    }

    /// Nothing is replicated from now on until the store acknowledges something.
    fn leave_off(&self) {
        self.status.send_if_modified(|status| {
            let did_replicate = status.phase == Phase::Replicating;
            if did_replicate {
                status.phase = Phase::Starting;
            }
            did_replicate
        });
    }

    /// Reports that all of `works` have succeeded, in case one of them had failed.
    pub fn overcome(&self, works: &[Work]) {
        self.status.send_if_modified(|status| status.failures.overcome(works));
    }

    /// Appends a captured file to the upload queue.
    pub fn push(&self, staged: Staged, captured_at: Option<UnixMillis>) {
        self.queue.push(Queued { staged, captured_at });
        self.update(|status| status.local_txid = Some(staged.txid));
    }

    /// Records that everything up to `txid`, and so everything committed before `captured_at`, is durable in the
    /// store. Apart from a full copy (`Life::new_chain`), this is the only place where anything is acknowledged.
    pub fn acknowledge(&self, txid: Txid, captured_at: Option<UnixMillis>) {
        // Before the status: a snapshot waits for that.
        self.compactor.expect_up_to(txid);
        self.update(|status| {
            status.failures.overcome(&[Work::Session, Work::Upload]);
            // What is left of a database that is gone is sent as well.
            if status.phase != Phase::WaitingForDatabase {
                status.phase = Phase::Replicating;
            }
            status.replicated_txid = status.replicated_txid.max(Some(txid));
            // The later claim counts, also by a clock that was set back meanwhile.
            status.last_sync = captured_at.or(status.last_sync);
        });
        // After the status: whoever waits for an empty queue looks at the status next.
        self.queue.acknowledge(txid);
        self.published.notify_one();
    }

    /// Waits until `txid` is in the store; false if it is not within `limit`. Before that it may yet turn out to be
    /// somebody else's, and what is made of it must not be published.
    pub async fn until_replicated(&self, txid: Txid, limit: Duration) -> bool {
        if planted!("snapshot-before-its-transaction") {
            return true;
        }
        let mut status = self.status.subscribe();
        let is_replicated = |status: &Status| status.replicated_txid >= Some(txid);
        let decided = status.wait_for(|status| is_replicated(status) || status.phase == Phase::Stopped);
        tokio::time::timeout(limit, decided)
            .await
            .is_ok_and(|status| status.is_ok_and(|status| is_replicated(&status)))
    }

    /// The status, whenever it changes.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Waits until a snapshot that cannot be ours has been found in the replica.
    pub async fn strange_snapshot(&self) -> LtxName {
        let mut stranger = self.stranger.subscribe();
        let found = stranger.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        match found {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    /// A transaction id above everything known on either side.
    #[must_use]
    pub fn next_base_txid(&self) -> Txid {
        let status = self.status.borrow();
        status.local_txid.max(status.replicated_txid).map_or(Txid(1), Txid::next)
    }
}

/// Replicates until stopped.
///
/// # Errors
/// If, at the end, the store does not hold everything committed.
pub async fn run(
    shared: Arc<Shared>,
    mut stop: Stop,
    snapshots: mpsc::Sender<SnapshotRequest>,
    mut requests: mpsc::Receiver<SnapshotRequest>,
) -> Result<()> {
    let over = Over(&shared);
    let result = run_until_stopped(&shared, &mut stop, &snapshots, &mut requests).await;
    if let Err(error) = &result {
        shared.update(|status| status.failures.note(Work::Session, error.to_string(), error));
    }
    drop(over);
    result
}

/// However it ends, by a panic too, nobody is to think that it goes on.
struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.update(|status| status.phase = Phase::Stopped);
    }
}

async fn run_until_stopped(
    shared: &Arc<Shared>,
    stop: &mut Stop,
    snapshots: &mpsc::Sender<SnapshotRequest>,
    requests: &mut mpsc::Receiver<SnapshotRequest>,
) -> Result<()> {
    let mut backoff = shared.backoff();
    let mut life = Life { previous: None, base: None, copied_without_room: None, lock: None };
    loop {
        let began = tokio::time::Instant::now();
        let ended = life.one_session(shared, stop, snapshots, requests).await;
        if began.elapsed() > MAX_BACKOFF {
            // It was well for a while: what comes now is a new failure.
            backoff.reset();
        }
        // Whatever it knew of the store ends with it: a full copy may be next, and take long.
        shared.leave_off();
        let pause = match ended {
            Ok(Ended::Stopped(result)) => return result,
            Ok(Ended::Fenced(error)) => {
                tracing::error!(db = %shared.options.db.display(), %error, "replication stopped");
                return Err(error);
            }
            Ok(Ended::Absent) => {
                note_absence(shared);
                backoff.reset();
                life.send_rest(shared, stop).await?;
                shared.options.monitor_interval
            }
            Ok(Ended::Reopen { reason }) => {
                tracing::warn!(db = %shared.options.db.display(), reason, "opening the database anew");
                Duration::from_millis(10)
            }
            Ok(Ended::Rebase { next, reason } | Ended::NoRoom { next, reason }) => {
                tracing::warn!(db = %shared.options.db.display(), %next, reason, "a full copy is needed");
                life.base = Some(next);
                Duration::ZERO
            }
            // Only the lock on the local state is refused so; the other replicator may end at any time.
            Err(error) if life.lock.is_none() && error.kind() == ErrorKind::Conflict => {
                shared.report(Work::Session, "replicate", &error);
                LOCK_WAIT
            }
            Err(error) => {
                shared.report(Work::Session, "replicate", &error);
                backoff.next(shared.host.entropy.as_ref())
            }
        };
        if stopped_within(stop, pause).await {
            let deadline = stop.borrow().unwrap_or_default();
            return ending::without_database(shared, deadline).await;
        }
    }
}

fn note_absence(shared: &Shared) {
    if shared.status().phase != Phase::WaitingForDatabase {
        tracing::warn!(
            db = %shared.options.db.display(),
            "there is no database yet: waiting for the application to create it"
        );
    }
    shared.update(|status| {
        status.phase = Phase::WaitingForDatabase;
        status.failures.overcome(&[Work::Session, Work::Copy, Work::Examine]);
    });
    if !rest::is_owed(shared) {
        shared.overcome(&[Work::Upload]);
    }
}

/// Waits; returns whether stopping was asked for.
async fn stopped_within(stop: &mut Stop, pause: Duration) -> bool {
    if stop.borrow().is_some() {
        return true;
    }
    tokio::select! {
        biased;
        _ = stop.wait_for(Option::is_some) => true,
        () = tokio::time::sleep(pause) => false,
    }
}

/// How a chain has begun.
enum Begun {
    /// With an attempt to publish a full copy as this transaction.
    Published(Published, Txid),
    /// With a full copy on the local disk.
    Staged((Box<Source>, Chain)),
}

/// Publishes a full copy as at least transaction `at_least`, or stages it.
async fn begin_chain(
    shared: &Shared,
    source: Box<Source>,
    last: Option<LastRecord>,
    at_least: Txid,
) -> Result<Begun> {
    let is_first = last.is_none() && shared.status().replicated_txid.is_none();
    let turn = shared.turns.take().await;
    let sight = Sight::new(shared);
    let inventory = match Inventory::load(shared.bucket.as_ref()).await {
        Ok(inventory) => inventory,
        // What the store refuses may never be allowed: then nothing is gained by filling the disk.
        Err(error) if is_first && error.kind() == ErrorKind::Transient => {
            drop(turn);
            shared.report(Work::Session, "list the replica", &error);
            return first::stage(shared, source).await?.map(Begun::Staged).ok_or(error);
        }
        Err(error) => return Err(error),
    };
    check_reach(shared.bucket.as_ref(), &inventory)?;
    let above_all = base_txid(last.map(|last| last.staged.txid), &inventory).max(at_least);
    let replicated = shared.status().replicated_txid;
    let place = place::find(shared.bucket.as_ref(), &inventory, replicated, above_all).await?;
    let published = base::publish(shared, source, last, (place, sight)).await?;
    Ok(Begun::Published(published, place.txid))
}

/// What is carried from one session to the next.
struct Life {
    /// Files of the last session, for their descriptors.
    previous: Option<Arc<SourceFiles>>,
    /// A full copy is to be published as at least this transaction.
    base: Option<Txid>,
    /// Copies of new commits that there had been when the disk was last found full.
    copied_without_room: Option<u64>,
    /// Once taken it is kept, whatever becomes of the sessions.
    lock: Option<StateLock>,
}

impl Life {
    async fn one_session(
        &mut self,
        shared: &Arc<Shared>,
        stop: &mut Stop,
        snapshots: &mpsc::Sender<SnapshotRequest>,
        requests: &mut mpsc::Receiver<SnapshotRequest>,
    ) -> Result<Ended> {
        let (host, options) = (shared.host.clone(), shared.options.clone());
        let (previous, mut lock) = (self.previous.take(), self.lock.take());
        let (previous, lock, start) = shared
            .host
            .blocking(move || {
                let start = session::start(&host, &options, previous.as_deref(), &mut lock);
                // The operator may have deleted it to make room.
                let is_absent = matches!(start, Ok(Start::Absent));
                let previous = previous.filter(|files| !(is_absent && files.are_gone()));
                (previous, lock, start)
            })
            .await;
        (self.previous, self.lock) = (previous, lock);
        let start = start?;
        if !matches!(start, Start::Absent) {
            // It may have been waited for.
            shared.update(|status| status.phase = Phase::Starting);
        }
        let (session, staged) = match start {
            Start::Absent => return Ok(Ended::Absent),
            Start::Ready { session, .. } if self.base.is_some() => {
                let (source, last) = session.into_source();
                self.new_chain(shared, stop, source, Some(last)).await?
            }
            Start::Ready { session, staged, how } => {
                tracing::info!(db = %shared.options.db.display(), txid = %session.chain().newest.txid, how, "initialized db");
                (session, staged)
            }
            Start::NeedsBase { source, reason, last } => {
                tracing::info!(db = %shared.options.db.display(), reason, "a full copy is needed");
                self.previous = Some(Arc::clone(source.files()));
                self.new_chain(shared, stop, source, last).await?
            }
        };
        self.previous = Some(Arc::clone(session.source().files()));
        self.follow(shared, stop, session, staged, snapshots, requests).await
    }

    /// Sends what is left of a database that is gone, unless only a full copy could go on from what the store has.
    ///
    /// # Errors
    /// If somebody else writes to the replica: that is the end.
    async fn send_rest(&mut self, shared: &Arc<Shared>, stop: &mut Stop) -> Result<()> {
        if self.base.is_some() || !rest::is_owed(shared) {
            return Ok(());
        }
        match rest::send(shared, stop).await {
            None => Ok(()),
            Some(UploadEnd::Rebase { next, reason }) => {
                self.base = Some(next);
                let error = Error::new(ErrorKind::Corrupt, reason);
                shared.report(Work::Upload, "send what is left of a database that is gone", &error);
                Ok(())
            }
            Some(UploadEnd::Fenced(error)) => {
                tracing::error!(db = %shared.options.db.display(), %error, "replication stopped");
                Err(error)
            }
        }
    }

    /// Publishes a full copy as a new chain. The database stays pinned while that is tried. If the store is away and this
    /// is the beginning, the copy is only staged, as far as the local disk has room.
    async fn new_chain(
        &mut self,
        shared: &Arc<Shared>,
        stop: &mut Stop,
        source: Box<Source>,
        last: Option<LastRecord>,
    ) -> Result<(Box<Session>, Vec<Staged>)> {
        let work = begin_chain(shared, source, last, self.base.unwrap_or_default());
        let begun = tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => {
                return Err(Error::new(ErrorKind::Cancelled, "stopped before the first full copy was complete"));
            }
            done = work => done?,
        };
        let (source, chain, txid) = match begun {
            Begun::Published(Published::Chain(source, chain), txid) => (source, chain, txid),
            Begun::Published(Published::Taken(error), txid) => {
                self.base = Some(txid.next());
                return Err(error);
            }
            Begun::Staged((source, chain)) => {
                self.base = None;
                tracing::warn!(
                    db = %shared.options.db.display(), pages = chain.commit,
                    "the store cannot be reached: a full copy is staged on the local disk, and commits are copied meanwhile"
                );
                let staged = vec![chain.newest];
                return Ok((Box::new(Session::after_base(source, chain)), staged));
            }
        };
        self.base = None;
        shared.queue.acknowledge(Txid(u64::MAX));
        shared.compactor.expect_up_to(txid);
        shared.update(|status| {
            status.local_txid = Some(txid);
            status.replicated_txid = Some(txid);
        });
        tracing::info!(db = %shared.options.db.display(), %txid, pages = chain.commit, "full copy complete");
        let staged = vec![chain.newest];
        Ok((Box::new(Session::after_base(source, chain)), staged))
    }

    async fn follow(
        &mut self,
        shared: &Arc<Shared>,
        stop: &mut Stop,
        session: Box<Session>,
        staged: Vec<Staged>,
        snapshots: &mpsc::Sender<SnapshotRequest>,
        requests: &mut mpsc::Receiver<SnapshotRequest>,
    ) -> Result<Ended> {
        if !planted!("queue-outlives-session") {
            shared.queue.acknowledge(Txid(u64::MAX));
        }
        for &file in staged.iter().filter(|file| !file.is_base) {
            shared.push(file, planted!("claim-for-old-files", Some(shared.host.clock.now()), None));
        }
        shared.update(|status| {
            // Work that begins anew. What has not been copied has not been copied yet.
            status.failures.overcome(&[Work::Examine, Work::Checkpoint, Work::Tidy]);
            status.failures.overcome(&[Work::List, Work::Snapshot, Work::Compact, Work::Retain]);
            status.local_txid = staged.last().map(|file| file.txid);
            status.note_size(session.chain());
        });
        let base = staged.iter().find(|file| file.is_base).map(|file| file.txid);
        // This session goes on above what ended the last one.
        shared.stranger.send_replace(None);
        // Dropped at the end of the session, which ends the upload.
        let local = session.chain().local.clone();
        let mut uploader = Uploader::spawn(upload::run(Arc::clone(shared), local, staged));
        let mut background = JoinSet::new();
        background.spawn(maintain::run(Arc::clone(shared), snapshots.clone(), base));
        let copied = shared.status().sync_count;
        let may_rebase_for_room = self.copied_without_room != Some(copied);
        let mut follower = Follower::new(shared, session, may_rebase_for_room);
        let ended = follower.run(stop, requests, &mut uploader, &mut background).await;
        if matches!(ended, Ok(Ended::NoRoom { .. })) {
            self.copied_without_room = Some(shared.status().sync_count);
        }
        // Whatever has ended the session: the next one takes the stranger for its own otherwise.
        if let Some(name) = *shared.stranger.borrow() {
            self.base = self.base.max(Some(name.max.next()));
        }
        // A reader that pins a snapshot must be gone before the database is opened anew: SQLite lets the connections of a
        // process share one WAL-index, and that of the old ones may have been deleted.
        background.shutdown().await;
        ended
    }
}
