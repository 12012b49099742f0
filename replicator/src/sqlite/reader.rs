//! One connection of ours: it only ever reads and checkpoints.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags, ffi};

use crate::error::{Error, ErrorKind, Result};

/// SQLite counts milliseconds in an `int`.
const LONGEST_BUSY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// A connection that is either idle or inside a read transaction.
pub(super) struct Reader {
    connection: Connection,
    in_transaction: bool,
}

/// What `wal_checkpoint` reports, in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CheckpointCounts {
    pub(super) busy: bool,
    pub(super) log: i64,
    pub(super) copied: i64,
}

impl Reader {
    pub(super) fn open(path: &Path, vfs: Option<&str>, busy_timeout: Duration) -> Result<Self> {
        lean_page_caches();
        // No CREATE: a database that is not there must stay not there.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = match vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
            None => Connection::open_with_flags(path, flags),
        };
        let connection = opened.map_err(|error| classify("open database", path, error))?;
        // SQLite opens what it may not write for reading, and a checkpoint fails only later.
        if connection.is_readonly(MAIN_DB).is_ok_and(|is| is) {
            let message = format!("cannot open database {} for writing{NEEDS_WRITING}", path.display());
            return Err(Error::new(ErrorKind::Denied, message));
        }
        let set_up = || -> rusqlite::Result<()> {
            connection.busy_timeout(busy_timeout.min(LONGEST_BUSY_TIMEOUT))?;
            // The last connection to close must not delete the log: it proves continuity at the next start.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            persist_wal(&connection);
            without_lookaside(&connection);
            Ok(())
        };
        set_up().map_err(|error| classify("set up connection to", path, error))?;
        Ok(Self { connection, in_transaction: false })
    }

    /// The path of the database file as SQLite resolved it.
    pub(super) fn resolved_path(&self) -> PathBuf {
        // SAFETY: the handle is open; the string belongs to it, and is empty for a database without a file.
        let name =
            unsafe { CStr::from_ptr(ffi::sqlite3_db_filename(self.connection.handle(), c"main".as_ptr())) };
        PathBuf::from(OsStr::from_bytes(name.to_bytes()))
    }

    /// Asks for WAL mode; returns the mode that resulted.
    pub(super) fn set_wal_mode(&self, path: &Path) -> Result<String> {
        self.connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(|error| classify("switch to WAL mode", path, error))
    }

    /// Starts a read transaction and takes its snapshot.
    pub(super) fn begin(&mut self, path: &Path) -> Result<()> {
        debug_assert!(!self.in_transaction);
        // `schema_version` reads the header through a read transaction without parsing the schema.
        let begun = self
            .connection
            .execute_batch("BEGIN")
            .and_then(|()| self.connection.query_row("PRAGMA schema_version", [], |_| Ok(())));
        match begun {
            Ok(()) => {
                self.in_transaction = true;
                Ok(())
            }
            Err(error) => {
                self.in_transaction = !self.connection.is_autocommit();
                self.end();
                Err(classify("start reading", path, error))
            }
        }
    }

    /// Takes the write lock without writing anything; released by [`Reader::end`]. Returns false if others did not give
    /// it up within the busy timeout.
    pub(super) fn begin_immediate(&mut self, path: &Path) -> Result<bool> {
        debug_assert!(!self.in_transaction);
        match self.connection.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => {
                self.in_transaction = true;
                Ok(true)
            }
            Err(error) if error.sqlite_error_code() == Some(ffi::ErrorCode::DatabaseBusy) => Ok(false),
            Err(error) => Err(classify("take the write lock of", path, error)),
        }
    }

    /// Ends the transaction, if one is open.
    pub(super) fn end(&mut self) {
        if self.in_transaction {
            // A read transaction has nothing to lose; whatever happens, SQLite releases the lock.
            let _ = self.connection.execute_batch("ROLLBACK");
            self.in_transaction = false;
        }
    }

    /// Runs a passive checkpoint. Being busy is an answer, not an error.
    pub(super) fn checkpoint(&self, path: &Path) -> Result<CheckpointCounts> {
        let counts = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok(CheckpointCounts { busy: row.get::<_, i64>(0)? != 0, log: row.get(1)?, copied: row.get(2)? })
        });
        counts.map_err(|error| classify("checkpoint", path, error))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Hundreds of databases may be open, and no connection of ours reads more than one page or parses a schema: keep
/// SQLite from reserving memory for more. Has an effect only before SQLite's first use in this process.
fn lean_page_caches() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let none: *mut std::ffi::c_void = std::ptr::null_mut();
        let zero: std::ffi::c_int = 0;
        // SAFETY: this option takes a pointer and two ints; it is refused, without effect, after initialisation.
        unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_PAGECACHE, none, zero, zero) };
    });
}

fn without_lookaside(connection: &Connection) {
    let none: *mut std::ffi::c_void = std::ptr::null_mut();
    let zero: std::ffi::c_int = 0;
    // SAFETY: the handle is open; this option takes a pointer and two ints. Failure only costs memory.
    unsafe { ffi::sqlite3_db_config(connection.handle(), ffi::SQLITE_DBCONFIG_LOOKASIDE, none, zero, zero) };
}

fn persist_wal(connection: &Connection) {
    let mut on: std::ffi::c_int = 1;
    // SAFETY: the handle is open; the control reads and writes one int. A VFS without it just says so.
    unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_PERSIST_WAL,
            (&raw mut on).cast(),
        );
    }
}

const NEEDS_WRITING: &str =
    "; read and write permission on the file and its directory is needed for SQLite's locks";

/// Maps an SQLite failure to what the caller should do.
fn classify(what: &str, path: &Path, error: rusqlite::Error) -> Error {
    use rusqlite::ffi::ErrorCode as C;
    let (kind, hint) = match error.sqlite_error_code() {
        Some(C::CannotOpen) => (ErrorKind::Transient, ""),
        Some(C::DatabaseBusy | C::DatabaseLocked) => (
            ErrorKind::Transient,
            "; the application holds a lock: it must not use locking_mode=EXCLUSIVE or stay in rollback-journal mode",
        ),
        Some(C::PermissionDenied | C::ReadOnly | C::AuthorizationForStatementDenied) => {
            (ErrorKind::Denied, NEEDS_WRITING)
        }
        Some(C::NotADatabase | C::DatabaseCorrupt) => (ErrorKind::Corrupt, ""),
        Some(C::DiskFull) => (ErrorKind::Exhausted, ""),
        _ => (ErrorKind::Transient, ""),
    };
    Error::with_source(kind, format!("cannot {what} {}{hint}", path.display()), error)
}
