//! A disk that notes its calls and fails one of them: the order of durability, and what a full disk leaves behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::*;
use crate::error::ErrorKind;
use crate::host::{DirEntry, Disk, DiskFile, FileMetadata, UnixMillis, os};

/// Calls so far, and the one that fails.
#[derive(Default)]
struct Script {
    calls: Vec<&'static str>,
    fails_at: Option<usize>,
    /// Directories whose names are durable.
    synced: Vec<PathBuf>,
    /// A directory that cannot be opened.
    closed: Option<PathBuf>,
}

#[derive(Clone)]
struct Scripted {
    inner: Arc<dyn Disk>,
    script: Arc<Mutex<Script>>,
}

impl Scripted {
    /// Notes a call that changes something.
    fn note(&self, call: &'static str) -> io::Result<()> {
        let mut script = self.script.lock().unwrap();
        script.calls.push(call);
        if script.fails_at == Some(script.calls.len()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Disk for Scripted {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode != OpenMode::Read {
            self.note("open")?;
        }
        Ok(Box::new(ScriptedFile { inner: self.inner.open(path, mode)?, disk: self.clone() }))
    }
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.inner.metadata(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.read_dir(path)
    }
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.note("create_dir_all")?;
        self.inner.create_dir_all(path, mode)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.note("remove_file")?;
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename")?;
        self.inner.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("hard_link")?;
        self.inner.hard_link(from, to)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.inner.lock(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.note("sync_dir")?;
        if self.script.lock().unwrap().closed.as_deref() == Some(path) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.script.lock().unwrap().synced.push(path.to_owned());
        self.inner.sync_dir(path)
    }
    fn set_modified(&self, path: &Path, time: UnixMillis) -> io::Result<()> {
        self.note("set_modified")?;
        self.inner.set_modified(path, time)
    }
    fn available(&self, path: &Path) -> io::Result<u64> {
        self.inner.available(path)
    }
    fn set_permissions(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        self.note("set_permissions")?;
        self.inner.set_permissions(path, mode, uid, gid)
    }
}

struct ScriptedFile {
    inner: Box<dyn DiskFile>,
    disk: Scripted,
}

impl DiskFile for ScriptedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.disk.note("write")?;
        self.inner.write_all_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.note("sync")?;
        self.inner.sync()
    }
    fn metadata(&self) -> io::Result<FileMetadata> {
        self.inner.metadata()
    }
}

/// A bucket in `path` on a scripted disk.
fn scripted(path: &Path, script: Script) -> (DirectoryBucket, Arc<Mutex<Script>>) {
    let script = Arc::new(Mutex::new(script));
    let disk = Arc::new(Scripted { inner: os::host().disk, script: Arc::clone(&script) });
    let host = Host { disk, ..os::host() };
    let settings = DirectorySettings { path: path.to_owned(), ownership: None };
    (DirectoryBucket::new(&host, &settings), script)
}

async fn create(bucket: &DirectoryBucket, key: &str) -> Result<PutOutcome> {
    bucket.put(key, Bytes::from_static(b"x"), PutCondition::IfAbsent, PutOptions::default()).await
}

/// A PUT on a new directory with call number `fails_at` failing: its result, the calls, and what is on the disk.
async fn put(
    condition: PutCondition,
    fails_at: Option<usize>,
) -> (Result<PutOutcome>, Vec<&'static str>, Vec<String>) {
    let root = tempfile::tempdir().unwrap();
    let (bucket, script) = scripted(&root.path().join("r"), Script { fails_at, ..Script::default() });
    let options = PutOptions { timestamp: Some(UnixMillis(1)) };
    let result = bucket.put("a", Bytes::from_static(b"x"), condition, options).await;
    let left = os::host().disk.read_dir(&root.path().join("r")).unwrap_or_default();
    let calls = std::mem::take(&mut script.lock().unwrap().calls);
    (result, calls, left.into_iter().map(|entry| entry.name).collect())
}

#[tokio::test]
async fn content_is_durable_before_its_name_and_the_name_before_the_answer() {
    const CREATE: [&str; 10] = [
        "create_dir_all",
        "sync_dir",
        "open",
        "set_permissions",
        "write",
        "set_modified",
        "sync",
        "hard_link",
        "remove_file",
        "sync_dir",
    ];
    let (result, calls, left) = put(PutCondition::IfAbsent, None).await;
    assert_eq!((result.unwrap(), calls.as_slice()), (PutOutcome::Written, &CREATE[..]));
    assert_eq!(left, ["a"]);

    const REPLACE: [&str; 4] = ["set_modified", "sync", "rename", "sync_dir"];
    let (result, calls, _) = put(PutCondition::Overwrite, None).await;
    assert_eq!((result.unwrap(), &calls[5..]), (PutOutcome::Written, &REPLACE[..]));
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_leaves_no_rubbish() {
    for condition in [PutCondition::IfAbsent, PutCondition::Overwrite] {
        let (_, calls, _) = put(condition, None).await;
        for (i, call) in calls.iter().enumerate() {
            let (result, _, left) = put(condition, Some(i + 1)).await;
            if *call == "remove_file" {
                // The object is there; its first name is swept up later.
                assert_eq!((result.unwrap(), left.len()), (PutOutcome::Written, 2));
                continue;
            }
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exhausted, "{call}: {error}");
            assert!(left.iter().all(|name| name == "a"), "{call}: {left:?}");
            // Only the very last step can fail with the object in place.
            assert_eq!(left.len(), usize::from(i + 1 == calls.len()), "{call}: {left:?}");
        }
    }
}

/// That a directory is there does not mean that its name survives a power failure.
#[tokio::test]
async fn a_directory_whose_name_was_not_made_durable_is_not_taken_for_durable() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("new/r");
    let names_of = [home.path(), &home.path().join("new"), &root, &root.join("ltx")].map(Path::to_owned);
    // The first sync fails; then the directories are there.
    let (bucket, script) = scripted(&root, Script { fails_at: Some(2), ..Script::default() });
    assert!(create(&bucket, "ltx/0/a").await.is_err());
    assert!(root.join("ltx/0").is_dir());
    create(&bucket, "ltx/0/a").await.unwrap();
    let synced = std::mem::take(&mut script.lock().unwrap().synced);
    assert_eq!(synced[..4], names_of);
    // Once is enough, and what is new is made durable again.
    create(&bucket, "ltx/0/b").await.unwrap();
    create(&bucket, "ltx/1/a").await.unwrap();
    let synced = std::mem::take(&mut script.lock().unwrap().synced);
    assert_eq!(synced, ["ltx/0", "ltx", "ltx/1"].map(|name| root.join(name)));

    // Another process was killed in between: this one knows nothing of it. Opening alone does nothing.
    let (bucket, script) = scripted(&root, Script::default());
    bucket.list("", None).await.unwrap();
    assert!(script.lock().unwrap().calls.is_empty());
    create(&bucket, "ltx/0/c").await.unwrap();
    assert_eq!(script.lock().unwrap().synced[..3], names_of[1..]);
}

#[tokio::test]
async fn a_replica_below_a_directory_that_cannot_be_read_can_be_written() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("r");
    let closed = || Script { closed: Some(home.path().to_owned()), ..Script::default() };
    // What this process makes itself has to be durable.
    let (bucket, _) = scripted(&root, closed());
    for _ in 0..2 {
        assert_eq!(create(&bucket, "a").await.unwrap_err().kind(), ErrorKind::Denied);
    }
    let (bucket, _) = scripted(&root, closed());
    assert_eq!(create(&bucket, "a").await.unwrap(), PutOutcome::Written);
}
