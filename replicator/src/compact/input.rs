//! Reading the inputs of a merge in chunks, each complete before it is used.
//!
//! A merge waits for its slowest input and for the upload, so a body per input would stand unread for as long as that
//! takes, and stores close bodies that stand. Therefore every chunk is a request of its own.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::copies::LocalCopy;
use super::merge_job::Place;
use crate::bucket::{Bucket, ByteRange};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Disk, DiskFile, OpenMode};
use crate::replica::Entry;

/// Memory for the chunks of all inputs that are read from the store, in bytes.
const CHUNK_BUDGET: u64 = 8 << 20;

/// Bounds for one chunk from the store, in bytes.
const CHUNK_RANGE: std::ops::RangeInclusive<u64> = (64 << 10)..=(4 << 20);

/// One chunk from the local disk, where a read costs little.
const LOCAL_CHUNK: u64 = 64 << 10;

/// Bytes of the checksum at the end of a file.
const CHECKSUM_LEN: usize = 8;

/// One input and how much of it has been read.
pub(super) struct Input {
    pub(super) entry: Entry,
    key: String,
    read: u64,
    remote_chunk: u64,
    /// Where it is read from on this host, if it is there.
    local: Option<Local>,
}

/// A copy that is being read.
struct Local {
    copy: LocalCopy,
    /// Opened with the first chunk.
    file: Option<Arc<dyn DiskFile>>,
    /// The last bytes read so far.
    tail: [u8; CHECKSUM_LEN],
}

/// The inputs of a merge, which share the memory for chunks.
pub(super) fn of_merge(bucket: &dyn Bucket, inputs: &[(Entry, Option<LocalCopy>)]) -> Vec<Input> {
    let remote = inputs.iter().filter(|(_, copy)| copy.is_none()).count().max(1);
    let remote_chunk = (CHUNK_BUDGET / remote as u64).clamp(*CHUNK_RANGE.start(), *CHUNK_RANGE.end());
    let input = |(entry, copy): &(Entry, Option<LocalCopy>)| Input {
        entry: *entry,
        key: entry.name.key(bucket.layout()),
        read: 0,
        remote_chunk,
        local: copy.clone().map(|copy| Local { copy, file: None, tail: [0; CHECKSUM_LEN] }),
    };
    inputs.iter().map(input).collect()
}

impl Input {
    /// The next bytes; empty at the end.
    pub(super) async fn next_chunk(&mut self, place: Place<'_>) -> Result<Bytes> {
        let rest = self.entry.size - self.read;
        if rest == 0 {
            return Ok(Bytes::new());
        }
        let local = match self.local.take() {
            Some(local) => self.local_chunk(place, local, rest.min(LOCAL_CHUNK)).await?,
            None => None,
        };
        let bytes = match local {
            Some(bytes) => bytes,
            None => self.remote_chunk(place.bucket, rest.min(self.remote_chunk)).await?,
        };
        self.read += bytes.len() as u64;
        Ok(bytes)
    }

    /// Whether bytes so far came from a local file.
    pub(super) fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// Names the input in an error.
    pub(super) fn describe(&self, bucket: &dyn Bucket) -> String {
        match &self.local {
            Some(local) => local.copy.path.display().to_string(),
            None => format!("{}/{}", bucket.location(), self.key),
        }
    }

    /// `None` (and from then on remote) if there is no file of the right size.
    async fn local_chunk(&mut self, place: Place<'_>, mut local: Local, len: u64) -> Result<Option<Bytes>> {
        let (disk, offset, is_last) =
            (place.host.disk.clone(), self.read, self.read + len == self.entry.size);
        let read = move || {
            let chunk = local.read(&*disk, offset, len);
            (local, chunk)
        };
        let (local, chunk) = place.host.blocking(read).await;
        if matches!(chunk, Err(_) | Ok(None)) && offset == 0 {
            // From the start on, the object does as well; in the middle, the two need not be the same bytes.
            return Ok(None);
        }
        let differs = is_last && local.tail != local.copy.file_checksum.to_be_bytes();
        self.local = Some(local);
        match chunk.map_err(|error| Error::io("reading", error))? {
            // The decoder sees to it that the content is what the checksum at its end says.
            Some(bytes) if !differs => Ok(Some(bytes)),
            _ => Err(Error::new(ErrorKind::Transient, "is not the file that was published")),
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

impl Local {
    /// Reads a chunk; `None` if the file has another size than the object.
    fn read(&mut self, disk: &dyn Disk, offset: u64, len: u64) -> std::io::Result<Option<Bytes>> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::from(disk.open(&self.copy.path, OpenMode::Read)?),
        };
        self.file = Some(Arc::clone(&file));
        if file.metadata()?.len != self.copy.size {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(len).expect("chunks are small")];
        file.read_exact_at(&mut bytes, offset)?;
        // A last chunk may be shorter than the checksum.
        let kept = CHECKSUM_LEN.saturating_sub(bytes.len());
        self.tail.copy_within(CHECKSUM_LEN - kept.., 0);
        self.tail[kept..].copy_from_slice(&bytes[bytes.len() - (CHECKSUM_LEN - kept)..]);
        Ok(Some(Bytes::from(bytes)))
    }
}
