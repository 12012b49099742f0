//! Which files of a directory are databases.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Directory;
use crate::error::{Error, Result};
use crate::host::{Disk, FileMetadata, OpenMode};

/// First bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Directories below a watched one are followed this deep; symbolic links to directories are not followed.
const DEEPEST: usize = 32;
/// What SQLite, and local state, put beside a database.
const NOT_DATABASES: [&str; 4] = ["-wal", "-shm", "-journal", "-litestream"];

/// What a file is, whatever name it goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of what a path names, symbolic links followed; `None` if it cannot be known.
    #[must_use]
    pub fn of(disk: &dyn Disk, path: &Path) -> Option<Self> {
        disk.metadata(path).ok().map(Self::from)
    }
}

impl From<FileMetadata> for FileId {
    fn from(FileMetadata { device, inode, .. }: FileMetadata) -> Self {
        Self { device, inode }
    }
}

/// What was found in a directory, each relative to it and sorted.
#[derive(Debug, Default)]
pub struct Found {
    /// Databases.
    pub databases: Vec<PathBuf>,
    /// Further names (links) of these, and of databases that are replicated already.
    pub aliases: Vec<PathBuf>,
    /// Subdirectories that cannot be read, and why: nobody knows what is in them.
    pub unreadable: Vec<(PathBuf, Error)>,
}

/// Looks for the databases in a directory. Blocks.
///
/// `members` are the paths of the databases that this process replicates, or will. They count without being opened, and
/// their files are not opened under any other name: closing one would drop its locks.
///
/// # Errors
/// What reading the directory gives. A file or subdirectory that vanishes meanwhile is left out, and so is a subdirectory
/// that cannot be read.
pub fn scan(disk: &dyn Disk, directory: &Directory, members: &BTreeSet<PathBuf>) -> Result<Found> {
    let is_member = |relative: &PathBuf| members.contains(&directory.path.join(relative));
    let mut found = candidates(disk, directory)?;
    let (databases, unknown) = std::mem::take(&mut found.databases).into_iter().partition(is_member);
    let unknown: Vec<PathBuf> = unknown;
    found.databases = databases;
    if unknown.is_empty() {
        return Ok(found);
    }
    let mut seen: BTreeSet<FileId> = members.iter().filter_map(|path| FileId::of(disk, path)).collect();
    for relative in unknown {
        let path = directory.path.join(&relative);
        // Opening a named pipe waits until somebody writes to it.
        let Some(facts) = disk.metadata(&path).ok().filter(|facts| facts.is_file) else { continue };
        let id = FileId::from(facts);
        if seen.contains(&id) {
            found.aliases.push(relative);
        } else if is_database(disk, &path) {
            seen.insert(id);
            found.databases.push(relative);
        }
    }
    found.databases.sort();
    Ok(found)
}

/// Files whose names fit, sorted, as if they were databases.
fn candidates(disk: &dyn Disk, directory: &Directory) -> Result<Found> {
    let mut found = Found::default();
    let mut pending = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = pending.pop() {
        let here = directory.path.join(&below);
        let entries = match disk.read_dir(&here) {
            Ok(entries) => entries,
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let error = Error::io(format!("cannot read directory {}", here.display()), error);
                if depth == 0 {
                    return Err(error);
                }
                found.unreadable.push((below, error));
                continue;
            }
        };
        for entry in entries {
            if NOT_DATABASES.iter().any(|suffix| entry.name.ends_with(suffix)) {
                continue;
            }
            let relative = below.join(&entry.name);
            if entry.is_dir {
                if directory.recursive && depth < DEEPEST {
                    pending.push((relative, depth + 1));
                }
            } else if directory.pattern.is_match(&entry.name) {
                found.databases.push(relative);
            }
        }
    }
    found.databases.sort();
    Ok(found)
}

/// Whether a file begins like a database. An unreadable one does not.
fn is_database(disk: &dyn Disk, path: &Path) -> bool {
    let mut head = [0; MAGIC.len()];
    disk.open(path, OpenMode::Read).and_then(|file| file.read_exact_at(&mut head, 0)).is_ok()
        && head == *MAGIC
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{self, Entry, Environment};
    use crate::host::{Host, os};

    fn directory(path: &Path, recursive: bool) -> Directory {
        let text = format!(
            "dbs:\n- dir: {}\n  pattern: '*.db'\n  recursive: {recursive}\n  replica: {{path: /r}}\n",
            path.display()
        );
        let config = config::parse(&text, false, &Environment::default()).unwrap();
        match config.databases.into_iter().next() {
            Some(Entry::Directory(directory)) => directory,
            other => panic!("{other:?}"),
        }
    }

    /// Fails instead of waiting for ever.
    fn scan_in_time(host: &Host, directory: Directory, members: BTreeSet<PathBuf>) -> Found {
        let (disk, (done, is_done)) = (host.disk.clone(), std::sync::mpsc::channel());
        let _ =
            std::thread::Builder::new().spawn(move || done.send(scan(&*disk, &directory, &members))).unwrap();
        is_done.recv_timeout(Duration::from_secs(10)).unwrap().unwrap()
    }

    #[test]
    fn only_databases_that_match_are_found() {
        let host = os::host();
        let disk = &*host.disk;
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = root.path().join(name);
            disk.create_dir_all(path.parent().unwrap(), 0o700).unwrap();
            disk.open(&path, OpenMode::Create).unwrap().write_all_at(content, 0).unwrap();
        };
        for name in ["b.db", "a.db", "sub/c.db", "sub/deep/d.db", "other.sqlite", ".a.db-litestream/x.db"] {
            write(name, MAGIC);
        }
        write("text.db", b"not a database at all");
        write("empty.db", b"");
        write("b.db-wal", MAGIC);
        // Opening it would wait for ever.
        let (cwd, fifo) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(cwd, root.path().join("pipe.db"), fifo, 0o600.into(), 0).unwrap();

        let names = |recursive, members: &[&str]| -> Vec<String> {
            let members = members.iter().map(|name| root.path().join(name)).collect();
            let found = scan_in_time(&host, directory(root.path(), recursive), members);
            assert_eq!(found.aliases, [""; 0].map(PathBuf::from));
            found.databases.iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(names(false, &[]), ["a.db", "b.db"]);
        assert_eq!(names(true, &[]), ["a.db", "b.db", "sub/c.db", "sub/deep/d.db"]);
        // A known file is not opened, so it does not matter what is in it.
        assert_eq!(names(false, &["empty.db"]), ["a.db", "b.db", "empty.db"]);
        assert!(scan(disk, &directory(&root.path().join("absent"), false), &BTreeSet::new()).is_err());
    }

    #[test]
    fn a_database_is_found_under_one_name() {
        let host = os::host();
        let disk = &*host.disk;
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in ["outside", "n.db"] {
            disk.open(&path(name), OpenMode::Create).unwrap().write_all_at(MAGIC, 0).unwrap();
        }
        disk.hard_link(&path("outside"), &path("hard.db")).unwrap();
        std::os::unix::fs::symlink("outside", path("soft.db")).unwrap();
        disk.hard_link(&path("n.db"), &path("a.db")).unwrap();
        let look = |members: &[&str]| {
            let members = members.iter().map(|name| path(name)).collect();
            let Found { databases, aliases, .. } =
                scan(disk, &directory(root.path(), false), &members).unwrap();
            let text = |paths: Vec<PathBuf>| -> Vec<String> {
                paths.iter().map(|path| path.display().to_string()).collect()
            };
            (text(databases).join(" "), text(aliases).join(" "))
        };
        let pair = |databases: &str, aliases: &str| (databases.to_owned(), aliases.to_owned());
        assert_eq!(look(&["outside"]), pair("a.db", "hard.db n.db soft.db"));
        assert_eq!(
            look(&["outside", "n.db"]),
            pair("n.db", "a.db hard.db soft.db"),
            "the member's name stays"
        );
        assert_eq!(look(&[]), pair("a.db hard.db", "n.db soft.db"));
    }
}
