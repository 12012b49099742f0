//! Files staged on the local disk between capture and store.
//!
//! A staged file's *name* is the WAL position that its content reaches, so one rename makes both durable together:
//!
//! `<txid>-<salt1><salt2>-<frame>-<checksum>.ltx`, all lower-case hexadecimal. `.base` instead of `.ltx` marks a file
//! of which the content is only in the store: a full copy, which is staged only if the store is away at the very beginning.
//!
//! Lives in `replicator/` below the meta directory, out of the way of Litestream's own `ltx/`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::host::{Disk, DiskFile, OpenMode};
use crate::ltx::Txid;
use crate::wal::Position;

/// Below the meta directory.
const DIR_NAME: &str = "replicator";

/// One staged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Its transaction id.
    pub txid: Txid,
    /// Where copying stands after it.
    pub position: Position,
    /// Whether the content is only in the store.
    pub is_base: bool,
}

impl Staged {
    /// The file name.
    #[must_use]
    pub fn name(&self) -> String {
        let Position { salt1, salt2, frame, checksum: [sum1, sum2] } = self.position;
        let extension = if self.is_base { "base" } else { "ltx" };
        format!("{}-{salt1:08x}{salt2:08x}-{frame:08x}-{sum1:08x}{sum2:08x}.{extension}", self.txid)
    }

    /// Reads a name; `None` if it is not one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        let is_base = match extension {
            "ltx" => false,
            "base" => true,
            _ => return None,
        };
        let mut parts = stem.split('-');
        let txid: Txid = parts.next()?.parse().ok()?;
        let salts = hex(parts.next()?, 16)?;
        let frame = hex(parts.next()?, 8)?;
        let sums = hex(parts.next()?, 16)?;
        if parts.next().is_some() {
            return None;
        }
        let high = |value: u64| u32::try_from(value >> 32).expect("shifted into range");
        let low = |value: u64| u32::try_from(value & 0xffff_ffff).expect("masked into range");
        let position = Position {
            salt1: high(salts),
            salt2: low(salts),
            frame: low(frame),
            checksum: [high(sums), low(sums)],
        };
        Some(Self { txid, position, is_base })
    }
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let valid = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid { u64::from_str_radix(text, 16).ok() } else { None }
}

/// The directory of staged files. All calls block.
#[derive(Clone)]
pub struct LocalState {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl LocalState {
    /// Opens, creating the directory and removing unfinished files of an earlier run.
    ///
    /// # Errors
    /// If the directory cannot be created or listed.
    pub fn open(disk: Arc<dyn Disk>, meta_dir: &Path) -> Result<Self> {
        let dir = meta_dir.join(DIR_NAME);
        let this = Self { disk, dir };
        create_dir(this.disk.as_ref(), &this.dir)?;
        for parent in [meta_dir, meta_dir.parent().unwrap_or(Path::new("."))] {
            this.sync_dir(parent)?;
        }
        this.remove_unfinished()?;
        Ok(this)
    }

    /// Removes files that were not finished. Nobody may be writing one.
    ///
    /// # Errors
    /// If one is still there, or the directory cannot be listed.
    pub fn remove_unfinished(&self) -> Result<()> {
        let entries = self.list()?;
        entries.iter().filter(|entry| entry.ends_with(".tmp")).try_for_each(|entry| self.remove(entry))
    }

    /// Path of a file in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The local state below `meta_dir`, which may not exist, for looking at it only.
    #[must_use]
    pub fn peek(disk: Arc<dyn Disk>, meta_dir: &Path) -> Self {
        Self { disk, dir: meta_dir.join(DIR_NAME) }
    }

    /// Staged files, oldest first; of one transaction, the file with the content before the record.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub fn staged(&self) -> Result<Vec<Staged>> {
        let mut staged: Vec<Staged> = self.list()?.iter().filter_map(|name| Staged::parse(name)).collect();
        staged.sort_by_key(|file| (file.txid, file.is_base));
        Ok(staged)
    }

    /// Starts an unfinished file.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create_unfinished(&self) -> Result<Unfinished> {
        let path = self.path("unfinished.tmp");
        let file =
            self.disk.open(&path, OpenMode::Truncate).map_err(|error| self.error("create", &path, error))?;
        Ok(Unfinished { path, file, len: 0 })
    }

    /// Makes an unfinished file durable under its final name.
    ///
    /// # Errors
    /// If any step fails; the file may be there or not, and is not to be relied upon.
    pub fn publish(&self, unfinished: Unfinished, staged: &Staged) -> Result<()> {
        let Unfinished { path, file, .. } = unfinished;
        file.sync().map_err(|error| self.error("sync", &path, error))?;
        drop(file);
        let to = self.path(&staged.name());
        self.disk.rename(&path, &to).map_err(|error| self.error("publish", &to, error))?;
        self.sync_dir(&self.dir)
    }

    /// Records a new position for the newest transaction: nothing changed, but the log did.
    ///
    /// # Errors
    /// As [`LocalState::publish`].
    pub fn reposition(&self, from: &Staged, to: &Staged) -> Result<()> {
        let (old, new) = (self.path(&from.name()), self.path(&to.name()));
        if old != new {
            self.disk.rename(&old, &new).map_err(|error| self.error("rename", &old, error))?;
        }
        self.sync_dir(&self.dir)
    }

    /// Opens a staged file for reading; also says how long it is.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn open_staged(&self, staged: &Staged) -> Result<(Box<dyn DiskFile>, u64)> {
        let path = self.path(&staged.name());
        let io = |error| self.error("read", &path, error);
        let file = self.disk.open(&path, OpenMode::Read).map_err(io)?;
        let len = file.metadata().map_err(io)?.len;
        Ok((file, len))
    }

    /// Removes a file; one that is already gone is fine.
    ///
    /// # Errors
    /// If it is still there.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(self.error("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Bytes that are free on its disk.
    ///
    /// # Errors
    /// If the file system does not say.
    pub fn available(&self) -> Result<u64> {
        self.disk.available(&self.dir).map_err(|error| self.error("look for room in", &self.dir, error))
    }

    /// Makes the names of staged files, and their absence, durable.
    ///
    /// # Errors
    /// If the directory cannot be synced.
    pub fn sync(&self) -> Result<()> {
        self.sync_dir(&self.dir)
    }

    /// Makes names in `dir` durable.
    ///
    /// # Errors
    /// If the directory cannot be synced.
    pub fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.disk.sync_dir(dir).map_err(|error| self.error("sync directory", dir, error))
    }

    fn list(&self) -> Result<Vec<String>> {
        let entries = self.disk.read_dir(&self.dir).map_err(|error| self.error("list", &self.dir, error))?;
        Ok(entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect())
    }

    fn error(&self, what: &str, path: &Path, error: std::io::Error) -> Error {
        Error::io(format!("local state: cannot {what} {}", path.display()), error)
    }
}

/// Creates a directory of local state, and what is missing above it, so that it lasts.
///
/// # Errors
/// If any of them cannot be created or synced.
pub fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let error = |error| Error::io(format!("local state: cannot create {}", dir.display()), error);
    let is_absent =
        |dir: &&Path| disk.metadata(dir).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let missing: Vec<&Path> = dir.ancestors().take_while(is_absent).collect();
    disk.create_dir_all(dir, 0o700).map_err(error)?;
    missing
        .iter()
        .filter_map(|created| created.parent())
        .try_for_each(|dir| disk.sync_dir(dir))
        .map_err(error)
}

/// A file being written that nobody relies on yet.
pub struct Unfinished {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    len: u64,
}

impl Unfinished {
    /// Appends.
    ///
    /// # Errors
    /// If the write fails, on a full disk for example.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.len).map_err(|error| {
            Error::io(format!("local state: cannot write {}", self.path.display()), error)
        })?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.len
    }
}

/// Without what a full copy has superseded: files before it may still be there, or there again, because their removal
/// need not have become durable. They are not for the store, which has everything up to the full copy.
#[must_use]
pub fn since_last_base(mut staged: Vec<Staged>) -> Vec<Staged> {
    if let Some(base) = staged.iter().rev().find(|file| file.is_base).copied() {
        staged.retain(|file| file.txid > base.txid || *file == base);
    }
    staged
}

/// The newest record, checked: files that are to be uploaded must be there without a hole.
///
/// # Errors
/// `ErrorKind::Corrupt` if transaction ids jump.
pub fn newest(staged: &[Staged]) -> Result<Option<Staged>> {
    for pair in staged.windows(2) {
        if pair[1].txid != pair[0].txid.next() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("local state: no file between transactions {} and {}", pair[0].txid, pair[1].txid),
            ));
        }
    }
    Ok(staged.last().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_position() {
        let position = Position { salt1: 1, salt2: 0xffff_fffe, frame: 77, checksum: [3, 0x8000_0004] };
        for is_base in [false, true] {
            let staged = Staged { txid: Txid(0x1f), position, is_base };
            assert_eq!(Staged::parse(&staged.name()), Some(staged));
        }
        for bad in ["", "x.ltx", "000000000000001f.ltx", "unfinished.tmp", "000000000000001f-1-2-3.ltx"] {
            assert_eq!(Staged::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_full_copy_supersedes_what_was_before_it() {
        let file = |txid, is_base| Staged { txid: Txid(txid), position: Position::default(), is_base };
        let chain = [file(6, true), file(7, false)];
        assert_eq!(since_last_base(chain.to_vec()), chain);
        let twice = [file(6, false), file(6, true), file(7, false)];
        assert_eq!(since_last_base(twice.to_vec()), chain, "the record counts: it was made later");
        let before = [file(1, true), file(3, false), file(5, false)];
        assert_eq!(since_last_base([&before[..], &chain].concat()), chain, "holes before it do not matter");
        assert_eq!(since_last_base(before[1..].to_vec()), before[1..]);
    }

    #[test]
    fn holes_are_noticed() {
        let file = |txid| Staged { txid: Txid(txid), position: Position::default(), is_base: false };
        assert_eq!(newest(&[file(3), file(4)]).unwrap(), Some(file(4)));
        assert!(newest(&[file(3), file(5)]).is_err());
    }
}
