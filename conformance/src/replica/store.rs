//! Where a replica lies: a list of keys and their bytes.
//!
//! Only reading. Keys are relative to the replica's path and use `/`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use jiff::Timestamp;

use crate::Defect;
use crate::server::{Moment, Server};

/// A key and what the store says about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Key below the replica's path.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Time attached to the object, in milliseconds since 1970: a file's modification time, or when it was stored.
    pub time: Option<i64>,
    /// Whether `time` is what the writer attached, rather than when the store received it.
    pub time_is_attached: bool,
}

/// Anything that holds a replica.
pub trait Store {
    /// For messages, without secrets.
    fn location(&self) -> String;

    /// Every object, in key order.
    ///
    /// # Errors
    /// If the listing is not complete.
    fn list(&self) -> Result<Vec<Object>, Defect>;

    /// An object's bytes.
    ///
    /// # Errors
    /// If it is absent or unreadable.
    fn get(&self, key: &str) -> Result<Vec<u8>, Defect>;
}

/// A replica in a directory.
#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory given to the replicator as its replica's path.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Store for Directory {
    fn location(&self) -> String {
        self.0.display().to_string()
    }

    fn list(&self) -> Result<Vec<Object>, Defect> {
        let mut objects = Vec::new();
        walk(&self.0, "", &mut objects)
            .map_err(|error| Defect::new(format!("cannot list {}: {error}", self.0.display())))?;
        objects.sort();
        Ok(objects)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, Defect> {
        let path = self.0.join(key);
        std::fs::read(&path).map_err(|error| Defect::new(format!("cannot read {}: {error}", path.display())))
    }
}

fn walk(folder: &Path, prefix: &str, objects: &mut Vec<Object>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
        // A replicator at work renames and deletes: what has gone since is no error.
        let Ok(facts) = entry.metadata() else { continue };
        if facts.is_dir() {
            walk(&entry.path(), &format!("{key}/"), objects)?;
        } else {
            let time = facts.modified()?.duration_since(UNIX_EPOCH).ok();
            objects.push(Object {
                key,
                size: facts.len(),
                time: time.and_then(|time| i64::try_from(time.as_millis()).ok()),
                time_is_attached: true,
            });
        }
    }
    Ok(())
}

/// A replica in a bucket of the embedded server, read without any request, now or at a moment of the past.
#[derive(Clone)]
pub struct Embedded {
    server: Server,
    bucket: String,
    /// Ends with `/`, or is empty.
    prefix: String,
    moment: Moment,
}

impl Embedded {
    /// The bucket and the path inside it given to the replicator.
    #[must_use]
    pub fn new(server: &Server, bucket: &str, path: &str) -> Self {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        Self { server: server.clone(), bucket: bucket.to_owned(), prefix, moment: Moment::Latest }
    }

    /// The same replica as it was at a moment.
    #[must_use]
    pub fn at(&self, moment: Moment) -> Self {
        Self { moment, ..self.clone() }
    }
}

impl Store for Embedded {
    fn location(&self) -> String {
        format!("s3://{}/{} in this process", self.bucket, self.prefix)
    }

    fn list(&self) -> Result<Vec<Object>, Defect> {
        let store = self.server.store();
        let listed = store
            .list(&self.bucket, &self.prefix, self.moment)
            .map_err(|refusal| Defect::new(format!("cannot list {}: {refusal:?}", self.location())))?;
        let objects = listed.map(|(key, version, object)| {
            let attached =
                object.metadata.get("litestream-timestamp").and_then(|text| text.parse::<Timestamp>().ok());
            Object {
                key: key[self.prefix.len()..].to_owned(),
                size: object.body.len() as u64,
                time: Some(attached.map_or(version.at, Timestamp::as_millisecond)),
                time_is_attached: attached.is_some(),
            }
        });
        Ok(objects.collect())
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, Defect> {
        let store = self.server.store();
        let found = store.version(&self.bucket, &format!("{}{key}", self.prefix), self.moment);
        let object = found.ok().flatten().and_then(|version| version.object.as_ref());
        object.map(|object| object.body.to_vec()).ok_or_else(|| Defect::new(format!("{key} is absent")))
    }
}
