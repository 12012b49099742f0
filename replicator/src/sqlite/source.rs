//! A live database held open: two readers that hand the pin to each other, and the checkpoint cycle.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::header::DbHeader;
use super::index::SharedIndex;
use super::log::Span;
use super::reader::Reader;
use super::view::{DbFacts, FileIdentity, Identities, PinnedView, SourceFiles, identity_of};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Disk, DiskFile, Host, OpenMode, with_suffix};
use crate::wal::{self, IndexHeader, Position};

/// How far a checkpoint may go to let the log restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointMode {
    /// Waits for nobody and blocks nobody.
    Passive,
    /// Holds the write lock while what is left of the log is copied back, so that a busy writer cannot keep it from
    /// ending. Only at the user's request.
    Blocking,
}

/// What a checkpoint cycle achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// The whole log is in the database file; the next writer restarts it.
    Complete,
    /// A writer did not end within the busy timeout, and nothing was done. Only a blocking checkpoint waits for one.
    Busy,
    /// Somebody wrote or still reads: `copied` of `log` frames are in the database file. Try again later.
    Partial {
        /// Frames in the log.
        log: u32,
        /// Frames in the database file.
        copied: u32,
    },
}

/// Result of [`Source::open`].
pub enum Opened {
    /// There is no database yet, or an empty file in which the application has not chosen anything.
    Absent,
    /// The database is open and pinned.
    Ready(Box<Source>),
}

/// A database that is open and pinned.
pub struct Source {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    vfs: Option<String>,
    busy_timeout: Duration,
    // Field order is drop order: connections before the files, see `SourceFiles`.
    index: SharedIndex,
    /// Holds the pin.
    holder: Reader,
    /// Outside any transaction except during a hand-over.
    spare: Reader,
    files: Arc<SourceFiles>,
    /// Dropped after the connections.
    readers: Arc<()>,
    writer_version: u32,
    /// Salts and length of the log if all of it was in the database file when the pin was taken.
    complete_at_pin: Option<(u32, u32, u32)>,
    /// How often in a row the pin was taken while all of the log was in the database file. Once should put it on read
    /// lock 0, unless a checkpoint had that lock for itself just then; the second time makes sure.
    rests: u8,
    /// Salts and length of the log just before the pin was taken, which it reaches at least.
    reaches: Option<(u32, u32, u32)>,
}

impl Source {
    /// Opens and pins the database at `path`, switching it to WAL mode if it is not (as Litestream does; nothing
    /// can be followed without a log).
    ///
    /// # Errors
    /// `Corrupt` if the file is no database, `Denied` without the rights, `Transient` while somebody holds locks.
    ///
    /// `previous` are the files of an earlier source for the same path. If the path still names the same file its
    /// descriptor is used again: closing it would drop the locks of the connections opened here.
    pub fn open(
        host: &Host,
        path: &Path,
        busy_timeout: Duration,
        previous: Option<&SourceFiles>,
    ) -> Result<Opened> {
        let Some(db) = open_db_file(host.disk.as_ref(), path, previous)? else { return Ok(Opened::Absent) };
        let io = |what: &str, error| Error::io(format!("cannot {what} {}", path.display()), error);
        let facts = db.metadata().map_err(|error| io("examine", error))?;
        if facts.len == 0 {
            // Setting a journal mode would write page 1 and take the choice of page size from the application.
            return Ok(Opened::Absent);
        }
        let vfs = host.vfs.as_deref();
        let mut bytes = [0; DbHeader::SIZE];
        // A file that is shorter leaves zeros, which are no header.
        db.read_full_at(&mut bytes, 0).map_err(|error| io("read the header of", error))?;
        let header = DbHeader::parse(&bytes);
        // Opening reads nothing yet, but says where SQLite looks for the log: beside the file that a link leads to.
        let mut holder = Reader::open(path, vfs, busy_timeout)?;
        let resolved = holder.resolved_path();
        if header.is_none() && !has_log(host.disk.as_ref(), &resolved) {
            return Err(not_a_database(path));
        }
        let shm_path = with_suffix(&resolved, "-shm");
        let shm_before = identity_of(host.disk.as_ref(), &shm_path)?;
        if previous.is_some_and(|previous| previous.lends_its_index(shm_before)) {
            return Err(replaced_meanwhile(path));
        }
        if shm_before.is_none()
            && header.is_some_and(|header| header.is_wal)
            && is_read_elsewhere(db.as_ref())
        {
            return Err(index_lost(path));
        }
        // A power loss in the middle of a checkpoint can spoil page 1 in the file; the log still has it then, and SQLite
        // says below whether that is so.
        if header.is_some_and(|header| !header.is_wal) {
            ensure_wal_mode(&holder, path)?;
        }
        holder.begin(path)?;
        let spare = Reader::open(path, vfs, busy_timeout)?;
        // Whoever reads a file beside a hot journal plays that back first, and another header may come out of it.
        let index = SharedIndex::of(holder.connection()).ok_or_else(|| left_wal_mode(path))?;
        let wal_path = with_suffix(&resolved, "-wal");
        let wal = host.disk.open(&wal_path, OpenMode::Read).map_err(|error| io("open the WAL of", error))?;
        let wal_facts = wal.metadata().map_err(|error| io("examine the WAL of", error))?;
        let shm = identity_of(host.disk.as_ref(), &shm_path)?;
        if shm_before.is_some() && shm != shm_before {
            return Err(replaced_meanwhile(path));
        }
        let identities = Identities { db: FileIdentity::of(&facts), wal: FileIdentity::of(&wal_facts), shm };
        let readers = Arc::new(());
        let files = Arc::new(SourceFiles {
            db_path: path.into(),
            resolved: resolved.into(),
            db,
            wal,
            identities,
            readers: Arc::downgrade(&readers),
        });
        let disk = Arc::clone(&host.disk);
        let vfs = host.vfs.clone();
        let path = path.to_owned();
        let mut source = Self {
            path,
            disk,
            vfs,
            busy_timeout,
            index,
            holder,
            spare,
            files,
            readers,
            writer_version: header.map_or(0, |header| header.writer_version),
            complete_at_pin: None,
            rests: 0,
            reaches: None,
        };
        if source.is_replaced()? {
            return Err(replaced_meanwhile(&source.path));
        }
        source.note_pin();
        Ok(Opened::Ready(Box::new(source)))
    }

    /// `SQLITE_VERSION_NUMBER` of the library that had last written the file when it was opened; 0 if unknown.
    #[must_use]
    pub fn writer_version(&self) -> u32 {
        self.writer_version
    }

    /// The open files, for readers of pages and frames.
    #[must_use]
    pub fn files(&self) -> &Arc<SourceFiles> {
        &self.files
    }

    /// What SQLite considers committed right now: no system call, no lock. `None` if it could not be read
    /// consistently this time.
    #[must_use]
    pub fn index(&self) -> Option<IndexHeader> {
        (0..100).find_map(|_| self.index.read())
    }

    /// Whether the path, or the WAL or WAL-index beside it, no longer names the files that are open: somebody replaced or
    /// deleted one, so our locks and descriptors belong to a file nobody else uses. With another WAL-index a checkpoint of
    /// ours would even write old frames into the database.
    ///
    /// # Errors
    /// If the files cannot be examined for another reason than being absent.
    pub fn is_replaced(&self) -> Result<bool> {
        Ok(self.examine()?.is_none() && !planted!("replaced-file-unnoticed"))
    }

    /// Current facts about the database file; `None` if the database is replaced, as [`Source::is_replaced`] says.
    ///
    /// # Errors
    /// As [`Source::is_replaced`].
    pub fn examine(&self) -> Result<Option<DbFacts>> {
        self.files.examine(self.disk.as_ref())
    }

    /// Moves the pin to the current end of the log, so that checkpoints may copy back what has been copied out.
    /// The new reader starts before the old one ends.
    ///
    /// Only after everything that was committed when the current pin was taken has been copied out: then a new pin
    /// on read lock 0, which allows one restart, has nothing uncopied behind it.
    ///
    /// # Errors
    /// As SQLite's; the old pin is kept then.
    pub fn move_pin(&mut self) -> Result<()> {
        if planted!("gap-in-hand-over") {
            self.holder.end();
        }
        let (reaches, before) = (self.log_end(), self.complete());
        self.spare.begin(&self.path)?;
        self.holder.end();
        std::mem::swap(&mut self.holder, &mut self.spare);
        self.note_pin();
        let rests = before.is_some() && before == self.complete_at_pin;
        self.reaches = reaches;
        self.rests = if rests { self.rests.saturating_add(1) } else { 0 };
        Ok(())
    }

    /// Whether the pin keeps the log from being copied back, or from restarting although all of it is. A checkpoint of
    /// the application that waits for readers then waits for us, with the write lock in its hands.
    #[must_use]
    pub fn is_in_the_way(&self) -> bool {
        // A log that was emptied has nothing that we could hold, and with the pin the proof would go that what comes next
        // follows on what was copied.
        let is_behind = self.log_end().is_none_or(|end| end.2 > 0 && Some(end) != self.reaches);
        is_behind || (self.rests < 2 && self.complete().is_some_and(|(.., frames)| frames > 0))
    }

    fn log_end(&self) -> Option<(u32, u32, u32)> {
        self.index().map(|index| (index.salt1, index.salt2, index.max_frame))
    }

    /// Salts and length of the log if all of it is in the database file.
    fn complete(&self) -> Option<(u32, u32, u32)> {
        let index = self.index().filter(|index| index.backfilled == index.max_frame)?;
        Some((index.salt1, index.salt2, index.max_frame))
    }

    fn note_pin(&mut self) {
        self.complete_at_pin = self.complete();
    }

    /// Whether the log ended at `position`, all copied back, when the pin was taken. Then whichever generation with
    /// frames comes next is its direct successor: our reader either holds lock 0, under which a new generation
    /// cannot be restarted, or a mark, under which not even this one can.
    #[must_use]
    pub fn was_complete_at(&self, position: &Position) -> bool {
        self.complete_at_pin == Some((position.salt1, position.salt2, position.frame))
    }

    /// Runs one checkpoint cycle. `copy_rest` must copy everything committed so far and return the position
    /// reached; it is called once, while the log is pinned at its end.
    ///
    /// # Errors
    /// Those of `copy_rest` and of SQLite. The log stays pinned, except after a failed blocking cycle: drop the
    /// source and open it anew, which proves continuity or finds that it is lost.
    pub fn checkpoint(
        &mut self,
        mode: CheckpointMode,
        copy_rest: impl FnOnce(&Self) -> Result<Position>,
    ) -> Result<CheckpointOutcome> {
        match mode {
            CheckpointMode::Passive if !planted!("writers-wait") => self.move_pin()?,
            _ => {
                if !self.spare.begin_immediate(&self.path)? {
                    return Ok(CheckpointOutcome::Busy);
                }
                self.holder.end();
                std::mem::swap(&mut self.holder, &mut self.spare);
            }
        }
        // By an index that nobody else uses any more, old frames would be written over new pages.
        let copied_out = copy_rest(self).and_then(|position| match self.is_replaced()? {
            true => Err(Error::new(ErrorKind::Conflict, "the database file was replaced or deleted")),
            false => Ok(position),
        });
        let copied_out = match copied_out {
            Ok(position) => position,
            Err(error) if mode == CheckpointMode::Passive => return Err(error),
            Err(error) => {
                // The write lock must go, and with it the pin: whoever holds this source has to open it anew.
                self.move_pin()?;
                return Err(error);
            }
        };
        let counts = self.spare.checkpoint(&self.path);
        // The other reader starts before the pin (and with it a write lock) is given up: after a complete
        // checkpoint it lands on read lock 0, which lets exactly one writer restart the log. Everything up to the
        // old pin has been copied out, and nothing behind it can have been copied back.
        self.move_pin()?;
        let counts = counts?;
        let complete = !counts.busy
            && counts.log == counts.copied
            && self.index().is_some_and(|index| index.max_frame == copied_out.frame);
        let frames = |count: i64| u32::try_from(count).unwrap_or(0);
        Ok(if complete {
            CheckpointOutcome::Complete
        } else {
            CheckpointOutcome::Partial { log: frames(counts.log), copied: frames(counts.copied) }
        })
    }

    /// All pages as of the newest commit, readable as long as the current pin is held.
    ///
    /// # Errors
    /// If the log cannot be read, or changes in a way that a pinned log does not (`Transient`).
    pub fn view(&self) -> Result<PinnedView> {
        self.pinned_view()
    }

    /// Opens a further reader that pins the current state for as long as it lives, for work that takes long.
    ///
    /// # Errors
    /// As [`Source::view`]; `Transient` if the database is replaced.
    pub fn long_view(&self) -> Result<LongView> {
        let mut reader = Reader::open(&self.path, self.vfs.as_deref(), self.busy_timeout)?;
        reader.begin(&self.path)?;
        // It would read another file than we do. And whoever opens that one next may close it again, with the locks of
        // this reader (seed 300012820).
        if self.is_replaced()? {
            return Err(replaced_meanwhile(&self.path));
        }
        let view = self.pinned_view()?;
        let (files, readers) = (Arc::clone(&self.files), Arc::clone(&self.readers));
        let pin = Pin { _reader: reader, _files: files, _readers: readers };
        Ok(LongView { pin, view })
    }

    /// Decides from an index header read *after* the pinning reader began. If the log was all copied back by then, the
    /// database file alone is the view, and our reader (on lock 0, or on a mark at the end) keeps checkpoints from
    /// changing it. Otherwise the frames up to that header are immutable, whichever lock the reader has.
    fn pinned_view(&self) -> Result<PinnedView> {
        let unstable = || {
            Error::new(ErrorKind::Transient, format!("the WAL-index of {} is unstable", self.path.display()))
        };
        let index = self.index().ok_or_else(unstable)?;
        if index.max_frame == 0 {
            let header = self.files.db_header()?.ok_or_else(|| not_a_database(&self.path))?;
            return Ok(self.view_at(header.page_size, header.page_count, &index, Vec::new()));
        }
        let page_size = index.page_size.ok_or_else(unstable)?;
        if planted!("image-without-the-log") || index.backfilled == index.max_frame {
            return Ok(self.view_at(page_size, index.page_count, &index, Vec::new()));
        }
        let header = self.files.wal_header()?.ok_or_else(unstable)?;
        if (header.salt1, header.salt2) != (index.salt1, index.salt2) {
            return Err(unstable());
        }
        let span = Span { from: Position::default(), max_frame: index.max_frame, max_bytes: u64::MAX };
        let batch = self.files.scan(header, span)?.ok_or_else(unstable)?;
        if batch.end.frame != index.max_frame || batch.end.checksum != index.frame_checksum {
            return Err(unstable());
        }
        Ok(self.view_at(page_size, index.page_count, &index, batch.pages))
    }

    fn view_at(
        &self,
        page_size: crate::ltx::PageSize,
        page_count: u32,
        index: &IndexHeader,
        overlay: Vec<(crate::ltx::PageNumber, u32)>,
    ) -> PinnedView {
        let position = Position {
            salt1: index.salt1,
            salt2: index.salt2,
            frame: index.max_frame,
            checksum: if index.max_frame == 0 { [0, 0] } else { index.frame_checksum },
        };
        PinnedView { files: Arc::clone(&self.files), page_size, page_count, position, overlay }
    }
}

/// A view with its own reader. Checkpoints cannot complete while it lives.
pub struct LongView {
    // First: the connection closes before the last reference to the files can go.
    pin: Pin,
    /// The pages.
    pub view: PinnedView,
}

/// What keeps a view exact. Dropping it closes a connection, which may block.
pub struct Pin {
    _reader: Reader,
    _files: Arc<SourceFiles>,
    _readers: Arc<()>,
}

impl LongView {
    /// The view and what keeps it exact, to be dropped by the caller where blocking is allowed.
    #[must_use]
    pub fn into_parts(self) -> (PinnedView, Pin) {
        (self.view, self.pin)
    }
}

fn open_db_file(
    disk: &dyn Disk,
    path: &Path,
    previous: Option<&SourceFiles>,
) -> Result<Option<Arc<dyn DiskFile>>> {
    let absent = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(None),
        _ => Err(Error::io(format!("cannot open {}", path.display()), error)),
    };
    if let Some(previous) = previous {
        let named = match disk.metadata(path) {
            Ok(named) => named,
            Err(error) => return absent(error),
        };
        let open = previous.db_facts()?;
        if !planted!("descriptor-closed") && (named.device, named.inode) == (open.device, open.inode) {
            return Ok(Some(Arc::clone(&previous.db)));
        }
    }
    disk.open(path, OpenMode::Read).map(|file| Some(Arc::from(file))).or_else(absent)
}

/// Whether there are frames beside the database.
fn has_log(disk: &dyn Disk, path: &Path) -> bool {
    disk.metadata(&with_suffix(path, "-wal")).is_ok_and(|log| log.len > wal::HEADER_SIZE as u64)
}

fn ensure_wal_mode(reader: &Reader, path: &Path) -> Result<()> {
    let mode = reader.set_wal_mode(path)?;
    if mode != "wal" {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} stays in journal mode {mode}: it cannot be replicated without WAL mode",
                path.display()
            ),
        ));
    }
    tracing::info!(db = %path.display(), "switched database to WAL mode");
    Ok(())
}

/// Whether another process has the database open: in WAL mode it then holds SQLite's shared lock (`SHARED_FIRST`,
/// `SHARED_SIZE`).
fn is_read_elsewhere(db: &dyn DiskFile) -> bool {
    db.is_shared_by_others(0x4000_0002, 510)
}

/// With a WAL-index of our own, beside the one that has no name any more, we would see none of the application's commits,
/// and a checkpoint of ours would write old frames over its pages.
fn index_lost(path: &Path) -> Error {
    let what = "the application goes on with a WAL-index (-shm) that was deleted; restart the application";
    Error::new(ErrorKind::Transient, format!("cannot replicate {}: {what}", path.display()))
}

fn replaced_meanwhile(path: &Path) -> Error {
    let what = "was replaced, or its WAL-index was, while it was being opened";
    Error::new(ErrorKind::Transient, format!("{} {what}", path.display()))
}

fn left_wal_mode(path: &Path) -> Error {
    let what = "was not in WAL mode any more once it was open";
    Error::new(ErrorKind::Transient, format!("{} {what}", path.display()))
}

fn not_a_database(path: &Path) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{} is not an SQLite database", path.display()))
}
