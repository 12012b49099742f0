//! Which files of a directory are databases.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Directory;
use crate::error::{Error, Result};
use crate::host::{Disk, OpenMode};

/// First bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Directories below a watched one are followed this deep; symbolic links to directories are not followed.
const DEEPEST: usize = 32;
/// What SQLite, and local state, put beside a database.
const NOT_DATABASES: [&str; 4] = ["-wal", "-shm", "-journal", "-litestream"];

/// Paths of the databases in a directory, relative to it and sorted. Blocks.
///
/// A file for which `known` is true counts without being opened: opening and closing a database that this process
/// replicates would drop its locks.
///
/// # Errors
/// What reading the directory gives. A file or subdirectory that vanishes meanwhile is left out.
pub fn scan(disk: &dyn Disk, directory: &Directory, known: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = pending.pop() {
        let here = directory.path.join(&below);
        let entries = match disk.read_dir(&here) {
            Ok(entries) => entries,
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(format!("cannot read directory {}", here.display()), error)),
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
            } else if directory.pattern.is_match(&entry.name)
                && (known(&relative) || is_database(disk, &directory.path.join(&relative)))
            {
                found.push(relative);
            }
        }
    }
    found.sort();
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
    use super::*;
    use crate::config::{self, Entry, Environment};
    use crate::host::os;

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

        let names = |recursive, known: &dyn Fn(&Path) -> bool| -> Vec<String> {
            let found = scan(disk, &directory(root.path(), recursive), known).unwrap();
            found.iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(names(false, &|_| false), ["a.db", "b.db"]);
        assert_eq!(names(true, &|_| false), ["a.db", "b.db", "sub/c.db", "sub/deep/d.db"]);
        // A known file is not opened, so it does not matter what is in it.
        assert_eq!(names(false, &|path| path == Path::new("empty.db")), ["a.db", "b.db", "empty.db"]);
        assert!(scan(disk, &directory(&root.path().join("absent"), false), &|_| false).is_err());
    }
}
