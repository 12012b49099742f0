//! The compactor of one replica: keeps the inventory, runs due merges, enforces retention.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::copies::{Copies, LocalCopy};
use super::merge_job::{self, Place};
use super::plan::{self, Next};
use super::schedule;
use crate::bucket::{Bucket, DeleteFailure};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, UnixMillis};
use crate::ltx::Txid;
use crate::replica::{Entry, Gap, Inventory, Level, Level0Files, LtxName, Retention};

/// Keys per batch of deletions; what S3 takes in one request.
const DELETE_BATCH: usize = 1000;

/// Time after a failure before the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What to compact when, and how long to keep what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Interval of level 1, 2, …; at most 8.
    pub levels: Vec<Duration>,
    /// How long files are kept.
    pub retention: Retention,
    /// Whether anything is deleted from the bucket.
    pub delete: bool,
}

/// A file that compaction published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// Its name.
    pub name: LtxName,
    /// Its size in bytes.
    pub size: u64,
    /// How many files it was made of.
    pub inputs: usize,
}

/// What [`Compactor::run_due`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files published, in order.
    pub merged: Vec<Merged>,
    /// Transactions that no file holds; compaction cannot go on until a snapshot or the missing files are published.
    pub gap: Option<Gap>,
}

/// What [`Compactor::enforce_retention`] did.
#[derive(Debug, Default)]
pub struct Released {
    /// Files that are no longer needed. Gone from the bucket, unless deletion is turned off; local copies can go too.
    pub files: Vec<LtxName>,
    /// Files that the bucket refused to delete. They are tried again.
    pub failures: Vec<DeleteFailure>,
}

/// Compaction and retention of one replica. All methods can be called from several tasks; runs exclude each other.
pub struct Compactor {
    host: Host,
    bucket: Arc<dyn Bucket>,
    settings: Settings,
    /// Wall clock and monotonic clock when this began.
    began: (UnixMillis, Instant),
    /// The newest transaction that this process knows to be in the store; 0 for none yet.
    published: AtomicU64,
    /// Held while merging or deleting.
    running: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` until listed, and again after an error.
    inventory: Option<Arc<Inventory>>,
    /// Published while there was no inventory, or while listings were under way, which may lack it.
    noted: Vec<Entry>,
    /// Listings under way.
    listings: usize,
    /// How often what was known stopped counting: a listing that began before tells nothing reliable.
    doubts: u64,
    /// Files on this host that were published and wait for level 1.
    copies: Copies,
    /// When each compaction level was last brought up to date, by level number.
    done: [Option<UnixMillis>; 9],
    /// Objects whose content is wrong. Treated as absent, so that a snapshot can take their place.
    corrupt: BTreeSet<LtxName>,
    /// Objects that were not there when a merge asked for them, as far as nothing else holds their transactions.
    vanished: BTreeSet<LtxName>,
    /// A gap that a fresh listing confirmed.
    gap: Option<Gap>,
    /// When the last run of merges failed, if it did.
    merge_failed: Option<UnixMillis>,
    /// When the last deletion failed, if it did.
    delete_failed: Option<UnixMillis>,
    /// Up to when, by the believable clock, expired files have been looked for.
    retained: Option<UnixMillis>,
}

impl Compactor {
    /// A compactor that will list `bucket` when first needed.
    ///
    /// # Panics
    /// If `settings` has more than 8 levels.
    #[must_use]
    pub fn new(host: Host, bucket: Arc<dyn Bucket>, settings: Settings) -> Self {
        assert!(settings.levels.len() <= 8, "levels above 8 do not exist");
        let began = (host.clock.now(), Instant::now());
        let running = tokio::sync::Mutex::new(());
        Self { host, bucket, settings, began, published: AtomicU64::new(0), running, state: Mutex::default() }
    }

    /// To be called before a listing that is to be adopted: what is published from here to its adoption may be missing in
    /// it.
    pub fn begin_listing(&self) -> PendingListing<'_> {
        let mut state = self.state();
        state.listings += 1;
        PendingListing { compactor: self, doubts: state.doubts }
    }

    /// Takes note of a file that was published by somebody else in this process.
    pub fn note_published(&self, name: LtxName, size: u64, time: UnixMillis) {
        let mut state = self.state();
        state.note(Entry { name, size, modified: Some(time) });
        // A file may bear the time of its last commit. What it lets expire may have been due before the last look, which
        // did not know of it.
        let first = self.settings.retention.ages().min().map(|age| later(time, age));
        if first <= state.retained {
            state.retained = None;
        }
    }

    /// Everything up to `txid` is in the store. Nothing is deleted on the word of a snapshot that reaches farther: whose it is
    /// nobody here knows.
    pub fn expect_up_to(&self, txid: Txid) {
        self.published.fetch_max(txid.0, Ordering::SeqCst);
    }

    /// The newest snapshot in the store, as far as is known, if nothing that was published here explains it.
    #[must_use]
    pub fn stranger(&self) -> Option<LtxName> {
        self.stranger_in(self.inventory()?.as_ref())
    }

    /// Ours are shown after their transactions, so that what was published is looked at after the inventory.
    fn stranger_in(&self, inventory: &Inventory) -> Option<LtxName> {
        let newest = inventory.newest_snapshot()?.name;
        let published = self.published.load(Ordering::SeqCst);
        (published > 0 && newest.max > Txid(published) && !planted!("strangers-believed")).then_some(newest)
    }

    /// Takes note of a level-0 file of one transaction that was published from a file on this host. That file is to
    /// stay where it is while [`Compactor::needs_copies_from`] says so; if it does not, the object is read.
    pub fn note_copy(&self, txid: Txid, copy: LocalCopy) {
        if !self.settings.levels.is_empty() {
            self.state().copies.add(txid, copy);
        }
    }

    /// The oldest transaction whose local file compaction has yet to read; none if there is nothing to be read.
    #[must_use]
    pub fn needs_copies_from(&self) -> Option<Txid> {
        let state = self.state();
        let first = state.copies.first()?;
        // A snapshot may have made superfluous what would have been merged.
        let is_done = state.inventory.as_ref().is_some_and(|inventory| {
            self.levels().next().is_some_and(|(level, _)| plan::next(inventory, level) == Next::Nothing)
        });
        (!is_done).then_some(first)
    }

    /// Lists the bucket anew before the next decision: a request whose answer was lost may have changed it.
    pub fn distrust(&self) {
        self.state().doubt();
    }

    /// What the bucket holds, as far as is known; `None` if it must be listed first. Shared, for it may be large, and is
    /// asked for with every file that is published.
    #[must_use]
    pub fn inventory(&self) -> Option<Arc<Inventory>> {
        self.state().inventory.clone()
    }

    /// Files of level 0 at `now`; `None` if the bucket must be listed first.
    #[must_use]
    pub fn level0_files(&self, now: UnixMillis) -> Option<Level0Files> {
        let state = self.state();
        Some(self.settings.retention.level0_files(state.inventory.as_ref()?, self.believable(now)))
    }

    /// Lists the bucket, unless its content is known.
    ///
    /// # Errors
    /// If it could not be listed; [`Compactor::run_due`] is not due for a while then.
    pub async fn look(&self) -> Result<()> {
        let _running = self.running.lock().await;
        let looked = self.current().await;
        if looked.is_err() {
            self.state().merge_failed = Some(self.host.clock.now());
        }
        looked.map(drop)
    }

    /// When to call [`Compactor::run_due`]: `now` or earlier means at once, `None` not before something is published.
    #[must_use]
    pub fn next_due(&self, now: UnixMillis) -> Option<UnixMillis> {
        let state = self.state();
        let earliest = not_before(state.merge_failed, now);
        let Some(inventory) = &state.inventory else { return Some(earliest.max(now)) };
        let due = self.levels().filter(|&(level, _)| match state.next(inventory, level) {
            Next::Nothing => false,
            Next::Merge(_) => true,
            Next::Blocked(gap) => state.gap != Some(gap),
        });
        let next = due.map(|(level, interval)| {
            let last = state.done[usize::from(level.number())];
            if schedule::is_due(last, now, interval) { now } else { schedule::next_boundary(now, interval) }
        });
        next.min().map(|next| next.max(earliest))
    }

    /// Merges into every level whose time has come, lowest first.
    ///
    /// # Errors
    /// What was merged before the error stays; the next run lists the bucket again.
    pub async fn run_due(&self, now: UnixMillis) -> Result<Report> {
        let _running = self.running.lock().await;
        let mut report = Report::default();
        let result = self.run_levels(now, &mut report).await;
        let mut state = self.state();
        state.merge_failed = result.is_err().then_some(now);
        if result.is_err() {
            state.doubt();
        }
        result.map(|()| report)
    }

    /// When to call [`Compactor::enforce_retention`]: at or after this time something may have expired; `None` not
    /// before something is published.
    #[must_use]
    pub fn next_retention(&self, now: UnixMillis) -> Option<UnixMillis> {
        let state = self.state();
        let earliest = not_before(state.delete_failed, now);
        let Some(inventory) = &state.inventory else { return Some(earliest.max(now)) };
        let after = state.retained;
        let modified = inventory.iter().filter_map(|entry| entry.modified);
        let times =
            modified.flat_map(|modified| self.settings.retention.ages().map(move |age| later(modified, age)));
        let next = times.filter(|&time| after.is_none_or(|after| time > after)).min();
        // A wall clock that is not believed shows this time later than the one that is.
        let ahead = now.0.saturating_sub(self.believable(now).0);
        next.map(|next| UnixMillis(next.0.saturating_add(ahead)).max(earliest))
    }

    /// Deletes what has expired at `now`. A wall clock that jumped ahead since this process began is not believed.
    ///
    /// # Errors
    /// If nothing is known about a batch of deletions, or the bucket could not be listed; the next call lists again.
    pub async fn enforce_retention(&self, now: UnixMillis) -> Result<Released> {
        let _running = self.running.lock().await;
        let mut released = Released::default();
        let believable = self.believable(now);
        // Before, not after: a file that is published meanwhile, and is old already, takes it back.
        self.state().retained = Some(believable);
        let mut looking = Looking { compactor: self, is_complete: false };
        let result = self.delete_expired(believable, &mut released).await;
        looking.is_complete = result.is_ok() && released.failures.is_empty();
        let mut state = self.state();
        state.delete_failed = (!looking.is_complete).then_some(now);
        if result.is_err() {
            state.doubt();
        }
        result.map(|()| released)
    }

    async fn run_levels(&self, now: UnixMillis, report: &mut Report) -> Result<()> {
        let mut inventory = self.current().await?;
        let levels: Vec<_> = self.levels().collect();
        let mut first_error = None;
        for (level, interval) in levels {
            if !schedule::is_due(self.state().done[usize::from(level.number())], now, interval) {
                continue;
            }
            match self.fill(level, &mut inventory, report).await {
                // What it is to be filled from may be behind.
                Ok(()) if first_error.is_some() => {}
                Ok(()) => self.state().done[usize::from(level.number())] = Some(now),
                Err(error) if error.kind().is_retryable() => return Err(first_error.unwrap_or(error)),
                // One file that is not as it should be must not stop the other levels.
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        // One that no merge has met: files that went missing below the end of their level.
        if report.gap.is_none()
            && let Some(gap) = inventory.gap()
        {
            if self.state().gap != Some(gap) {
                inventory = self.list().await?;
            }
            report.gap = inventory.gap();
            self.state().gap = report.gap;
        }
        report.gap = report.gap.or_else(|| self.state().gap_at_end(&inventory));
        Ok(())
    }

    /// Merges into one level what its source level has.
    async fn fill(&self, level: Level, inventory: &mut Arc<Inventory>, report: &mut Report) -> Result<()> {
        let mut listed = false;
        loop {
            let next = self.state().next(inventory, level);
            match next {
                Next::Nothing => return Ok(()),
                Next::Merge(inputs) => report.merged.push(self.merge(level, &inputs).await?),
                Next::Blocked(gap) if listed || self.state().gap == Some(gap) => {
                    self.state().gap = Some(gap);
                    report.gap = Some(gap);
                    return Ok(());
                }
                Next::Blocked(_) => {
                    // The listing may have been stale, or the files may have come since: look before alarming.
                    self.list().await?;
                    listed = true;
                }
            }
            *inventory = self.current().await?;
        }
    }

    async fn merge(&self, level: Level, inputs: &[Entry]) -> Result<Merged> {
        let place = Place { host: &self.host, bucket: &*self.bucket };
        let inputs: Vec<_> = {
            let state = self.state();
            inputs.iter().map(|entry| (*entry, state.copies.of(entry))).collect()
        };
        let outcome = merge_job::run(place, level, inputs).await.map_err(|failed| {
            let mut state = self.state();
            state.corrupt.extend(failed.corrupt);
            state.vanished.extend(failed.vanished);
            failed.error
        })?;
        let merge_job::Outcome { name, size, timestamp, inputs } = outcome;
        tracing::debug!(%name, size, inputs, timestamp = timestamp.0, "compacted");
        // Not the time for which the merge was planned: what it covers must stay as long again.
        self.note_published(name, size, self.host.clock.now());
        self.state().copies.forget_to(name.max);
        Ok(Merged { name, size, inputs })
    }

    /// `now` is a time that is believed.
    async fn delete_expired(&self, now: UnixMillis, released: &mut Released) -> Result<()> {
        let retention = self.settings.retention;
        let mut inventory = self.current().await?;
        let mut expired = retention.expired(&inventory, now);
        if expired.iter().any(|name| name.level != Level::L0) {
            // History goes once per snapshot at most: worth a look at what is really there.
            inventory = self.list().await?;
            expired = retention.expired(&inventory, now);
        }
        if let Some(stranger) = self.stranger_in(&inventory) {
            let key = stranger.key(self.bucket.layout());
            let what = "is a snapshot of transactions that were not replicated here: nothing is deleted";
            return Err(Error::new(ErrorKind::Transient, format!("{}/{key} {what}", self.bucket.location())));
        }
        let unusable = self.state().corrupt.union(inventory.undersized()).copied().collect::<Vec<_>>();
        expired.extend(retention.outlived(&unusable, &inventory, now));
        for name in &expired {
            tracing::debug!(%name, "expired");
        }
        if !self.settings.delete {
            self.state().forget(&expired);
            released.files = expired;
            return Ok(());
        }
        for batch in expired.chunks(DELETE_BATCH) {
            let layout = self.bucket.layout();
            let end = |name: &LtxName| planted!("deletes-by-first-id", name.min, name.max);
            let keys: Vec<String> =
                batch.iter().map(|name| LtxName { max: end(name), ..*name }.key(layout)).collect();
            let mut failures = self.bucket.delete(&keys).await?;
            if planted!("refused-deletes-forgotten") {
                failures.clear();
            }
            let deleted = batch
                .iter()
                .zip(&keys)
                .filter(|(_, key)| failures.iter().all(|failure| failure.key != **key));
            let deleted: Vec<LtxName> = deleted.map(|(&name, _)| name).collect();
            self.state().forget(&deleted);
            self.state().corrupt.retain(|name| !deleted.contains(name));
            released.files.extend(deleted);
            released.failures.extend(failures);
        }
        Ok(())
    }

    /// The wall clock, but no further ahead than the monotonic clock has come since the start.
    fn believable(&self, now: UnixMillis) -> UnixMillis {
        let (wall, instant) = self.began;
        let elapsed = i64::try_from(instant.elapsed().as_millis()).unwrap_or(i64::MAX);
        now.min(UnixMillis(wall.0.saturating_add(elapsed)))
    }

    /// The inventory, listed if necessary.
    async fn current(&self) -> Result<Arc<Inventory>> {
        let known = self.inventory();
        match known {
            Some(inventory) => Ok(inventory),
            None => self.list().await,
        }
    }

    async fn list(&self) -> Result<Arc<Inventory>> {
        loop {
            self.state().doubt();
            let listing = self.begin_listing();
            let listed = Inventory::load(&*self.bucket).await?;
            for name in listed.undersized() {
                tracing::warn!(%name, location = self.bucket.location(), "object is too small to be an LTX file");
            }
            listing.adopt(listed);
            if let Some(inventory) = self.inventory() {
                return Ok(inventory);
            }
        }
    }

    fn levels(&self) -> impl Iterator<Item = (Level, Duration)> {
        Level::compacted().zip(self.settings.levels.iter().copied())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listing under way, see [`Compactor::begin_listing`].
#[must_use = "what is published is noted for as long as this lives"]
pub struct PendingListing<'a> {
    compactor: &'a Compactor,
    doubts: u64,
}

impl PendingListing<'_> {
    /// Takes what was listed, and what was published meanwhile; unless something happened since it began that makes a
    /// new listing necessary.
    pub fn adopt(self, listed: Inventory) {
        let mut state = self.compactor.state();
        if state.doubts == self.doubts {
            state.replace(listed);
        }
    }
}

impl Drop for PendingListing<'_> {
    fn drop(&mut self) {
        let mut state = self.compactor.state();
        state.listings -= 1;
        if state.listings == 0 && state.inventory.is_some() {
            state.noted.clear();
        }
    }
}

/// A look for expired files. Unless it is complete it does not count, even if it is dropped half-way.
struct Looking<'a> {
    compactor: &'a Compactor,
    is_complete: bool,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        if !self.is_complete {
            self.compactor.state().retained = None;
        }
    }
}

impl State {
    /// Takes a listing, and what was published while it was made.
    fn replace(&mut self, mut listed: Inventory) {
        if !planted!("listing-forgets-what-came-meanwhile") {
            self.noted.iter().for_each(|&entry| listed.insert(entry));
        }
        self.corrupt.iter().for_each(|name| listed.remove(name));
        for level in Level::compacted() {
            let done = &mut self.done[usize::from(level.number())];
            *done = done.or_else(|| listed.newest(level).and_then(|entry| entry.modified));
        }
        self.inventory = Some(Arc::new(listed));
    }

    /// The next merge into a level. One under the name of an unusable object would always be refused.
    fn next(&self, inventory: &Inventory, level: Level) -> Next {
        let is_taken = |name: &LtxName| self.corrupt.contains(name) || inventory.undersized().contains(name);
        plan::avoiding(plan::next(inventory, level), level, is_taken)
    }

    /// A gap that no file behind it shows: transactions that only unusable objects had. Not merely what is published and
    /// not listed, for listings lag.
    fn gap_at_end(&mut self, inventory: &Inventory) -> Option<Gap> {
        let after = inventory.restorable_max().unwrap_or_default();
        self.vanished.retain(|name| name.max > after);
        let last = self.corrupt.iter().chain(&self.vanished).map(|name| name.max).max()?;
        (last > after).then(|| Gap { after, next: Txid(last.0.saturating_add(1)) })
    }

    /// What is known may be wrong.
    fn doubt(&mut self) {
        self.inventory = None;
        self.doubts += 1;
    }

    fn note(&mut self, entry: Entry) {
        if self.listings > 0 || self.inventory.is_none() {
            self.noted.push(entry);
        }
        if let Some(inventory) = &mut self.inventory {
            Arc::make_mut(inventory).insert(entry);
        }
    }

    fn forget(&mut self, names: &[LtxName]) {
        if let Some(inventory) = &mut self.inventory {
            let inventory = Arc::make_mut(inventory);
            names.iter().for_each(|name| inventory.remove(name));
        }
        self.noted.retain(|entry| !names.contains(&entry.name));
    }
}

/// The time before which nothing is tried after a failure. A clock that went back does not prolong the wait.
fn not_before(failed: Option<UnixMillis>, now: UnixMillis) -> UnixMillis {
    failed.filter(|&failed| failed <= now).map_or(UnixMillis(i64::MIN), |failed| later(failed, RETRY_AFTER))
}

fn later(time: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(time.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}
