//! What a directory does beyond the common behaviour: durability order, leftovers, permissions, failures.

use std::path::Path;

use super::*;
use crate::bucket::settings::Ownership;
use crate::error::ErrorKind;
use crate::host::{UnixMillis, os};

fn bucket(path: &Path) -> DirectoryBucket {
    DirectoryBucket::new(&os::host(), &DirectorySettings { path: path.to_owned(), ownership: None })
}

fn names(path: &Path) -> Vec<String> {
    os::host().disk.read_dir(path).unwrap().into_iter().map(|entry| entry.name).collect()
}

async fn put(bucket: &DirectoryBucket, key: &str, body: &'static str) -> Result<PutOutcome> {
    let options = PutOptions { timestamp: Some(UnixMillis(1_700_000_000_123)) };
    bucket.put(key, Bytes::from_static(body.as_bytes()), PutCondition::IfAbsent, options).await
}

#[tokio::test]
async fn temporary_files_are_hidden_and_swept_when_stale() {
    let root = tempfile::tempdir().unwrap();
    let level = root.path().join("ltx/0");
    let disk = os::host().disk;
    disk.create_dir_all(&level, 0o700).unwrap();
    for (name, modified) in [("old.ltx.1.tmp", 0), ("fresh.ltx.2.tmp", os::host().clock.now().0)] {
        disk.open(&level.join(name), OpenMode::Create).unwrap();
        disk.set_modified(&level.join(name), UnixMillis(modified)).unwrap();
    }
    let bucket = bucket(root.path());
    assert_eq!(bucket.list("", None).await.unwrap(), []);
    put(&bucket, "ltx/0/a.ltx", "x").await.unwrap();
    assert_eq!(names(&level), ["a.ltx", "fresh.ltx.2.tmp"]);
    assert_eq!(bucket.list("ltx/0/", None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn failed_and_abandoned_writes_leave_nothing() {
    let root = tempfile::tempdir().unwrap();
    let bucket = bucket(root.path());
    assert_eq!(put(&bucket, "a", "x").await.unwrap(), PutOutcome::Written);
    assert_eq!(put(&bucket, "a", "y").await.unwrap(), PutOutcome::Conflict);
    // A directory in the way: neither a link nor a rename can replace it.
    os::host().disk.create_dir_all(&root.path().join("b"), 0o700).unwrap();
    let overwrite =
        bucket.put("b", Bytes::from_static(b"z"), PutCondition::Overwrite, PutOptions::default()).await;
    assert!(overwrite.is_err());

    let mut upload = bucket.upload("c", PutCondition::IfAbsent, PutOptions::default()).await.unwrap();
    upload.write(Bytes::from_static(b"half")).await.unwrap();
    assert_eq!(names(root.path()).len(), 3, "{:?}", names(root.path()));
    drop(upload);
    for _ in 0..200 {
        if names(root.path()).len() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(names(root.path()), ["a", "b"]);
}

#[tokio::test]
async fn permissions_are_private_or_as_told() {
    let root = tempfile::tempdir().unwrap();
    let mode = |path: &str| os::host().disk.metadata(&root.path().join(path)).unwrap().mode;
    let facts = os::host().disk.metadata(root.path()).unwrap();
    put(&bucket(&root.path().join("private")), "l/a", "x").await.unwrap();
    assert_eq!((mode("private"), mode("private/l"), mode("private/l/a")), (0o700, 0o700, 0o600));

    let ownership = Ownership { file_mode: 0o640, directory_mode: 0o775, uid: facts.uid, gid: facts.gid };
    let settings = DirectorySettings { path: root.path().join("shared"), ownership: Some(ownership) };
    put(&DirectoryBucket::new(&os::host(), &settings), "l/a", "x").await.unwrap();
    assert_eq!((mode("shared"), mode("shared/l"), mode("shared/l/a")), (0o775, 0o775, 0o640));
}

#[tokio::test]
async fn reading_creates_nothing_and_tells_absent_from_broken() {
    let root = tempfile::tempdir().unwrap();
    let absent = bucket(&root.path().join("none"));
    assert_eq!(absent.list("", None).await.unwrap(), []);
    assert_eq!(absent.head("a").await.unwrap(), None);
    assert_eq!(absent.get("a", None).await.err().unwrap().kind(), ErrorKind::NotFound);
    assert!(names(root.path()).is_empty());

    let bucket = bucket(root.path());
    put(&bucket, "a/b", "x").await.unwrap();
    // The super-user may read anything, so this only shows what others would see.
    os::host().disk.set_permissions(&root.path().join("a"), 0, 0, 0).unwrap();
    if !is_root(root.path()) {
        assert_eq!(bucket.list("", None).await.unwrap_err().kind(), ErrorKind::Denied);
    }
    os::host().disk.set_permissions(&root.path().join("a"), 0o700, 0, 0).unwrap();
}

fn is_root(path: &Path) -> bool {
    os::host().disk.metadata(path).unwrap().uid == 0
}

#[tokio::test]
async fn keys_cannot_leave_the_directory() {
    let root = tempfile::tempdir().unwrap();
    let bucket = bucket(&root.path().join("in"));
    for key in ["../a", "/a", "a//b", "a/../../b", "", "a.tmp", "."] {
        assert!(put(&bucket, key, "x").await.is_err(), "{key}");
        assert!(bucket.get(key, None).await.is_err(), "{key}");
    }
    assert!(names(root.path()).is_empty());
}

/// Compaction moves data upwards, and a listing takes a while: what moves meanwhile must not be missed.
#[tokio::test]
async fn level_0_is_read_before_the_levels_that_its_files_move_to() {
    let root = tempfile::tempdir().unwrap();
    let bucket = bucket(root.path());
    let keys = ["ltx/9/a.ltx", "ltx/1/a.ltx", "ltx/0/a.ltx", "ltx/2/a.ltx"];
    for key in keys {
        put(&bucket, key, "x").await.unwrap();
    }
    let read: Vec<String> =
        bucket.files.walk("", None).unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(read, [keys[2], keys[1], keys[3], keys[0]]);
}

/// A level on another disk: what can be read and written through the link is listed.
#[tokio::test]
async fn a_level_behind_a_link_is_listed() {
    let (root, big) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bucket = bucket(root.path());
    put(&bucket, "ltx/0/a", "x").await.unwrap();
    std::os::unix::fs::symlink(big.path(), root.path().join("ltx/9")).unwrap();
    put(&bucket, "ltx/9/a", "x").await.unwrap();
    // In circles, and to nowhere.
    std::os::unix::fs::symlink(root.path(), root.path().join("ltx/0/up")).unwrap();
    std::os::unix::fs::symlink("absent", root.path().join("ltx/none")).unwrap();
    let listed = async |prefix: &str, after: Option<&str>| -> Vec<String> {
        bucket.list(prefix, after).await.unwrap().into_iter().map(|object| object.key).collect()
    };
    let all = listed("ltx/", None).await;
    for key in ["ltx/0/a", "ltx/9/a"] {
        assert!(all.iter().any(|found| found == key), "{key}: {all:?}");
    }
    assert_eq!(listed("ltx/9/", None).await, ["ltx/9/a"]);
    assert_eq!(listed("ltx/9", Some("ltx/9")).await, ["ltx/9/a"]);
    assert_eq!(listed("ltx/9", Some("ltx/9/")).await, ["ltx/9/a"]);
    assert_eq!(listed("ltx/9", Some("ltx/9/a")).await, Vec::<String>::new());
}
