//! Objects as files of a directory, laid out as Litestream's `file` replicas.
//!
//! A file appears under its key only when its content is complete and durable: temporary file, fsync, then a hard
//! link (create-if-absent) or a rename (overwrite), then fsync of the directory. All file access runs as blocking
//! work of the host.

mod files;
mod transfer;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use self::files::Files;
use self::transfer::{DirectoryUpload, FileBody};
use super::settings::DirectorySettings;
use super::{
    Body, Bucket, ByteRange, Capabilities, DeleteFailure, KeyLayout, ObjectInfo, PutCondition, PutOptions,
    PutOutcome, Upload, check_key, range_of,
};
use crate::error::{Error, Result};
use crate::host::{Host, OpenMode};

/// How the names of unfinished files end. They are never listed.
pub(super) const TEMPORARY: &str = ".tmp";

/// A directory replica.
pub struct DirectoryBucket {
    host: Host,
    files: Arc<Files>,
}

impl DirectoryBucket {
    /// A replica in `settings.path`, which need not exist yet.
    #[must_use]
    pub fn new(host: &Host, settings: &DirectorySettings) -> Self {
        Self { host: host.clone(), files: Arc::new(Files::new(host, settings)) }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Files) -> T + Send + 'static) -> T {
        let files = Arc::clone(&self.files);
        self.host.blocking(move || work(&files)).await
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        check_key(key)?;
        Ok(self.files.root().join(key))
    }
}

#[async_trait]
impl Bucket for DirectoryBucket {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn location(&self) -> String {
        format!("file://{}", self.files.root().display())
    }

    fn layout(&self) -> KeyLayout {
        KeyLayout::LtxDirectory
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { create_if_absent: self.files.links() }
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<PutOutcome> {
        let path = self.path(key)?;
        self.run(move |files| {
            let draft = files.draft(&path)?;
            let written = draft.file.write_all_at(&body, 0);
            files.complete(draft, written, condition, options)
        })
        .await
    }

    async fn upload(
        &self,
        key: &str,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<Box<dyn Upload>> {
        let path = self.path(key)?;
        let draft = self.run(move |files| files.draft(&path)).await?;
        let files = Arc::clone(&self.files);
        Ok(Box::new(DirectoryUpload::new(self.host.clone(), files, draft, condition, options)))
    }

    async fn get(&self, key: &str, range: Option<ByteRange>) -> Result<Box<dyn Body>> {
        let path = self.path(key)?;
        let name = path.display().to_string();
        let (file, size) = self
            .run(move |files| {
                let file = files.disk().open(&path, OpenMode::Read)?;
                let size = file.metadata()?.len;
                Ok((file, size))
            })
            .await
            .map_err(|error| Error::io(format!("cannot read {name}"), error))?;
        let range = range_of(range, size).map_err(|error| error.context(&name))?;
        Ok(Box::new(FileBody::new(self.host.clone(), name, file, range)))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        let path = self.path(key)?;
        let key = key.to_owned();
        self.run(move |files| files.object(key, &path)).await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        let (prefix, start_after) = (prefix.to_owned(), start_after.map(str::to_owned));
        let mut objects = self.run(move |files| files.walk(&prefix, start_after.as_deref())).await?;
        // A directory sorts its names without the `/` that follows them in keys.
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<DeleteFailure>> {
        let mut failures = Vec::new();
        let mut paths = Vec::with_capacity(keys.len());
        for key in keys {
            match self.path(key) {
                Ok(path) => paths.push((key.clone(), path)),
                Err(error) => failures.push(DeleteFailure { key: key.clone(), error }),
            }
        }
        failures.append(&mut self.run(move |files| files.remove(paths)).await);
        Ok(failures)
    }
}

#[cfg(test)]
mod failing;
#[cfg(test)]
mod tests;
