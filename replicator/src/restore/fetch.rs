//! Fetches objects in order, several pieces at once.
//!
//! All objects of a plan form one sequence of pieces of a few MiB, and a window of `parallelism` pieces is in flight:
//! one large object is fetched by parallel ranges, many small ones are fetched ahead, and memory is the window,
//! whatever the sizes. A body is read as soon as it is opened, so a store never sees an idle connection.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::Failure;
use crate::bucket::{Bucket, ByteRange};
use crate::error::{Error, ErrorKind, Result};

/// Bytes per piece.
pub(super) const PIECE_LEN: u64 = 2 << 20;

/// An object to fetch, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// Key in the bucket.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
}

/// The next bytes of the sequence.
pub(super) struct Fetched {
    /// Index of the object.
    pub object: usize,
    /// Whether they are its last.
    pub last: bool,
    /// The bytes, as they came.
    pub chunks: Vec<Bytes>,
    /// Their number.
    pub len: u64,
}

/// See the module.
pub(super) struct Fetcher {
    bucket: Arc<dyn Bucket>,
    objects: Vec<Object>,
    /// The piece to start next: object index and offset.
    next: (usize, u64),
    running: VecDeque<(usize, bool, Task)>,
    window: usize,
}

/// A task that ends with its handle.
struct Task(JoinHandle<Result<(Vec<Bytes>, u64)>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Fetcher {
    /// Nothing is requested before the first [`Fetcher::next`].
    pub(super) fn new(bucket: Arc<dyn Bucket>, objects: Vec<Object>, parallelism: NonZeroUsize) -> Self {
        Self { bucket, objects, next: (0, 0), running: VecDeque::new(), window: parallelism.get() }
    }

    /// The next piece, in order; `None` after the last. `NotFound` means that an object vanished.
    pub(super) async fn next(&mut self) -> Result<Option<Fetched>, Failure> {
        self.fill()?;
        let Some((object, last, task)) = self.running.front_mut() else { return Ok(None) };
        let (object, last) = (*object, *last);
        // In the window until it is there, so that no more than the window is in flight.
        let (chunks, len) = match (&mut task.0).await {
            Ok(result) => result.map_err(|error| Failure::of_object(&self.objects[object].key, error))?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(Error::new(ErrorKind::Cancelled, "the program is shutting down").into()),
        };
        self.running.pop_front();
        // The next piece travels while the caller works on this one.
        self.fill()?;
        Ok(Some(Fetched { object, last, chunks, len }))
    }

    /// Keeps the window full.
    fn fill(&mut self) -> Result<()> {
        while self.running.len() < self.window {
            let (index, start) = self.next;
            let Some(object) = self.objects.get(index) else { break };
            if object.size == 0 {
                let place = self.bucket.location();
                return Err(Error::new(ErrorKind::Corrupt, format!("{place}/{} is empty", object.key)));
            }
            let len = PIECE_LEN.min(object.size - start);
            let last = start + len == object.size;
            self.next = if last { (index + 1, 0) } else { (index, start + len) };
            // A whole object needs no range, which some stores and proxies do not understand.
            let range = (len < object.size).then_some(ByteRange { start, len: Some(len) });
            let task = tokio::spawn(fetch(self.bucket.clone(), object.key.clone(), range, len));
            self.running.push_back((index, last, Task(task)));
        }
        Ok(())
    }
}

async fn fetch(
    bucket: Arc<dyn Bucket>,
    key: String,
    range: Option<ByteRange>,
    len: u64,
) -> Result<(Vec<Bytes>, u64)> {
    let mut body = bucket.get(&key, range).await?;
    let mut chunks = Vec::new();
    let mut got = 0;
    while let Some(chunk) = body.chunk().await? {
        got += chunk.len() as u64;
        chunks.push(chunk);
        if got > len {
            break;
        }
    }
    if got == len {
        return Ok((chunks, got));
    }
    let start = range.map_or(0, |range| range.start);
    let (place, end) = (bucket.location(), start + got);
    let what = if got < len { "ends after" } else { "has at least" };
    let message = format!("{place}/{key} {what} {end} bytes, its listing said {}", start + len);
    Err(Error::new(ErrorKind::Corrupt, message))
}
