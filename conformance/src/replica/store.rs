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

/// Why an object's bytes are not here. It says nothing about what the object holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// There is no such object, or no longer.
    #[error(transparent)]
    Absent(Defect),
    /// It may be there.
    #[error(transparent)]
    Failed(Defect),
}

impl From<Unread> for Defect {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Absent(defect) | Unread::Failed(defect) => defect,
        }
    }
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
    /// [`Unread`]: which of both matters where a replicator is at work.
    fn get(&self, key: &str) -> Result<Vec<u8>, Unread>;
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

    fn get(&self, key: &str) -> Result<Vec<u8>, Unread> {
        let path = self.0.join(key);
        std::fs::read(&path).map_err(|error| {
            let defect = Defect::new(format!("cannot read {}: {error}", path.display()));
            if error.kind() == io::ErrorKind::NotFound {
                Unread::Absent(defect)
            } else {
                Unread::Failed(defect)
            }
        })
    }
}

/// From level 0 upwards, the way data moves: what is merged and deleted meanwhile is seen below or above.
fn walk(folder: &Path, prefix: &str, objects: &mut Vec<Object>) -> io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let Some(facts) = if_still_there(&entry.path(), entry.metadata())? else { continue };
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

/// A replicator at work renames and deletes: what has gone since it was listed is no error. Anything else is one, since
/// a listing without what could not be looked at would make a replica look whole.
fn if_still_there<T>(path: &Path, looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
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

    fn get(&self, key: &str) -> Result<Vec<u8>, Unread> {
        let store = self.server.store();
        let found = store.version(&self.bucket, &format!("{}{key}", self.prefix), self.moment);
        let object = found.ok().flatten().and_then(|version| version.object.as_ref());
        let absent = || Unread::Absent(Defect::new(format!("{key} is absent")));
        object.map(|object| object.body.to_vec()).ok_or_else(absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_listed_upwards() {
        let folder = tempfile::tempdir().unwrap();
        for level in (0..10).rev() {
            let level = folder.path().join(format!("ltx/{level}"));
            std::fs::create_dir_all(&level).unwrap();
            std::fs::write(level.join("file"), "").unwrap();
        }
        let mut objects = Vec::new();
        walk(folder.path(), "", &mut objects).unwrap();
        assert!(objects.is_sorted() && objects.len() == 10, "{objects:?}");
    }

    #[test]
    fn only_what_has_gone_is_left_out() {
        let looked = |kind: io::ErrorKind| if_still_there::<()>(Path::new("ltx/0"), Err(kind.into()));
        assert_eq!(if_still_there(Path::new("ltx/0"), Ok(7)).unwrap(), Some(7));
        assert_eq!(looked(io::ErrorKind::NotFound).unwrap(), None);
        let refused = looked(io::ErrorKind::PermissionDenied).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(refused.to_string().starts_with("ltx/0: "), "{refused}");
    }
}
