//! Stand-ins for stores and disks that fail.

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::bucket::{
    Body, ByteRange, Capabilities, DeleteFailure, KeyLayout, ObjectInfo, PutCondition, PutOptions,
    PutOutcome, Upload,
};
use crate::host::{DirEntry, Disk, DiskFile, FileMetadata, UnixMillis};

/// What happens to a GET.
pub(super) enum Get {
    Normal,
    Fails(ErrorKind),
    /// The body ends early, without an error.
    Cut(usize),
    /// Never answers.
    Hangs,
}

type OnGet = Box<dyn Fn(usize, &str) -> Get + Send + Sync>;

type OnList = Box<dyn Fn(&str) -> Result<()> + Send + Sync>;

/// A bucket whose reads fail by rule.
pub(super) struct FaultyBucket {
    inner: Arc<dyn Bucket>,
    on_get: OnGet,
    on_list: OnList,
    /// Keys of all GETs, in order.
    pub gets: Mutex<Vec<String>>,
}

impl FaultyBucket {
    pub(super) fn get(
        inner: &Arc<dyn Bucket>,
        on_get: impl Fn(usize, &str) -> Get + Send + Sync + 'static,
    ) -> Arc<Self> {
        let on_list = Box::new(|_: &str| Ok(()));
        Arc::new(Self { inner: inner.clone(), on_get: Box::new(on_get), on_list, gets: Mutex::default() })
    }

    pub(super) fn list(
        inner: &Arc<dyn Bucket>,
        on_list: impl Fn(&str) -> Result<()> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let on_get = Box::new(|_: usize, _: &str| Get::Normal);
        Arc::new(Self { inner: inner.clone(), on_get, on_list: Box::new(on_list), gets: Mutex::default() })
    }
}

struct CutBody {
    inner: Box<dyn Body>,
    left: usize,
}

#[async_trait]
impl Body for CutBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let Some(chunk) = self.inner.chunk().await?.filter(|_| self.left > 0) else { return Ok(None) };
        let chunk = chunk.slice(..chunk.len().min(self.left));
        self.left -= chunk.len();
        Ok(Some(chunk))
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }
}

#[async_trait]
impl Bucket for FaultyBucket {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
    fn location(&self) -> String {
        self.inner.location()
    }
    fn layout(&self) -> KeyLayout {
        self.inner.layout()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn put(&self, _: &str, _: Bytes, _: PutCondition, _: PutOptions) -> Result<PutOutcome> {
        panic!("a restore never writes to the replica")
    }
    async fn upload(&self, _: &str, _: PutCondition, _: PutOptions) -> Result<Box<dyn Upload>> {
        panic!("a restore never writes to the replica")
    }
    async fn delete(&self, _: &[String]) -> Result<Vec<DeleteFailure>> {
        panic!("a restore never deletes from the replica")
    }
    async fn head(&self, _: &str) -> Result<Option<ObjectInfo>> {
        panic!("a restore never needs a HEAD")
    }
    async fn get(&self, key: &str, range: Option<ByteRange>) -> Result<Box<dyn Body>> {
        let number = {
            let mut gets = self.gets.lock().unwrap();
            gets.push(key.to_owned());
            gets.len() - 1
        };
        match (self.on_get)(number, key) {
            Get::Normal => self.inner.get(key, range).await,
            Get::Fails(kind) => Err(Error::new(kind, format!("{key}: made to fail"))),
            Get::Cut(left) => Ok(Box::new(CutBody { inner: self.inner.get(key, range).await?, left })),
            Get::Hangs => std::future::pending().await,
        }
    }
    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        (self.on_list)(prefix)?;
        self.inner.list(prefix, start_after).await
    }
}

/// What is wrong with a [`FaultyDisk`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Nothing, but zeros are not written: holes read the same and cost nothing.
    Sparse,
    /// Only the step with this number fails.
    Once(usize),
    /// Every step from this number on fails: a killed process, as far as the disk can tell.
    From(usize),
}

/// The real disk, counting steps (reads are steps too) and failing at one.
pub(super) struct FaultyDisk {
    inner: Arc<dyn Disk>,
    fault: Fault,
    steps: Arc<AtomicUsize>,
}

impl FaultyDisk {
    pub(super) fn host(fault: Fault) -> (Host, Arc<AtomicUsize>) {
        let mut host = crate::host::os::host();
        let steps = Arc::new(AtomicUsize::new(0));
        host.disk = Arc::new(Self { inner: host.disk, fault, steps: steps.clone() });
        (host, steps)
    }
}

/// As long as the longest write.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

fn step(fault: Fault, steps: &AtomicUsize) -> io::Result<()> {
    let number = steps.fetch_add(1, Ordering::SeqCst);
    let fails = match fault {
        Fault::Sparse => false,
        Fault::Once(at) => number == at,
        Fault::From(at) => number >= at,
    };
    if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

impl FaultyDisk {
    fn step(&self) -> io::Result<&dyn Disk> {
        step(self.fault, &self.steps)?;
        Ok(self.inner.as_ref())
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.step()?.open(path, mode)?;
        Ok(Box::new(FaultyFile { inner, fault: self.fault, steps: self.steps.clone() }))
    }
    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.step()?.metadata(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.step()?.read_dir(path)
    }
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.step()?.create_dir_all(path, mode)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step()?.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?.remove_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?.hard_link(from, to)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.step()?.lock(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?.sync_dir(path)
    }
    fn set_modified(&self, path: &Path, time: UnixMillis) -> io::Result<()> {
        self.step()?.set_modified(path, time)
    }
    fn available(&self, path: &Path) -> io::Result<u64> {
        self.step()?.available(path)
    }
    fn set_permissions(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        self.step()?.set_permissions(path, mode, uid, gid)
    }
}

struct FaultyFile {
    inner: Box<dyn DiskFile>,
    fault: Fault,
    steps: Arc<AtomicUsize>,
}

impl FaultyFile {
    fn step(&self) -> io::Result<&dyn DiskFile> {
        step(self.fault, &self.steps)?;
        Ok(self.inner.as_ref())
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.step()?.read_at(buffer, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let inner = self.step()?;
        let end = offset + data.len() as u64;
        if matches!(self.fault, Fault::Sparse) && *data == ZEROS[..data.len()] {
            let len = inner.metadata()?.len;
            return if end > len { inner.set_len(end) } else { Ok(()) };
        }
        inner.write_all_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.step()?.sync()
    }
    fn metadata(&self) -> io::Result<FileMetadata> {
        self.step()?.metadata()
    }
}

/// A bucket with some keys taken away, in memory.
pub(super) async fn without(bucket: &Arc<dyn Bucket>, gone: &BTreeSet<String>) -> Arc<dyn Bucket> {
    let copy = crate::bucket::memory::MemoryBucket::new();
    for object in bucket.list("", None).await.unwrap() {
        if !gone.contains(&object.key) {
            let body = crate::bucket::read_all(bucket.as_ref(), &object.key, u64::MAX).await.unwrap();
            let options = PutOptions { timestamp: object.modified };
            copy.put(&object.key, body, PutCondition::Overwrite, options).await.unwrap();
        }
    }
    Arc::new(copy)
}
