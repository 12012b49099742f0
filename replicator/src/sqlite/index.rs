//! A look at the WAL-index in shared memory, without a system call or a lock.

use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use rusqlite::{Connection, ffi};

use crate::error::{Error, ErrorKind, Result};
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
    /// Finds the mapping of a connection that has read at least once in WAL mode.
    pub(super) fn of(connection: &Connection) -> Result<Self> {
        let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
        // SAFETY: the handle is open; SQLITE_FCNTL_FILE_POINTER stores one pointer.
        let code = unsafe {
            ffi::sqlite3_file_control(
                connection.handle(),
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_FILE_POINTER,
                (&raw mut file).cast(),
            )
        };
        let mut region: *mut std::ffi::c_void = std::ptr::null_mut();
        if code == ffi::SQLITE_OK && !file.is_null() {
            // SAFETY: `file` belongs to the open connection; region 0 with bExtend = 0 is only looked up.
            unsafe {
                let methods = (*file).pMethods;
                if !methods.is_null()
                    && (*methods).iVersion >= 2
                    && let Some(map) = (*methods).xShmMap
                {
                    map(file, 0, REGION_SIZE, 0, (&raw mut region).cast());
                }
            }
        }
        NonNull::new(region.cast())
            .map(Self)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "the WAL-index of the database is not mapped"))
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
