//! Following an open database: when to look, copy, checkpoint, tidy up, and how to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::host::Watcher;
use crate::ltx::Txid;
use crate::sqlite::{CheckpointMode, CheckpointOutcome};

use super::Options;
use super::backoff::Backoff;
use super::failures::Work;
use super::handle::time_for_final_sync;
use super::image::image_header;
use super::policy::{self, CheckpointFacts, ExaminationFacts};
use super::session::Session;
use super::task::{Shared, SnapshotRequest, SnapshotSource, Stop};
use super::upload::UploadEnd;

/// Staged files are removed in batches of at least this many,
const TIDY_FILES: u64 = 32;

/// or after so long: a few can be as large as the database, and it may have fallen idle.
const TIDY_AFTER: Duration = Duration::from_secs(60);

/// A log is worth a warning from this many times the length at which it should restart.
const LONG_LOG: u32 = 10;

/// So many attempts in a row have failed to copy when what keeps them from it is taken to last. Until then the log is
/// pinned, and grows.
const COPY_ATTEMPTS: u32 = 3;

/// Why following ended.
pub enum Ended {
    /// There is no database.
    Absent,
    /// On request; the result says whether the store holds everything.
    Stopped(Result<()>),
    /// The local disk has no room for what is to be copied: a full copy has to go straight to the store.
    NoRoom {
        /// Its transaction at least.
        next: Txid,
        /// Why.
        reason: String,
    },
    /// The database must be opened anew.
    Reopen {
        /// Why.
        reason: String,
    },
    /// The chain must start anew.
    Rebase {
        /// Transaction id of the full copy.
        next: Txid,
        /// Why.
        reason: String,
    },
    /// Somebody else writes to the replica.
    Fenced(Error),
}

impl From<UploadEnd> for Ended {
    fn from(end: UploadEnd) -> Self {
        match end {
            UploadEnd::Rebase { next, reason } => Self::Rebase { next, reason },
            UploadEnd::Fenced(error) => Self::Fenced(error),
        }
    }
}

/// The task that uploads; it ends with the session.
pub struct Uploader(JoinSet<UploadEnd>);

impl Uploader {
    /// Starts uploading.
    #[must_use]
    pub fn spawn(work: impl Future<Output = UploadEnd> + Send + 'static) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(work);
        Self(tasks)
    }

    /// Why it has ended; passes a panic on.
    pub(super) async fn ended(&mut self) -> UploadEnd {
        match self.0.join_next().await {
            Some(Ok(end)) => end,
            Some(Err(failure)) => std::panic::resume_unwind(failure.into_panic()),
            // It has ended before and was told then.
            None => std::future::pending().await,
        }
    }
}

/// Passes a panic of maintenance on: replication ends with it, which is told, instead of going on without.
async fn panic_of(background: &mut JoinSet<()>) -> Wake {
    while let Some(ended) = background.join_next().await {
        if let Err(failure) = ended
            && let Ok(panic) = failure.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
    std::future::pending().await
}

/// What woke the loop.
enum Wake {
    News,
    Tick,
    SyncNow,
    Stop(Duration),
    Snapshot(SnapshotRequest),
    Uploader(UploadEnd),
}

/// Follows one session.
pub struct Follower<'a> {
    shared: &'a Arc<Shared>,
    /// Away only while blocking work has it.
    session: Option<Box<Session>>,
    watcher: Option<Box<dyn Watcher>>,
    /// A notification came since the files were last examined.
    touched: bool,
    /// Ticks since the files were last examined.
    ticks_unexamined: u32,
    /// Earliest time of the next copy under load.
    not_before: Instant,
    next_tick: Instant,
    /// When frames of the current log were first seen.
    log_since: Instant,
    checkpoint_backoff: Backoff,
    checkpoint_not_before: Instant,
    copy_backoff: Backoff,
    /// Attempts to copy that have failed since the last success.
    failed_copies: u32,
    /// A full copy may be made because the local disk is full.
    may_rebase_for_room: bool,
    /// Staged files up to here have been tidied up, and when.
    tidied: (Txid, Instant),
}

impl<'a> Follower<'a> {
    /// Starts following.
    #[must_use]
    pub fn new(shared: &'a Arc<Shared>, session: Box<Session>, may_rebase_for_room: bool) -> Self {
        let now = Instant::now();
        let Options { db, monitor_interval, .. } = &shared.options;
        let watcher = shared.host.watch.watch(&[session.source().files().wal_path(), db.clone()]);
        Self {
            shared,
            session: Some(session),
            watcher,
            touched: true,
            ticks_unexamined: 0,
            not_before: now,
            next_tick: now + policy::until_tick(shared.host.clock.now(), *monitor_interval),
            log_since: now,
            checkpoint_backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(30)),
            checkpoint_not_before: now,
            copy_backoff: Backoff::new(*monitor_interval, Duration::from_secs(30)),
            failed_copies: 0,
            may_rebase_for_room,
            tidied: (Txid(0), now),
        }
    }

    /// Follows until something ends it.
    ///
    /// # Errors
    /// Failures that opening the database anew may overcome.
    pub async fn run(
        &mut self,
        stop: &mut Stop,
        requests: &mut mpsc::Receiver<SnapshotRequest>,
        uploader: &mut Uploader,
        background: &mut JoinSet<()>,
    ) -> Result<Ended> {
        loop {
            match self.wake(stop, requests, uploader, background).await {
                Wake::News | Wake::SyncNow => {
                    if let Some(ended) = self.copy().await? {
                        return Ok(ended);
                    }
                    if let Some(ended) = self.checkpoint_if_due().await? {
                        return Ok(ended);
                    }
                }
                Wake::Tick => {
                    if let Some(ended) = self.tick().await? {
                        return Ok(ended);
                    }
                }
                Wake::Snapshot(reply) => self.snapshot(reply).await,
                Wake::Uploader(end) => return Ok(end.into()),
                Wake::Stop(deadline) => return Ok(Ended::Stopped(self.finish(deadline, uploader).await)),
            }
        }
    }

    async fn wake(
        &mut self,
        stop: &mut Stop,
        requests: &mut mpsc::Receiver<SnapshotRequest>,
        uploader: &mut Uploader,
        background: &mut JoinSet<()>,
    ) -> Wake {
        let sync_now = Arc::clone(&self.shared.sync_now);
        let next_tick = self.next_tick;
        tokio::select! {
            biased;
            stopped = stop.wait_for(Option::is_some) => {
                Wake::Stop(stopped.ok().and_then(|deadline| *deadline).unwrap_or_default())
            }
            end = uploader.ended() => Wake::Uploader(end),
            never = panic_of(background) => never,
            () = sync_now.notified() => Wake::SyncNow,
            Some(reply) = requests.recv() => Wake::Snapshot(reply),
            // Before news: under a writer that never pauses there is always some, and only a tick tidies up.
            () = tokio::time::sleep_until(next_tick) => Wake::Tick,
            () = self.news() => Wake::News,
        }
    }

    /// Resolves when there are new commits and it is time to copy them. Without change notification it may never
    /// resolve: the tick finds them.
    async fn news(&mut self) {
        loop {
            // Watching begins before looking, so that a commit in between is not missed.
            if let Some(watcher) = &mut self.watcher {
                watcher.arm().await;
            }
            let changed = self.watcher.as_mut().map(|watcher| watcher.changed());
            if has_news(self.session.as_deref()) {
                tokio::time::sleep_until(self.not_before).await;
                return;
            }
            match changed {
                Some(changed) => changed.await,
                None => std::future::pending().await,
            }
            self.touched = true;
            // The log is written before the index says that it is committed: wait a little for that.
            for millis in [0, 1, 2, 4, 8, 16] {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                if has_news(self.session.as_deref()) {
                    break;
                }
            }
        }
    }

    async fn blocking<T, F>(&mut self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&mut Session, &Shared) -> T + Send + 'static,
    {
        let mut session = self.session.take().expect("present outside blocking work");
        let shared = Arc::clone(self.shared);
        let (session, result) = self
            .shared
            .host
            .blocking(move || {
                let result = work(&mut session, &shared);
                (session, result)
            })
            .await;
        self.session = Some(session);
        result
    }

    async fn check_files(&mut self) -> Result<()> {
        let mut session = self.session.take().expect("present outside blocking work");
        let check = move || {
            let result = session.check_files().and_then(|()| session.let_restart());
            (session, result)
        };
        let (session, result) = self.shared.host.blocking_brief(check).await;
        self.session = Some(session);
        result
    }

    /// Copies what is new. Failures that lose continuity end the session; others are repeated with back-off, and may end it if
    /// they last: see [`Follower::give_up_copying`].
    async fn copy(&mut self) -> Result<Option<Ended>> {
        let started = Instant::now();
        let captured = self
            .blocking(|session, shared| {
                let now = shared.host.clock.now();
                // What is copied now is reported as "everything committed by now", so it must be the right file.
                if session.source().is_replaced()? && !planted!("claim-for-replaced-file") {
                    return Err(Error::new(ErrorKind::Conflict, "the database file was replaced or deleted"));
                }
                session
                    .capture(&mut |staged, is_everything| shared.push(staged, is_everything.then_some(now)))
            })
            .await;
        self.shared.update(|status| status.sync_time += started.elapsed());
        match captured {
            Ok(captured) => {
                self.copy_backoff.reset();
                self.failed_copies = 0;
                self.shared.overcome(&[Work::Copy]);
                self.not_before = started + self.shared.options.sync_interval;
                if captured.files > 0 {
                    self.may_rebase_for_room = true;
                    self.note_copied(captured.wal_bytes);
                }
                Ok(None)
            }
            // Local state that is gone does not come back by trying again: a new session makes it anew.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                Ok(Some(Ended::Reopen { reason: error.to_string() }))
            }
            Err(error) => {
                // A look into the middle of a change is a failure only if it does not pass by itself.
                if error.kind() == ErrorKind::Transient && self.failed_copies == 0 {
                    tracing::debug!(db = %self.shared.options.db.display(), %error, "will look again");
                } else {
                    self.shared.report(Work::Copy, "copy new commits", &error);
                }
                self.not_before = started + self.copy_backoff.next(self.shared.host.entropy.as_ref());
                self.failed_copies += 1;
                if self.failed_copies >= COPY_ATTEMPTS { self.give_up_copying(error) } else { Ok(None) }
            }
        }
    }

    /// What follows from a failure that lasts.
    fn give_up_copying(&self, error: Error) -> Result<Option<Ended>> {
        match error.kind() {
            // A full copy needs next to no disk, and while none can be made the log is not pinned: the application can have it
            // copied back, instead of letting it grow on the disk that is full. But what is staged goes first, which may make
            // room; and if nothing could be copied since the last full copy that was made for this reason, another one is no
            // help.
            ErrorKind::Exhausted if self.shared.queue.is_empty() && self.may_rebase_for_room => {
                Ok(Some(Ended::NoRoom { next: self.shared.next_base_txid(), reason: error.to_string() }))
            }
            // Only the database file may yet have what the log has lost. Between two sessions nothing is pinned: a
            // checkpoint of the application can get past, and then the pages are compared.
            ErrorKind::Corrupt => Err(error),
            _ => Ok(None),
        }
    }

    fn note_copied(&self, wal_bytes: u64) {
        let session = self.session.as_ref().expect("present outside blocking work");
        self.shared.update(|status| {
            status.sync_count += 1;
            status.wal_bytes_total += wal_bytes;
            status.note_size(session.chain());
        });
    }

    async fn tick(&mut self) -> Result<Option<Ended>> {
        let interval = self.shared.options.monitor_interval;
        self.next_tick = Instant::now() + policy::until_tick(self.shared.host.clock.now(), interval);
        // Before looking: what is found to be so then was so at this time.
        let now = self.shared.host.clock.now();
        let examined = self.is_examination_due()
            && match self.examine().await {
                Ok(is_sound) => is_sound,
                Err(ended) => return Ok(Some(ended)),
            };
        let claimed = planted!("claim-after-a-failed-look", self.shared.host.clock.now(), now);
        let has_news = has_news(self.session.as_deref());
        let may_copy = Instant::now() >= self.not_before
            || self.session.as_ref().is_some_and(|session| session.holds_up_a_restart());
        if examined && !has_news {
            self.shared.overcome(&[Work::Copy]);
        }
        if has_news && may_copy {
            if let Some(ended) = self.copy().await? {
                return Ok(Some(ended));
            }
        } else if (examined && !has_news || planted!("claim-without-a-look")) && self.shared.queue.is_empty()
        {
            self.shared.update(|status| {
                if status.replicated_txid.is_some() && status.replicated_txid == status.local_txid {
                    status.last_sync = Some(claimed);
                }
            });
        }
        if let Some(ended) = self.checkpoint_if_due().await? {
            return Ok(Some(ended));
        }
        Ok(self.tidy().await)
    }

    fn is_examination_due(&mut self) -> bool {
        let facts = ExaminationFacts {
            watched: self.watcher.as_ref().is_some_and(|watcher| watcher.is_complete()),
            touched: self.touched,
            quiet: self.session.as_ref().is_some_and(|session| session.is_quiet()),
            ticks: self.ticks_unexamined + 1,
        };
        let is_due = policy::examination_due(&facts);
        self.ticks_unexamined = if is_due { 0 } else { facts.ticks };
        self.touched &= !is_due;
        is_due
    }

    /// Looks whether the files are still what was opened; false if that cannot be told now.
    async fn examine(&mut self) -> std::result::Result<bool, Ended> {
        match self.check_files().await {
            Ok(()) => {
                self.shared.overcome(&[Work::Examine]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                Err(Ended::Reopen { reason: error.to_string() })
            }
            Err(error) => {
                self.touched = true;
                self.shared.report(Work::Examine, "examine the database", &error);
                Ok(planted!("claim-after-a-failed-look"))
            }
        }
    }

    /// Tries a checkpoint if it is time.
    ///
    /// # Errors
    /// Failures that opening the database anew may overcome.
    pub(super) async fn checkpoint_if_due(&mut self) -> Result<Option<Ended>> {
        let now = Instant::now();
        let frames = self.session.as_ref().map_or(0, |session| session.log_frames());
        if frames == 0 {
            self.log_since = now;
            self.shared.overcome(&[Work::Checkpoint]);
        }
        let facts = CheckpointFacts {
            frames,
            age: now.duration_since(self.log_since),
            may_try: now >= self.checkpoint_not_before,
        };
        let Some(mode) = policy::checkpoint_due(&facts, &self.shared.options) else { return Ok(None) };
        let outcome = self
            .blocking(move |session, shared| {
                // No claim is made here: whether the file is still the one that has its name is not looked at.
                session.checkpoint(mode, &mut |staged, _| shared.push(staged, None))
            })
            .await;
        self.shared.update(|status| {
            let attempts = match mode {
                CheckpointMode::Passive => &mut status.passive_checkpoints,
                CheckpointMode::Blocking => &mut status.blocking_checkpoints,
            };
            attempts.add(now.elapsed(), outcome.is_err());
        });
        if outcome.is_ok() {
            self.shared.overcome(&[Work::Checkpoint]);
        }
        match outcome {
            Ok(CheckpointOutcome::Complete) => {
                self.checkpoint_backoff.reset();
                self.log_since = Instant::now();
                Ok(None)
            }
            Ok(CheckpointOutcome::Partial { log, copied }) => {
                self.note_partial(log, copied);
                self.delay_checkpoint();
                Ok(None)
            }
            Ok(CheckpointOutcome::Busy) => {
                tracing::debug!(db = %self.shared.options.db.display(), "no checkpoint: a writer does not end");
                self.delay_checkpoint();
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                Ok(Some(Ended::Reopen { reason: error.to_string() }))
            }
            // A log that SQLite could open for reading only stays so until it is opened anew, even if the rights are back
            // (seed 400065187).
            Err(error) if mode == CheckpointMode::Blocking || error.kind() == ErrorKind::Denied => Err(error),
            Err(error) => {
                self.delay_checkpoint();
                self.shared.report(Work::Checkpoint, "checkpoint", &error);
                Ok(None)
            }
        }
    }

    /// As often as checkpoints are tried, which is ever more seldom.
    fn note_partial(&self, log: u32, copied: u32) {
        let options = &self.shared.options;
        if log >= options.min_checkpoint_pages.saturating_mul(LONG_LOG) {
            tracing::warn!(
                db = %options.db.display(), log, copied,
                "the WAL cannot restart and grows: a reader stays in an old state, or writers leave no pause (then \
                 truncate-page-n bounds it)"
            );
        } else {
            tracing::debug!(db = %options.db.display(), log, copied, "checkpoint is not complete");
        }
    }

    fn delay_checkpoint(&mut self) {
        let wait = self.checkpoint_backoff.next(self.shared.host.entropy.as_ref());
        self.checkpoint_not_before = Instant::now() + wait;
    }

    /// Removes staged files that are no longer needed. If what says so is damaged, they would pile up for ever: then the
    /// chain has to start anew.
    async fn tidy(&mut self) -> Option<Ended> {
        let replicated = self.shared.status().replicated_txid?;
        let is_published = self.shared.queue.oldest().is_none_or(|oldest| oldest > Txid(1));
        if is_published
            && self.session.as_ref().is_some_and(|session| session.holds_first_copy())
            && let Err(error) = self.blocking(|session, _| session.release_first_copy()).await
        {
            tracing::warn!(db = %self.shared.options.db.display(), %error, "the staged full copy stays until the next start");
        }
        let needed = self.shared.compactor.needs_copies_from();
        let removable = needed.map_or(replicated, |first| replicated.min(Txid(first.0 - 1)));
        let (tidied, at) = self.tidied;
        let is_time = removable > tidied && at.elapsed() >= TIDY_AFTER;
        if removable.0.saturating_sub(tidied.0) < TIDY_FILES && !is_time {
            return None;
        }
        match self.blocking(move |session, _| session.tidy(removable)).await {
            Ok(()) => {
                self.shared.overcome(&[Work::Tidy]);
                self.tidied = (removable, Instant::now());
            }
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                return Some(Ended::Rebase { next: self.shared.next_base_txid(), reason: error.to_string() });
            }
            Err(error) => {
                self.tidied = (tidied, Instant::now());
                self.shared.report(Work::Tidy, "tidy up staged files", &error);
            }
        }
        None
    }

    async fn snapshot(&mut self, reply: SnapshotRequest) {
        let source = self
            .blocking(|session, shared| {
                let long = session.long_view(&mut |staged, _| shared.push(staged, None))?;
                let txid = session.chain().newest.txid;
                let header = image_header(&long.view, Txid(1), txid, session.chain().timestamp);
                Ok(SnapshotSource { long, txid, header })
            })
            .await;
        // If nobody waits any more the pin ends here.
        let _ = reply.send(source);
    }

    /// The last copy, then waits until all is durable in the store.
    async fn finish(&mut self, deadline: Duration, uploader: &mut Uploader) -> Result<()> {
        let started = Instant::now();
        let until = started + time_for_final_sync(deadline);
        let copied = self
            .blocking(|session, shared| {
                session.check_files()?;
                let now = shared.host.clock.now();
                // What is copied now is reported as "everything committed by now", so it must be the right file.
                if session.source().is_replaced()? {
                    return Err(Error::new(ErrorKind::Conflict, "the database file was replaced or deleted"));
                }
                if planted!("stop-without-last-copy") {
                    return Ok(Default::default());
                }
                session
                    .capture(&mut |staged, is_everything| shared.push(staged, is_everything.then_some(now)))
            })
            .await;
        copied.map_err(|error| error.context("final sync"))?;
        self.shared.overcome(&[Work::Copy, Work::Examine]);
        let mut failures = self.shared.failed_attempts.subscribe();
        self.shared.hurry.notify_one();
        let is_drained = tokio::select! {
            drained = tokio::time::timeout_at(until, self.shared.queue.wait_until_empty()) => drained.is_ok(),
            end = uploader.ended() => return Err(end.into_error()),
            _ = failures.changed(), if deadline.is_zero() => false,
        };
        let status = self.shared.status();
        if !planted!("stop-tells-no-failure") && (!is_drained || status.local_txid != status.replicated_txid)
        {
            let replicated =
                status.replicated_txid.map_or_else(|| "nothing".to_owned(), |txid| txid.to_string());
            let why = status.error().map(|error| format!("; last error: {error}")).unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Transient,
                format!(
                    "final sync of {} is not complete after {} ms: {} files are staged, the store has {replicated}{why}",
                    self.shared.options.db.display(),
                    started.elapsed().as_millis(),
                    self.shared.queue.len(),
                ),
            ));
        }
        Ok(())
    }
}

/// Not a method: a borrow of the follower must not be held while waiting.
fn has_news(session: Option<&Session>) -> bool {
    session.expect("present outside blocking work").has_news()
}
