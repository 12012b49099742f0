//! What a stop says, and how long it takes, when something is in its way.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};

use super::mischief::Mischief;
use super::*;
use crate::bucket::directory::DirectoryBucket;
use crate::bucket::settings::DirectorySettings;
use crate::host::{DirEntry, Disk, DiskFile, FileMetadata, OpenMode, UnixMillis};

/// It used to be a success: no database, nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_copied_from_a_deleted_database_is_still_owed() {
    let mut world = World::new();
    let replica = world.dir.path().join("replica");
    let settings = DirectorySettings { path: replica.clone(), ownership: None };
    world.bucket = Arc::new(DirectoryBucket::new(&os::host(), &settings));
    let app = world.app();
    let handle = world.start();
    settle(&handle).await;
    // From now on nothing can be stored: a file is in the place of the replica.
    let disk = os::host().disk;
    disk.rename(&replica, &world.dir.path().join("away")).unwrap();
    disk.open(&replica, OpenMode::CreateNew).unwrap();
    insert(&app, 3);
    handle.sync_now();
    until(&handle, "staged", |status| status.local_txid > status.replicated_txid).await;
    drop(app);
    for suffix in ["", "-wal", "-shm"] {
        let gone = disk.remove_file(&crate::host::with_suffix(world.db(), suffix));
        assert!(gone.is_ok() || !suffix.is_empty(), "{gone:?}");
    }
    until(&handle, "noticed", |status| status.phase == Phase::WaitingForDatabase).await;
    let error = handle.stop(Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().contains("is in the store"), "{error}");
    // A new process knows it only from the files that lie there.
    for back in [false, true] {
        if back {
            disk.remove_file(&replica).unwrap();
            disk.rename(&world.dir.path().join("away"), &replica).unwrap();
        }
        let handle = world.start();
        until(&handle, "noticed", |status| status.state() == State::WaitingForDatabase).await;
        let error = handle.stop(Duration::from_secs(1)).await.unwrap_err();
        let expected = if back { "is in the store" } else { "is not known to be in the store" };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// It used to mean that nothing was uploaded at all.
#[tokio::test(flavor = "multi_thread")]
async fn without_time_a_final_sync_is_tried_once() {
    let mut world = World::new();
    let store = Mischief::before(&mut world);
    let app = world.app();
    let handle = world.start();
    settle(&handle).await;
    insert(&app, 3);
    handle.stop(Duration::ZERO).await.unwrap();
    world.assert_equal(&app).await;
    let handle = world.start();
    settle(&handle).await;
    store.away.store(true, Ordering::SeqCst);
    insert(&app, 3);
    let stopping = tokio::time::timeout(Duration::from_secs(20), handle.stop(Duration::ZERO)).await;
    assert!(stopping.unwrap().unwrap_err().to_string().contains("connection refused"));
}

/// A gate that everything stops at while it is closed.
#[derive(Default)]
pub(super) struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }
}

/// The real disk, on which files cannot be opened while a gate is closed: a network file system that is away.
pub(super) struct Hanging {
    inner: Arc<dyn Disk>,
    gate: Arc<Gate>,
    /// Bytes that it says are free.
    pub(super) available: u64,
    /// Bytes that fit into a file that is written anew.
    pub(super) fits: u64,
    /// Directories that were synced.
    pub(super) synced: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Hanging {
    pub(super) fn new(host: &crate::host::Host) -> Self {
        Self {
            inner: Arc::clone(&host.disk),
            gate: Arc::default(),
            available: u64::MAX,
            fits: u64::MAX,
            synced: Arc::default(),
        }
    }
}

impl Disk for Hanging {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.gate.pass();
        let file = self.inner.open(path, mode)?;
        Ok(if mode == OpenMode::Truncate { Box::new(Bounded { file, fits: self.fits }) } else { file })
    }
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.inner.metadata(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.read_dir(path)
    }
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.inner.create_dir_all(path, mode)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.inner.lock(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.synced.lock().unwrap().insert(path.to_owned());
        self.inner.sync_dir(path)
    }
    fn set_modified(&self, path: &Path, time: UnixMillis) -> io::Result<()> {
        self.inner.set_modified(path, time)
    }
    fn available(&self, _: &Path) -> io::Result<u64> {
        Ok(self.available)
    }
    fn set_permissions(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        self.inner.set_permissions(path, mode, uid, gid)
    }
}

/// A file on a disk that is soon full.
struct Bounded {
    file: Box<dyn DiskFile>,
    fits: u64,
}

impl DiskFile for Bounded {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if offset + data.len() as u64 > self.fits {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn metadata(&self) -> io::Result<FileMetadata> {
        self.file.metadata()
    }
}

/// It used to wait for the disk for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_bounded_even_if_the_disk_hangs() {
    let world = World::new();
    let app = world.app();
    let gate = Arc::new(Gate::default());
    let mut host = os::host();
    host.disk = Arc::new(Hanging { gate: Arc::clone(&gate), ..Hanging::new(&host) });
    let handle = start(host, world.options.clone(), Arc::clone(&world.bucket), Turns::default());
    settle(&handle).await;
    gate.set(true);
    insert(&app, 1);
    let stopped =
        tokio::time::timeout(Duration::from_secs(20), handle.stop(Duration::from_millis(100))).await;
    // Else the thread that hangs would keep the test from ending.
    gate.set(false);
    let error = stopped.expect("a stop ends").unwrap_err();
    assert!(error.to_string().contains("did not end within 5100 ms"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replicator_of_the_same_machine_waits_for_the_first_to_end() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let first = world.start();
    settle(&first).await;
    let second = world.start();
    let mut status = second.status();
    let told = status.wait_for(|status| status.error().is_some_and(|e| e.contains("another replicator")));
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap().unwrap();
    insert(&app, 10);
    settle(&first).await;
    assert_eq!(second.status().borrow().replicated_txid, None);
    assert!(world.start().stop(Duration::from_secs(5)).await.is_err(), "it has nothing to vouch for");
    stop(first).await;
    insert(&app, 10);
    settle(&second).await;
    stop(second).await;
    world.assert_equal(&app).await;
}

/// It used to look as if it went on, and its stop took the final syncs of the other databases with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_end_that_is_told() {
    let mut world = World::new();
    let store = Mischief::before(&mut world);
    let (app, handle) = replicating(&world).await;
    store.panics.store(true, Ordering::SeqCst);
    insert(&app, 1);
    assert_panicked(handle).await;
}
