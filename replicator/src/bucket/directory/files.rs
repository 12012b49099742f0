//! The synchronous half: drafts, publication, listing and removal on a [`Disk`].
//!
//! Knows paths, no async. Must be called from blocking work.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::settings::{DirectorySettings, Ownership};
use super::super::{DeleteFailure, ObjectInfo, PutCondition, PutOptions, PutOutcome};
use super::TEMPORARY;
use crate::error::{Error, Result};
use crate::host::{Clock, Disk, DiskFile, Entropy, FileMetadata, Host, OpenMode, UnixMillis};

/// A temporary file this old belongs to nobody any more.
const STALE_MS: i64 = 60 * 60 * 1000;

/// Directories that a link may stand below the root and be followed in a listing: deeper than any key goes, and an end
/// for links that lead in circles.
const LINKED_DEPTH: usize = 4;

/// Bytes compared at a time.
const COMPARE: usize = 256 * 1024;

/// A replica's directory.
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    root: PathBuf,
    ownership: Option<Ownership>,
    /// Whether hard links have not been refused yet.
    links: AtomicBool,
    /// When each directory was last searched for stale temporary files.
    swept: Mutex<BTreeMap<PathBuf, UnixMillis>>,
    /// What this process knows about the names of directories. That one exists says nothing about power failures.
    names: Mutex<BTreeMap<PathBuf, Name>>,
}

/// The name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// Made by this process, and perhaps not durable yet.
    Made,
    /// Durable, or made by somebody else where nobody can sync.
    Durable,
}

/// A file being written, invisible until published.
pub(super) struct Draft {
    /// Where bytes go.
    pub file: Box<dyn DiskFile>,
    temporary: PathBuf,
    target: PathBuf,
}

/// What a listing is to name.
struct Wanted<'a> {
    prefix: &'a str,
    start_after: Option<&'a str>,
}

impl Wanted<'_> {
    fn is(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && self.start_after.is_none_or(|start| key > start)
    }

    /// Whether keys that begin with `directory`, which ends with `/`, can be.
    fn is_below(&self, directory: &str) -> bool {
        directory.starts_with(self.prefix)
            && self.start_after.is_none_or(|start| directory > start || start.starts_with(directory))
    }
}

impl Files {
    pub(super) fn new(host: &Host, settings: &DirectorySettings) -> Self {
        Self {
            disk: Arc::clone(&host.disk),
            clock: Arc::clone(&host.clock),
            entropy: Arc::clone(&host.entropy),
            root: settings.path.clone(),
            ownership: settings.ownership,
            links: AtomicBool::new(true),
            swept: Mutex::default(),
            names: Mutex::default(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Whether the file system has hard links, as far as known.
    pub(super) fn links(&self) -> bool {
        self.links.load(Ordering::Relaxed)
    }

    /// Creates the temporary file for `target`, with its directories.
    pub(super) fn draft(&self, target: &Path) -> Result<Draft> {
        let directory = parent(target);
        self.create_directories(directory)
            .map_err(|error| Error::io(format!("cannot create directory {}", directory.display()), error))?;
        self.sweep(directory);
        let suffix = format!(".{:016x}{TEMPORARY}", self.entropy.u64());
        let temporary = crate::host::with_suffix(target, &suffix);
        let file = self
            .disk
            .open(&temporary, OpenMode::CreateNew)
            .map_err(|error| Error::io(format!("cannot create {}", temporary.display()), error))?;
        let draft = Draft { file, temporary, target: target.to_owned() };
        match self.own(&draft.temporary, |ownership| ownership.file_mode, 0o600) {
            Ok(()) => Ok(draft),
            Err(error) => {
                self.discard(&draft);
                Err(Error::io(format!("cannot set permissions of {}", draft.temporary.display()), error))
            }
        }
    }

    /// Publishes a draft whose writing ended with `written`, or removes it.
    pub(super) fn complete(
        &self,
        draft: Draft,
        written: io::Result<()>,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<PutOutcome> {
        let outcome = written.and_then(|()| self.publish(&draft, condition, options));
        // After a rename there is nothing left to remove, after a link its first name.
        if !matches!((&outcome, condition), (Ok(_), PutCondition::Overwrite)) {
            self.discard(&draft);
        }
        outcome
            .and_then(|outcome| self.disk.sync_dir(parent(&draft.target)).map(|()| outcome))
            .map_err(|error| Error::io(format!("cannot write {}", draft.target.display()), error))
    }

    fn publish(&self, draft: &Draft, condition: PutCondition, options: PutOptions) -> io::Result<PutOutcome> {
        if let Some(timestamp) = options.timestamp {
            self.disk.set_modified(&draft.temporary, timestamp)?;
        }
        draft.file.sync()?;
        if condition == PutCondition::Overwrite {
            self.disk.rename(&draft.temporary, &draft.target)?;
            return Ok(PutOutcome::Written);
        }
        match self.disk.hard_link(&draft.temporary, &draft.target) {
            Ok(()) => Ok(PutOutcome::Written),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.compare(draft),
            Err(error) if is_unsupported(&error) => {
                self.links.store(false, Ordering::Relaxed);
                self.rename_if_absent(draft)
            }
            Err(error) => Err(error),
        }
    }

    /// For file systems without hard links: look, then rename. Not atomic.
    fn rename_if_absent(&self, draft: &Draft) -> io::Result<PutOutcome> {
        match self.disk.metadata(&draft.target) {
            Ok(_) => self.compare(draft),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.rename(&draft.temporary, &draft.target)?;
                Ok(PutOutcome::Written)
            }
            Err(error) => Err(error),
        }
    }

    fn compare(&self, draft: &Draft) -> io::Result<PutOutcome> {
        let existing = self.disk.open(&draft.target, OpenMode::Read)?;
        let size = existing.metadata()?.len;
        if size != draft.file.metadata()?.len {
            return Ok(PutOutcome::Conflict);
        }
        let (mut ours, mut theirs) = (vec![0; COMPARE], vec![0; COMPARE]);
        let mut offset = 0;
        while offset < size {
            let n = usize::try_from(size - offset).map_or(COMPARE, |left| left.min(COMPARE));
            draft.file.read_exact_at(&mut ours[..n], offset)?;
            existing.read_exact_at(&mut theirs[..n], offset)?;
            if ours[..n] != theirs[..n] {
                return Ok(PutOutcome::Conflict);
            }
            offset += n as u64;
        }
        // Whoever wrote it may have died before its name was durable; `complete` syncs the directory.
        Ok(PutOutcome::AlreadyThere)
    }

    /// Removes a draft. What cannot be removed now is swept up later.
    pub(super) fn discard(&self, draft: &Draft) {
        if let Err(error) = self.disk.remove_file(&draft.temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %draft.temporary.display(), %error, "cannot remove temporary file");
        }
    }

    /// Creates a directory and what is missing above it, each name durable.
    fn create_directories(&self, directory: &Path) -> io::Result<()> {
        let missing = self.missing(directory)?;
        if !missing.is_empty() {
            // Noted before they exist: whoever finds them meanwhile must not take their names for durable.
            self.names().extend(missing.iter().map(|at| (at.to_path_buf(), Name::Made)));
            self.disk
                .create_dir_all(directory, self.ownership.map_or(0o700, |owner| owner.directory_mode))?;
            if self.ownership.is_some() {
                for created in missing.into_iter().rev() {
                    self.own(created, |ownership| ownership.directory_mode, 0o700)?;
                }
            }
        }
        self.make_names_durable(directory)
    }

    /// The directories that are not there, innermost first.
    fn missing<'a>(&self, directory: &'a Path) -> io::Result<Vec<&'a Path>> {
        let mut missing = Vec::new();
        for at in directory.ancestors().filter(|at| is_named(at)) {
            match self.disk.metadata(at) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(at),
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    /// Makes the names from the root to a directory durable, and those above that this process made; once each. That
    /// they are there is not enough: whoever made them may have been killed, or be just about to sync.
    fn make_names_durable(&self, directory: &Path) -> io::Result<()> {
        let path: Vec<&Path> = directory.ancestors().filter(|at| is_named(at)).collect();
        for at in path.into_iter().rev() {
            let known = self.names().get(at).copied();
            let was_made_here = known == Some(Name::Made);
            if known == Some(Name::Durable) || !(was_made_here || at.starts_with(&self.root)) {
                continue;
            }
            match self.disk.sync_dir(parent(at)) {
                // A replica that was there before us works below a directory that nobody may read, and on what is
                // mounted in an image that cannot sync.
                Err(error) if was_made_here || !is_beyond_sync(&error) => {
                    let what = format!("{} cannot be synced: {error}", parent(at).display());
                    return Err(io::Error::new(error.kind(), what));
                }
                _ => self.names().insert(at.to_owned(), Name::Durable),
            };
        }
        Ok(())
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self, path: &Path, mode: impl Fn(&Ownership) -> u32, otherwise: u32) -> io::Result<()> {
        match &self.ownership {
            Some(owner) => self.disk.set_permissions(path, mode(owner), owner.uid, owner.gid),
            None => {
                let facts = self.disk.metadata(path)?;
                self.disk.set_permissions(path, otherwise, facts.uid, facts.gid)
            }
        }
    }

    /// Removes temporary files that a crash left behind; at most once an hour per directory.
    fn sweep(&self, directory: &Path) {
        let now = self.clock.now();
        {
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            match swept.get(directory) {
                Some(last) if (now.0 - last.0).abs() < STALE_MS => return,
                _ => swept.insert(directory.to_owned(), now),
            };
        }
        let Ok(entries) = self.disk.read_dir(directory) else { return };
        for entry in entries.iter().filter(|entry| !entry.is_dir && entry.name.ends_with(TEMPORARY)) {
            let path = directory.join(&entry.name);
            let stale = |facts: FileMetadata| now.0.saturating_sub(facts.modified.0) >= STALE_MS;
            if self.disk.metadata(&path).is_ok_and(stale) && self.disk.remove_file(&path).is_ok() {
                tracing::info!(path = %path.display(), "removed a temporary file left by an earlier run");
            }
        }
    }

    /// Facts about one file, `None` if there is none.
    pub(super) fn object(&self, key: String, path: &Path) -> Result<Option<ObjectInfo>> {
        let facts = self.facts(path)?.filter(|facts| !facts.is_dir);
        Ok(facts.map(|facts| object(key, &facts)))
    }

    /// Facts about whatever is there, links followed.
    fn facts(&self, path: &Path) -> Result<Option<FileMetadata>> {
        match self.disk.metadata(path) {
            Ok(facts) => Ok(Some(facts)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Error::io(format!("cannot look at {}", path.display()), error)),
        }
    }

    /// All objects below the root that match, in no particular order.
    pub(super) fn walk(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        let wanted = Wanted { prefix, start_after };
        let base = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        let mut objects = Vec::new();
        let mut pending = vec![base.to_owned()];
        while let Some(directory) = pending.pop() {
            let mut directories = self.look_into(&directory, &wanted, &mut objects)?;
            // The first name is read first. Data moves from level 0 upwards: read the other way round, what moves
            // meanwhile would be in neither.
            directories.sort_unstable_by(|a, b| b.cmp(a));
            pending.extend(directories);
        }
        Ok(objects)
    }

    /// Adds the objects of one directory, and gives the directories in it.
    fn look_into(
        &self,
        directory: &str,
        wanted: &Wanted<'_>,
        objects: &mut Vec<ObjectInfo>,
    ) -> Result<Vec<String>> {
        let path = self.root.join(directory);
        let entries = match self.disk.read_dir(&path) {
            Ok(entries) => entries,
            // A file in the place of a directory is no empty replica.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io(format!("cannot list {}", path.display()), error)),
        };
        let mut directories = Vec::new();
        for entry in entries {
            let key = format!("{directory}{}", entry.name);
            let below = format!("{key}/");
            if entry.is_dir {
                if wanted.is_below(&below) {
                    directories.push(below);
                }
                continue;
            }
            if key.ends_with(TEMPORARY) || !(wanted.is(&key) || wanted.is_below(&below)) {
                continue;
            }
            match self.facts(&path.join(&entry.name))? {
                // A link to a directory. Its objects are read and written through it, so they are listed.
                Some(facts) if facts.is_dir && depth(&below) <= LINKED_DEPTH => directories.push(below),
                Some(facts) if !facts.is_dir && wanted.is(&key) => objects.push(object(key, &facts)),
                _ => {}
            }
        }
        Ok(directories)
    }

    /// Removes files and makes their absence durable.
    pub(super) fn remove(&self, paths: Vec<(String, PathBuf)>) -> Vec<DeleteFailure> {
        let mut failures = Vec::new();
        let mut touched = BTreeSet::new();
        for (key, path) in paths {
            match self.disk.remove_file(&path) {
                Ok(()) => {
                    touched.insert(parent(&path).to_owned());
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => {
                    let error = Error::io(format!("cannot remove {}", path.display()), error);
                    failures.push(DeleteFailure { key, error });
                }
            }
        }
        for directory in touched {
            // The files are gone for every reader; a crash could at worst bring some back, to be deleted again.
            if let Err(error) = self.disk.sync_dir(&directory) {
                tracing::warn!(path = %directory.display(), %error, "cannot sync directory after deleting");
            }
        }
        failures
    }
}

fn object(key: String, facts: &FileMetadata) -> ObjectInfo {
    ObjectInfo { key, size: facts.len, modified: Some(facts.modified) }
}

fn depth(directory: &str) -> usize {
    directory.matches('/').count()
}

/// Nothing has this name: also when a parent is missing or is a file.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Linux answers `EPERM` for a file system without hard links.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

/// A directory that cannot be opened, or whose file system has no notion of syncing one.
fn is_beyond_sync(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::Unsupported
    )
}

/// Whether a directory has a name somewhere: neither `/` nor nothing.
fn is_named(path: &Path) -> bool {
    path.parent().is_some()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
