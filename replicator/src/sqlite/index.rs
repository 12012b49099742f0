//! A look at the WAL-index in shared memory, without a system call or a lock.

use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use rusqlite::{Connection, ffi};

use crate::wal::IndexHeader;

/// Size of the first region of the WAL-index (`WALINDEX_PGSZ`).
const REGION_SIZE: std::ffi::c_int = 32768;
const WORDS: usize = IndexHeader::SIZE / 4;

/// The mapped header of a database's WAL-index. Valid as long as the connection it was taken from: SQLite keeps the
/// mapping until that connection closes, which is why [`super::Source`] owns both.
pub(super) struct SharedIndex(NonNull<u32>);

// SAFETY: the memory is only read, with volatile loads, and is shared between processes anyway.
unsafe impl Send for SharedIndex {}
// SAFETY: as above.
unsafe impl Sync for SharedIndex {}

impl SharedIndex {
    /// The mapping of a connection that is in a read transaction; `None` if that is not in WAL mode. Asked for then, SQLite
    /// would make a WAL-index all the same, and never let go of it (seed 205001194).
    pub(super) fn of(connection: &Connection) -> Option<Self> {
        methods(file_of(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER)?)?;
        let file = file_of(connection, ffi::SQLITE_FCNTL_FILE_POINTER)?;
        let map = methods(file).filter(|methods| methods.iVersion >= 2)?.xShmMap?;
        let mut region: *mut std::ffi::c_void = std::ptr::null_mut();
        // SAFETY: `file` belongs to the open connection; region 0 with bExtend = 0 is only looked up.
        unsafe { map(file.as_ptr(), 0, REGION_SIZE, 0, (&raw mut region).cast()) };
        NonNull::new(region.cast()).map(Self)
    }

    /// The current header; `None` if it is being updated right now (look again) or not initialised.
    pub(super) fn read(&self) -> Option<IndexHeader> {
        let mut bytes = [0; IndexHeader::SIZE];
        // SQLite writes the second copy first; reading the first copy first means that two equal copies are whole.
        for word in 0..WORDS {
            // SAFETY: within the mapped region, aligned, and valid while the owner keeps its connection.
            let value = unsafe { self.0.as_ptr().add(word).read_volatile() };
            bytes[word * 4..word * 4 + 4].copy_from_slice(&value.to_ne_bytes());
            if word == 11 {
                fence(Ordering::SeqCst);
            }
        }
        IndexHeader::parse(&bytes)
    }
}

/// A file of a connection: its database, or its journal, which is the log in WAL mode.
fn file_of(connection: &Connection, which: std::ffi::c_int) -> Option<NonNull<ffi::sqlite3_file>> {
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the handle is open; these requests store one pointer.
    let code = unsafe {
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), which, (&raw mut file).cast())
    };
    NonNull::new(file).filter(|_| code == ffi::SQLITE_OK)
}

/// What can be done with a file; `None` if it is not open.
fn methods<'a>(file: NonNull<ffi::sqlite3_file>) -> Option<&'a ffi::sqlite3_io_methods> {
    // SAFETY: the file belongs to an open connection, and the methods of a VFS live as long as the process.
    unsafe { (*file.as_ptr()).pMethods.as_ref() }
}
