//! Reading pages of a pinned database: newest committed frame if the log has one, else the database file.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::ahead::ReadAhead;
use super::header::DbHeader;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Disk, DiskFile, FileMetadata, with_suffix};
use crate::ltx::{PageNumber, PageSize};
use crate::wal::{FRAME_HEADER_SIZE, Position, frame_offset};

/// Facts that change whenever anybody writes to the database file, by SQLite or past it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DbFacts {
    /// Device of the file.
    pub device: u64,
    /// Inode of the file.
    pub inode: u64,
    /// Length in bytes.
    pub len: u64,
    /// `ctime` in nanoseconds.
    pub changed_nanos: i64,
}

impl DbFacts {
    pub(super) fn of(metadata: &FileMetadata) -> Self {
        Self {
            device: metadata.device,
            inode: metadata.inode,
            len: metadata.len,
            changed_nanos: metadata.changed_nanos,
        }
    }
}

/// Which file it is, whatever its name; fixed as long as it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn of(metadata: &FileMetadata) -> Self {
        Self { device: metadata.device, inode: metadata.inode }
    }
}

/// Facts about what `path` names, if there is anything.
fn named(disk: &dyn Disk, path: &Path) -> Result<Option<FileMetadata>> {
    match disk.metadata(path) {
        Ok(named) => Ok(Some(named)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("cannot examine {}", path.display()), error)),
    }
}

/// Which file `path` names, if any.
pub(super) fn identity_of(disk: &dyn Disk, path: &Path) -> Result<Option<FileIdentity>> {
    Ok(named(disk, path)?.as_ref().map(FileIdentity::of))
}

/// The open database and WAL files. Shared by whoever reads pages; the descriptors stay open as long as anybody
/// holds this, because closing one drops the process's SQLite locks.
pub struct SourceFiles {
    /// The name by which the database is known.
    pub(super) db_path: Box<Path>,
    /// The name behind which SQLite puts `-wal` and `-shm`: symbolic links are resolved.
    pub(super) resolved: Box<Path>,
    pub(super) db: Arc<dyn DiskFile>,
    pub(super) wal: Box<dyn DiskFile>,
    pub(super) identities: Identities,
    /// Alive as long as a connection that belongs to these files.
    pub(super) readers: Weak<()>,
}

/// Which files the database is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identities {
    pub(super) db: FileIdentity,
    pub(super) wal: FileIdentity,
    /// Of the WAL-index, if it is in a file. That must never be opened: closing it would drop the process's locks.
    pub(super) shm: Option<FileIdentity>,
}

impl SourceFiles {
    /// Current facts about the database file; `None` if its name, or that of the WAL or the WAL-index, stands for another
    /// file than the one in use: somebody replaced or deleted it.
    ///
    /// # Errors
    /// If the files cannot be examined for another reason than being absent.
    pub fn examine(&self, disk: &dyn Disk) -> Result<Option<DbFacts>> {
        let Identities { db, wal, shm } = self.identities;
        let beside = |suffix| identity_of(disk, &with_suffix(&self.resolved, suffix));
        let Some(facts) = named(disk, &self.db_path)? else { return Ok(None) };
        let is_ours = FileIdentity::of(&facts) == db
            && beside("-wal")? == Some(wal)
            && (planted!("deleted-wal-index-unnoticed") || beside("-shm")? == shm);
        Ok(is_ours.then(|| DbFacts::of(&facts)))
    }

    /// Whether connections of these files are still there although the WAL-index has another file by now, `shm`. SQLite
    /// would have those that are opened now share the old one.
    pub(super) fn lends_its_index(&self, shm: Option<FileIdentity>) -> bool {
        self.readers.strong_count() > 0 && self.identities.shm != shm
    }

    /// Name of the WAL.
    #[must_use]
    pub fn wal_path(&self) -> PathBuf {
        with_suffix(&self.resolved, "-wal")
    }

    /// Whether the database was deleted, so that nobody can open it any more, and no connection of these files is left:
    /// then they hold nothing but space on the disk.
    #[must_use]
    pub fn are_gone(&self) -> bool {
        self.readers.strong_count() == 0 && self.db.metadata().is_ok_and(|facts| facts.links == 0)
    }

    /// Current facts about the database file.
    ///
    /// # Errors
    /// If the file cannot be examined.
    pub fn db_facts(&self) -> Result<DbFacts> {
        self.db.metadata().map(|metadata| DbFacts::of(&metadata)).map_err(|e| self.error("examine", e))
    }

    /// The header of the database file; `None` if it is no database.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn db_header(&self) -> Result<Option<DbHeader>> {
        let mut bytes = [0; DbHeader::SIZE];
        let read = self.db.read_full_at(&mut bytes, 0).map_err(|e| self.error("read the header of", e))?;
        let header = if read == bytes.len() { DbHeader::parse(&bytes) } else { None };
        let Some(header) = header else { return Ok(None) };
        if header.page_count > 0 {
            return Ok(Some(header));
        }
        let pages = self.db_facts()?.len / u64::from(header.page_size.get());
        Ok(Some(DbHeader { page_count: u32::try_from(pages).unwrap_or(u32::MAX), ..header }))
    }

    /// Reads WAL bytes; returns how many there were.
    ///
    /// # Errors
    /// If the read fails.
    pub fn read_wal(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.wal.read_full_at(buffer, offset).map_err(|e| self.error("read the WAL of", e))
    }

    /// The page of WAL frame `frame`.
    ///
    /// # Errors
    /// If it is not all there.
    pub fn frame_page<'a>(
        &self,
        page_size: PageSize,
        frame: u32,
        ahead: &'a mut ReadAhead,
    ) -> Result<&'a [u8]> {
        let offset = frame_offset(page_size, frame) + FRAME_HEADER_SIZE as u64;
        let page = ahead.log.get(self.wal.as_ref(), offset, page_size.bytes());
        page.and_then(|page| match page.len() == page_size.bytes() {
            true => Ok(page),
            false => Err(std::io::ErrorKind::UnexpectedEof.into()),
        })
        .map_err(|e| self.error("read a WAL frame of", e))
    }

    /// A page of the database file. Pages beyond its end are zero: SQLite does not write free pages at the end of a
    /// growing file until a checkpoint does.
    ///
    /// # Errors
    /// If the read fails.
    pub fn db_page<'a>(
        &self,
        page_size: PageSize,
        number: PageNumber,
        ahead: &'a mut ReadAhead,
    ) -> Result<Cow<'a, [u8]>> {
        let offset = u64::from(number.0 - 1) * page_size.bytes() as u64;
        let page = ahead.db.get(self.db.as_ref(), offset, page_size.bytes());
        let page = page.map_err(|e| self.error("read a page of", e))?;
        if page.len() == page_size.bytes() {
            return Ok(Cow::Borrowed(page));
        }
        let mut padded = page.to_vec();
        padded.resize(page_size.bytes(), 0);
        Ok(Cow::Owned(padded))
    }

    fn error(&self, what: &str, source: std::io::Error) -> Error {
        Error::io(format!("cannot {what} {}", self.db_path.display()), source)
    }
}

/// All pages of the database at one commit. Exact as long as the reader that pins it stays in its transaction.
pub struct PinnedView {
    pub(super) files: Arc<SourceFiles>,
    /// Page size.
    pub page_size: PageSize,
    /// Database size in pages.
    pub page_count: u32,
    /// The WAL position this view stands for.
    pub position: Position,
    /// Newest frame per page, ascending; empty if the database file alone is the view.
    pub(super) overlay: Vec<(PageNumber, u32)>,
}

impl PinnedView {
    /// Fails unless the files are still the ones in use. To be asked before what was read is shown to anybody: beside
    /// another WAL-index the pin holds nothing.
    ///
    /// # Errors
    /// `Transient` if they are not, and as [`SourceFiles::examine`].
    pub fn check(&self, disk: &dyn Disk) -> Result<()> {
        match self.files.examine(disk)? {
            Some(_) => Ok(()),
            None => Err(Error::new(
                ErrorKind::Transient,
                format!("{} was replaced while it was being copied", self.files.db_path.display()),
            )),
        }
    }

    /// Page `number`. One `ahead` is for one view.
    ///
    /// # Errors
    /// If the page is outside the database or cannot be read.
    pub fn page<'a>(&self, number: PageNumber, ahead: &'a mut ReadAhead) -> Result<Cow<'a, [u8]>> {
        if number.0 == 0 || number.0 > self.page_count {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("page {} is outside the database", number.0),
            ));
        }
        match self.overlay.binary_search_by_key(&number, |&(page, _)| page) {
            Ok(at) => self.files.frame_page(self.page_size, self.overlay[at].1, ahead).map(Cow::Borrowed),
            Err(_) => self.files.db_page(self.page_size, number, ahead),
        }
    }
}
