//! The outside world as traits: the only door for time, files, randomness, threads and sockets (the metrics server alone
//! listens by itself).
//!
//! Production uses [`os`]; the simulator injects its own. Nothing else in this crate may touch the ambient
//! equivalents (clippy's `disallowed-methods` guards it). Waiting is done with `tokio::time`, which a simulation
//! already controls; *decisions* about time use [`Clock`].

mod brief;
pub mod descriptors;
mod dial;
pub mod heap;
#[cfg(target_os = "linux")]
mod inotify;
pub mod lines;
pub mod os;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything the product needs from its surroundings. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    /// Wall clock, for decisions and timestamps.
    pub clock: Arc<dyn Clock>,
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Where blocking work (SQLite, file I/O, compression) runs.
    pub blocking: Arc<dyn Blocking>,
    /// Outgoing connections.
    pub dial: Arc<dyn Dial>,
    /// Change notification for files.
    pub watch: Arc<dyn Watch>,
    /// Name of the SQLite VFS that sees the same files as `disk`; `None` is SQLite's default.
    pub vfs: Option<String>,
}

/// Wall clock. It may jump; nothing may assume that it is monotone.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> UnixMillis;
}

/// Source of randomness.
pub trait Entropy: Send + Sync {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);

    /// A random 64-bit number.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reading only.
    Read,
    /// Existing file, reading and writing.
    ReadWrite,
    /// Created if absent, content kept, reading and writing.
    Create,
    /// Created; fails with `AlreadyExists` if the name is taken.
    CreateNew,
    /// Created or cut to zero length, reading and writing.
    Truncate,
}

/// Facts about a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMetadata {
    /// Length in bytes.
    pub len: u64,
    /// Device number; with `inode` it identifies the file, whatever its name.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// How many names it has; none if it was deleted and is only still open.
    pub links: u64,
    /// Last modification.
    pub modified: UnixMillis,
    /// Last change of content or attributes (`ctime`), in nanoseconds since the epoch: no program can set it back.
    pub changed_nanos: i64,
    /// Whether this is a directory.
    pub is_dir: bool,
    /// Whether this is a regular file: opening anything else may have effects, or wait for ever.
    pub is_file: bool,
    /// Permission bits (`0o777` part), user and group, as far as the platform has them.
    pub mode: u32,
    /// Owning user id.
    pub uid: u32,
    /// Owning group id.
    pub gid: u32,
}

/// One name in a directory listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// File name without its directory.
    pub name: String,
    /// Whether it names a directory.
    pub is_dir: bool,
}

/// Synchronous file system calls. Call them inside [`Blocking`] work, not on an async task.
///
/// POSIX trap: closing *any* descriptor of a database file or of its `-shm` drops this process's SQLite locks on it.
/// Whoever opens one of these keeps it open until SQLite's own connections are closed.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    /// All that a file holds, or a pipe gives until its end; `FileTooLarge` if that is more than `limit` bytes.
    fn read_whole(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = usize::try_from(file.metadata()?.len).unwrap_or(usize::MAX);
        if len > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = vec![0; len];
        let read = file.read_full_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }
    /// As [`OpenMode::CreateNew`], with permission bits `mode`, less the umask, where the platform has them.
    fn create_new(&self, path: &Path, _mode: u32) -> io::Result<Box<dyn DiskFile>> {
        self.open(path, OpenMode::CreateNew)
    }
    /// Where a symbolic link points, as it is written; `None` for anything else, `NotFound` for nothing.
    fn link_target(&self, _path: &Path) -> io::Result<Option<PathBuf>> {
        Ok(None)
    }
    /// Facts about what `path` names, following symbolic links; `NotFound` if nothing.
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata>;
    /// Names in a directory, sorted. Names that are not UTF-8 are left out.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a directory and its parents; those created get permission bits `mode`.
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing the target. Durable only after [`Disk::sync_dir`] on the parent.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives an existing file a second name; fails with `AlreadyExists` if `to` is taken, so it publishes atomically.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Opens a file, created if absent, and locks it against every other open of this kind until it is closed or the
    /// process ends; `WouldBlock` if it is locked. A file system without locks grants them all.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Sets the modification time of a file.
    fn set_modified(&self, path: &Path, time: UnixMillis) -> io::Result<()>;
    /// Bytes that an ordinary user may still write to the file system of `path`.
    fn available(&self, path: &Path) -> io::Result<u64>;
    /// Sets permission bits and, where allowed, the owner. An owner that may not be set is not an error.
    fn set_permissions(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()>;
}

/// An open file with positional I/O.
pub trait DiskFile: Send + Sync {
    /// Reads at an offset; fewer bytes than asked (even 0) mean the end of the file or a short read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data` at an offset.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Sets the length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the content durable (not the name: see [`Disk::sync_dir`]).
    fn sync(&self) -> io::Result<()>;
    /// Facts about this file, whatever its name is by now.
    fn metadata(&self) -> io::Result<FileMetadata>;

    /// Whether another process holds a shared POSIX lock on some of `len` bytes from `start`. A host that cannot tell
    /// says no.
    fn is_shared_by_others(&self, _start: u64, _len: u64) -> bool {
        false
    }

    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Reads exactly `buffer.len()` bytes, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_full_at(buffer, offset)? == buffer.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// A unit of blocking work.
pub type Work = Box<dyn FnOnce() + Send>;

/// Runs blocking work away from the async tasks, on a number of threads that does not grow with the number of
/// databases.
pub trait Blocking: Send + Sync {
    /// Runs `work` to its end. Dropping the future does not stop work that has begun.
    fn run(&self, work: Work) -> BoxFuture<'static, ()>;

    /// As [`Blocking::run`], for work of microseconds that hundreds of tasks may ask for at the same moment.
    fn run_brief(&self, work: Work) -> BoxFuture<'static, ()> {
        self.run(work)
    }
}

impl Host {
    /// Runs `f` as blocking work and returns its result.
    ///
    /// # Panics
    /// If `f` panicked: a panic is a defect and is passed on, never swallowed.
    pub async fn blocking<T, F>(&self, f: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (work, result) = with_result(f);
        self.blocking.run(work).await;
        result.await.expect("blocking work ends by sending its result, or by a panic")
    }

    /// As [`Host::blocking`], for work that takes microseconds.
    ///
    /// # Panics
    /// If `f` panicked.
    pub async fn blocking_brief<T, F>(&self, f: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (work, result) = with_result(f);
        self.blocking.run_brief(work).await;
        result.await.expect("blocking work ends by sending its result, or by a panic")
    }
}

fn with_result<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> (Work, tokio::sync::oneshot::Receiver<T>) {
    let (send, receive) = tokio::sync::oneshot::channel();
    let work = Box::new(move || {
        // The receiver is gone only if the caller was cancelled; then nobody wants the result.
        let _ = send.send(f());
    });
    (work, receive)
}

/// A byte stream to a peer.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// Opens plain TCP connections (name resolution included). TLS is layered above by [`crate::bucket`].
pub trait Dial: Send + Sync {
    /// Connects to `host:port`.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// Change notification: a hint that saves polling, never the truth. Callers also look at their own interval.
pub trait Watch: Send + Sync {
    /// Starts watching these files; `None` where the platform cannot.
    fn watch(&self, paths: &[PathBuf]) -> Option<Box<dyn Watcher>>;
}

/// Some watched files.
pub trait Watcher: Send {
    /// Begins to watch those files that are not watched, or not any more since they changed. What changes afterwards is
    /// reported; so look once more before you wait. It waits as long as their file system does, and may be dropped.
    fn arm(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Resolves when one of the files may have been written, or may have lost its name, since it was armed; never
    /// resolves if none is touched.
    fn changed(&mut self) -> BoxFuture<'_, ()>;

    /// Whether the last [`Watcher::arm`] had all of the files watched: one may be missing, its file system be away, or
    /// the limits of the system be reached.
    fn is_complete(&self) -> bool;
}

/// A [`Watch`] that never watches: everything is found by looking at intervals.
pub struct NoWatch;

impl Watch for NoWatch {
    fn watch(&self, _paths: &[PathBuf]) -> Option<Box<dyn Watcher>> {
        None
    }
}

/// `path` with `suffix` appended to its last component: `a.db` + `-wal` → `a.db-wal`.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
