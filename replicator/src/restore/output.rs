//! The careful steps on disk: a database appears under its name whole, durable and alone, or not at all.
//!
//! SQLite replays whatever `-wal` or `-journal` it finds beside a database, so a leftover of an earlier life would
//! be mixed into a restored file. Rules:
//!
//! | beside the output | without `-force` | with `-force` |
//! | --- | --- | --- |
//! | the database, not empty | refused | replaced |
//! | `-wal` with frames, or a hot `-journal` | refused: it may hold the only copy of commits | removed |
//! | `-wal` without frames, cold `-journal`, any `-shm` | removed: they hold no data | removed |
//!
//! Removal comes last, when the new file is complete, and in an order that never shows an old database without its
//! log nor a new one beside a foreign log: database, then leftovers, then the new name. The rules are checked before
//! anything is fetched, and again then.
//!
//! Everything here blocks: call it as blocking work.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::host::{Disk, DiskFile, FileMetadata, OpenMode, with_suffix};

/// What lies at the output path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nothing, or an empty file, which SQLite treats alike.
    Absent,
    /// A file with content.
    Present,
}

/// Links that may lead from one to the next, as in Linux.
const MOST_LINKS: usize = 40;

/// Permission bits of a file that nobody else is to read.
const PRIVATE: u32 = 0o600;
/// Permission bits of any new file, before the umask.
const COMMON: u32 = 0o666;

/// The file that `output` stands for, which need not exist: a link would be replaced by a rename. SQLite goes by the file's
/// own name, too, and has its log beside that.
pub(super) fn follow_links(disk: &dyn Disk, output: PathBuf) -> Result<PathBuf> {
    let mut path = output.clone();
    for _ in 0..MOST_LINKS {
        let target = optional(disk.link_target(&path));
        match target.map_err(|error| io_error("look at", &path, error))?.flatten() {
            Some(target) => path = parent(&path).join(target),
            None => return Ok(path),
        }
    }
    let message =
        format!("output {} is a link that leads nowhere: name the file to create", output.display());
    Err(Error::new(ErrorKind::Usage, message))
}

/// Looks at the output path.
pub(super) fn look(disk: &dyn Disk, output: &Path) -> Result<Existing> {
    match optional(disk.metadata(output)).map_err(|error| io_error("look at", output, error))? {
        Some(facts) if facts.is_dir => Err(Error::new(
            ErrorKind::Usage,
            format!("output {} is a directory: name the file to create", output.display()),
        )),
        Some(facts) if facts.len > 0 => Ok(Existing::Present),
        _ => Ok(Existing::Absent),
    }
}

/// Refuses an output that may not be replaced (see the table above).
pub(super) fn check_replaceable(
    disk: &dyn Disk,
    output: &Path,
    existing: Existing,
    force: bool,
) -> Result<()> {
    if force {
        return Ok(());
    }
    if existing == Existing::Present {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("output {} exists: choose another with -o, or replace it with -force", output.display()),
        ));
    }
    for (suffix, holds_data) in [("-wal", wal_holds_data as HoldsData), ("-journal", journal_holds_data)] {
        let path = with_suffix(output, suffix);
        if holds_data(disk, &path).map_err(|error| io_error("read", &path, error))? {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "{} is left from an earlier database and SQLite would replay it into the restored one: \
                     move it away, or let `restore -force` delete it",
                    path.display()
                ),
            ));
        }
    }
    Ok(())
}

type HoldsData = fn(&dyn Disk, &Path) -> io::Result<bool>;

/// A log without a whole frame header has nothing to replay.
fn wal_holds_data(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let frames_from = crate::wal::HEADER_SIZE as u64;
    Ok(optional(disk.metadata(path))?.is_some_and(|facts| facts.len > frames_from))
}

/// A rollback journal is hot only while its magic is in place; `PERSIST` mode zeroes it.
fn journal_holds_data(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let Some(file) = optional(disk.open(path, OpenMode::Read))? else { return Ok(false) };
    let mut start = [0; MAGIC.len()];
    Ok(file.read_full_at(&mut start, 0)? == start.len() && start == MAGIC)
}

/// The file being built, as `<output>.tmp`. Removed when dropped, unless it was published or
/// is all there is.
pub(super) struct TempFile {
    disk: Arc<dyn Disk>,
    output: PathBuf,
    /// Dropped before the directories it lies in.
    scratch: Scratch,
    created_dirs: Created,
}

/// Parent directories that this restore created, deepest first. Removed when dropped, as far as they are empty.
struct Created {
    disk: Arc<dyn Disk>,
    dirs: Vec<PathBuf>,
}

impl Drop for Created {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // Others have found a use for it meanwhile.
            if self.disk.remove_dir(dir).is_err() {
                break;
            }
        }
    }
}

impl TempFile {
    /// Creates it and missing parent directories (permission bits 0700, as Litestream does). Who may not read what it
    /// replaces may not read it either.
    pub(super) fn create(disk: Arc<dyn Disk>, output: &Path) -> Result<Self> {
        let created_dirs = Created::parents_of(disk.clone(), output)?;
        let replaced = optional(disk.metadata(output)).map_err(|error| io_error("look at", output, error))?;
        let mode = if replaced.is_some() { PRIVATE } else { COMMON };
        let scratch = Scratch::with_mode(disk.clone(), output, "", mode)?;
        // A killed restore of a 0.3.x replica left these too, and this one may be of another format.
        for suffix in [Scratch::OBJECT, Scratch::WAL] {
            Scratch::remove_stale(disk.as_ref(), &Scratch::path(output, suffix))?;
        }
        Ok(Self { disk, output: output.to_owned(), scratch, created_dirs })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.scratch.path
    }

    /// Its content.
    pub(super) fn file(&self) -> &dyn DiskFile {
        self.scratch.file()
    }

    /// An I/O error with the path of this file.
    pub(super) fn error(&self, what: &str, error: io::Error) -> Error {
        self.scratch.error(what, error)
    }

    /// Makes the content durable.
    pub(super) fn sync(&self) -> Result<()> {
        if planted!("restore-not-synced") {
            return Ok(());
        }
        self.file().sync().map_err(|error| self.error("sync", error))
    }

    /// Gives the synced file its final name, replacing what may be replaced.
    pub(super) fn publish(mut self, force: bool) -> Result<()> {
        // Again: the application may have started meanwhile, and a database that is new by now is not ours to take.
        let existing = look(self.disk.as_ref(), &self.output)?;
        check_replaceable(self.disk.as_ref(), &self.output, existing, force)?;
        // Before anything is removed: what lies there may not be a database at all by now.
        self.check_identity()?;
        self.keep_owner_of_replaced()?;
        let mut has_removed = false;
        if let Err(error) = self.remove_replaced(&mut has_removed).and_then(|()| self.rename()) {
            return Err(if has_removed { self.kept(error) } else { error });
        }
        self.keep();
        if planted!("restored-name-not-synced") {
            return Ok(());
        }
        sync_dir(self.disk.as_ref(), parent(&self.output))
    }

    /// Refuses to go on if the name stands for another file by now.
    pub(super) fn check_identity(&self) -> Result<()> {
        if self.scratch.is_ours().map_err(|error| self.error("look at", error))? {
            return Ok(());
        }
        let message = format!(
            "{} was replaced or removed by another process during the restore: is another restore running?",
            self.path().display()
        );
        Err(Error::new(ErrorKind::Conflict, message))
    }

    fn rename(&self) -> Result<()> {
        let what = format!("rename {} to", self.path().display());
        let renamed = self.disk.rename(self.path(), &self.output);
        renamed.map_err(|error| io_error(&what, &self.output, error))
    }

    /// What was to be replaced is gone: the new file must not go as well.
    fn kept(&mut self, error: Error) -> Error {
        self.keep();
        let (path, output) = (self.path().display(), self.output.display());
        error.context(format_args!(
            "what was to be replaced is removed; the restored database is complete as {path}: rename it to {output}"
        ))
    }

    /// From here on there is nothing of ours to remove.
    fn keep(&mut self) {
        self.scratch.is_kept = true;
        self.created_dirs.dirs.clear();
    }

    /// A replaced database keeps its permissions and owner, so that its application can still open it.
    fn keep_owner_of_replaced(&self) -> Result<()> {
        let replaced = optional(self.disk.metadata(&self.output));
        let replaced = replaced.map_err(|error| io_error("look at", &self.output, error))?;
        let Some(FileMetadata { mode, uid, gid, .. }) = replaced else { return Ok(()) };
        self.disk
            .set_permissions(self.path(), mode, uid, gid)
            .map_err(|error| self.error("set permissions of", error))
    }

    fn remove_replaced(&self, has_removed: &mut bool) -> Result<()> {
        for suffix in planted!("stale-log-left", &[""][..], &["", "-wal", "-journal", "-shm"][..]) {
            let path = with_suffix(&self.output, suffix);
            let gone = optional(self.disk.remove_file(&path));
            if gone.map_err(|error| io_error("remove", &path, error))?.is_some() {
                *has_removed = true;
                // Each removal is durable before the next, or a power loss could bring back the log alone.
                sync_dir(self.disk.as_ref(), parent(&self.output))?;
            }
        }
        if *has_removed {
            tracing::info!(output = %self.output.display(), "removed what the restored database replaces");
        }
        Ok(())
    }
}

/// A local file for bytes on their way, removed when dropped.
pub(super) struct Scratch {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    is_kept: bool,
}

impl Scratch {
    /// Suffix of the packed object of a 0.3.x replica.
    pub(super) const OBJECT: &str = "-object";
    /// Suffix of the log of a 0.3.x replica.
    pub(super) const WAL: &str = "-wal";

    /// Creates it as `<output>.tmp<suffix>`, for nobody else to read; its directory must exist.
    pub(super) fn create(disk: Arc<dyn Disk>, output: &Path, suffix: &str) -> Result<Self> {
        Self::with_mode(disk, output, suffix, PRIVATE)
    }

    fn with_mode(disk: Arc<dyn Disk>, output: &Path, suffix: &str, mode: u32) -> Result<Self> {
        let path = Self::path(output, suffix);
        Self::remove_stale(disk.as_ref(), &path)?;
        let file = disk.create_new(&path, mode);
        let file = file.map_err(|error| io_error("create", &path, error))?;
        Ok(Self { disk, path, file, is_kept: false })
    }

    fn path(output: &Path, suffix: &str) -> PathBuf {
        with_suffix(output, &format!(".tmp{suffix}"))
    }

    /// What a killed restore left behind is removed, not overwritten: if its process still lives, it notices.
    fn remove_stale(disk: &dyn Disk, path: &Path) -> Result<()> {
        let removed = optional(disk.remove_file(path)).map(drop);
        removed.map_err(|error| io_error("remove the stale", path, error))
    }

    /// Its content.
    pub(super) fn file(&self) -> &dyn DiskFile {
        self.file.as_ref()
    }

    /// An I/O error with the path of this file.
    pub(super) fn error(&self, what: &str, error: io::Error) -> Error {
        io_error(what, &self.path, error)
    }
}

impl Scratch {
    /// Whether the name still stands for what was created: another process may have put its own there.
    fn is_ours(&self) -> io::Result<bool> {
        let identity = |facts: FileMetadata| (facts.device, facts.inode);
        let Some(named) = optional(self.disk.metadata(&self.path))? else { return Ok(false) };
        Ok(identity(named) == identity(self.file.metadata()?))
    }

    fn remove_ours(&self) -> io::Result<()> {
        if self.is_ours()? {
            optional(self.disk.remove_file(&self.path))?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    /// Cleaning up must not fail the caller twice: what cannot be removed now is removed by the next restore.
    fn drop(&mut self) {
        if !self.is_kept
            && !planted!("unfinished-file-left")
            && let Err(error) = self.remove_ours()
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the unfinished file");
        }
    }
}

impl Created {
    /// Creates the missing parents of `output`, durably.
    fn parents_of(disk: Arc<dyn Disk>, output: &Path) -> Result<Self> {
        let mut created = Self { disk, dirs: Vec::new() };
        for dir in output.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()) {
            let facts = optional(created.disk.metadata(dir));
            match facts.map_err(|error| io_error("look at", dir, error))? {
                Some(_) => break,
                None => created.dirs.push(dir.to_owned()),
            }
        }
        if let Some(deepest) = created.dirs.first() {
            let done = created.disk.create_dir_all(deepest, 0o700);
            done.map_err(|error| io_error("create directory", deepest, error))?;
        }
        created.dirs.iter().try_for_each(|dir| sync_dir(created.disk.as_ref(), parent(dir)))?;
        Ok(created)
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    disk.sync_dir(dir).map_err(|error| io_error("sync directory", dir, error))
}

/// `NotFound` as `None`.
pub(super) fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// An I/O error on a local file. A missing *local* file must not read like a missing replica.
pub(super) fn io_error(what: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {what} {}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Error::with_source(ErrorKind::Usage, message, error)
        }
        _ => Error::io(message, error),
    }
}
