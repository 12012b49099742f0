//! Reading the inputs of a merge in chunks, each complete before it is used.
//!
//! A merge waits for its slowest input and for the upload, so a body per input would stand unread for as long as that
//! takes, and stores close bodies that stand. Therefore every chunk is a request of its own.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};

use super::merge_job::Place;
use crate::bucket::{Bucket, ByteRange};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, OpenMode};
use crate::replica::Entry;

/// Memory for the chunks of all inputs together, in bytes.
const CHUNK_BUDGET: u64 = 8 << 20;

/// Bounds for one chunk, in bytes.
const CHUNK_RANGE: std::ops::RangeInclusive<u64> = (64 << 10)..=(4 << 20);

/// One input and how much of it has been read.
pub(super) struct Input {
    pub(super) entry: Entry,
    /// Where it is read from on this host, if it is there.
    local: Option<PathBuf>,
    key: String,
    read: u64,
    chunk: u64,
}

impl Input {
    /// Input `entry` of a merge of `inputs` files.
    pub(super) fn new(entry: Entry, place: Place<'_>, inputs: usize) -> Self {
        let chunk = (CHUNK_BUDGET / inputs as u64).clamp(*CHUNK_RANGE.start(), *CHUNK_RANGE.end());
        Self {
            local: place.local_dir.map(|dir| dir.join(entry.name.file_name())),
            key: entry.name.key(place.bucket.layout()),
            entry,
            read: 0,
            chunk,
        }
    }

    /// The next bytes; empty at the end.
    pub(super) async fn next_chunk(&mut self, place: Place<'_>) -> Result<Bytes> {
        let len = self.chunk.min(self.entry.size - self.read);
        if len == 0 {
            return Ok(Bytes::new());
        }
        let local = match self.local.clone() {
            Some(path) => self.local_chunk(place.host, path, len).await?,
            None => None,
        };
        let bytes = match local {
            Some(bytes) => bytes,
            None => self.remote_chunk(place.bucket, len).await?,
        };
        self.read += len;
        Ok(bytes)
    }

    /// Whether bytes so far came from a local file.
    pub(super) fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// Names the input in an error.
    pub(super) fn describe(&self, bucket: &dyn Bucket) -> String {
        match &self.local {
            Some(path) => path.display().to_string(),
            None => format!("{}/{}", bucket.location(), self.key),
        }
    }

    /// `None` (and from then on remote) if the file is not there or is not the one that was published.
    async fn local_chunk(&mut self, host: &Host, path: PathBuf, len: u64) -> Result<Option<Bytes>> {
        let disk = host.disk.clone();
        let (start, size) = (self.read, self.entry.size);
        let read = move || -> std::io::Result<Option<Bytes>> {
            let file = disk.open(&path, OpenMode::Read)?;
            if file.metadata()?.len != size {
                return Ok(None);
            }
            let mut bytes = vec![0; usize::try_from(len).expect("chunks are small")];
            file.read_exact_at(&mut bytes, start)?;
            Ok(Some(Bytes::from(bytes)))
        };
        match host.blocking(read).await {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            // From the start on, the object does as well; in the middle, the two need not be the same bytes.
            _ if start == 0 => {
                self.local = None;
                Ok(None)
            }
            Ok(None) => Err(Error::new(ErrorKind::Transient, "the file changed while it was read")),
            Err(error) => Err(Error::io("reading", error)),
        }
    }

    async fn remote_chunk(&self, bucket: &dyn Bucket, len: u64) -> Result<Bytes> {
        let range = ByteRange { start: self.read, len: Some(len) };
        let mut body = bucket.get(&self.key, Some(range)).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        if bytes.len() as u64 != len {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("has {} bytes, the listing said {}", self.read + bytes.len() as u64, self.entry.size),
            ));
        }
        Ok(bytes.freeze())
    }
}
