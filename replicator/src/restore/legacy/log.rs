//! Applies a WAL to a database file, as a checkpoint would: the newest committed version of each page, then the
//! size of the last commit.
//!
//! Done by our own reader rather than by SQLite, so that damage is an error instead of an early end, and so that it
//! works on any [`crate::host::Disk`].

use super::super::output::{Scratch, TempFile};
use crate::error::{Error, ErrorKind, Result};
use crate::ltx::PageSize;
use crate::wal::{Batch, FRAME_HEADER_SIZE, HEADER_SIZE, Header, Scanner, frame_offset};

/// Transactions are collected until they have this many frames, to write each page once. Eight bytes each.
const BATCH_FRAMES: u32 = 1 << 18;

/// One WAL being applied. Its bytes are appended to a scratch file in pieces; [`Log::apply`] uses what is there.
pub(super) struct Log {
    /// Bytes so far.
    pub len: u64,
    header: Option<Header>,
    /// Frames applied, and the cumulative checksum behind them.
    applied: (u32, [u32; 2]),
    page_size: PageSize,
}

impl Log {
    /// An empty log of a database with this page size.
    pub(super) fn new(page_size: PageSize) -> Self {
        Self { len: 0, header: None, applied: (0, [0, 0]), page_size }
    }

    /// Applies every transaction that is complete by now. Frames behind the last commit wait for the next piece.
    pub(super) fn apply(&mut self, scratch: &Scratch, temp: &TempFile) -> Result<()> {
        let header = match self.header {
            Some(header) => header,
            None => *self.header.insert(self.read_header(scratch)?),
        };
        let frame_len = FRAME_HEADER_SIZE + self.page_size.bytes();
        let (frames, rest) = divide(self.len - HEADER_SIZE as u64, frame_len as u64);
        if rest != 0 {
            return Err(corrupt(format!(
                "WAL has {} bytes, which is not a whole number of frames",
                self.len
            )));
        }
        let frames = u32::try_from(frames).map_err(|_| corrupt("WAL has more than 2^32 frames"))?;
        let mut frame = vec![0; frame_len];
        let mut scanner = Scanner::new(header, self.applied.0, self.applied.1);
        while scanner.next_frame() <= frames {
            read(scratch, &mut frame, frame_offset(self.page_size, scanner.next_frame()))?;
            let is_commit = scanner.push(&frame).map_err(|fault| corrupt(format!("WAL {fault}")))?;
            if is_commit && scanner.next_frame() - self.applied.0 > BATCH_FRAMES {
                let batch = scanner.finish().expect("a commit was pushed");
                self.write(&batch, scratch, temp)?;
                scanner = Scanner::new(header, self.applied.0, self.applied.1);
            }
        }
        match scanner.finish() {
            Some(batch) => self.write(&batch, scratch, temp),
            None => Ok(()),
        }
    }

    fn read_header(&self, scratch: &Scratch) -> Result<Header> {
        let mut bytes = [0; HEADER_SIZE];
        if self.len < bytes.len() as u64 {
            return Err(corrupt(format!("WAL has {} bytes, less than its header", self.len)));
        }
        read(scratch, &mut bytes, 0)?;
        let header = Header::parse(&bytes).ok_or_else(|| corrupt("WAL header is damaged"))?;
        if header.page_size != self.page_size {
            return Err(corrupt(format!(
                "WAL has pages of {} bytes, the snapshot of {}",
                header.page_size.get(),
                self.page_size.get()
            )));
        }
        Ok(header)
    }

    fn write(&mut self, batch: &Batch, scratch: &Scratch, temp: &TempFile) -> Result<()> {
        let mut page = vec![0; self.page_size.bytes()];
        let page_size = u64::from(self.page_size.get());
        for &(number, frame) in &batch.pages {
            read(scratch, &mut page, frame_offset(self.page_size, frame) + FRAME_HEADER_SIZE as u64)?;
            let offset = u64::from(number.0 - 1) * page_size;
            temp.file().write_all_at(&page, offset).map_err(|error| temp.error("write", error))?;
        }
        let len = u64::from(batch.commit) * page_size;
        temp.file().set_len(len).map_err(|error| temp.error("set the length of", error))?;
        self.applied = (batch.end.frame, batch.end.checksum);
        Ok(())
    }
}

fn divide(a: u64, b: u64) -> (u64, u64) {
    (a / b, a % b)
}

fn read(scratch: &Scratch, buffer: &mut [u8], offset: u64) -> Result<()> {
    scratch.file().read_exact_at(buffer, offset).map_err(|error| scratch.error("read", error))
}

pub(super) fn corrupt(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}
