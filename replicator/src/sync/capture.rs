//! From committed frames to a staged LTX file.
//!
//! A file is published only after its frames were verified *and* the log was seen to be the same afterwards: only
//! then were the bytes that were stored the bytes that were checked.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::host::{Clock, UnixMillis};
use crate::ltx::{Encoder, PageNumber, PageSize};
use crate::sqlite::{ReadAhead, Source, Span};
use crate::wal::{self, Batch, FRAME_HEADER_SIZE, IndexHeader, Position};

use super::image::{plain_header, set_wal_range};
use super::local::{LocalState, Staged, Unfinished};

/// Encoded bytes gathered before they are written to the staged file.
const WRITE_LEN: usize = 1 << 20;

/// A transaction may take up to one part in this many of what is free on the disk.
const TRANSACTION_SHARE: u64 = 2;

/// Where the chain stands on this machine.
pub struct Chain {
    /// Staged files and their directory.
    pub local: LocalState,
    /// Newest transaction.
    pub newest: Staged,
    /// Database size in pages at that transaction.
    pub commit: u32,
    /// Page size at that transaction.
    pub page_size: PageSize,
    /// Newest timestamp used; timestamps never go back within a chain, whatever the clock does.
    pub timestamp: UnixMillis,
    /// Upper bound of WAL bytes for one file.
    pub max_batch_bytes: u64,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
}

/// What one look at the log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing behind the position.
    Unchanged,
    /// Frames of the same log behind the position.
    Continues,
    /// The log was restarted once, as the pin allows: its first frame continues the position.
    Restarted,
    /// Frames may have passed unseen.
    Broken,
}

/// Compares where copying stands with what SQLite considers committed. The log must have been pinned all the time;
/// `was_complete` as in [`Source::was_complete_at`].
#[must_use]
pub fn look(position: &Position, was_complete: bool, index: &IndexHeader) -> Look {
    if planted!("reused-log-space") && index.max_frame <= position.frame {
        return Look::Unchanged;
    }
    let same_log = (index.salt1, index.salt2) == (position.salt1, position.salt2);
    if same_log && index.max_frame == position.frame {
        let same = position.frame == 0 || index.frame_checksum == position.checksum;
        return if same { Look::Unchanged } else { Look::Broken };
    }
    if same_log && position.frame > 0 {
        return if index.max_frame > position.frame { Look::Continues } else { Look::Broken };
    }
    if index.max_frame == 0 {
        // A writer has begun to restart the log and has not committed yet.
        return Look::Unchanged;
    }
    // A restart adds one to salt-1, but a connection that finds an emptied log draws new salts.
    if was_complete || index.salt1 == position.salt1.wrapping_add(1) {
        return Look::Restarted;
    }
    Look::Broken
}

/// What [`Chain::capture`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Captured {
    /// Files staged.
    pub files: u32,
    /// Bytes of WAL frames copied.
    pub wal_bytes: u64,
}

impl Chain {
    /// The timestamp of a transaction that is published now. It becomes the chain's only with the transaction: a
    /// snapshot of what was there before must not be dated later.
    #[must_use]
    pub fn next_timestamp(&self) -> UnixMillis {
        self.timestamp.max(self.clock.now())
    }

    /// Copies everything committed up to now into staged files, or exactly up to `target` if that is a position of
    /// the current log. `on_staged` is told of each file, and whether with it everything is copied that was committed
    /// when copying began: a long log becomes several files, and the first ones say nothing about its end.
    ///
    /// # Errors
    /// `Conflict` if continuity is lost: compare the database with the chain. Others can be tried again; what was
    /// staged before the error stays valid.
    pub fn capture(
        &mut self,
        source: &Source,
        target: Option<&Position>,
        on_staged: &mut dyn FnMut(Staged, bool),
    ) -> Result<Captured> {
        let mut captured = Captured::default();
        loop {
            let index = capped(source.index().ok_or_else(unstable)?, target);
            let was_complete = source.was_complete_at(&self.newest.position);
            let from = match look(&self.newest.position, was_complete, &index) {
                Look::Unchanged => return Ok(captured),
                Look::Continues => self.newest.position,
                Look::Restarted => {
                    Position { salt1: index.salt1, salt2: index.salt2, frame: 0, checksum: [0, 0] }
                }
                Look::Broken => return Err(broken("the log was restarted unseen")),
            };
            let header = source.files().wal_header()?.ok_or_else(unstable)?;
            if (header.salt1, header.salt2) != (index.salt1, index.salt2) {
                return Err(unstable());
            }
            if header.page_size != self.page_size {
                return Err(broken("the page size changed"));
            }
            let batch = self.scan(source, header, from, &index)?;
            let staged = self.stage(source, from, &batch, &index).inspect_err(|_| {
                // What was written may be what fills the disk, which the application needs. Should it stay, it is
                // overwritten by the next attempt.
                let _ = self.local.remove_unfinished();
            })?;
            captured.files += 1;
            captured.wal_bytes +=
                u64::from(batch.frames) * (FRAME_HEADER_SIZE + self.page_size.bytes()) as u64;
            let at_end = staged.position.frame == index.max_frame;
            on_staged(staged, (at_end && target.is_none()) || planted!("claim-for-half-a-log"));
            if at_end {
                // What was committed meanwhile is for the next time: a writer that never pauses would otherwise get a
                // file for each commit, and this would never end.
                return Ok(captured);
            }
        }
    }

    fn scan(
        &self,
        source: &Source,
        header: wal::Header,
        from: Position,
        index: &IndexHeader,
    ) -> Result<Batch> {
        let span = Span { from, max_frame: index.max_frame, max_bytes: self.max_batch_bytes };
        let batch = source.files().scan(header, span)?;
        let batch = batch.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "the WAL holds no commit where the WAL-index says there is one")
        })?;
        let at_end = batch.end.frame == index.max_frame;
        if at_end && batch.end.checksum != index.frame_checksum {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the WAL and the WAL-index disagree on the last commit",
            ));
        }
        Ok(batch)
    }

    fn stage(
        &mut self,
        source: &Source,
        from: Position,
        batch: &Batch,
        index: &IndexHeader,
    ) -> Result<Staged> {
        let staged = Staged { txid: self.newest.txid.next(), position: batch.end, is_base: false };
        let timestamp = self.next_timestamp();
        let mut header = plain_header(self.page_size, batch.commit, staged.txid, timestamp);
        set_wal_range(&mut header, from.frame, batch.end);
        let mut unfinished = self.local.create_unfinished()?;
        let mut encoder = Encoder::new(header)?;
        let mut out = encoder.header_bytes().to_vec();
        let (files, mut ahead) = (source.files(), ReadAhead::default());
        let pages = pages_to_store(self.commit, self.page_size, batch);
        let room = self.room_for(pages.len())?;
        for number in pages {
            match batch.pages.binary_search_by_key(&number, |&(page, _)| page) {
                Ok(at) => {
                    let page = files.frame_page(self.page_size, batch.pages[at].1, &mut ahead)?;
                    encoder.page(number, page, &mut out)?;
                }
                Err(_) => {
                    let page = files.db_page(self.page_size, number, &mut ahead)?;
                    encoder.page(number, &page, &mut out)?;
                }
            }
            flush(&mut unfinished, &mut out, WRITE_LEN)?;
            if unfinished.written() > room {
                return Err(no_room(room));
            }
        }
        encoder.finish(&mut out)?;
        flush(&mut unfinished, &mut out, 1)?;
        let after = source.index().ok_or_else(unstable)?;
        if (after.salt1, after.salt2) != (index.salt1, index.salt2) {
            return Err(broken("the log was restarted while it was being copied"));
        }
        self.local.publish(unfinished, &staged)?;
        self.newest = staged;
        self.commit = batch.commit;
        self.timestamp = timestamp;
        Ok(staged)
    }

    /// Bytes that a file of this many pages may take up. What is larger than a batch is a single transaction, of any
    /// size. It stays only until it is uploaded, and the alternative is a copy of the whole database; but the application needs
    /// the rest of the disk.
    fn room_for(&self, pages: usize) -> Result<u64> {
        if pages as u64 * self.page_size.bytes() as u64 <= self.max_batch_bytes {
            return Ok(u64::MAX);
        }
        Ok((self.local.available()? / TRANSACTION_SHARE).max(self.max_batch_bytes))
    }
}

fn no_room(room: u64) -> Error {
    let what = "local state: a transaction is larger than its share of what is free on the disk";
    Error::new(ErrorKind::Exhausted, format!("{what}, {room} bytes: free some, or let a full copy be made"))
}

/// Pages of a batch, plus pages by which the database grew from `before` pages without logging them: SQLite does not
/// write free pages to the log, and a restore without them has holes.
fn pages_to_store(before: u32, page_size: PageSize, batch: &Batch) -> Vec<PageNumber> {
    let grown = (before + 1..=planted!("growth-gap", before, batch.commit)).map(PageNumber);
    let mut numbers: Vec<PageNumber> = batch.pages.iter().map(|&(page, _)| page).chain(grown).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.retain(|&number| number != page_size.lock_page() || planted!("lock-page-is-a-page"));
    numbers
}

/// The index as it was when `target` was the newest commit.
fn capped(index: IndexHeader, target: Option<&Position>) -> IndexHeader {
    match target {
        Some(target) if (target.salt1, target.salt2) == (index.salt1, index.salt2) => {
            IndexHeader { max_frame: target.frame, frame_checksum: target.checksum, ..index }
        }
        _ => index,
    }
}

/// Appends `out` to the file once it has at least `threshold` bytes.
pub fn flush(unfinished: &mut Unfinished, out: &mut Vec<u8>, threshold: usize) -> Result<()> {
    if out.len() >= threshold {
        unfinished.append(out)?;
        out.clear();
    }
    Ok(())
}

fn unstable() -> Error {
    Error::new(ErrorKind::Transient, "the WAL-index is being changed; it will be read again")
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("continuity is lost: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(salt1: u32, max_frame: u32, sum: u32) -> IndexHeader {
        IndexHeader {
            change: 0,
            max_frame,
            page_count: 1,
            page_size: PageSize::new(512),
            frame_checksum: [sum, sum],
            salt1,
            salt2: salt1,
            backfilled: 0,
            backfill_attempted: 0,
        }
    }

    #[test]
    fn pages_that_the_database_grew_by_without_logging_them_are_stored() {
        let page_size = PageSize::new(65536).unwrap();
        let stored = |before, commit, logged: &[u32]| {
            let pages = logged.iter().map(|&number| (PageNumber(number), 0)).collect();
            let batch = Batch { pages, commit, frames: 1, end: Position::default() };
            pages_to_store(before, page_size, &batch).into_iter().map(|number| number.0).collect::<Vec<_>>()
        };
        assert_eq!(stored(5, 9, &[1, 8]), [1, 6, 7, 8, 9]);
        assert_eq!(stored(5, 5, &[1, 3]), [1, 3]);
        assert_eq!(stored(9, 4, &[1, 3]), [1, 3], "cut off");
        let lock_page = page_size.lock_page().0;
        assert_eq!(stored(lock_page - 2, lock_page + 1, &[1]), [1, lock_page - 1, lock_page + 1]);
    }

    #[test]
    fn only_a_pinned_successor_continues_a_position() {
        let position = Position { salt1: 5, salt2: 5, frame: 10, checksum: [1, 1] };
        assert_eq!(look(&position, false, &index(5, 10, 1)), Look::Unchanged);
        assert_eq!(look(&position, false, &index(5, 10, 2)), Look::Broken, "same place, other content");
        assert_eq!(look(&position, false, &index(5, 12, 2)), Look::Continues);
        assert_eq!(look(&position, false, &index(5, 9, 2)), Look::Broken);
        assert_eq!(look(&position, false, &index(6, 0, 0)), Look::Unchanged);
        assert_eq!(look(&position, false, &index(6, 3, 2)), Look::Restarted);
        assert_eq!(look(&position, false, &index(7, 3, 2)), Look::Broken, "two restarts");
        assert_eq!(look(&position, false, &index(4, 30, 2)), Look::Broken);
        assert_eq!(look(&position, true, &index(99, 3, 2)), Look::Restarted);
        let empty = Position::default();
        assert_eq!(look(&empty, true, &index(99, 3, 2)), Look::Restarted);
        assert_eq!(look(&empty, false, &index(99, 3, 2)), Look::Broken);
    }
}
