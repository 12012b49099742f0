//! SQLite's own checks, run on a database file that nobody else uses.

use std::fmt::Write as _;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Error, ErrorKind, Result};

/// How thoroughly SQLite looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// `PRAGMA quick_check`.
    Quick,
    /// `PRAGMA integrity_check`, which also compares indexes with their tables.
    Full,
}

/// Checks a complete database file without a log. Blocks. The file is opened as immutable: no locks, and no `-wal`
/// or `-shm` appears beside it, although its header says WAL mode.
///
/// A check that cannot *run* (the schema uses a function or collation that only the application has) is a warning,
/// not an error: it says nothing about the bytes.
///
/// # Errors
/// `Corrupt` with SQLite's first findings; otherwise as opening or reading the file says.
pub fn check_integrity(vfs: Option<&str>, path: &Path, depth: Depth) -> Result<()> {
    let pragma = match depth {
        Depth::Quick => "quick_check",
        Depth::Full => "integrity_check",
    };
    match run(vfs, path, pragma) {
        Ok(findings) if findings == ["ok"] => Ok(()),
        Ok(findings) => Err(Error::new(
            ErrorKind::Corrupt,
            format!("{pragma} of {} says: {}", path.display(), findings.join("; ")),
        )),
        Err(rusqlite::Error::SqliteFailure(cause, Some(reason))) if cause.code == ErrorCode::Unknown => {
            tracing::warn!(path = %path.display(), reason, "{pragma} could not run");
            Ok(())
        }
        Err(error) => {
            let kind = match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
                Some(ErrorCode::OutOfMemory | ErrorCode::DiskFull) => ErrorKind::Exhausted,
                Some(ErrorCode::PermissionDenied) => ErrorKind::Denied,
                _ => ErrorKind::Transient,
            };
            Err(Error::with_source(kind, format!("cannot run {pragma} on {}", path.display()), error))
        }
    }
}

fn run(vfs: Option<&str>, path: &Path, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let uri = immutable_uri(path);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(uri, flags, vfs)?,
        None => Connection::open_with_flags(uri, flags)?,
    };
    // A few findings tell as much as a thousand.
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}(5)"))?;
    let findings = statement.query_map((), |row| row.get(0))?;
    findings.collect()
}

/// `path` as a URI with `immutable=1`, every unusual byte escaped.
fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02x}").expect("writing to a string succeeds");
        }
    }
    uri.push_str("?immutable=1");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(name: &str, sql: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode=WAL").unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        (dir, path)
    }

    const TABLE: &str = "CREATE TABLE t (a PRIMARY KEY, b);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
        INSERT INTO t SELECT i, hex(zeroblob(50)) FROM n;";

    #[test]
    fn a_sound_database_in_wal_mode_passes_and_nothing_appears_beside_it() {
        let (dir, path) = database("strange name?#%20.db", TABLE);
        check_integrity(None, &path, Depth::Quick).unwrap();
        check_integrity(None, &path, Depth::Full).unwrap();
        let names: Vec<_> = crate::host::os::host().disk.read_dir(dir.path()).unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn damage_is_found() {
        let (_dir, path) = database("a.db", TABLE);
        let disk = crate::host::os::host().disk;
        let file = disk.open(&path, crate::host::OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[0xff; 64], 4096 * 3).unwrap();
        let error = check_integrity(None, &path, Depth::Quick).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        file.write_all_at(&[0; 100], 0).unwrap();
        let error = check_integrity(None, &path, Depth::Quick).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }

    #[test]
    fn a_function_of_the_application_is_not_damage() {
        let (_dir, path) = database(
            "a.db",
            "CREATE TABLE t (a); INSERT INTO t VALUES (1); PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a CHECK (mine(a)))';",
        );
        check_integrity(None, &path, Depth::Quick).unwrap();
    }
}
