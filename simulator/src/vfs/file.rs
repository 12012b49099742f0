//! The open files of SQLite: reads, writes, locks and the WAL-index.

use std::ffi::{c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use rusqlite::ffi;

use super::code;
use crate::disk::{Handle, Level, Mapping, Observer, Process, REGION, SHM_LOCKS};

/// What SQLite allocates for us: its own base, then a pointer to our part.
#[repr(C)]
pub struct SimFile {
    pub base: ffi::sqlite3_file,
    open: *mut OpenFile,
}

struct OpenFile {
    handle: Handle,
    /// Number of this handle in lock tables.
    number: u64,
    flags: c_int,
    /// The database this file belongs to.
    database: PathBuf,
    level: Level,
    shm: Option<Mapping>,
    /// A new journal or WAL: its name is made durable with its first sync.
    sync_dir: bool,
    persist_wal: bool,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Fills in SQLite's file object.
///
/// # Safety
/// `target` must point to room for a [`SimFile`].
pub unsafe fn init(target: *mut SimFile, handle: Handle, flags: c_int, process: &Process) {
    let journal = ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL;
    let text = handle.path.to_string_lossy().into_owned();
    let database = ["-wal", "-journal", "-shm"]
        .iter()
        .find_map(|suffix| text.strip_suffix(suffix))
        .map_or_else(|| handle.path.clone(), PathBuf::from);
    let open = OpenFile {
        number: process.machine().new_handle(),
        flags,
        database,
        level: Level::None,
        shm: None,
        sync_dir: flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & journal != 0,
        persist_wal: false,
        handle,
    };
    // SAFETY: by contract there is room; nothing was there before.
    unsafe {
        (*target).base.pMethods = &raw const METHODS;
        (*target).open = Box::into_raw(Box::new(open));
    }
}

impl OpenFile {
    fn process(&self) -> &Arc<Process> {
        self.handle.process()
    }

    fn is_database(&self) -> bool {
        self.flags & ffi::SQLITE_OPEN_MAIN_DB != 0
    }

    /// Who watches this database; nobody, if this is a file that had its name before it was replaced.
    fn observer(&self) -> Option<Arc<dyn Observer>> {
        let replaced = || self.process().named_inode(&self.handle.path) != Some(self.handle.inode);
        if !self.process().is_alive() || (self.is_database() && replaced()) {
            return None;
        }
        self.process().machine().observer(&self.database)
    }

    /// Lets the observer see what has happened since the last call, before anybody else may run.
    fn look(&self) {
        if let Some(observer) = self.observer() {
            observer.before_call(self.process().machine(), self.process().role());
        }
    }
}

fn file<'a>(raw: *mut ffi::sqlite3_file) -> &'a mut OpenFile {
    // SAFETY: SQLite passes only files that `init` filled in and `close` has not yet taken, one call at a time.
    unsafe { &mut *(*raw.cast::<SimFile>()).open }
}

unsafe extern "C" fn close(raw: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the last call for this file; `init` made the box.
    let open = unsafe { Box::from_raw((*raw.cast::<SimFile>()).open) };
    let process = Arc::clone(open.process());
    // As SQLite's own debug build does (`unixClose` in os_unix.c): nothing else would ever unmap it.
    assert!(open.shm.is_none() || !process.is_alive(), "a file is closed whose WAL-index is mapped");
    if open.level > Level::None {
        // A dead process has no locks to lower.
        let _ = process.lower_lock(open.handle.inode, open.number, Level::None);
    }
    if open.flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0 {
        // A temporary file that is already gone needs no removing.
        let _ = process.unlink(&open.handle.path);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(raw: *mut ffi::sqlite3_file, out: *mut c_void, size: c_int, offset: i64) -> c_int {
    let file = file(raw);
    file.look();
    // SAFETY: SQLite passes `size` writable bytes.
    let buffer = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), size as usize) };
    let mut done = 0;
    while done < buffer.len() {
        match file.handle.read(&mut buffer[done..], offset as u64 + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) => return code(&error, ffi::SQLITE_IOERR_READ),
        }
    }
    if done == buffer.len() {
        return ffi::SQLITE_OK;
    }
    buffer[done..].fill(0);
    ffi::SQLITE_IOERR_SHORT_READ
}

unsafe extern "C" fn write(
    raw: *mut ffi::sqlite3_file,
    data: *const c_void,
    size: c_int,
    offset: i64,
) -> c_int {
    let file = file(raw);
    file.look();
    // SAFETY: SQLite passes `size` readable bytes.
    let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size as usize) };
    if let Err(error) = file.handle.write(data, offset as u64) {
        return code(&error, ffi::SQLITE_IOERR_WRITE);
    }
    if file.is_database()
        && let Some(observer) = file.observer()
    {
        observer.wrote_database(offset as u64, data);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn truncate(raw: *mut ffi::sqlite3_file, size: i64) -> c_int {
    let file = file(raw);
    file.look();
    if let Err(error) = file.handle.set_length(size as u64) {
        return code(&error, ffi::SQLITE_IOERR_TRUNCATE);
    }
    if file.is_database()
        && let Some(observer) = file.observer()
    {
        observer.resized_database(size as u64);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn sync(raw: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    let file = file(raw);
    file.look();
    if let Err(error) = file.handle.make_durable() {
        return code(&error, ffi::SQLITE_IOERR_FSYNC);
    }
    if std::mem::take(&mut file.sync_dir) {
        let dir = file.handle.path.parent().unwrap_or(Path::new("/")).to_path_buf();
        if let Err(error) = file.process().sync_names(&dir) {
            file.sync_dir = true;
            return code(&error, ffi::SQLITE_IOERR_DIR_FSYNC);
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(raw: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    let file = file(raw);
    if file.process().stay_if_alive().is_err() {
        return ffi::SQLITE_IOERR_FSTAT;
    }
    // SAFETY: SQLite passes a valid place.
    unsafe { *out = file.handle.facts().len as i64 };
    ffi::SQLITE_OK
}

fn level(lock: c_int) -> Level {
    match lock {
        ffi::SQLITE_LOCK_NONE => Level::None,
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        _ => Level::Exclusive,
    }
}

unsafe extern "C" fn lock(raw: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    let file = file(raw);
    let wanted = level(wanted);
    if file.level >= wanted {
        return ffi::SQLITE_OK;
    }
    file.look();
    match file.process().raise_lock(file.handle.inode, file.number, wanted) {
        Ok(true) => {
            file.level = wanted;
            ffi::SQLITE_OK
        }
        Ok(false) => ffi::SQLITE_BUSY,
        Err(_) => ffi::SQLITE_IOERR_LOCK,
    }
}

unsafe extern "C" fn unlock(raw: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    let file = file(raw);
    let wanted = level(wanted);
    // The connection may hold `Pending` from a failed request for `Exclusive`, so always tell the table.
    let was_writing = file.level >= Level::Reserved;
    if was_writing
        && wanted < Level::Reserved
        && let Some(observer) = file.observer()
    {
        observer.released_database(file.process().machine());
    }
    file.level = file.level.min(wanted);
    match file.process().lower_lock(file.handle.inode, file.number, wanted) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_IOERR_UNLOCK,
    }
}

unsafe extern "C" fn check_reserved(raw: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    let file = file(raw);
    match file.process().is_reserved(file.handle.inode) {
        Ok(reserved) => {
            // SAFETY: SQLite passes a valid place.
            unsafe { *out = c_int::from(reserved) };
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_IOERR_CHECKRESERVEDLOCK,
    }
}

unsafe extern "C" fn file_control(raw: *mut ffi::sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    let file = file(raw);
    match op {
        ffi::SQLITE_FCNTL_PERSIST_WAL => {
            // SAFETY: the documented argument: an int, negative to ask.
            let value = unsafe { &mut *arg.cast::<c_int>() };
            if *value < 0 {
                *value = c_int::from(file.persist_wal);
            } else {
                file.persist_wal = *value != 0;
            }
            ffi::SQLITE_OK
        }
        ffi::SQLITE_FCNTL_HAS_MOVED => {
            let moved = file.process().named_inode(&file.handle.path) != Some(file.handle.inode);
            // SAFETY: the documented argument: a place for an int.
            unsafe { *arg.cast::<c_int>() = c_int::from(moved) };
            ffi::SQLITE_OK
        }
        ffi::SQLITE_FCNTL_VFSNAME => {
            // SAFETY: the documented argument: a place for a string that SQLite frees with its own allocator.
            unsafe { *arg.cast() = ffi::sqlite3_mprintf(c"sim".as_ptr()) };
            ffi::SQLITE_OK
        }
        _ => ffi::SQLITE_NOTFOUND,
    }
}

unsafe extern "C" fn sector_size(raw: *mut ffi::sqlite3_file) -> c_int {
    file(raw).process().machine().hardware().sector as c_int
}

unsafe extern "C" fn characteristics(raw: *mut ffi::sqlite3_file) -> c_int {
    if file(raw).process().machine().hardware().powersafe_overwrite {
        ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
    } else {
        0
    }
}

unsafe extern "C" fn shm_map(
    raw: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    let file = file(raw);
    file.look();
    assert_eq!(size as usize, REGION, "SQLite maps the WAL-index in regions of 32 KiB");
    // SAFETY: SQLite passes a valid place.
    unsafe { *out = ptr::null_mut() };
    let map = match &file.shm {
        Some(map) => map.clone(),
        None => match file.process().map_wal_index(&file.database, file.handle.inode) {
            Ok(map) => file.shm.insert(map).clone(),
            Err(_) => return ffi::SQLITE_IOERR_SHMOPEN,
        },
    };
    match file.process().region(&map, region as usize, extend != 0) {
        Ok(address) => {
            // SAFETY: as above.
            unsafe { *out = address.map_or(ptr::null_mut(), <*mut u8>::cast) };
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_IOERR_SHMMAP,
    }
}

unsafe extern "C" fn shm_lock(raw: *mut ffi::sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    let file = file(raw);
    file.look();
    assert!((offset + n) as usize <= SHM_LOCKS, "SQLite has eight WAL-index locks");
    let Some(map) = &file.shm else { return ffi::SQLITE_IOERR_SHMLOCK };
    let mask = (((1_u16 << n) - 1) << offset) as u8;
    let result = if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        file.process().release_shm(map, file.number, mask).map(|()| true)
    } else {
        let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
        file.process().take_shm(map, file.number, mask, exclusive)
    };
    match result {
        Ok(true) => ffi::SQLITE_OK,
        Ok(false) => ffi::SQLITE_BUSY,
        Err(_) => ffi::SQLITE_IOERR_SHMLOCK,
    }
}

/// SQLite publishes a commit in two halves with a barrier between: others may look there, and it may be killed there.
unsafe extern "C" fn shm_barrier(raw: *mut ffi::sqlite3_file) {
    let file = file(raw);
    file.look();
    // A dead process that is not in a fiber goes on to its next call.
    let _ = file.process().pass();
}

unsafe extern "C" fn shm_unmap(raw: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    let file = file(raw);
    file.look();
    if let Some(map) = file.shm.take() {
        // A dead process's mappings are gone already.
        let _ = file.process().unmap_wal_index(&map, file.number, delete != 0);
    }
    ffi::SQLITE_OK
}
