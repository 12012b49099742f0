//! Buckets in memory that remember everything that ever happened.
//!
//! Every write and delete is one more entry in an append-only log, so an oracle can ask what was there at any
//! moment, and a stale listing is simply a listing of the past. Pure and synchronous: time comes in as an argument,
//! all maps are ordered, so equal calls give equal stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

/// Milliseconds since the Unix epoch, UTC, by the server's clock.
pub type Millis = i64;

/// A stored object; never changed once written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object {
    /// Content.
    pub body: Bytes,
    /// ETag without quotes: MD5 of the body, or MD5 of part MD5s and the number of parts.
    pub etag: String,
    /// User metadata, names in lower case without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// `Content-Type` as sent.
    pub content_type: Option<String>,
    /// `Content-Encoding` as sent, without `aws-chunked`.
    pub content_encoding: Option<String>,
    /// Checksums as `crc32` → base64.
    pub checksums: BTreeMap<String, String>,
}

/// What happened to one key at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Position in the log.
    pub seq: u64,
    /// Server time.
    pub at: Millis,
    /// What is there from now on; `None` after a delete.
    pub object: Option<Arc<Object>>,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position in the log, from 1.
    pub seq: u64,
    /// Server time.
    pub at: Millis,
    /// Ordinal of the request that caused it.
    pub request: u64,
    /// Bucket.
    pub bucket: String,
    /// Key; empty for bucket events.
    pub key: String,
    /// What was done.
    pub change: Change,
}

/// What an [`Event`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A bucket was made.
    BucketCreated,
    /// An object was written in one request.
    Put(Arc<Object>),
    /// An object was published from parts.
    Completed(Arc<Object>, UploadId),
    /// An object was deleted; also recorded when none was there.
    Deleted,
    /// A multipart upload was begun.
    UploadCreated(UploadId),
    /// A part was stored: its number and size in bytes.
    PartStored(UploadId, i32, u64),
    /// An upload was given up and its parts were dropped.
    UploadAborted(UploadId),
}

/// Identifies a multipart upload.
pub type UploadId = String;

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Now.
    Latest,
    /// After the log entry with this number.
    Seq(u64),
    /// At this server time, entries of that millisecond included.
    At(Millis),
}

impl Moment {
    fn includes(self, version: &Version) -> bool {
        match self {
            Self::Latest => true,
            Self::Seq(seq) => version.seq <= seq,
            Self::At(at) => version.at <= at,
        }
    }
}

/// A condition on a write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// Always.
    #[default]
    None,
    /// Only if no object is there.
    Absent,
    /// Only if an object is there, with this ETag if one is named.
    Matches(Option<String>),
}

/// Why the store refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No such bucket.
    NoSuchBucket,
    /// No such key (also for `If-Match` on a key that is absent).
    NoSuchKey,
    /// A condition did not hold.
    PreconditionFailed,
    /// No such upload, or it was completed or aborted before.
    NoSuchUpload,
    /// A part that was not uploaded, or with another ETag.
    InvalidPart,
    /// Part numbers do not rise.
    InvalidPartOrder,
    /// A part other than the last is too small.
    EntityTooSmall,
    /// Parts other than the last differ in size, on a store that wants them equal.
    UnequalParts,
    /// The bucket exists already.
    BucketExists,
}

/// A part waiting for completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Content.
    pub body: Bytes,
    /// MD5 of it.
    pub md5: [u8; 16],
    /// When it was stored.
    pub at: Millis,
}

/// An unfinished multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Key it will be published under.
    pub key: String,
    /// When it was begun.
    pub at: Millis,
    /// Metadata and headers for the object to come; its body is empty.
    pub template: Object,
    /// Parts by number.
    pub parts: BTreeMap<i32, Part>,
}

#[derive(Debug, Default)]
struct Bucket {
    keys: BTreeMap<String, Vec<Version>>,
    uploads: BTreeMap<UploadId, Upload>,
}

/// All buckets and their past.
#[derive(Debug, Default)]
pub struct Store {
    log: Vec<Event>,
    buckets: BTreeMap<String, Bucket>,
}

impl Store {
    fn record(&mut self, stamp: Stamp, bucket: &str, key: &str, change: Change) -> u64 {
        let seq = self.log.len() as u64 + 1;
        let object = match &change {
            Change::Put(object) | Change::Completed(object, _) => Some(Some(object.clone())),
            Change::Deleted => Some(None),
            _ => None,
        };
        self.log.push(Event {
            seq,
            at: stamp.at,
            request: stamp.request,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            change,
        });
        if let (Some(object), Some(bucket)) = (object, self.buckets.get_mut(bucket)) {
            bucket.keys.entry(key.to_owned()).or_default().push(Version { seq, at: stamp.at, object });
        }
        seq
    }

    /// Everything that happened, in order.
    #[must_use]
    pub fn log(&self) -> &[Event] {
        &self.log
    }

    /// Names of all buckets.
    pub fn buckets(&self) -> impl Iterator<Item = &str> {
        self.buckets.keys().map(String::as_str)
    }

    /// Whether the bucket exists.
    #[must_use]
    pub fn has_bucket(&self, bucket: &str) -> bool {
        self.buckets.contains_key(bucket)
    }

    fn bucket(&self, bucket: &str) -> Result<&Bucket, Refusal> {
        self.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)
    }

    fn bucket_mut(&mut self, bucket: &str) -> Result<&mut Bucket, Refusal> {
        self.buckets.get_mut(bucket).ok_or(Refusal::NoSuchBucket)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// [`Refusal::BucketExists`].
    pub fn create_bucket(&mut self, stamp: Stamp, bucket: &str) -> Result<(), Refusal> {
        if self.has_bucket(bucket) {
            return Err(Refusal::BucketExists);
        }
        self.buckets.insert(bucket.to_owned(), Bucket::default());
        self.record(stamp, bucket, "", Change::BucketCreated);
        Ok(())
    }

    /// The version of a key that was in force at a moment; a delete is a version without an object.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`].
    pub fn version(&self, bucket: &str, key: &str, when: Moment) -> Result<Option<&Version>, Refusal> {
        let versions = self.bucket(bucket)?.keys.get(key);
        Ok(versions.and_then(|all| all.iter().rev().find(|v| when.includes(v))))
    }

    /// All versions a key ever had, oldest first.
    #[must_use]
    pub fn history(&self, bucket: &str, key: &str) -> &[Version] {
        self.buckets.get(bucket).and_then(|b| b.keys.get(key)).map_or(&[], Vec::as_slice)
    }

    /// Objects under a prefix, in key order (bytes of the UTF-8 form), as they were at a moment.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`].
    pub fn list<'a>(
        &'a self,
        bucket: &str,
        prefix: &'a str,
        when: Moment,
    ) -> Result<impl Iterator<Item = (&'a str, &'a Version, &'a Arc<Object>)> + 'a, Refusal> {
        let keys = &self.bucket(bucket)?.keys;
        Ok(keys.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix)).filter_map(
            move |(key, versions)| {
                let version = versions.iter().rev().find(|v| when.includes(v))?;
                Some((key.as_str(), version, version.object.as_ref()?))
            },
        ))
    }

    fn check(&self, bucket: &str, key: &str, condition: &Condition) -> Result<(), Refusal> {
        let there = self.version(bucket, key, Moment::Latest)?.and_then(|v| v.object.as_ref());
        match (condition, there) {
            (Condition::None, _) | (Condition::Absent, None) | (Condition::Matches(None), Some(_)) => Ok(()),
            (Condition::Matches(Some(etag)), Some(object)) if *etag == object.etag => Ok(()),
            (Condition::Matches(_), None) => Err(Refusal::NoSuchKey),
            _ => Err(Refusal::PreconditionFailed),
        }
    }

    /// Writes an object if the condition holds; returns the log position.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::PreconditionFailed`], [`Refusal::NoSuchKey`].
    pub fn put(
        &mut self,
        stamp: Stamp,
        bucket: &str,
        key: &str,
        object: Object,
        condition: &Condition,
    ) -> Result<u64, Refusal> {
        self.check(bucket, key, condition)?;
        Ok(self.record(stamp, bucket, key, Change::Put(Arc::new(object))))
    }

    /// Deletes a key, present or not.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`].
    pub fn delete(&mut self, stamp: Stamp, bucket: &str, key: &str) -> Result<u64, Refusal> {
        self.bucket(bucket)?;
        Ok(self.record(stamp, bucket, key, Change::Deleted))
    }

    /// Begins a multipart upload.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`].
    pub fn create_upload(
        &mut self,
        stamp: Stamp,
        bucket: &str,
        key: &str,
        template: Object,
    ) -> Result<UploadId, Refusal> {
        self.bucket(bucket)?;
        let id = format!("upload-{:08}", self.log.len() + 1);
        self.record(stamp, bucket, key, Change::UploadCreated(id.clone()));
        let upload = Upload { key: key.to_owned(), at: stamp.at, template, parts: BTreeMap::new() };
        self.bucket_mut(bucket)?.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    /// An unfinished upload.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchUpload`].
    pub fn upload(&self, bucket: &str, id: &str) -> Result<&Upload, Refusal> {
        self.bucket(bucket)?.uploads.get(id).ok_or(Refusal::NoSuchUpload)
    }

    /// Unfinished uploads of a bucket by id.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`].
    pub fn uploads(&self, bucket: &str) -> Result<&BTreeMap<UploadId, Upload>, Refusal> {
        Ok(&self.bucket(bucket)?.uploads)
    }

    /// Stores a part, replacing one of the same number.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchUpload`].
    pub fn put_part(
        &mut self,
        stamp: Stamp,
        bucket: &str,
        id: &str,
        number: i32,
        part: Part,
    ) -> Result<(), Refusal> {
        let upload = self.bucket_mut(bucket)?.uploads.get_mut(id).ok_or(Refusal::NoSuchUpload)?;
        let (key, size) = (upload.key.clone(), part.body.len() as u64);
        upload.parts.insert(number, part);
        self.record(stamp, bucket, &key, Change::PartStored(id.to_owned(), number, size));
        Ok(())
    }

    /// Publishes an object built by the caller from an upload's parts, and ends the upload.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchUpload`], [`Refusal::PreconditionFailed`], [`Refusal::NoSuchKey`].
    pub fn complete_upload(
        &mut self,
        stamp: Stamp,
        bucket: &str,
        id: &str,
        object: Object,
        condition: &Condition,
    ) -> Result<u64, Refusal> {
        let key = self.upload(bucket, id)?.key.clone();
        self.check(bucket, &key, condition)?;
        self.bucket_mut(bucket)?.uploads.remove(id);
        Ok(self.record(stamp, bucket, &key, Change::Completed(Arc::new(object), id.to_owned())))
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchUpload`].
    pub fn abort_upload(&mut self, stamp: Stamp, bucket: &str, id: &str) -> Result<(), Refusal> {
        let upload = self.bucket_mut(bucket)?.uploads.remove(id).ok_or(Refusal::NoSuchUpload)?;
        self.record(stamp, bucket, &upload.key, Change::UploadAborted(id.to_owned()));
        Ok(())
    }
}

/// When and by which request a change is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Server time.
    pub at: Millis,
    /// Ordinal of the request.
    pub request: u64,
}
