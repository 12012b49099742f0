//! Encoding all pages of a pinned view as one LTX file, in chunks, for a base or a snapshot.

use crate::error::Result;
use crate::host::UnixMillis;
use crate::ltx::{Encoder, Header, PageNumber, PageSize, Tail, Txid};
use crate::sqlite::{PinnedView, ReadAhead};
use crate::wal::{FRAME_HEADER_SIZE, HEADER_SIZE, Position};

use super::pages::TableBuilder;

/// The header of a file that holds a whole database as of `view`.
#[must_use]
pub fn image_header(view: &PinnedView, min: Txid, max: Txid, timestamp: UnixMillis) -> Header {
    let mut header = plain_header(view.page_size, view.page_count, max, timestamp);
    header.min_txid = min;
    set_wal_range(&mut header, 0, view.position);
    header
}

/// A header without WAL facts for one transaction.
#[must_use]
pub fn plain_header(page_size: PageSize, commit: u32, txid: Txid, timestamp: UnixMillis) -> Header {
    Header {
        flags: Header::NO_CHECKSUM,
        page_size,
        commit,
        min_txid: txid,
        max_txid: txid,
        timestamp,
        pre_apply_checksum: 0,
        wal_offset: 0,
        wal_size: 0,
        wal_salt1: 0,
        wal_salt2: 0,
        node_id: 0,
    }
}

/// Says which frames of the WAL a file covers: those behind `first` up to `end`.
pub fn set_wal_range(header: &mut Header, first: u32, end: Position) {
    if end.frame == 0 {
        return;
    }
    let frame_size = (FRAME_HEADER_SIZE + header.page_size.bytes()) as i64;
    header.wal_offset = HEADER_SIZE as i64 + i64::from(first) * frame_size;
    header.wal_size = i64::from(end.frame - first) * frame_size;
    header.wal_salt1 = end.salt1;
    header.wal_salt2 = end.salt2;
}

enum Stage {
    Pages { encoder: Box<Encoder>, next: u32 },
    Tail(Box<Tail>),
    Done,
}

/// Encodes a view page by page; every call blocks on reading, none on the network.
pub struct ImageEncoder {
    stage: Stage,
    ahead: ReadAhead,
    started: bool,
    table: Option<TableBuilder>,
}

impl ImageEncoder {
    /// Starts a file with `header` (see [`image_header`]); `table` collects the page checksums if given.
    ///
    /// # Errors
    /// If the header is not one that may be written.
    pub fn new(header: Header, table: Option<TableBuilder>) -> Result<Self> {
        let encoder = Box::new(Encoder::new(header)?);
        Ok(Self {
            stage: Stage::Pages { encoder, next: 1 },
            ahead: ReadAhead::default(),
            started: false,
            table,
        })
    }

    /// The next chunk of about `target` bytes; `None` after the last.
    ///
    /// # Errors
    /// If a page cannot be read. The file must be given up then.
    pub fn next_chunk(&mut self, view: &PinnedView, target: usize) -> Result<Option<Vec<u8>>> {
        let mut out = Vec::with_capacity(target + (target >> 4));
        while out.len() < target {
            match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Pages { encoder, next } => {
                    self.stage = self.pages(view, encoder, next, target, &mut out)?
                }
                Stage::Tail(mut tail) => {
                    if tail.write_some(&mut out).is_none() {
                        self.stage = Stage::Tail(tail);
                    }
                }
                Stage::Done => break,
            }
        }
        Ok((!out.is_empty()).then_some(out))
    }

    fn pages(
        &mut self,
        view: &PinnedView,
        mut encoder: Box<Encoder>,
        mut next: u32,
        target: usize,
        out: &mut Vec<u8>,
    ) -> Result<Stage> {
        if !self.started {
            self.started = true;
            out.extend_from_slice(&encoder.header_bytes());
        }
        while next <= view.page_count && out.len() < target {
            let number = PageNumber(next);
            next += 1;
            if number == view.page_size.lock_page() {
                continue;
            }
            let page = view.page(number, &mut self.ahead)?;
            encoder.page(number, &page, out)?;
            if let Some(table) = &mut self.table {
                table.push(number, &page)?;
            }
        }
        if next > view.page_count {
            return Ok(Stage::Tail(Box::new(encoder.into_tail()?)));
        }
        Ok(Stage::Pages { encoder, next })
    }

    /// The page checksums collected, once the file is complete.
    #[must_use]
    pub fn into_table(self) -> Option<TableBuilder> {
        self.table
    }
}
