//! One checksum per page of what the chain of published files holds.
//!
//! It answers one question: which pages of the live database differ from the chain? That turns lost continuity into
//! an upload of the changed pages instead of the whole database. The table is a fold over level-0 files, brought up
//! to date from staged files when needed; its header says up to which transaction it is complete. Entries may be
//! ahead of the header (the files are folded again), never behind it: entries are synced before the header.

use crate::error::{Error, ErrorKind, Result};
use crate::host::{DiskFile, OpenMode};
use crate::ltx::{Decoder, Event, PageNumber, PageSize, Txid, page_checksum};
use crate::wal;

use super::local::{LocalState, Staged};

const NAME: &str = "pages";
const NAME_UNFINISHED: &str = "pages.tmp";
const MAGIC: &[u8; 8] = b"RPLPAGE1";
const HEADER_LEN: usize = 32;
const ENTRY_LEN: usize = 8;
/// Bytes of entries buffered at once.
const WINDOW_LEN: usize = 64 << 10;
/// Bytes of a staged file read at once.
const CHUNK_LEN: usize = 256 << 10;

fn header(page_size: PageSize, complete_to: Txid) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&page_size.get().to_be_bytes());
    bytes[16..24].copy_from_slice(&complete_to.0.to_be_bytes());
    let sum = wal::checksum(true, [1, 1], &bytes[..24]);
    bytes[24..28].copy_from_slice(&sum[0].to_be_bytes());
    bytes[28..].copy_from_slice(&sum[1].to_be_bytes());
    bytes
}

fn entry_offset(number: PageNumber) -> u64 {
    HEADER_LEN as u64 + u64::from(number.0 - 1) * ENTRY_LEN as u64
}

/// The table on disk, open.
pub struct PageTable {
    file: Box<dyn DiskFile>,
    page_size: PageSize,
    complete_to: Txid,
}

impl PageTable {
    /// Opens the table; `None` if there is none, or it is damaged (then only a full copy helps).
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn open(local: &LocalState) -> Result<Option<Self>> {
        let path = local.path(NAME);
        let file = match local.disk().open(&path, OpenMode::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", error)),
        };
        let mut bytes = [0; HEADER_LEN];
        let read = file.read_full_at(&mut bytes, 0).map_err(|error| failed("read", error))?;
        let stored = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let txid = Txid(u64::from_be_bytes(bytes[16..24].try_into().expect("eight bytes")));
        let Some(page_size) = PageSize::new(stored) else { return Ok(None) };
        let valid = read == HEADER_LEN && bytes == header(page_size, txid);
        Ok(valid.then_some(Self { file, page_size, complete_to: txid }))
    }

    /// Removes the table: after that only a full copy helps.
    ///
    /// # Errors
    /// If it is still there.
    pub fn remove(local: &LocalState) -> Result<()> {
        local.remove(NAME)
    }

    /// Page size of the pages summed.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The last transaction that is surely in the table.
    #[must_use]
    pub fn complete_to(&self) -> Txid {
        self.complete_to
    }

    /// Folds the staged files that follow [`PageTable::complete_to`] into the table and makes it durable.
    ///
    /// # Errors
    /// `Corrupt` if a staged file is damaged or missing.
    pub fn catch_up(&mut self, local: &LocalState, staged: &[Staged]) -> Result<()> {
        let mut next = self.complete_to;
        for file in staged.iter().filter(|file| file.txid > self.complete_to) {
            if file.txid != next.next() || file.is_base {
                let message = format!("local state: transaction {} is missing behind {next}", next.next());
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            self.fold(local, file)?;
            next = file.txid;
        }
        if next != self.complete_to {
            self.file.sync().map_err(|error| failed("sync", error))?;
            self.file
                .write_all_at(&header(self.page_size, next), 0)
                .map_err(|error| failed("write", error))?;
            self.file.sync().map_err(|error| failed("sync", error))?;
            self.complete_to = next;
        }
        Ok(())
    }

    fn fold(&self, local: &LocalState, staged: &Staged) -> Result<()> {
        let path = local.path(&staged.name());
        let io = |error| Error::io(format!("local state: cannot read {}", path.display()), error);
        let file = local.disk().open(&path, OpenMode::Read).map_err(io)?;
        let mut decoder = Decoder::new();
        let mut chunk = vec![0; CHUNK_LEN];
        let mut offset = 0;
        let mut commit = 0;
        let mut run = Run::default();
        loop {
            let read = file.read_full_at(&mut chunk, offset).map_err(io)?;
            offset += read as u64;
            decoder.push(&chunk[..read]);
            while let Some(event) = decoder.next().map_err(|error| error.context(path.display()))? {
                match event {
                    Event::Header(header) => commit = header.commit,
                    Event::Page { number, data } => {
                        run.push(self.file.as_ref(), number, page_checksum(number, data))?;
                    }
                    Event::End(_) => {}
                }
            }
            if read < chunk.len() {
                break;
            }
        }
        decoder.finish().map_err(|error| error.context(path.display()))?;
        run.flush(self.file.as_ref())?;
        if planted!("table-never-shrinks") {
            return Ok(());
        }
        // Entries beyond the end would make a page that is cut off and comes back look unchanged.
        let len = entry_offset(PageNumber(commit + 1));
        self.file.set_len(len).map_err(|error| failed("cut", error))
    }

    /// A reader of ascending entries.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries { file: self.file.as_ref(), window: Vec::new(), start: 0 }
    }
}

/// Consecutive entries waiting to be written at once.
#[derive(Default)]
struct Run {
    first: Option<PageNumber>,
    bytes: Vec<u8>,
}

impl Run {
    fn push(&mut self, file: &dyn DiskFile, number: PageNumber, sum: u64) -> Result<()> {
        let continues = self.first.is_some_and(|first| {
            u64::from(first.0) + (self.bytes.len() / ENTRY_LEN) as u64 == u64::from(number.0)
        });
        if !continues || self.bytes.len() >= WINDOW_LEN {
            self.flush(file)?;
            self.first = Some(number);
        }
        self.bytes.extend_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    fn flush(&mut self, file: &dyn DiskFile) -> Result<()> {
        if let Some(first) = self.first.take() {
            file.write_all_at(&self.bytes, entry_offset(first)).map_err(|error| failed("write", error))?;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// Reads entries in ascending order.
pub struct Entries<'a> {
    file: &'a dyn DiskFile,
    window: Vec<u8>,
    start: u64,
}

impl Entries<'_> {
    /// The checksum of a page; `None` if the chain does not hold it.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn get(&mut self, number: PageNumber) -> Result<Option<u64>> {
        let offset = entry_offset(number);
        let end = self.start + self.window.len() as u64;
        if offset < self.start || offset + ENTRY_LEN as u64 > end {
            self.window.resize(WINDOW_LEN, 0);
            self.start = offset;
            let read =
                self.file.read_full_at(&mut self.window, offset).map_err(|error| failed("read", error))?;
            self.window.truncate(read);
        }
        let at = usize::try_from(offset - self.start).expect("inside the window");
        let bytes = self.window.get(at..at + ENTRY_LEN);
        let sum = bytes.map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes")));
        Ok(sum.filter(|&sum| sum != 0))
    }
}

/// Writes a new table beside a full copy of the database.
pub struct TableBuilder {
    file: Box<dyn DiskFile>,
    run: Run,
    page_size: PageSize,
}

impl TableBuilder {
    /// Starts a table; the old one stays until [`TableBuilder::finish`].
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn new(local: &LocalState, page_size: PageSize) -> Result<Self> {
        let opened = local.disk().open(&local.path(NAME_UNFINISHED), OpenMode::Truncate);
        Ok(Self { file: opened.map_err(|error| failed("create", error))?, run: Run::default(), page_size })
    }

    /// Adds a page, in ascending order.
    ///
    /// # Errors
    /// If the table cannot be written.
    pub fn push(&mut self, number: PageNumber, data: &[u8]) -> Result<()> {
        self.run.push(self.file.as_ref(), number, page_checksum(number, data))
    }

    /// Replaces the old table: the chain's state at `txid` is what was pushed.
    ///
    /// # Errors
    /// If any step fails; the old table is then still there.
    pub fn finish(mut self, local: &LocalState, txid: Txid) -> Result<()> {
        self.run.flush(self.file.as_ref())?;
        self.file.write_all_at(&header(self.page_size, txid), 0).map_err(|error| failed("write", error))?;
        self.file.sync().map_err(|error| failed("sync", error))?;
        let renamed = local.disk().rename(&local.path(NAME_UNFINISHED), &local.path(NAME));
        renamed.map_err(|error| failed("replace", error))?;
        local.sync_dir(local.path(NAME).parent().expect("a file in a directory"))
    }
}

fn failed(what: &str, error: std::io::Error) -> Error {
    Error::io(format!("local state: cannot {what} the page table"), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{UnixMillis, os};
    use crate::ltx::Encoder;
    use crate::sync::image::plain_header;
    use crate::wal::Position;

    fn size() -> PageSize {
        PageSize::new(512).unwrap()
    }

    #[test]
    fn a_built_table_is_read_back_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalState::open(os::host().disk, dir.path()).unwrap();
        assert!(PageTable::open(&local).unwrap().is_none());
        let mut builder = TableBuilder::new(&local, size()).unwrap();
        let count = 20_000;
        for number in 1..=count {
            // Page 7 is left out, as the lock page is.
            if number != 7 {
                builder.push(PageNumber(number), &number.to_be_bytes().repeat(128)).unwrap();
            }
        }
        builder.finish(&local, Txid(3)).unwrap();
        let table = PageTable::open(&local).unwrap().unwrap();
        assert_eq!((table.complete_to(), table.page_size()), (Txid(3), size()));
        let mut entries = table.entries();
        for number in 1..=count + 2 {
            let expected = (number != 7 && number <= count)
                .then(|| page_checksum(PageNumber(number), &number.to_be_bytes().repeat(128)));
            assert_eq!(entries.get(PageNumber(number)).unwrap(), expected, "page {number}");
        }
        table.file.write_all_at(&[1], 17).unwrap();
        assert!(PageTable::open(&local).unwrap().is_none(), "the header's checksum is wrong");
    }

    /// A page that was cut off and comes back with the content it had must not pass for one that the chain holds.
    #[test]
    fn pages_that_were_cut_off_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalState::open(os::host().disk, dir.path()).unwrap();
        let mut builder = TableBuilder::new(&local, size()).unwrap();
        (1..=9).for_each(|number| builder.push(PageNumber(number), &[number as u8; 512]).unwrap());
        builder.finish(&local, Txid(3)).unwrap();
        let mut staged = Vec::new();
        for (txid, commit, page) in [(Txid(4), 5, 2), (Txid(5), 7, 7)] {
            let mut encoder = Encoder::new(plain_header(size(), commit, txid, UnixMillis(1))).unwrap();
            let mut bytes = encoder.header_bytes().to_vec();
            encoder.page(PageNumber(page), &[0xee; 512], &mut bytes).unwrap();
            encoder.finish(&mut bytes).unwrap();
            staged.push(Staged { txid, position: Position::default(), is_base: false });
            let path = local.path(&staged[staged.len() - 1].name());
            local.disk().open(&path, OpenMode::Create).unwrap().write_all_at(&bytes, 0).unwrap();
        }
        let mut table = PageTable::open(&local).unwrap().unwrap();
        table.catch_up(&local, &staged).unwrap();
        let mut entries = table.entries();
        let held: Vec<u32> =
            (1..=10).filter(|&number| entries.get(PageNumber(number)).unwrap().is_some()).collect();
        assert_eq!(held, [1, 2, 3, 4, 5, 7]);
    }
}
