//! A bucket in memory: the reference that says what the other implementations must do.
//!
//! For tests and models; as simple as possible, no I/O.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

use super::{
    Body, Bucket, ByteRange, Capabilities, DeleteFailure, KeyLayout, ObjectInfo, PutCondition, PutOptions,
    PutOutcome, Upload, check_key, range_of,
};
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;

/// A bucket in memory. Clones share their objects.
#[derive(Clone, Default)]
pub struct MemoryBucket {
    objects: Arc<Mutex<BTreeMap<String, Object>>>,
}

struct Object {
    data: Bytes,
    modified: Option<UnixMillis>,
}

impl MemoryBucket {
    /// An empty bucket.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        // Every change to the map is a single call, so a panic elsewhere cannot leave it half done.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, key: &str, data: Bytes, condition: PutCondition, options: PutOptions) -> PutOutcome {
        let mut objects = self.objects();
        if condition == PutCondition::IfAbsent
            && let Some(existing) = objects.get(key)
        {
            return if existing.data == data { PutOutcome::AlreadyThere } else { PutOutcome::Conflict };
        }
        objects.insert(key.to_owned(), Object { data, modified: options.timestamp });
        PutOutcome::Written
    }
}

#[async_trait]
impl Bucket for MemoryBucket {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn layout(&self) -> KeyLayout {
        KeyLayout::HexLevel
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { create_if_absent: true }
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<PutOutcome> {
        check_key(key)?;
        Ok(self.store(key, body, condition, options))
    }

    async fn upload(
        &self,
        key: &str,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<Box<dyn Upload>> {
        check_key(key)?;
        let bucket = self.clone();
        Ok(Box::new(MemoryUpload { bucket, key: key.to_owned(), data: BytesMut::new(), condition, options }))
    }

    async fn get(&self, key: &str, range: Option<ByteRange>) -> Result<Box<dyn Body>> {
        let objects = self.objects();
        let object = objects
            .get(key)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("memory:/{key} does not exist")))?;
        let range = range_of(range, object.data.len() as u64)
            .map_err(|error| error.context(format_args!("memory:/{key}")))?;
        let index = |offset: u64| usize::try_from(offset).expect("within an object in memory");
        let data = object.data.slice(index(range.start)..index(range.end));
        Ok(Box::new(MemoryBody { len: data.len() as u64, data }))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        Ok(self.objects().get(key).map(|object| info(key, object)))
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        let start = match start_after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        let objects = self.objects();
        Ok(objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, object)| info(key, object))
            .collect())
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<DeleteFailure>> {
        let mut objects = self.objects();
        for key in keys {
            objects.remove(key);
        }
        Ok(Vec::new())
    }
}

fn info(key: &str, object: &Object) -> ObjectInfo {
    ObjectInfo { key: key.to_owned(), size: object.data.len() as u64, modified: object.modified }
}

struct MemoryBody {
    data: Bytes,
    len: u64,
}

#[async_trait]
impl Body for MemoryBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let chunk = std::mem::take(&mut self.data);
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    fn len(&self) -> u64 {
        self.len
    }
}

struct MemoryUpload {
    bucket: MemoryBucket,
    key: String,
    data: BytesMut,
    condition: PutCondition,
    options: PutOptions,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        self.data.extend_from_slice(&data);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<PutOutcome> {
        Ok(self.bucket.store(&self.key, self.data.freeze(), self.condition, self.options))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
