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

/// What a check says that found no damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The database is sound.
    Sound,
    /// Nothing: SQLite could not check.
    CouldNotRun,
}

/// Checks a complete database file without a log. Blocks. The file is opened as immutable: no locks, and no `-wal`
/// or `-shm` appears beside it, although its header says WAL mode.
///
/// A check that cannot *run* (the schema uses a function or collation that only the application has) is a warning,
/// not an error: it says nothing about the bytes. So is a row that breaks a rule of the schema (`CHECK`, `NOT NULL`, a
/// type), and a full-text index that is not the one of its content: SQLite lets applications commit such states, and what
/// was committed is to be restored.
///
/// # Errors
/// `Corrupt` with SQLite's first findings; otherwise as opening or reading the file says.
pub fn check_integrity(vfs: Option<&str>, path: &Path, depth: Depth) -> Result<Checked> {
    let pragma = match depth {
        Depth::Quick => "quick_check",
        Depth::Full => "integrity_check",
    };
    match run(vfs, path, pragma) {
        Ok(Findings { damage, violations }) if damage.is_empty() => {
            if let Some(finding) = violations.first() {
                tracing::warn!(
                    path = %path.display(), finding,
                    "{pragma} finds what breaks the schema's rules, as an application can commit it"
                );
            }
            Ok(Checked::Sound)
        }
        Ok(Findings { damage, .. }) => Err(Error::new(
            ErrorKind::Corrupt,
            format!("{pragma} of {} says: {}", path.display(), damage.join("; ")),
        )),
        Err(rusqlite::Error::SqliteFailure(cause, Some(reason))) if cause.code == ErrorCode::Unknown => {
            tracing::warn!(path = %path.display(), reason, "{pragma} could not run");
            Ok(Checked::CouldNotRun)
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

/// What SQLite finds, the first few of each kind.
#[derive(Default)]
struct Findings {
    /// The file is not what SQLite writes.
    damage: Vec<String>,
    /// Rows that break a rule of the schema, or full-text indexes that do.
    violations: Vec<String>,
}

/// A few findings tell as much as a thousand.
const ENOUGH: usize = 5;

fn run(vfs: Option<&str>, path: &Path, pragma: &str) -> rusqlite::Result<Findings> {
    let uri = immutable_uri(path);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(uri, flags, vfs)?,
        None => Connection::open_with_flags(uri, flags)?,
    };
    let findings = look(&connection, pragma, ENOUGH)?;
    if findings.violations.len() < ENOUGH {
        return Ok(findings);
    }
    // They may have used up the limit before damage was found. The pages themselves come first and are sound, so that
    // all other findings come one by one.
    look(&connection, pragma, i32::MAX as usize)
}

fn look(connection: &Connection, pragma: &str, limit: usize) -> rusqlite::Result<Findings> {
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}({limit})"))?;
    let mut rows = statement.query(())?;
    let mut findings = Findings::default();
    while let Some(row) = rows.next()? {
        let finding: String = row.get(0)?;
        let list = if is_violation(&finding) { &mut findings.violations } else { &mut findings.damage };
        if finding != "ok" && list.len() < ENOUGH {
            list.push(finding);
        }
        if findings.damage.len() == ENOUGH {
            break;
        }
    }
    Ok(findings)
}

/// By the texts in SQLite's `pragma.c`, and in `fts3.c` and `fts5_main.c`. A full-text index with its content in another
/// table (`content=`) is kept up to date by the application, or not.
fn is_violation(finding: &str) -> bool {
    let starts = [
        "CHECK constraint failed in ",
        "NULL value in ",
        "NUMERIC value in ",
        "TEXT value in ",
        "malformed inverted index for FTS",
        "unable to validate the inverted index for FTS",
    ];
    let is_of_type = || {
        let rest = finding.strip_prefix("non-").and_then(|rest| rest.split_once(' '));
        rest.is_some_and(|(_, rest)| rest.starts_with("value in "))
    };
    starts.iter().any(|start| finding.starts_with(start)) || is_of_type()
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
             UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a, b AS (mine(a)) NOT NULL)';",
        );
        assert_eq!(check_integrity(None, &path, Depth::Quick).unwrap(), Checked::CouldNotRun);
    }

    /// `CHECK` does not do here: SQLite leaves it out of the schema of a file that is opened for reading only.
    const BROKEN_RULES: &str = "CREATE TABLE n (a);
        WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 20) INSERT INTO n SELECT NULL FROM i;
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = 'CREATE TABLE n (a NOT NULL)' WHERE name = 'n';";

    #[test]
    fn rows_that_break_the_rules_of_the_schema_are_not_damage() {
        let (_dir, path) = database("a.db", BROKEN_RULES);
        for depth in [Depth::Quick, Depth::Full] {
            check_integrity(None, &path, depth).unwrap();
        }
    }

    #[test]
    fn a_full_text_index_that_its_application_did_not_keep_up_to_date_is_not_damage() {
        let without_content = "CREATE VIRTUAL TABLE g USING fts4(content='absent', a);";
        let behind = "CREATE TABLE t (a); CREATE VIRTUAL TABLE f USING fts4(content='t', a); INSERT INTO t VALUES ('x');";
        for sql in [behind, without_content] {
            let (_dir, path) = database("a.db", sql);
            for depth in [Depth::Quick, Depth::Full] {
                assert_eq!(check_integrity(None, &path, depth).unwrap(), Checked::Sound, "{sql}");
            }
        }
    }

    #[test]
    fn many_broken_rules_do_not_hide_damage() {
        // SQLite begins with the oldest table or with the newest: once, the broken rules come first.
        let indexed = "CREATE TABLE z (a, b); CREATE INDEX i ON z (a); INSERT INTO z VALUES (1, 2);";
        let other = "UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON z (b)' WHERE name = 'i';";
        for (first, second) in [(indexed, BROKEN_RULES), (BROKEN_RULES, indexed)] {
            let (_dir, path) = database("a.db", &format!("{first}{second}{other}"));
            let error = check_integrity(None, &path, Depth::Full).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.message().contains("missing from index i"), "{error}");
        }
    }

    #[test]
    fn findings_about_types_are_told_from_those_about_indexes() {
        for finding in ["non-INTEGER value in t.a", "NUMERIC value in t.a", "TEXT value in t.a"] {
            assert!(is_violation(finding), "{finding}");
        }
        for finding in ["non-unique entry in index i", "row 1 missing from index i", "Page 3: never used"] {
            assert!(!is_violation(finding), "{finding}");
        }
    }
}
