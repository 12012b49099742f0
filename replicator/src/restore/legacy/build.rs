//! Builds the database file from 0.3.x objects, one after the other.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::choice::hole_error;
use super::log::{Log, corrupt};
use super::unpack::{ScratchReader, Unpacker};
use crate::bucket::ObjectInfo;
use crate::error::{ErrorKind, Result};
use crate::host::Disk;
use crate::ltx::PageSize;
use crate::restore::options::Identities;
use crate::restore::output::{Scratch, TempFile};

/// Unpacked bytes written by one call of [`Builder::work`].
const STEP_LEN: usize = 32 << 20;

/// An object of a state, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The object.
    pub object: ObjectInfo,
    /// WAL index and offset of a segment; `None` for the snapshot.
    pub segment: Option<(u64, u64)>,
}

/// See the module. All methods block.
pub(super) struct Builder {
    identities: Identities,
    /// The packed object.
    packed: Arc<Scratch>,
    packed_len: u64,
    unpacking: Option<Unpacker>,
    snapshot_len: u64,
    page_size: Option<PageSize>,
    /// The WAL being collected and applied.
    wal: Scratch,
    log: Option<(u64, Log)>,
    before: Option<ObjectInfo>,
    /// The file being built. Last, so that it is dropped last: it removes the directories it created.
    temp: TempFile,
}

impl Builder {
    /// Starts with an empty file.
    pub(super) fn new(disk: &Arc<dyn Disk>, output: &Path, identities: Identities) -> Result<Self> {
        let temp = TempFile::create(disk.clone(), output)?;
        let packed = Arc::new(Scratch::create(disk.clone(), output, Scratch::OBJECT)?);
        let wal = Scratch::create(disk.clone(), output, Scratch::WAL)?;
        Ok(Self {
            temp,
            identities,
            packed,
            packed_len: 0,
            unpacking: None,
            snapshot_len: 0,
            page_size: None,
            wal,
            log: None,
            before: None,
        })
    }

    /// The finished file; the scratch files are removed.
    pub(super) fn into_temp(self) -> TempFile {
        self.temp
    }

    /// Keeps the next bytes of the current object.
    pub(super) fn store(&mut self, chunks: &[Bytes]) -> Result<()> {
        for chunk in chunks {
            let written = self.packed.file().write_all_at(chunk, self.packed_len);
            written.map_err(|error| self.packed.error("write", error))?;
            self.packed_len += chunk.len() as u64;
        }
        Ok(())
    }

    /// Works on the complete object, for a bounded time. Returns whether there is more to do.
    pub(super) fn work(&mut self, part: &Part) -> Result<bool> {
        let result = self.work_inner(part);
        result.map_err(|error| match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Denied => error.context(&part.object.key),
            _ => error,
        })
    }

    fn work_inner(&mut self, part: &Part) -> Result<bool> {
        let mut unpacker = match self.unpacking.take() {
            Some(unpacker) => unpacker,
            None => self.begin(part)?,
        };
        let mut done = 0;
        while done < STEP_LEN {
            let bytes = unpacker.next()?;
            if bytes.is_empty() {
                self.packed_len = 0;
                self.before = Some(part.object.clone());
                self.end(part)?;
                return Ok(false);
            }
            done += bytes.len();
            match &mut self.log {
                Some((_, log)) => {
                    let written = self.wal.file().write_all_at(bytes, log.len);
                    written.map_err(|error| self.wal.error("write", error))?;
                    log.len += bytes.len() as u64;
                }
                None => {
                    let written = self.temp.file().write_all_at(bytes, self.snapshot_len);
                    written.map_err(|error| self.temp.error("write", error))?;
                    self.snapshot_len += bytes.len() as u64;
                }
            }
        }
        self.unpacking = Some(unpacker);
        Ok(true)
    }

    fn begin(&mut self, part: &Part) -> Result<Unpacker> {
        if let Some((index, offset)) = part.segment {
            let page_size = self.page_size.expect("the snapshot comes first");
            let same = self.log.as_ref().is_some_and(|(current, _)| *current == index);
            if !same {
                self.wal.file().set_len(0).map_err(|error| self.wal.error("empty", error))?;
                self.log = Some((index, Log::new(page_size)));
            }
            let len = self.log.as_ref().map_or(0, |(_, log)| log.len);
            if offset > len {
                let before = self.before.as_ref().expect("the snapshot comes first");
                return Err(hole_error((index, len), &part.object, before));
            }
            if offset < len {
                return Err(corrupt(format!(
                    "it begins at byte {offset}, but WAL {index:08x} already has {len}"
                )));
            }
        }
        Unpacker::open(ScratchReader::new(self.packed.clone(), self.packed_len), &self.identities)
    }

    fn end(&mut self, part: &Part) -> Result<()> {
        match &mut self.log {
            Some((_, log)) => log.apply(&self.wal, &self.temp),
            None => {
                self.page_size = Some(self.check_snapshot()?);
                tracing::debug!(key = part.object.key, bytes = self.snapshot_len, "snapshot unpacked");
                Ok(())
            }
        }
    }

    fn check_snapshot(&self) -> Result<PageSize> {
        let mut header = [0; 18];
        let read = self.temp.file().read_full_at(&mut header, 0);
        let read = read.map_err(|error| self.temp.error("read", error))?;
        if read < header.len() || !header.starts_with(b"SQLite format 3\0") {
            return Err(corrupt("it does not hold an SQLite database"));
        }
        let stored = u32::from(u16::from_be_bytes([header[16], header[17]]));
        // 65536 does not fit and is stored as 1.
        let page_size = PageSize::new(if stored == 1 { 65536 } else { stored })
            .ok_or_else(|| corrupt(format!("page size {stored} in the database header is impossible")))?;
        if !self.snapshot_len.is_multiple_of(u64::from(page_size.get())) {
            return Err(corrupt(format!(
                "{} bytes are not a whole number of pages of {} bytes",
                self.snapshot_len,
                page_size.get()
            )));
        }
        Ok(page_size)
    }
}
