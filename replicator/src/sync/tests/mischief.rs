//! A store that does what a test says, beside what it is asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::*;
use crate::bucket::{
    Body, ByteRange, Capabilities, DeleteFailure, KeyLayout, ObjectInfo, PutCondition, PutOptions,
    PutOutcome, Upload,
};
use crate::error::{Error, ErrorKind};
use crate::replica::{Level, LtxName};

/// Everything goes to `store`, but:
pub(super) struct Mischief {
    pub(super) store: Arc<dyn Bucket>,
    /// Listings never show the newest transaction.
    pub(super) hides_newest: bool,
    /// Somebody else gets this key just before our streamed upload would.
    pub(super) taken: Mutex<Option<String>>,
    /// Of the next streamed upload of a snapshot nobody hears again.
    pub(super) loses_snapshot: AtomicBool,
    /// It cannot be reached.
    pub(super) away: AtomicBool,
    /// Whoever reaches for it panics.
    pub(super) panics: AtomicBool,
    /// Whoever lists it panics.
    pub(super) list_panics: AtomicBool,
    /// The next object that is put is answered by a proxy that has lost the store.
    pub(super) is_lost: AtomicBool,
    /// Streamed uploads are not taken yet.
    pub(super) holds: AtomicBool,
    /// Streamed uploads so far.
    pub(super) uploads: AtomicU64,
}

impl Mischief {
    pub(super) fn none(store: &Arc<dyn Bucket>) -> Self {
        Self {
            store: Arc::clone(store),
            hides_newest: false,
            taken: Mutex::new(None),
            loses_snapshot: AtomicBool::new(false),
            away: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            list_panics: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            uploads: AtomicU64::new(0),
        }
    }

    /// Puts one in front of the world's store.
    pub(super) fn before(world: &mut World) -> Arc<Self> {
        let mischief = Arc::new(Self::none(&world.bucket));
        world.bucket = Arc::clone(&mischief) as Arc<dyn Bucket>;
        mischief
    }

    fn reach(&self) -> Result<&dyn Bucket> {
        assert!(!self.panics.load(Ordering::SeqCst), "on purpose");
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Transient, "memory: connection refused"));
        }
        Ok(self.store.as_ref())
    }
}

#[async_trait::async_trait]
impl Bucket for Mischief {
    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn location(&self) -> String {
        self.store.location()
    }

    fn layout(&self) -> KeyLayout {
        self.store.layout()
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<PutOutcome> {
        if self.is_lost.swap(false, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::NotFound, "memory: 404 page not found"));
        }
        self.reach()?.put(key, body, condition, options).await
    }

    async fn upload(
        &self,
        key: &str,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<Box<dyn Upload>> {
        self.uploads.fetch_add(1, Ordering::SeqCst);
        while self.holds.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let is_taken = self.taken.lock().unwrap().take_if(|taken| taken == key).is_some();
        if is_taken {
            self.store.put(key, Bytes::from(vec![7; 4096]), PutCondition::IfAbsent, options).await?;
        }
        let is_snapshot =
            LtxName::parse_key(self.layout(), key).is_some_and(|name| name.level == Level::SNAPSHOT);
        if is_snapshot && self.loses_snapshot.swap(false, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Transient, "memory: connection reset"));
        }
        self.reach()?.upload(key, condition, options).await
    }

    async fn get(&self, key: &str, range: Option<ByteRange>) -> Result<Box<dyn Body>> {
        self.reach()?.get(key, range).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        self.reach()?.head(key).await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        assert!(!self.list_panics.load(Ordering::SeqCst), "on purpose");
        let mut objects = self.reach()?.list(prefix, start_after).await?;
        if !self.hides_newest {
            return Ok(objects);
        }
        let layout = self.layout();
        let end = |object: &ObjectInfo| LtxName::parse_key(layout, &object.key).map(|name| name.max);
        let newest = objects.iter().filter_map(end).max();
        objects.retain(|object| end(object) != newest);
        Ok(objects)
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<DeleteFailure>> {
        self.reach()?.delete(keys).await
    }
}
