//! The checks: what replication and restore rely on, each asked once, in the order in which they build on each other.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use super::report::Need;
use crate::bucket::{self, Bucket, ByteRange, PutCondition, PutOptions, PutOutcome};
use crate::error::{Error, ErrorKind};

/// More than two parts of the least size.
const LARGE: usize = (11 << 20) + 1;
/// Objects that are listed.
const MANY: usize = 12;

/// Why a check failed.
pub(super) struct Complaint {
    /// For a person.
    pub what: String,
    /// The request's own error, if it was one.
    pub kind: Option<ErrorKind>,
}

impl From<Error> for Complaint {
    fn from(error: Error) -> Self {
        Self { what: error.to_string(), kind: Some(error.kind()) }
    }
}

fn complain<T>(what: impl Into<String>) -> Result<T, Complaint> {
    Err(Complaint { what: what.into(), kind: None })
}

/// Ends the check with a complaint unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return complain(format!($($text)+));
        }
    };
}

/// A check at work; it may give a figure.
type Running<'a> = Pin<Box<dyn Future<Output = Result<Option<String>, Complaint>> + Send + 'a>>;

/// A question.
pub(super) struct Check {
    pub name: &'static str,
    pub need: Need,
    pub requirement: &'static str,
    /// What to do if it fails and no other setting helps.
    pub advice: Option<&'static str>,
    /// Most requests it makes, without repetitions of failed ones.
    pub requests: u64,
    /// Most KiB it moves, both ways.
    pub kib: u64,
    pub run: for<'a> fn(&'a dyn Bucket) -> Running<'a>,
}

/// What to do where the store does not keep two writers apart.
const ONE_WRITER: &str =
    "nothing; but a second writer is found only afterwards: never let two run on one replica";

/// The rights a key needs.
const RIGHTS: &str = "give the key the rights to list, read, write and delete below the replica's path";

/// All of them. The first two are the ones for which other settings are tried.
pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "list",
        need: Need::Required,
        requirement: "the place can be reached and listed with the keys given",
        advice: Some(RIGHTS),
        requests: 2,
        kib: 1,
        run: |bucket| Box::pin(list(bucket)),
    },
    Check {
        name: "write",
        need: Need::Required,
        requirement: "objects of 0, 1 and 70,000 bytes read back as written",
        advice: Some(RIGHTS),
        requests: 16,
        kib: 300,
        run: |bucket| Box::pin(write(bucket)),
    },
    Check {
        name: "absent",
        need: Need::Required,
        requirement: "what is not there is told apart from what cannot be read",
        advice: None,
        requests: 3,
        kib: 1,
        run: |bucket| Box::pin(absent(bucket)),
    },
    Check {
        name: "create-once",
        need: Need::Required,
        requirement: "a key that is taken is not written again, and an equal object is recognised",
        advice: None,
        requests: 14,
        kib: 1,
        run: |bucket| Box::pin(create_once(bucket)),
    },
    Check {
        name: "create-atomic",
        need: Need::Setting,
        requirement: "the store itself refuses to create a key twice (If-None-Match)",
        advice: Some(ONE_WRITER),
        requests: 6,
        kib: 1,
        run: |bucket| Box::pin(create_atomic(bucket)),
    },
    Check {
        name: "size",
        need: Need::Required,
        requirement: "HEAD and listings give the size that was written",
        advice: None,
        requests: 6,
        kib: 5,
        run: |bucket| Box::pin(size(bucket)),
    },
    Check {
        name: "range",
        need: Need::Required,
        requirement: "a range of an object is exactly that range",
        advice: None,
        requests: 9,
        kib: 160,
        run: |bucket| Box::pin(range(bucket)),
    },
    Check {
        name: "list-after-write",
        need: Need::Required,
        requirement: "what was written is listed at once, in order, and from any key on",
        advice: None,
        requests: MANY as u64 * 2 + 4,
        kib: 2,
        run: |bucket| Box::pin(list_after_write(bucket)),
    },
    Check {
        name: "parallel",
        need: Need::Setting,
        requirement: "four requests at once are served",
        advice: Some("concurrency: 1"),
        requests: 12,
        kib: 2048,
        run: |bucket| Box::pin(parallel(bucket)),
    },
    Check {
        name: "multipart",
        need: Need::Required,
        requirement: "an object of three parts reads back as written",
        advice: Some("part-size: what the provider documents (5 MiB to 5 GiB)"),
        requests: 14,
        kib: 2 * (LARGE as u64 / 1024 + 1),
        run: |bucket| Box::pin(multipart(bucket)),
    },
    Check {
        name: "finish-atomic",
        need: Need::Setting,
        requirement: "the store itself refuses to finish an upload in parts under a key that is taken",
        advice: Some(ONE_WRITER),
        requests: 10,
        kib: 1,
        run: |bucket| Box::pin(finish_atomic(bucket)),
    },
    Check {
        name: "abort",
        need: Need::Optional,
        requirement: "an upload that is given up leaves no object",
        advice: Some("a lifecycle rule that removes incomplete multipart uploads"),
        requests: 8,
        kib: LARGE as u64 / 1024 + 1,
        run: |bucket| Box::pin(abort(bucket)),
    },
    Check {
        name: "delete",
        need: Need::Required,
        requirement: "a deleted object is gone, and deleting it again is no error",
        advice: Some(
            "the right to delete; without it nothing is ever removed and the replica grows for ever",
        ),
        requests: 6,
        kib: 1,
        run: |bucket| Box::pin(delete(bucket)),
    },
    Check {
        name: "delete-many",
        need: Need::Required,
        requirement: "several objects deleted at once are gone from reads and listings",
        advice: None,
        requests: 18,
        kib: 1,
        run: |bucket| Box::pin(delete_many(bucket)),
    },
    Check {
        name: "recreate",
        need: Need::Required,
        requirement: "a key can be written again after it was deleted",
        advice: Some("no versioning or object lock that keeps deleted keys taken"),
        requests: 8,
        kib: 1,
        run: |bucket| Box::pin(recreate(bucket)),
    },
    Check {
        name: "times",
        need: Need::Optional,
        requirement: "listings say when an object was written",
        advice: Some("restore by transaction (-txid) where restore by time is too coarse"),
        requests: 4,
        kib: 1,
        run: |bucket| Box::pin(times(bucket)),
    },
];

async fn put(bucket: &dyn Bucket, key: &str, body: impl Into<Bytes> + Send) -> Result<PutOutcome, Complaint> {
    Ok(bucket.put(key, body.into(), PutCondition::IfAbsent, PutOptions::default()).await?)
}

async fn create(bucket: &dyn Bucket, key: &str, body: impl Into<Bytes> + Send) -> Result<(), Complaint> {
    match put(bucket, key, body).await? {
        PutOutcome::Written => Ok(()),
        other => complain(format!("{key} is new, and writing it gave {other:?}")),
    }
}

async fn holds(bucket: &dyn Bucket, key: &str, body: &[u8]) -> Result<(), Complaint> {
    let found = bucket::read_all(bucket, key, LARGE as u64 * 2).await?;
    let at = found.iter().zip(body).position(|(a, b)| a != b).unwrap_or(found.len().min(body.len()));
    ensure!(
        found == body,
        "{key} reads back as {} bytes where {} were written; the first difference is at byte {at}",
        found.len(),
        body.len()
    );
    Ok(())
}

/// Bytes that do not compress and differ everywhere.
fn pattern(len: usize) -> Bytes {
    (0..len as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 29) as u8).collect::<Vec<_>>().into()
}

async fn list(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    let found = bucket.list("", None).await?;
    ensure!(found.is_empty(), "a prefix of random name holds {} objects", found.len());
    Ok(None)
}

async fn write(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    for len in [0, 1, 70_000] {
        let (key, body) = (format!("write/{len}"), pattern(len));
        create(bucket, &key, body.clone()).await?;
        holds(bucket, &key, &body).await?;
    }
    Ok(None)
}

async fn absent(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    ensure!(bucket.head("absent/none").await?.is_none(), "HEAD of an absent key finds an object");
    match bucket.get("absent/none", None).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => complain(format!("reading an absent key gives: {error}")),
        Ok(body) => complain(format!("reading an absent key gives {} bytes", body.len())),
    }
}

async fn create_once(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    create(bucket, "create/once", "first").await?;
    let equal = put(bucket, "create/once", "first").await?;
    ensure!(equal == PutOutcome::AlreadyThere, "writing equal bytes again gave {equal:?}");
    let other = put(bucket, "create/once", "other").await?;
    ensure!(other == PutOutcome::Conflict, "writing other bytes to a taken key gave {other:?}");
    holds(bucket, "create/once", b"first").await?;
    Ok(None)
}

async fn create_atomic(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    create(bucket, "create/atomic", "first").await?;
    ensure!(
        bucket.capabilities().create_if_absent,
        "the condition is refused, or accepted and ignored: the key is looked up before it is written"
    );
    Ok(None)
}

async fn size(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    create(bucket, "size/object", pattern(4321)).await?;
    let head = bucket.head("size/object").await?.map(|object| object.size);
    ensure!(head == Some(4321), "HEAD says {head:?}, 4321 bytes were written");
    let listed = bucket.list("size/", None).await?.first().map(|object| object.size);
    ensure!(listed == Some(4321), "the listing says {listed:?}, 4321 bytes were written");
    Ok(None)
}

async fn range(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    let content = pattern(70_000);
    create(bucket, "range/object", content.clone()).await?;
    for (start, len) in [(0, Some(1)), (12_345, Some(4096)), (69_999, Some(10)), (65_536, None)] {
        let mut body = bucket.get("range/object", Some(ByteRange { start, len })).await?;
        let mut found = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            found.extend_from_slice(&chunk);
        }
        let end = len.map_or(content.len() as u64, |len| (start + len).min(content.len() as u64));
        let (from, to) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        ensure!(found == content[from..to], "bytes {start} to {end} are not those of the object");
    }
    Ok(None)
}

async fn list_after_write(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    // Written backwards: order is the store's doing.
    for n in (0..MANY).rev() {
        create(bucket, &format!("many/{n:02}"), "x").await?;
    }
    let wanted: Vec<String> = (0..MANY).map(|n| format!("many/{n:02}")).collect();
    let keys = async |after: Option<&str>| -> Result<Vec<String>, Complaint> {
        Ok(bucket.list("many/", after).await?.into_iter().map(|object| object.key).collect())
    };
    let found = keys(None).await?;
    ensure!(found == wanted, "{} of {MANY} objects are listed, or in another order", found.len());
    let found = keys(Some("many/05")).await?;
    ensure!(found == wanted[6..], "after the sixth key {} are listed, not {}", found.len(), MANY - 6);
    Ok(None)
}

async fn parallel(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    let body = pattern(256 << 10);
    let keys: Vec<String> = (0..4).map(|n| format!("parallel/{n}")).collect();
    let written = futures::future::join_all(keys.iter().map(|key| create(bucket, key, body.clone()))).await;
    written.into_iter().collect::<Result<Vec<()>, _>>()?;
    let read = futures::future::join_all(keys.iter().map(|key| holds(bucket, key, &body))).await;
    read.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(None)
}

async fn multipart(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    let content = pattern(LARGE);
    let mut upload = bucket.upload("large/object", PutCondition::IfAbsent, PutOptions::default()).await?;
    for chunk in content.chunks(1 << 20) {
        upload.write(content.slice_ref(chunk)).await?;
    }
    let outcome = upload.finish().await?;
    ensure!(outcome == PutOutcome::Written, "finishing a new object gave {outcome:?}");
    holds(bucket, "large/object", &content).await?;
    Ok(None)
}

async fn finish_atomic(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    create(bucket, "finish/atomic", "first").await?;
    ensure!(
        bucket.try_to_finish_over("finish/atomic").await? == PutOutcome::Conflict,
        "the condition is refused, or accepted and ignored: the key is looked up before the upload is finished"
    );
    Ok(None)
}

async fn abort(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    let content = pattern(LARGE);
    let mut upload = bucket.upload("abort/object", PutCondition::IfAbsent, PutOptions::default()).await?;
    upload.write(content).await?;
    upload.abort().await?;
    let left = bucket.list("abort/", None).await?;
    ensure!(left.is_empty(), "there is an object that was never finished");
    Ok(None)
}

async fn delete(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    let keys = ["delete/one".to_owned()];
    create(bucket, &keys[0], "x").await?;
    for _ in 0..2 {
        if let Some(failure) = bucket.delete(&keys).await?.into_iter().next() {
            return Err(failure.error.into());
        }
    }
    ensure!(bucket.head(&keys[0]).await?.is_none(), "the deletion succeeded, and the object is still there");
    Ok(None)
}

async fn delete_many(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    let keys: Vec<String> = (0..3).map(|n| format!("delete-many/{n}")).collect();
    for key in &keys {
        create(bucket, key, "x").await?;
    }
    if let Some(failure) = bucket.delete(&keys).await?.into_iter().next() {
        return Err(failure.error.into());
    }
    for key in &keys {
        ensure!(bucket.head(key).await?.is_none(), "the deletion succeeded, and {key} is still there");
    }
    let left = bucket.list("delete-many/", None).await?;
    ensure!(left.is_empty(), "{} deleted objects are still listed", left.len());
    Ok(None)
}

async fn recreate(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    create(bucket, "recreate/object", "first").await?;
    if let Some(failure) = bucket.delete(&["recreate/object".to_owned()]).await?.into_iter().next() {
        return Err(failure.error.into());
    }
    create(bucket, "recreate/object", "second").await?;
    holds(bucket, "recreate/object", b"second").await?;
    Ok(None)
}

async fn times(bucket: &dyn Bucket) -> Result<Option<String>, Complaint> {
    create(bucket, "times/object", "x").await?;
    let listed = bucket.list("times/", None).await?;
    ensure!(listed.iter().all(|object| object.modified.is_some()), "listings have no LastModified");
    Ok(None)
}
