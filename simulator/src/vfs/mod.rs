//! Real SQLite on the simulated disk: a hand-written `sqlite3_vfs`, one per process.
//!
//! Follows SQLite's own unix VFS where behaviour can be seen (lock levels, directory sync on a new journal, deferred
//! closing of descriptors), because the replicator must meet the same world. Time and randomness come from the run.

mod file;

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use replicator::host::{Clock as _, OpenMode};
use rusqlite::ffi;

use crate::disk::Process;
use crate::fiber::{self, Pause};
use file::SimFile;

/// Longest path, with its terminator.
const MAX_PATH: c_int = 512;

/// What the C side points back to.
struct AppData {
    process: Arc<Process>,
}

/// A registered VFS; unregistered when dropped, and never freed: a fiber that was killed inside SQLite may come back for
/// as long as it takes to meet its end, and what it left points here.
pub struct Vfs {
    name: &'static CStr,
    raw: *mut ffi::sqlite3_vfs,
}

// SAFETY: a simulated world lives on one thread; the registry of SQLite has its own mutex.
unsafe impl Send for Vfs {}
// SAFETY: as above; no method takes `&self` to C.
unsafe impl Sync for Vfs {}

impl Vfs {
    /// Registers a VFS through which SQLite runs as part of `process`.
    #[must_use]
    pub fn register(process: &Arc<Process>) -> Self {
        seed_sqlite(process);
        let unique = Arc::as_ptr(process.machine()) as usize;
        let name = CString::new(format!("sim-{unique:x}-{}", process.id())).expect("no zero byte");
        let name: &'static CStr = Box::leak(name.into_boxed_c_str());
        let app_data = Box::into_raw(Box::new(AppData { process: Arc::clone(process) }));
        let raw = Box::into_raw(Box::new(ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: c_int::try_from(size_of::<SimFile>()).expect("small"),
            mxPathname: MAX_PATH,
            pNext: ptr::null_mut(),
            zName: name.as_ptr(),
            pAppData: app_data.cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: Some(current_time_millis),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        }));
        // SAFETY: the structure and everything it points to are never freed.
        let code = unsafe { ffi::sqlite3_vfs_register(raw, 0) };
        assert_eq!(code, ffi::SQLITE_OK, "SQLite accepts a complete VFS");
        Self { name, raw }
    }

    /// The name to open databases with.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        // SAFETY: registered in `register`.
        unsafe { ffi::sqlite3_vfs_unregister(self.raw) };
    }
}

/// SQLite's own generator (WAL salts, rowids) is one per operating-system process: restart it from the run's seed.
fn seed_sqlite(process: &Process) {
    let choices = &process.machine().context().choices;
    // Of another machine's process with the same number, too: two logs with the same salts do not exist out there.
    let instance = crate::choices::mix(process.machine().device()) ^ process.id();
    let seed = 1 + choices.below("sqlite.prng", instance, (1 << 31) - 2);
    // SAFETY: the documented arguments of this test control: an int and a database handle that may be null.
    unsafe {
        ffi::sqlite3_initialize();
        ffi::sqlite3_test_control(
            ffi::SQLITE_TESTCTRL_PRNG_SEED,
            c_int::try_from(seed).expect("31 bits"),
            ptr::null_mut::<ffi::sqlite3>(),
        );
    }
}

fn process<'a>(vfs: *mut ffi::sqlite3_vfs) -> &'a Arc<Process> {
    // SAFETY: SQLite hands back the structure registered above; its application data is never freed.
    unsafe { &(*(*vfs).pAppData.cast::<AppData>()).process }
}

fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: SQLite passes zero-terminated names that live through the call.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    target: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let process = process(vfs);
    let temporary = name.is_null();
    let path = if temporary {
        PathBuf::from(format!("/tmp/etilqs-{}", process.machine().new_handle()))
    } else {
        path_of(name)
    };
    let target = target.cast::<SimFile>();
    // SAFETY: SQLite gives `szOsFile` bytes; a null method table tells it not to call `xClose` after a failure.
    unsafe { (*target).base.pMethods = ptr::null() };
    let create = flags & ffi::SQLITE_OPEN_CREATE != 0;
    let mode = if flags & ffi::SQLITE_OPEN_READWRITE == 0 {
        OpenMode::Read
    } else if create && flags & ffi::SQLITE_OPEN_EXCLUSIVE != 0 {
        OpenMode::CreateNew
    } else if create || temporary {
        OpenMode::Create
    } else {
        OpenMode::ReadWrite
    };
    let (handle, flags) = match process.open_handle(&path, mode, false) {
        Ok(handle) => (handle, flags),
        // As the unix VFS does (`unixOpen` in SQLite's os_unix.c): what cannot be opened for writing may be readable.
        Err(error) if mode != OpenMode::Read && error.raw_os_error() != Some(libc::ENOENT) => {
            match process.open_handle(&path, OpenMode::Read, false) {
                Ok(handle) => (handle, read_only(flags)),
                Err(_) => return ffi::SQLITE_CANTOPEN,
            }
        }
        Err(_) => return ffi::SQLITE_CANTOPEN,
    };
    if !out_flags.is_null() {
        // SAFETY: checked above; SQLite passes a valid place or null.
        unsafe { *out_flags = flags };
    }
    // SAFETY: `target` is large enough for a `SimFile` and not yet initialised.
    unsafe { file::init(target, handle, flags, process) };
    ffi::SQLITE_OK
}

fn read_only(flags: c_int) -> c_int {
    flags & !(ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE) | ffi::SQLITE_OPEN_READONLY
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    let path = path_of(name);
    let process = process(vfs);
    match process.unlink(&path) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return ffi::SQLITE_IOERR_DELETE_NOENT,
        Err(_) => return ffi::SQLITE_IOERR_DELETE,
        Ok(()) => {}
    }
    if sync_dir != 0 && process.sync_names(path.parent().unwrap_or(Path::new("/"))).is_err() {
        return ffi::SQLITE_IOERR_DIR_FSYNC;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    result: *mut c_int,
) -> c_int {
    let found = process(vfs).look(&path_of(name));
    // As in SQLite's unix VFS: an empty file counts as absent.
    let yes = found.is_ok_and(|facts| flags != ffi::SQLITE_ACCESS_EXISTS || facts.is_dir || facts.len > 0);
    // SAFETY: SQLite passes a valid place.
    unsafe { *result = c_int::from(yes) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    let path = Path::new("/").join(path_of(name));
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= usize::try_from(size).unwrap_or(0) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: the target has `size` bytes, and the path with its terminator fits.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
        *out.add(bytes.len()) = 0;
    }
    ffi::SQLITE_OK
}

/// Runs under SQLite's static PRNG mutex: must not pause.
unsafe extern "C" fn randomness(vfs: *mut ffi::sqlite3_vfs, size: c_int, out: *mut c_char) -> c_int {
    let process = process(vfs);
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(0)];
    let choices = &process.machine().context().choices;
    let instance = choices.next_below("sqlite.randomness", process.id(), u64::MAX);
    choices.stream("sqlite.randomness", instance).fill(&mut buffer);
    // SAFETY: SQLite passes `size` writable bytes.
    unsafe { ptr::copy_nonoverlapping(buffer.as_ptr().cast(), out, buffer.len()) };
    size
}

unsafe extern "C" fn sleep(vfs: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    let millis = u64::from(micros.unsigned_abs()).div_ceil(1000).max(1);
    process(vfs).machine().context().timeline.advance(millis);
    fiber::suspend(Pause::Sleep(millis));
    micros
}

/// Milliseconds between the Julian epoch and the Unix epoch.
const JULIAN_OFFSET_MILLIS: i64 = 210_866_760_000_000;

unsafe extern "C" fn current_time_millis(vfs: *mut ffi::sqlite3_vfs, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes a valid place.
    unsafe { *out = process(vfs).clock().now().0 + JULIAN_OFFSET_MILLIS };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite passes a valid place.
    unsafe { *out = (process(vfs).clock().now().0 + JULIAN_OFFSET_MILLIS) as f64 / 86_400_000.0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_vfs: *mut ffi::sqlite3_vfs, _size: c_int, _out: *mut c_char) -> c_int {
    0
}

/// Maps the outcome of a disk call to SQLite's code for that kind of call.
fn code(error: &std::io::Error, otherwise: c_int) -> c_int {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => ffi::SQLITE_FULL,
        Some(libc::EROFS) => ffi::SQLITE_READONLY,
        _ => otherwise,
    }
}
