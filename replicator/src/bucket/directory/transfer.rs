//! Reading and writing one file in pieces.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::{Body, PutCondition, PutOptions, PutOutcome, Upload};
use super::files::{Draft, Files};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{DiskFile, Host};

/// Bytes read at a time.
const CHUNK: u64 = 512 * 1024;

/// A file being read.
pub(super) struct FileBody {
    host: Host,
    name: String,
    file: Arc<dyn DiskFile>,
    remaining: Range<u64>,
    len: u64,
}

impl FileBody {
    pub(super) fn new(host: Host, name: String, file: Box<dyn DiskFile>, range: Range<u64>) -> Self {
        Self { host, name, file: Arc::from(file), len: range.end - range.start, remaining: range }
    }
}

#[async_trait]
impl Body for FileBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let n = CHUNK.min(self.remaining.end - self.remaining.start);
        if n == 0 {
            return Ok(None);
        }
        let (file, offset) = (Arc::clone(&self.file), self.remaining.start);
        let read = self.host.blocking(move || {
            let mut buffer = vec![0; usize::try_from(n).expect("a chunk fits in memory")];
            file.read_exact_at(&mut buffer, offset).map(|()| buffer)
        });
        let buffer = read.await.map_err(|error| Error::io(format!("cannot read {}", self.name), error))?;
        self.remaining.start += n;
        Ok(Some(buffer.into()))
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// A file being written.
pub(super) struct DirectoryUpload {
    host: Host,
    files: Arc<Files>,
    /// `None` once published or given up, and while a write is under way.
    draft: Option<Draft>,
    offset: u64,
    failed: bool,
    condition: PutCondition,
    options: PutOptions,
}

impl DirectoryUpload {
    pub(super) fn new(
        host: Host,
        files: Arc<Files>,
        draft: Draft,
        condition: PutCondition,
        options: PutOptions,
    ) -> Self {
        Self { host, files, draft: Some(draft), offset: 0, failed: false, condition, options }
    }

    async fn with_draft<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(Draft, &Files) -> T + Send + 'static,
    ) -> Result<T> {
        let draft = self.draft.take().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "a file upload was used after a failed or interrupted write")
        })?;
        let files = Arc::clone(&self.files);
        Ok(self.host.blocking(move || work(draft, &files)).await)
    }
}

#[async_trait]
impl Upload for DirectoryUpload {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        let (offset, len) = (self.offset, data.len() as u64);
        let (draft, written) = self
            .with_draft(move |draft, _| {
                let written = draft.file.write_all_at(&data, offset);
                (draft, written)
            })
            .await?;
        self.failed |= written.is_err();
        self.draft = Some(draft);
        self.offset += len;
        written.map_err(|error| Error::io("cannot write a temporary file of the replica", error))
    }

    async fn finish(mut self: Box<Self>) -> Result<PutOutcome> {
        let (condition, options) = (self.condition, self.options);
        let written = if self.failed { Err(io::Error::other("an earlier write failed")) } else { Ok(()) };
        self.with_draft(move |draft, files| files.complete(draft, written, condition, options)).await?
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        self.with_draft(|draft, files| files.discard(&draft)).await
    }
}

impl Drop for DirectoryUpload {
    fn drop(&mut self) {
        let Some(draft) = self.draft.take() else { return };
        let files = Arc::clone(&self.files);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.host.blocking.run(Box::new(move || files.discard(&draft))));
        }
    }
}
