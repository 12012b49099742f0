//! Compaction and retention on a bucket that counts and fails, judged by `conformance`, which shares no code with us.

mod healing;
mod merging;
mod retaining;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use conformance::replica::{Replica, Severity, Store};
use futures::FutureExt as _;

use super::*;
use crate::bucket::memory::MemoryBucket;
use crate::bucket::{
    Body, Bucket, ByteRange, Capabilities, DeleteFailure, KeyLayout, ObjectInfo, PutCondition, PutOptions,
    PutOutcome, Upload, read_all,
};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Clock, Host, UnixMillis, os};
use crate::ltx::{Encoder, Header, PageNumber, PageSize, Txid};
use crate::replica::{Inventory, Level, LtxName, Retention};

const START: i64 = 1_700_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// A memory bucket that logs every request and fails those it is told to fail.
#[derive(Clone, Default)]
struct SpyBucket {
    inner: MemoryBucket,
    log: Arc<Mutex<Vec<String>>>,
    /// Requests whose log line contains the text fail, as often as given.
    faults: Arc<Mutex<Vec<(String, usize)>>>,
    /// Listings and deletions whose log line contains the text get no answer.
    stalled: Arc<Mutex<Option<String>>>,
}

impl SpyBucket {
    fn request(&self, line: String) -> Result<()> {
        let failed = self.faults.lock().unwrap().iter_mut().any(|(text, left)| {
            let hit = *left > 0 && line.contains(text.as_str());
            *left -= usize::from(hit);
            hit
        });
        let result = if failed { Err(Error::new(ErrorKind::Transient, line.clone())) } else { Ok(()) };
        self.log.lock().unwrap().push(line);
        result
    }

    async fn answer(&self, line: String) -> Result<()> {
        let is_stalled = self.stalled.lock().unwrap().as_ref().is_some_and(|text| line.contains(text));
        self.request(line)?;
        if is_stalled { std::future::pending().await } else { Ok(()) }
    }

    fn fail(&self, text: impl Into<String>, times: usize) {
        self.faults.lock().unwrap().push((text.into(), times));
    }

    /// The requests since the last call that contain a text.
    fn take_log(&self, text: &str) -> Vec<String> {
        let mut log = std::mem::take(&mut *self.log.lock().unwrap());
        log.retain(|line| line.contains(text));
        log
    }

    fn replace(&self, name: LtxName, data: impl Into<Bytes>) {
        let key = name.key(self.layout());
        let put = self.inner.put(&key, data.into(), PutCondition::Overwrite, PutOptions::default());
        put.now_or_never().unwrap().unwrap();
    }

    fn get_bytes(&self, name: LtxName) -> Vec<u8> {
        Store::get(self, &name.key(self.layout())).unwrap()
    }

    fn remove(&self, name: LtxName) {
        self.inner.delete(&[name.key(self.layout())]).now_or_never().unwrap().unwrap();
    }

    fn names(&self) -> Vec<LtxName> {
        let objects = self.inner.list("", None).now_or_never().unwrap().unwrap();
        objects.iter().map(|object| LtxName::parse_key(self.layout(), &object.key).unwrap()).collect()
    }

    fn level(&self, level: u8) -> Vec<(u64, u64)> {
        let names = self.names();
        let of_level = names.iter().filter(|name| name.level.number() == level);
        of_level.map(|name| (name.min.0, name.max.0)).collect()
    }
}

#[async_trait]
impl Bucket for SpyBucket {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn location(&self) -> String {
        "spy:".to_owned()
    }

    fn layout(&self) -> KeyLayout {
        self.inner.layout()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, _: Bytes, _: PutCondition, _: PutOptions) -> Result<PutOutcome> {
        panic!("compaction must not put {key} without create-if-absent streaming")
    }

    async fn upload(
        &self,
        key: &str,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<Box<dyn Upload>> {
        assert_eq!(condition, PutCondition::IfAbsent);
        let upload = self.inner.upload(key, condition, options).await?;
        Ok(Box::new(SpyUpload { spy: self.clone(), key: key.to_owned(), inner: upload }))
    }

    async fn get(&self, key: &str, range: Option<ByteRange>) -> Result<Box<dyn Body>> {
        let range = range.expect("bodies are read in bounded ranges");
        assert!(range.len.is_some_and(|len| len <= 4 << 20));
        self.request(format!("GET {key} {}", range.start))?;
        self.inner.get(key, Some(range)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        panic!("compaction has no need to ask about {key}")
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        self.answer(format!("LIST {prefix}")).await?;
        self.inner.list(prefix, start_after).await
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<DeleteFailure>> {
        self.answer(format!("DELETE {}", keys.len())).await?;
        let mut failures = Vec::new();
        for key in keys {
            match self.request(format!("DELETED {key}")) {
                Ok(()) => drop(self.inner.delete(std::slice::from_ref(key)).await?),
                Err(error) => failures.push(DeleteFailure { key: key.clone(), error }),
            }
        }
        Ok(failures)
    }
}

struct SpyUpload {
    spy: SpyBucket,
    key: String,
    inner: Box<dyn Upload>,
}

#[async_trait]
impl Upload for SpyUpload {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        self.spy.request(format!("WRITE {}", self.key))?;
        self.inner.write(data).await
    }

    async fn finish(self: Box<Self>) -> Result<PutOutcome> {
        self.spy.request(format!("FINISH {}", self.key))?;
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.spy.request(format!("ABORT {}", self.key))?;
        self.inner.abort().await
    }
}

impl Store for SpyBucket {
    fn location(&self) -> String {
        "spy:".to_owned()
    }

    fn list(&self) -> Result<Vec<conformance::replica::Object>, conformance::Defect> {
        let objects = self.inner.list("", None).now_or_never().unwrap().unwrap();
        let object = |info: ObjectInfo| conformance::replica::Object {
            key: info.key,
            size: info.size,
            time: info.modified.map(|time| time.0),
            time_is_attached: true,
        };
        Ok(objects.into_iter().map(object).collect())
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, conformance::replica::Unread> {
        Ok(read_all(&self.inner, key, 1 << 30).now_or_never().unwrap().unwrap().to_vec())
    }
}

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

/// A database, its replica, and the compactor under test.
struct Rig {
    host: Host,
    clock: Arc<TestClock>,
    bucket: SpyBucket,
    settings: Settings,
    local: Option<PathBuf>,
    compactor: Compactor,
    page_size: u32,
    pages: Vec<Vec<u8>>,
    /// The database after each transaction.
    states: BTreeMap<u64, Vec<u8>>,
}

impl Rig {
    fn new() -> Self {
        Self::with_local(None)
    }

    fn with_local(local: Option<PathBuf>) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(START)));
        let host = Host { clock: clock.clone(), ..os::host() };
        let bucket = SpyBucket::default();
        let settings = Settings {
            levels: [30, 300, 3600].map(Duration::from_secs).to_vec(),
            retention: Retention {
                snapshot: Duration::from_secs(24 * 3600),
                level0: Duration::from_secs(300),
            },
            delete: true,
        };
        let compactor = Compactor::new(host.clone(), Arc::new(bucket.clone()), settings.clone());
        let (pages, states) = (Vec::new(), BTreeMap::new());
        Self { host, clock, bucket, settings, local, compactor, page_size: 512, pages, states }
    }

    /// The process is killed and starts again.
    fn restart(&mut self) {
        let bucket = Arc::new(self.bucket.clone());
        self.compactor = Compactor::new(self.host.clone(), bucket, self.settings.clone());
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Lets time pass, on the wall clock and for tokio.
    async fn pass(&self, time: Duration) {
        self.clock.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
        tokio::time::advance(time).await;
    }

    fn last(&self) -> u64 {
        self.states.last_key_value().map_or(0, |(&txid, _)| txid)
    }

    /// Commits a transaction that touches a few pages of a database of `size` pages, and publishes it.
    fn commit(&mut self, size: u32) -> u64 {
        let txid = self.last() + 1;
        let old_size = self.pages.len();
        self.pages.resize(size as usize, Vec::new());
        let changed = Self::changed(txid, old_size, self.pages.len());
        for &index in &changed {
            self.pages[index] =
                (0..self.page_size).map(|at| (at / 7 + index as u32 * 3 + txid as u32) as u8).collect();
        }
        self.states.insert(txid, self.pages.concat());
        self.publish(LtxName::l0(Txid(txid)), &changed);
        txid
    }

    /// Pages that a transaction touches in a database that had `old_size` pages.
    fn changed(txid: u64, old_size: usize, size: usize) -> Vec<usize> {
        let step = 1 + (txid % 5) as usize;
        (0..size).filter(|index| *index >= old_size || index % step == 0).collect()
    }

    fn snapshot(&mut self) {
        let all: Vec<usize> = (0..self.pages.len()).collect();
        self.publish(LtxName::snapshot(Txid(self.last())), &all);
    }

    fn publish(&mut self, name: LtxName, pages: &[usize]) {
        let file = self.encode(name, pages);
        if let Some(dir) = self.local.as_ref().filter(|_| name.level == Level::L0) {
            let path = dir.join(name.file_name());
            write_file(&path, &file);
            let file_checksum = u64::from_be_bytes(*file.last_chunk().unwrap());
            let copy = LocalCopy { path, size: file.len() as u64, file_checksum };
            self.compactor.note_copy(name.max, copy);
        }
        self.compactor.note_published(name, file.len() as u64, self.now());
        let options = PutOptions { timestamp: Some(self.now()) };
        let key = name.key(KeyLayout::HexLevel);
        let put = self.bucket.inner.put(&key, file.into(), PutCondition::Overwrite, options);
        put.now_or_never().unwrap().unwrap();
    }

    fn encode(&self, name: LtxName, pages: &[usize]) -> Vec<u8> {
        let mut encoder = Encoder::new(Header {
            flags: Header::NO_CHECKSUM,
            page_size: PageSize::new(self.page_size).unwrap(),
            commit: self.pages.len() as u32,
            min_txid: name.min,
            max_txid: name.max,
            timestamp: self.now(),
            pre_apply_checksum: 0,
            wal_offset: 32,
            wal_size: 9,
            wal_salt1: 1,
            wal_salt2: 2,
            node_id: 0,
        })
        .unwrap();
        let mut file = encoder.header_bytes().to_vec();
        for &index in pages {
            encoder.page(PageNumber(index as u32 + 1), &self.pages[index], &mut file).unwrap();
        }
        encoder.finish(&mut file).unwrap();
        file
    }

    async fn run(&self) -> Result<Report> {
        self.compactor.run_due(self.now()).await
    }

    /// The judge reads the whole replica: every object valid and in agreement with the others; and restores some
    /// states, the newest among them. Gives all that can be restored.
    fn judge(&self) -> Vec<u64> {
        let replica = Replica::read(&self.bucket).unwrap();
        let broken =
            replica.report().problems.into_iter().filter(|problem| problem.severity == Severity::Broken);
        assert_eq!(broken.collect::<Vec<_>>(), []);
        let restorable: Vec<u64> = replica.restorable().map(|(txid, _)| txid).collect();
        for &txid in restorable.iter().rev().step_by(1 + restorable.len() / 5) {
            assert!(replica.restore(txid).unwrap().bytes == self.states[&txid], "transaction {txid}");
        }
        restorable
    }
}

#[expect(clippy::disallowed_methods, reason = "a test prepares local files")]
fn write_file(path: &std::path::Path, data: &[u8]) {
    std::fs::write(path, data).unwrap();
}
