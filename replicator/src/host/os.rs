//! The real world: `std::fs`, the system clock, the kernel's randomness, tokio's sockets and thread pool.
//!
//! Only `host` may touch them; this must not contain decisions.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use rustix::process::{Flock, FlockType};

use super::brief::BriefWork;
use super::dial::TcpDial;
use super::{
    Blocking, BoxFuture, Clock, DirEntry, Disk, DiskFile, Entropy, FileMetadata, Host, OpenMode, UnixMillis,
    Watch, Work,
};

/// The real host. Its blocking pool has the size given to the tokio runtime's builder.
#[must_use]
pub fn host() -> Host {
    Host {
        clock: Arc::new(SystemClock),
        disk: Arc::new(OsDisk),
        entropy: Arc::new(OsEntropy),
        blocking: Arc::new(ThreadPool::default()),
        dial: Arc::new(TcpDial::default()),
        watch: watch(),
        vfs: None,
    }
}

#[cfg(target_os = "linux")]
fn watch() -> Arc<dyn Watch> {
    Arc::new(super::inotify::InotifyWatch::default())
}

#[cfg(not(target_os = "linux"))]
fn watch() -> Arc<dyn Watch> {
    Arc::new(super::NoWatch)
}

struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the replacement")]
    fn now(&self) -> UnixMillis {
        unix_millis(std::time::SystemTime::now())
    }
}

fn unix_millis(time: std::time::SystemTime) -> UnixMillis {
    let since = time.duration_since(std::time::UNIX_EPOCH);
    UnixMillis(match since {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    })
}

struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::getrandom(buffer).expect("the kernel of every supported system gives random bytes");
    }
}

#[derive(Default)]
struct ThreadPool {
    brief: BriefWork,
}

impl Blocking for ThreadPool {
    #[expect(clippy::disallowed_methods, reason = "this is the replacement")]
    fn run(&self, work: Work) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = tokio::task::spawn_blocking(work).await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        })
    }

    fn run_brief(&self, work: Work) -> BoxFuture<'static, ()> {
        self.brief.run(work)
    }
}

struct OsDisk;

struct OsFile(std::fs::File);

fn facts(metadata: &std::fs::Metadata) -> FileMetadata {
    FileMetadata {
        len: metadata.len(),
        device: metadata.dev(),
        inode: metadata.ino(),
        links: metadata.nlink(),
        modified: metadata.modified().map_or(UnixMillis::default(), unix_millis),
        changed_nanos: metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec()),
        is_dir: metadata.is_dir(),
        is_file: metadata.is_file(),
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the replacement")]
impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).mode(0o666);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::Create => options.write(true).create(true).truncate(false),
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::Truncate => options.write(true).create(true).truncate(true),
        };
        Ok(Box::new(OsFile(options.open(path)?)))
    }

    fn read_whole(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }

    fn create_new(&self, path: &Path, mode: u32) -> io::Result<Box<dyn DiskFile>> {
        let mut options = std::fs::OpenOptions::new();
        Ok(Box::new(OsFile(options.read(true).write(true).create_new(true).mode(mode).open(path)?)))
    }

    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        match std::fs::read_link(path) {
            Ok(target) => Ok(Some(target)),
            // What exists and is no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        std::fs::metadata(path).map(|metadata| facts(&metadata))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            entries.extend(listed(entry.file_name(), || Ok(entry.file_type()?.is_dir()))?);
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = std::fs::OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o666).open(path);
        // A lock needs no right to write: the file may have been made by an earlier run as another user.
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => std::fs::File::open(path)?,
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(std::fs::TryLockError::Error(error)) => {
                tracing::warn!(
                    path = %path.display(), %error,
                    "no lock could be had: nothing keeps a second replicator from this database"
                );
            }
        }
        Ok(Box::new(OsFile(file)))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match std::fs::File::open(path)?.sync_all() {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                tell_that_names_are_not_synced(path);
                Ok(())
            }
            synced => synced,
        }
    }

    fn set_modified(&self, path: &Path, time: UnixMillis) -> io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).open(path)?;
        let offset = std::time::Duration::from_millis(time.0.unsigned_abs());
        file.set_modified(if time.0 < 0 {
            std::time::UNIX_EPOCH - offset
        } else {
            std::time::UNIX_EPOCH + offset
        })
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        let facts = rustix::fs::statvfs(path)?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    fn set_permissions(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        match std::os::unix::fs::chown(path, Some(uid), Some(gid)) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            _ => Ok(()),
        }
    }
}

/// One name of a listing; `None` if it is not UTF-8. Some file systems do not list what a name stands for: then it is
/// looked up, and may be gone by now. That says nothing about the other names, nor about the directory.
fn listed(name: OsString, is_dir: impl FnOnce() -> io::Result<bool>) -> io::Result<Option<DirEntry>> {
    let Ok(name) = name.into_string() else { return Ok(None) };
    match is_dir() {
        Ok(is_dir) => Ok(Some(DirEntry { name, is_dir })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Some file systems (shared folders of virtual machines) cannot sync a directory. Like PostgreSQL we do without, for what
/// was to be stored is there; but it is told, once.
fn tell_that_names_are_not_synced(path: &Path) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        tracing::warn!(
            path = %path.display(),
            "this file system cannot sync a directory: after a power loss its newest files may be without their names"
        );
    });
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn metadata(&self) -> io::Result<FileMetadata> {
        self.0.metadata().map(|metadata| facts(&metadata))
    }

    fn is_shared_by_others(&self, start: u64, len: u64) -> bool {
        // What a write lock would meet. Asking takes and drops nothing.
        let question = Flock { start, length: len, ..Flock::from(FlockType::WriteLock) };
        let answer = rustix::process::fcntl_getlk(&self.0, &question);
        answer.is_ok_and(|met| met.is_some_and(|lock| lock.typ == FlockType::ReadLock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole listing failed as if there were no directory, and a level of a replica looked empty.
    #[test]
    fn a_name_that_vanishes_meanwhile_is_left_out_of_a_listing() {
        let entry = |name: &str, is_dir| listed(name.into(), || is_dir);
        let found = Some(DirEntry { name: "a".to_owned(), is_dir: true });
        assert_eq!(entry("a", Ok(true)).unwrap(), found);
        assert_eq!(entry("b", Err(io::ErrorKind::NotFound.into())).unwrap(), None);
        assert!(entry("c", Err(io::ErrorKind::PermissionDenied.into())).is_err());
        let odd = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]);
        assert_eq!(listed(odd, || Ok(false)).unwrap(), None);
    }

    /// An object that was there counted as not stored, for ever.
    #[test]
    #[cfg(target_os = "linux")]
    #[expect(clippy::disallowed_methods, reason = "asks the system itself")]
    fn a_file_system_that_cannot_sync_a_directory_is_no_failure() {
        let answer = rustix::fs::fsync(std::fs::File::open("/proc").unwrap());
        assert_eq!(answer, Err(rustix::io::Errno::INVAL), "this test needs such a file system");
        host().disk.sync_dir(Path::new("/proc")).unwrap();
        assert!(host().disk.sync_dir(Path::new("/proc/absent")).is_err());
    }
}
