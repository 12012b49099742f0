//! One suite of behaviour for every implementation of [`Bucket`].

use bytes::Bytes;

use super::*;

const TIME: UnixMillis = UnixMillis(1_700_000_000_123);

fn options() -> PutOptions {
    PutOptions { timestamp: Some(TIME) }
}

async fn put(bucket: &dyn Bucket, key: &str, body: impl Into<Bytes>) -> PutOutcome {
    bucket.put(key, body.into(), PutCondition::IfAbsent, options()).await.unwrap()
}

async fn text(bucket: &dyn Bucket, key: &str) -> Bytes {
    read_all(bucket, key, 1 << 30).await.unwrap()
}

fn keys(objects: &[ObjectInfo]) -> Vec<&str> {
    objects.iter().map(|object| object.key.as_str()).collect()
}

/// Bytes that differ everywhere, so that a misplaced part is noticed.
pub(super) fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect::<Vec<_>>().into()
}

/// Runs the whole suite on an empty bucket. `large` is a size that the bucket sends in several parts.
pub(super) async fn check(bucket: &dyn Bucket, large: usize) {
    absent_objects(bucket).await;
    conditions(bucket).await;
    ranges(bucket).await;
    listing(bucket).await;
    deletion(bucket).await;
    uploads(bucket, large).await;
}

async fn absent_objects(bucket: &dyn Bucket) {
    assert_eq!(bucket.list("", None).await.unwrap(), []);
    assert_eq!(bucket.head("none").await.unwrap(), None);
    assert_eq!(bucket.get("none", None).await.err().unwrap().kind(), ErrorKind::NotFound);
    assert!(bucket.delete(&["none".to_owned()]).await.unwrap().is_empty());
    assert!(bucket.delete(&[]).await.unwrap().is_empty());
    assert!(bucket.put("../x", Bytes::new(), PutCondition::IfAbsent, options()).await.is_err());
}

async fn conditions(bucket: &dyn Bucket) {
    assert_eq!(put(bucket, "c/1", "one").await, PutOutcome::Written);
    assert_eq!(put(bucket, "c/1", "one").await, PutOutcome::AlreadyThere);
    assert_eq!(put(bucket, "c/1", "two").await, PutOutcome::Conflict);
    assert_eq!(put(bucket, "c/1", "longer").await, PutOutcome::Conflict);
    assert_eq!(text(bucket, "c/1").await, "one");
    let two = bucket.put("c/1", "two".into(), PutCondition::Overwrite, options()).await.unwrap();
    assert_eq!(two, PutOutcome::Written);
    assert_eq!(text(bucket, "c/1").await, "two");
    assert_eq!(put(bucket, "c/empty", "").await, PutOutcome::Written);
    assert_eq!(text(bucket, "c/empty").await, "");
    assert_eq!(bucket.head("c/empty").await.unwrap().unwrap().size, 0);
    assert!(bucket.get("c/empty", None).await.unwrap().is_empty());
    assert!(bucket.capabilities().create_if_absent);
}

async fn ranges(bucket: &dyn Bucket) {
    put(bucket, "r/1", "0123456789").await;
    for (start, len, expected) in [
        (0, None, "0123456789"),
        (3, None, "3456789"),
        (3, Some(4), "3456"),
        (9, Some(9), "9"),
        (0, Some(1), "0"),
    ] {
        let mut body = bucket.get("r/1", Some(ByteRange { start, len })).await.unwrap();
        assert_eq!(body.len(), expected.len() as u64, "{start} {len:?}");
        let mut all = Vec::new();
        while let Some(chunk) = body.chunk().await.unwrap() {
            assert!(!chunk.is_empty());
            all.extend_from_slice(&chunk);
        }
        assert_eq!(all, expected.as_bytes(), "{start} {len:?}");
        assert_eq!(body.chunk().await.unwrap(), None, "the end stays the end");
    }
    let past = bucket.get("r/1", Some(ByteRange { start: 10, len: None })).await;
    assert_eq!(past.err().unwrap().kind(), ErrorKind::Corrupt);
}

async fn listing(bucket: &dyn Bucket) {
    for key in ["l/b", "l/a/2", "l/a/1", "l/a.b", "l/a", "lx"] {
        if bucket.kind() != "file" || key != "l/a" {
            put(bucket, key, key.to_owned()).await;
        }
    }
    let all = bucket.list("l", None).await.unwrap();
    let expected: Vec<&str> = ["l/a", "l/a.b", "l/a/1", "l/a/2", "l/b", "lx"]
        .into_iter()
        .filter(|key| bucket.kind() != "file" || *key != "l/a")
        .collect();
    assert_eq!(keys(&all), expected);
    assert_eq!(all.last().unwrap().size, 2);
    assert_eq!(keys(&bucket.list("l/a/", None).await.unwrap()), ["l/a/1", "l/a/2"]);
    assert_eq!(keys(&bucket.list("l/", Some("l/a/1")).await.unwrap()), ["l/a/2", "l/b"]);
    assert_eq!(keys(&bucket.list("l/", Some("a")).await.unwrap()).len(), expected.len() - 1);
    assert_eq!(keys(&bucket.list("l/", Some("m")).await.unwrap()), Vec::<&str>::new());
    if bucket.kind() != "s3" {
        // On S3 the time of a listing is the server's.
        assert!(all.iter().all(|object| object.modified == Some(TIME)));
    }
    let head = bucket.head("l/b").await.unwrap().unwrap();
    assert_eq!((head.key.as_str(), head.size), ("l/b", 3));
}

async fn deletion(bucket: &dyn Bucket) {
    put(bucket, "d/1", "x").await;
    put(bucket, "d/2", "x").await;
    put(bucket, "d/3", "x").await;
    let gone = ["d/1", "d/none", "d/3"].map(str::to_owned);
    assert!(bucket.delete(&gone).await.unwrap().is_empty());
    assert_eq!(keys(&bucket.list("d/", None).await.unwrap()), ["d/2"]);
    assert_eq!(put(bucket, "d/1", "again").await, PutOutcome::Written);
}

async fn uploads(bucket: &dyn Bucket, large: usize) {
    for (name, size) in [("empty", 0), ("small", 10), ("large", large)] {
        let (key, content) = (format!("u/{name}"), pattern(size));
        for (expected, condition, content) in [
            (PutOutcome::Written, PutCondition::IfAbsent, content.clone()),
            (PutOutcome::AlreadyThere, PutCondition::IfAbsent, content.clone()),
            (PutOutcome::Conflict, PutCondition::IfAbsent, pattern(size + 1)),
            (PutOutcome::Written, PutCondition::Overwrite, content.clone()),
        ] {
            let mut upload = bucket.upload(&key, condition, options()).await.unwrap();
            for chunk in content.chunks(999_983) {
                upload.write(content.slice_ref(chunk)).await.unwrap();
            }
            assert_eq!(upload.finish().await.unwrap(), expected, "{key} {condition:?}");
        }
        assert!(text(bucket, &key).await == content, "{key}");
    }
    let mut upload = bucket.upload("u/aborted", PutCondition::IfAbsent, options()).await.unwrap();
    upload.write(pattern(large)).await.unwrap();
    assert_eq!(bucket.head("u/aborted").await.unwrap(), None, "invisible until finished");
    upload.abort().await.unwrap();
    assert_eq!(keys(&bucket.list("u/", None).await.unwrap()), ["u/empty", "u/large", "u/small"]);
}

#[tokio::test]
async fn memory() {
    check(&memory::MemoryBucket::new(), 1 << 20).await;
}

#[tokio::test]
async fn directory() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings::DirectorySettings { path: root.path().join("new/replica"), ownership: None };
    check(&directory::DirectoryBucket::new(&crate::host::os::host(), &settings), 3 << 20).await;
}
