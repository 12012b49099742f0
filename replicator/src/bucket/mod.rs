//! Object storage: key, bytes, condition → a durable object or a classified failure.
//!
//! The only module that speaks to the store. It knows objects, never LTX, TXIDs or databases. A success from any method is
//! durable; an ambiguous answer (the request may or may not have been applied) is resolved inside by reading back,
//! so callers see only *applied*, *not applied* or an error that says the outcome is unknown.

pub mod directory;
pub mod memory;
pub mod observer;
mod open;
mod s3;
pub mod settings;
pub mod url;

#[cfg(test)]
mod behaviour;

pub use open::{Environment, Opener, open};

/// How any web server is reached: shared with heartbeats.
pub(crate) mod web {
    pub(crate) use super::s3::http::{Proxies, Target, address, reach};
}

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;

/// What must hold for a PUT to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutCondition {
    /// No object has this key yet. On a store without conditional writes the implementation checks before writing
    /// and says so through [`Capabilities::create_if_absent`].
    IfAbsent,
    /// Whatever is there is replaced.
    Overwrite,
}

/// What became of a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is durable under its key.
    Written,
    /// An object with exactly these bytes was already there (an earlier attempt of ours, say).
    AlreadyThere,
    /// An object with other bytes is there, and was left alone.
    Conflict,
}

/// What a store can do, as configured or as probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Conditional create is atomic on this store (it has been seen to refuse an existing key).
    pub create_if_absent: bool,
}

/// How levels are spelled in keys; the two Litestream families of stores differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLayout {
    /// `<path>/0009/<name>`: S3 and OSS.
    HexLevel,
    /// `<path>/ltx/9/<name>`: file and all others.
    LtxDirectory,
}

/// What the keys of a 0.3.x replica begin with, in both layouts.
pub(crate) const LEGACY_PREFIX: &str = "generations/";

/// Facts about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Full key, without the bucket's own path prefix.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock (or the file's modification time, which carries the timestamp
    /// given to PUT). `None` where the store does not say.
    pub modified: Option<UnixMillis>,
}

/// Data attached to a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PutOptions {
    /// Time the content stands for: user metadata `litestream-timestamp` on S3, modification time for files.
    pub timestamp: Option<UnixMillis>,
}

/// A byte range of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Number of bytes; `None` means to the end. `Some(0)` is not allowed.
    pub len: Option<u64>,
}

/// A body being read. Chunks arrive in order; the body resumes by range after a broken connection, with a budget
/// that progress refills, and ends only when all promised bytes have come.
#[async_trait]
pub trait Body: Send {
    /// The next chunk, never empty; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>>;
    /// Bytes this body will deliver in all.
    fn len(&self) -> u64;
    /// Whether it delivers none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An object being written in pieces. Nothing is visible under the key until [`Upload::finish`] returns.
/// Dropping it without `finish` or `abort` leaves at most an invisible unfinished upload, which the
/// implementation tries to remove.
#[async_trait]
pub trait Upload: Send {
    /// Appends bytes. Memory is bounded by part size × concurrency: the call waits when all are busy.
    async fn write(&mut self, data: Bytes) -> Result<()>;
    /// Publishes the object.
    async fn finish(self: Box<Self>) -> Result<PutOutcome>;
    /// Gives up and removes what was sent.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// A failed deletion inside a batch.
#[derive(Debug)]
pub struct DeleteFailure {
    /// The key that is still there.
    pub key: String,
    /// Why.
    pub error: Error,
}

/// One place for objects: a bucket plus a path prefix, or a directory. Keys are relative to that prefix and use `/`.
#[async_trait]
pub trait Bucket: Send + Sync {
    /// `s3`, `file` or `memory`; the `replica_type` of metrics and JSON.
    fn kind(&self) -> &'static str;

    /// Where it is, for messages: a URL without secrets.
    fn location(&self) -> String;

    /// How keys spell levels here.
    fn layout(&self) -> KeyLayout;

    /// What is known about the store.
    fn capabilities(&self) -> Capabilities;

    /// Writes a whole small object.
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<PutOutcome>;

    /// Starts writing an object of unknown or large size.
    async fn upload(
        &self,
        key: &str,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<Box<dyn Upload>>;

    /// Finishes an upload in parts under `key`, which is taken, without the look that [`Bucket::upload`] takes before:
    /// `Conflict` only if the store itself kept the object that was there. For examinations.
    async fn try_to_finish_over(&self, _key: &str) -> Result<PutOutcome> {
        let is_kept = self.capabilities().create_if_absent;
        Ok(if is_kept { PutOutcome::Conflict } else { PutOutcome::Written })
    }

    /// Reads an object or a range of it, cut at the object's end. `ErrorKind::NotFound` if there is no object,
    /// `ErrorKind::Corrupt` if it ends at or before the range's first byte.
    async fn get(&self, key: &str, range: Option<ByteRange>) -> Result<Box<dyn Body>>;

    /// Facts about one object; `None` if there is none.
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>>;

    /// All objects whose key starts with `prefix` and sorts after `start_after`, in key order. Complete or an error:
    /// a failed page is never an empty answer.
    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectInfo>>;

    /// Deletes objects; a key that is already absent counts as deleted. Returns those that could not be deleted;
    /// an `Err` means nothing is known about any of them.
    async fn delete(&self, keys: &[String]) -> Result<Vec<DeleteFailure>>;
}

/// Reads a whole object into memory, refusing more than `limit` bytes.
///
/// # Errors
/// As [`Bucket::get`]; `ErrorKind::Exhausted` past the limit.
pub async fn read_all(bucket: &dyn Bucket, key: &str, limit: u64) -> Result<Bytes> {
    let mut body = bucket.get(key, None).await?;
    if body.len() > limit {
        return Err(Error::new(
            ErrorKind::Exhausted,
            format!(
                "{}/{key} has {} bytes, more than the {limit} allowed here",
                bucket.location(),
                body.len()
            ),
        ));
    }
    let mut all = bytes::BytesMut::with_capacity(usize::try_from(body.len()).unwrap_or(0));
    while let Some(chunk) = body.chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

/// Refuses keys that not every implementation can store: empty, absolute, with empty, `.` or `..` parts, control
/// characters, or ending like the temporary files of a directory.
fn check_key(key: &str) -> Result<()> {
    let good =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control);
    if key.split('/').all(good) && !key.ends_with(directory::TEMPORARY) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, format!("{key:?} cannot be the key of an object")))
}

/// The part of an object of `size` bytes that a range names.
fn range_of(range: Option<ByteRange>, size: u64) -> Result<Range<u64>> {
    let Some(ByteRange { start, len }) = range else { return Ok(0..size) };
    if start >= size || len == Some(0) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("the object has {size} bytes and cannot be read from byte {start} on"),
        ));
    }
    Ok(start..len.map_or(size, |len| start.saturating_add(len).min(size)))
}
