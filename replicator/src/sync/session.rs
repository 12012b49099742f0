//! One open database and its chain: every call here blocks, none waits for the network.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, OpenMode, UnixMillis};
use crate::ltx::{HEADER_LEN, Header, PageSize, Txid};
use crate::sqlite::{
    CheckpointMode, CheckpointOutcome, DbFacts, LongView, Opened, Source, SourceFiles, engine_is_affected,
    require_fixed_engine,
};
use crate::wal::{Continuity, IndexHeader, continuity};

use super::Options;
use super::base;
use super::capture::{Captured, Chain, Look, look};
use super::checked::CheckedFile;
use super::first;
use super::local::{LocalState, Staged, newest, since_last_base};
use super::lock::StateLock;
use super::pages::PageTable;
use super::reconcile::{Reconciled, reconcile};

/// File with the facts about the database file as last seen; a hint that may be stale, never wrong.
const FACTS_NAME: &str = "facts";

/// Bytes of a staged file that are read at once.
const CHECKED_LEN: usize = 1 << 20;

/// Attempts in a row to get the whole log into the database file between two commits of a busy writer.
const CHECKPOINT_ATTEMPTS: u32 = 4;

/// An open, pinned database whose chain is known.
pub struct Session {
    source: Box<Source>,
    chain: Chain,
    /// The index header and then the file facts, as of the last look.
    baseline: Option<(IndexHeader, DbFacts)>,
    /// A full copy is among the staged files.
    holds_first_copy: bool,
}

/// Result of opening a database.
pub enum Start {
    /// No database yet.
    Absent,
    /// Copying goes on; these staged files exist and may need uploading.
    Ready {
        /// The session.
        session: Box<Session>,
        /// Staged files, oldest first.
        staged: Vec<Staged>,
        /// For the log: how continuity was established.
        how: &'static str,
    },
    /// The database is pinned, but its chain has to start with a full copy.
    NeedsBase {
        /// The pinned database.
        source: Box<Source>,
        /// Why.
        reason: &'static str,
        /// Newest local record, if there is a usable one.
        last: Option<LastRecord>,
    },
}

/// What is left of a chain that cannot be continued.
#[derive(Debug, Clone, Copy)]
pub struct LastRecord {
    /// Its newest transaction.
    pub staged: Staged,
    /// Its newest timestamp.
    pub timestamp: UnixMillis,
    /// Page size of the database then.
    pub page_size: PageSize,
}

/// Opens the database and establishes where its chain stands. Takes the lock on the local state, if that is not yet held.
///
/// # Errors
/// Of opening and reading; can be tried again.
pub fn start(
    host: &Host,
    options: &Options,
    previous: Option<&SourceFiles>,
    lock: &mut Option<StateLock>,
) -> Result<Start> {
    require_fixed_engine()?;
    let source = match Source::open(host, &options.db, options.busy_timeout, previous)? {
        Opened::Absent => return Ok(Start::Absent),
        Opened::Ready(source) => source,
    };
    if previous.is_none() {
        // Once is enough: a session that fails is followed by the next.
        warn_of_old_engine(&source, options);
    }
    let is_ours = lock.as_ref().is_some_and(|lock| lock.is_current(host.disk.as_ref()));
    if !is_ours && !planted!("two-of-us") {
        *lock = Some(StateLock::take(host.disk.as_ref(), &options.meta_dir)?);
    }
    let local = LocalState::open(Arc::clone(&host.disk), &options.meta_dir)?;
    let staged = local.staged()?;
    let holds_first_copy = staged.iter().any(first::is_first_copy);
    let staged = since_last_base(staged);
    let needs_base = |source, reason, last| Ok(Start::NeedsBase { source, reason, last });
    let last = match newest(&staged) {
        Ok(Some(last)) => last,
        Ok(None) => return needs_base(source, "there is no local state", None),
        Err(error) => {
            tracing::warn!(%error, "local state is incomplete");
            return needs_base(source, "staged files are missing", None);
        }
    };
    let header = match read_header(&local, &last) {
        Ok(header) => header,
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
            tracing::warn!(%error, "local state is damaged");
            return needs_base(source, "the newest staged file is damaged", None);
        }
        Err(error) => return Err(error),
    };
    let record = LastRecord { staged: last, timestamp: header.timestamp, page_size: header.page_size };
    let mut chain = Chain {
        local,
        newest: last,
        commit: header.commit,
        page_size: header.page_size,
        timestamp: header.timestamp,
        max_batch_bytes: options.max_batch_bytes,
        clock: Arc::clone(&host.clock),
    };
    // Without the table nothing could ever be tidied away.
    let has_table = PageTable::open(&chain.local)?.is_some();
    let how = if has_table && is_continuous(&source, &chain)? {
        "the log continues"
    } else {
        match reconcile(&mut chain, &source, &staged)? {
            Reconciled::Equal => "no page differs",
            Reconciled::Differed { pages, staged } => {
                tracing::warn!(
                    db = %options.db.display(), pages, txid = %staged.txid,
                    "the database changed while it was not watched; the pages that differ are published"
                );
                "changed pages were staged"
            }
            Reconciled::NeedsBase(reason) => return needs_base(source, reason, Some(record)),
        }
    };
    let staged = since_last_base(chain.local.staged()?);
    if newest(&staged)? != Some(chain.newest) {
        let what = "local state: staged files disappeared while the database was being opened";
        return Err(Error::new(ErrorKind::Corrupt, what));
    }
    let mut session = Box::new(Session { source, chain, baseline: None, holds_first_copy });
    session.rebase_facts();
    Ok(Start::Ready { session, staged, how })
}

/// The application's own SQLite can damage the database, whatever we do.
fn warn_of_old_engine(source: &Source, options: &Options) {
    let version = source.writer_version();
    if engine_is_affected(version) {
        let version = format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000);
        tracing::warn!(
            db = %options.db.display(), version,
            "the database was last written by an SQLite that can corrupt it when a checkpoint and a commit meet \
             (WAL reset bug, 3.7.0 to 3.51.2); update the application's SQLite"
        );
    }
}

/// The header of a staged file, or of the one that a record stands for.
///
/// # Errors
/// `Corrupt` if it is damaged, `NotFound` if it is gone.
pub fn read_header(local: &LocalState, staged: &Staged) -> Result<Header> {
    if staged.is_base {
        return read_record(local, staged);
    }
    // All of it is read: a flipped bit in its time would date what follows (seed 32010970).
    let mut checked = CheckedFile::open(local, staged)?;
    while checked.trailer().is_none() {
        checked.next_chunk(CHECKED_LEN)?;
    }
    Ok(*checked.header().expect("it was read to its end"))
}

fn read_record(local: &LocalState, staged: &Staged) -> Result<Header> {
    let path = local.path(&staged.name());
    let io = |error| Error::io(format!("local state: cannot read {}", path.display()), error);
    let file = local.disk().open(&path, OpenMode::Read).map_err(io)?;
    let mut bytes = [0; HEADER_LEN];
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let mut checksum = [0; 8];
    file.read_exact_at(&mut checksum, HEADER_LEN as u64).map_err(io)?;
    if checksum != base::record_checksum(&bytes) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("{} does not match its checksum", path.display()),
        ));
    }
    Header::from_bytes(&bytes).map_err(|error| error.context(path.display()))
}

/// Continuity across the time in which nobody pinned the log: the log itself must prove it, and nobody may have
/// touched the database file. What is still in the file is no proof: after a power loss SQLite ends the log at the first
/// frame that is damaged, and later ones stay behind as they were. And frames that were not copied must not have been
/// copied back, all of them: then nothing keeps the next writer from restarting the log before they are.
fn is_continuous(source: &Source, chain: &Chain) -> Result<bool> {
    let position = chain.newest.position;
    // Before the frame is read from the file: one that SQLite passed over may be there still, and be overwritten by a
    // commit that makes the log long enough.
    let is_held = source.index().is_some_and(|index| {
        let same_log = (index.salt1, index.salt2) == (position.salt1, position.salt2);
        same_log
            && match index.max_frame.cmp(&position.frame) {
                Ordering::Less => false,
                Ordering::Equal => position.frame == 0 || index.frame_checksum == position.checksum,
                Ordering::Greater => index.backfilled < index.max_frame,
            }
    });
    let header = source.files().wal_header()?;
    let frame_checksum = match &header {
        Some(header) if position.frame > 0 => source.files().frame_checksum(header, position.frame)?,
        _ => None,
    };
    let facts = source.files().db_facts()?;
    let untouched = are_saved(&facts, &chain.local)?;
    let proved = continuity(&position, header.as_ref(), frame_checksum) == Continuity::Proved;
    let proved = proved && planted!("resume-on-a-complete-log", true, is_held);
    Ok(planted!("resume-on-trust", true, untouched && proved))
}

/// Sees to it that the chain which is recorded here is not gone on with, whatever becomes of the database: only a full copy
/// can follow. To be called before one is sent. A store may show it late, under the id that the chain would use next, and a
/// restore would mix the two (seed 40038788: the page size changed, and then the old file came back).
///
/// # Errors
/// Of the local disk; the chain may then be gone on with or not.
pub fn end_chain(local: &LocalState) -> Result<()> {
    if planted!("attempt-leaves-the-chain") {
        return Ok(());
    }
    local.remove(FACTS_NAME)?;
    PageTable::remove(local)?;
    local.sync()
}

/// Without the device: where that is no real one, its number may be another after the next boot. A file of another
/// device would have to be as long, and changed in the same nanosecond.
fn facts_text(facts: &DbFacts) -> String {
    format!("{:x} {:x} {:x}\n", facts.inode, facts.len, facts.changed_nanos)
}

/// Whether these facts were saved.
fn are_saved(facts: &DbFacts, local: &LocalState) -> Result<bool> {
    let file = match local.disk().open(&local.path(FACTS_NAME), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("local state: cannot open the file facts", error)),
    };
    let mut bytes = [0; 128];
    let read = file.read_full_at(&mut bytes, 0);
    let read = read.map_err(|error| Error::io("local state: cannot read the file facts", error))?;
    let saved = String::from_utf8_lossy(&bytes[..read]);
    // Only the exact text counts: a torn write must not pass for other facts. It used to begin with the device.
    let expected = facts_text(facts);
    Ok(saved == expected || saved.split_once(' ').is_some_and(|(_, rest)| rest == expected))
}

/// What changed the database file between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChange {
    /// Nothing did.
    None,
    /// A checkpoint: the WAL-index shows it.
    Checkpoint,
    /// Something that is not SQLite in WAL mode.
    Foreign,
}

/// Judges a change of the database file. Each pair is an index header and file facts read *after* it, so that a
/// checkpoint in between shows in the index of the later look at the latest.
#[must_use]
pub fn file_change(before: &(IndexHeader, DbFacts), after: &(IndexHeader, DbFacts)) -> FileChange {
    let ((old, old_facts), (new, new_facts)) = (before, after);
    if old_facts == new_facts {
        return FileChange::None;
    }
    let restarted = (old.salt1, old.salt2) != (new.salt1, new.salt2);
    let progressed = old.backfill_attempted != new.backfill_attempted || old.backfilled != new.backfilled;
    let in_progress = |index: &IndexHeader| index.backfill_attempted > index.backfilled;
    let explained = restarted || progressed || in_progress(old) || in_progress(new);
    if explained { FileChange::Checkpoint } else { FileChange::Foreign }
}

impl Session {
    /// A session right after a full copy.
    #[must_use]
    pub fn after_base(source: Box<Source>, chain: Chain) -> Self {
        let holds_first_copy = first::is_first_copy(&chain.newest);
        let mut session = Self { source, chain, baseline: None, holds_first_copy };
        session.rebase_facts();
        session
    }

    /// The open database.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The chain.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Whether something was committed that has not been copied (or continuity is lost, which copying finds out).
    #[must_use]
    pub fn has_news(&self) -> bool {
        let position = &self.chain.newest.position;
        self.source.index().is_none_or(|index| {
            look(position, self.source.was_complete_at(position), &index) != Look::Unchanged
        })
    }

    /// Whether SQLite has done nothing since the files were last examined, and the pin is in nobody's way. Reads shared
    /// memory only.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let seen = self.baseline.as_ref().map(|(index, _)| *index);
        seen.is_some() && seen == self.source.index() && !self.source.is_in_the_way()
    }

    /// Frames in the log of which nothing is copied back yet, by SQLite's own account.
    #[must_use]
    pub fn log_frames(&self) -> u32 {
        self.source
            .index()
            .map_or(0, |index| if index.backfilled == index.max_frame { 0 } else { index.max_frame })
    }

    /// Checks that path and files are still what was opened.
    ///
    /// # Errors
    /// `Conflict` if the database was replaced or changed past SQLite: open it anew. Others can be tried again.
    pub fn check_files(&mut self) -> Result<()> {
        // In this order: see `file_change`.
        let index = self.source.index();
        let Some(facts) = self.source.examine()? else {
            return Err(Error::new(ErrorKind::Conflict, "the database file was replaced or deleted"));
        };
        let index =
            index.ok_or_else(|| Error::new(ErrorKind::Transient, "the WAL-index is being changed"))?;
        let now = (index, facts);
        let change =
            self.baseline.as_ref().map_or(FileChange::Checkpoint, |before| file_change(before, &now));
        match change {
            FileChange::None => {}
            FileChange::Checkpoint => self.save_facts(&now.1),
            // It may have begun between the two reads.
            FileChange::Foreign if self.is_explained_by_now(&now.1) => self.save_facts(&now.1),
            FileChange::Foreign => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "the database file was changed by something other than SQLite",
                ));
            }
        }
        self.baseline = Some(now);
        Ok(())
    }

    /// Whether the WAL-index explains by now that the database file was found like `facts`.
    fn is_explained_by_now(&self, facts: &DbFacts) -> bool {
        let later = self.source.index().map(|index| (index, *facts));
        let change = self.baseline.as_ref().zip(later).map(|(before, later)| file_change(before, &later));
        change == Some(FileChange::Checkpoint)
    }

    /// Moves the pin out of the way of a checkpoint that wants to restart the log, once nothing is left to copy.
    ///
    /// # Errors
    /// As [`Source::move_pin`].
    pub fn let_restart(&mut self) -> Result<()> {
        if self.source.is_in_the_way() && !self.has_news() {
            self.source.move_pin()?;
        }
        Ok(())
    }

    /// Whether all of the log is in the database file, so that only the pin keeps it from restarting.
    #[must_use]
    pub fn holds_up_a_restart(&self) -> bool {
        self.source.index().is_some_and(|index| index.max_frame > 0 && index.backfilled == index.max_frame)
    }

    /// Copies everything committed and moves the pin behind it.
    ///
    /// # Errors
    /// As [`Chain::capture`].
    pub fn capture(&mut self, on_staged: &mut dyn FnMut(Staged, bool)) -> Result<Captured> {
        let captured = self.chain.capture(&self.source, None, on_staged)?;
        if captured.files > 0 {
            self.source.move_pin()?;
        }
        Ok(captured)
    }

    /// Copies everything, then tries to get the log into the database file so that it can restart.
    ///
    /// # Errors
    /// Of copying and of the checkpoint. After a failed blocking cycle the session must be opened anew.
    pub fn checkpoint(
        &mut self,
        mode: CheckpointMode,
        on_staged: &mut dyn FnMut(Staged, bool),
    ) -> Result<CheckpointOutcome> {
        // What the file looks like afterwards is taken for good.
        self.check_files()?;
        let mut outcome = CheckpointOutcome::Partial { log: 0, copied: 0 };
        for attempt in 0..CHECKPOINT_ATTEMPTS {
            // Writers wait only for the rest after a first attempt that nobody waits for.
            let mode = if attempt == 0 { CheckpointMode::Passive } else { mode };
            let chain = &mut self.chain;
            let before = (attempt > 0).then_some(outcome);
            // What the current pin saw must be copied before the cycle begins with another pin: see `move_pin`.
            if !planted!("pin-ahead-of-the-copy") {
                chain.capture(&self.source, None, on_staged)?;
            }
            outcome = self.source.checkpoint(mode, |source| {
                if !planted!("checkpoint-before-copy") {
                    chain.capture(source, None, on_staged)?;
                }
                Ok(chain.newest.position)
            })?;
            if outcome == CheckpointOutcome::Busy {
                // What the file looks like now is none of our doing, but for what the WAL-index shows.
                return Ok(outcome);
            }
            // Each attempt has less to copy back than the one before, so it is likelier to fit between two commits;
            // without progress somebody reads an old state, and only time helps.
            if outcome == CheckpointOutcome::Complete || Some(outcome) == before {
                break;
            }
        }
        self.rebase_facts();
        Ok(outcome)
    }

    /// Pins the current state for a snapshot and makes sure that the chain's newest transaction is exactly it.
    ///
    /// # Errors
    /// `Transient` if the log was restarted each time in between.
    pub fn long_view(&mut self, on_staged: &mut dyn FnMut(Staged, bool)) -> Result<LongView> {
        for _ in 0..5 {
            let long = self.source.long_view()?;
            let target = planted!("snapshot-behind-its-name", None, Some(&long.view.position));
            let captured = self.chain.capture(&self.source, target, on_staged)?;
            // With nothing to copy since the view was taken, the view is the newest state, whatever its position says:
            // a log that was emptied by a checkpoint has another one.
            let is_newest = captured.files == 0 || long.view.position == self.chain.newest.position;
            if is_newest || planted!("snapshot-behind-its-name") {
                return Ok(long);
            }
        }
        Err(Error::new(ErrorKind::Transient, "the log kept being restarted while a snapshot was to begin"))
    }

    /// Takes the current facts as known good.
    fn rebase_facts(&mut self) {
        let Some(index) = self.source.index() else { return };
        if let Ok(facts) = self.source.files().db_facts() {
            self.save_facts(&facts);
            self.baseline = Some((index, facts));
        }
    }

    /// Saves facts without syncing: stale ones only make the next start compare pages.
    fn save_facts(&self, facts: &DbFacts) {
        let local = &self.chain.local;
        let written = local
            .disk()
            .open(&local.path(FACTS_NAME), OpenMode::Truncate)
            .and_then(|file| file.write_all_at(facts_text(facts).as_bytes(), 0));
        if let Err(error) = written {
            tracing::debug!(%error, "could not save the facts about the database file");
        }
    }

    /// Removes staged files up to `removable`, which must be durable in the store, once they are folded into the page
    /// table; the newest stays, because its name is the position.
    ///
    /// # Errors
    /// `Corrupt` or `NotFound` if only a full copy helps. Others, of folding and removing, can be tried again.
    pub fn tidy(&mut self, removable: Txid) -> Result<()> {
        let local = &self.chain.local;
        let staged = local.staged()?;
        let newest = self.chain.newest.txid;
        let Some(mut table) = PageTable::open(local)? else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "local state: the page checksums are damaged or gone",
            ));
        };
        table.catch_up(local, &staged)?;
        let folded = table.complete_to();
        for file in staged.iter().filter(|file| file.txid <= removable.min(folded) && file.txid < newest) {
            local.remove(&file.name())?;
        }
        Ok(())
    }

    /// Whether a full copy takes up local disk.
    #[must_use]
    pub fn holds_first_copy(&self) -> bool {
        self.holds_first_copy
    }

    /// Removes it; it must be in the store. Tried once.
    ///
    /// # Errors
    /// As [`first::release`].
    pub fn release_first_copy(&mut self) -> Result<()> {
        self.holds_first_copy = false;
        first::release(&mut self.chain)
    }

    /// Gives up the chain but keeps the database pinned.
    #[must_use]
    pub fn into_source(self) -> (Box<Source>, LastRecord) {
        let Chain { newest, timestamp, page_size, .. } = self.chain;
        let last = LastRecord { staged: newest, timestamp, page_size };
        (self.source, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(attempted: u32, backfilled: u32) -> IndexHeader {
        IndexHeader {
            change: 1,
            max_frame: 9,
            page_count: 1,
            page_size: None,
            frame_checksum: [0, 0],
            salt1: 1,
            salt2: 1,
            backfilled,
            backfill_attempted: attempted,
        }
    }

    #[test]
    fn a_file_change_needs_a_checkpoint_to_explain_it() {
        let facts = |changed_nanos| DbFacts { changed_nanos, ..DbFacts::default() };
        let before = (index(4, 4), facts(1));
        assert_eq!(file_change(&before, &(index(9, 4), facts(1))), FileChange::None);
        assert_eq!(file_change(&before, &(index(9, 4), facts(2))), FileChange::Checkpoint);
        assert_eq!(file_change(&before, &(index(9, 9), facts(2))), FileChange::Checkpoint);
        assert_eq!(file_change(&before, &(index(4, 4), facts(2))), FileChange::Foreign);
        let restarted = IndexHeader { salt1: 2, ..index(4, 4) };
        assert_eq!(file_change(&before, &(restarted, facts(2))), FileChange::Checkpoint);
    }
}
