//! Writes the pages of LTX files, oldest first, into the file being built.
//!
//! Pages are written as they are decoded, before the file checksum at the end has been seen: nobody looks at the
//! file before every checksum was right, and on any error it is removed.

use bytes::Bytes;

use super::output::TempFile;
use super::plan;
use crate::error::{Error, ErrorKind, Result};
use crate::ltx::{Decoder, Event, Header, PageNumber, PageSize, Txid};

/// Consecutive pages are written together, up to this many bytes.
const RUN_LEN: usize = 1 << 20;

/// See the module. All methods block.
pub(super) struct Applier {
    /// The file being built.
    pub temp: TempFile,
    /// The state after the last complete file.
    pub complete: Option<State>,
    /// The highest transaction of which pages may have been written.
    pub touched: Option<Txid>,
    current: Option<Current>,
    run: Run,
}

/// A complete state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// Its last transaction.
    pub txid: Txid,
    /// Its page size.
    pub page_size: PageSize,
    /// Its size in pages.
    pub commit: u32,
}

impl State {
    /// Size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.commit) * u64::from(self.page_size.get())
    }
}

/// The file being applied.
struct Current {
    decoder: Decoder,
    header: Option<Header>,
    /// Size in pages of what it is applied to; 0 if it must bring everything.
    base: u32,
    /// Pages it has brought beyond `base`.
    beyond: u32,
}

/// Consecutive pages waiting to be written.
#[derive(Default)]
struct Run {
    first: u32,
    pages: u32,
    data: Vec<u8>,
}

impl Applier {
    /// Starts with an empty file.
    pub(super) fn new(temp: TempFile) -> Self {
        Self { temp, complete: None, touched: None, current: None, run: Run::default() }
    }

    /// Starts again from nothing.
    pub(super) fn restart(&mut self) {
        self.complete = None;
        self.touched = None;
        self.forget_file();
    }

    /// Drops a half-read file. Pages it has written stay, which is why `touched` is kept.
    pub(super) fn forget_file(&mut self) {
        self.current = None;
        self.run.clear();
    }

    /// Takes the next bytes of `file`; `last` ends it.
    pub(super) fn push(&mut self, file: &plan::File, chunks: &[Bytes], last: bool) -> Result<()> {
        let result = self.push_inner(file, chunks, last);
        result.map_err(
            |error| if error.kind() == ErrorKind::Corrupt { error.context(&file.key) } else { error },
        )
    }

    fn push_inner(&mut self, file: &plan::File, chunks: &[Bytes], last: bool) -> Result<()> {
        let mut current = self.current.take().unwrap_or_else(Current::new);
        for chunk in chunks {
            current.decoder.push(chunk);
            while let Some(event) = current.decoder.next()? {
                match event {
                    Event::Header(header) => {
                        current.base = self.begin(file, &header)?;
                        current.header = Some(header);
                    }
                    Event::Page { number, data } => {
                        current.beyond += u32::from(number.0 > current.base);
                        self.run.add(&self.temp, number, data)?;
                    }
                    Event::End(_) => {}
                }
            }
        }
        if !last {
            self.current = Some(current);
            return Ok(());
        }
        current.decoder.finish()?;
        self.run.flush(&self.temp)?;
        let header = current.header.expect("a finished decoder has seen the header");
        current.check_growth(&header)?;
        let state = State { txid: header.max_txid, page_size: header.page_size, commit: header.commit };
        let len = planted!(
            "restored-file-never-shrinks",
            self.temp.file().metadata().map_or(0, |facts| facts.len),
            state.bytes()
        );
        // Shrinks, and makes room for a lock page at the very end, which no file carries.
        self.temp.file().set_len(len).map_err(|error| self.temp.error("set the length of", error))?;
        self.complete = Some(state);
        Ok(())
    }

    /// Judges a header against what is already there; returns the size in pages that the file builds on.
    fn begin(&mut self, file: &plan::File, header: &Header) -> Result<u32> {
        if (header.min_txid, header.max_txid) != (file.name.min, file.name.max) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "it holds transactions {}-{}, not those of its name",
                    header.min_txid, header.max_txid
                ),
            ));
        }
        file.check_time(header)?;
        self.touched = self.touched.max(Some(header.max_txid));
        let base = self.complete.filter(|state| state.page_size == header.page_size && !header.is_full());
        match base {
            Some(state) => Ok(state.commit),
            None => {
                // The first file, a whole database, or a new page size (then `check_growth` demands every page).
                // What was complete is no more: if this file vanishes half-way, nothing may go on from there.
                self.complete = None;
                self.temp.file().set_len(0).map_err(|error| self.temp.error("empty", error))?;
                Ok(0)
            }
        }
    }
}

impl Current {
    fn new() -> Self {
        Self { decoder: Decoder::new(), header: None, base: 0, beyond: 0 }
    }

    /// A page that the database gained must be in the file that made it grow: a hole would read as zeros.
    fn check_growth(&self, header: &Header) -> Result<()> {
        let lock = header.page_size.lock_page().0;
        let without_lock = |pages: u32| pages - u32::from(lock <= pages);
        let gained = without_lock(header.commit).saturating_sub(without_lock(self.base));
        if self.beyond == gained {
            return Ok(());
        }
        let what = match self.base {
            0 => format!("it should hold a whole database of {} pages", header.commit),
            base => format!("it should make the database grow from {base} to {} pages", header.commit),
        };
        let page_size = header.page_size.get();
        Err(Error::new(
            ErrorKind::Corrupt,
            format!("{what} of {page_size} bytes, but brings {} of the {gained} new ones", self.beyond),
        ))
    }
}

impl Run {
    fn add(&mut self, temp: &TempFile, number: PageNumber, data: &[u8]) -> Result<()> {
        if number.0 != self.first + self.pages || self.data.len() + data.len() > RUN_LEN {
            self.flush(temp)?;
            self.first = number.0;
        }
        self.pages += 1;
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn flush(&mut self, temp: &TempFile) -> Result<()> {
        if self.pages > 0 {
            let page_size = self.data.len() as u64 / u64::from(self.pages);
            let offset = u64::from(self.first - 1) * page_size;
            temp.file().write_all_at(&self.data, offset).map_err(|error| temp.error("write", error))?;
            self.clear();
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.data.clear();
        self.pages = 0;
    }
}
