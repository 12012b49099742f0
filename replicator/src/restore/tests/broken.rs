//! Damaged replicas: lost, cut and refused objects. A restore may fail, or give a state that was committed; nothing
//! else.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::faults::{FaultyBucket, Get, without};
use super::*;
use crate::bucket::read_all;
use crate::host::os::host;
use crate::ltx::Txid;

async fn keys(bucket: &Arc<dyn Bucket>) -> Vec<String> {
    let objects = bucket.list("", None).await.unwrap();
    let keys = objects.into_iter().map(|object| object.key);
    keys.filter(|key| !key.ends_with(".json")).collect()
}

/// A golden replica in memory, without the levels named.
async fn golden_without(levels: &[&str]) -> Arc<dyn Bucket> {
    let all = directory(golden::set("0.5.17-4096"));
    let gone = keys(&all).await.into_iter().filter(|key| levels.iter().any(|level| key.starts_with(level)));
    without(&all, &gone.collect()).await
}

async fn without_one(bucket: &Arc<dyn Bucket>, key: &str) -> Arc<dyn Bucket> {
    without(bucket, &BTreeSet::from([key.to_owned()])).await
}

#[tokio::test]
async fn each_ltx_file_lost_in_turn() {
    let states = golden::expected("0.5.17-4096");
    let mut covered = 0;
    for levels in [&[][..], &["ltx/9"], &["ltx/1", "ltx/9"], &["ltx/0"]] {
        let bucket = golden_without(levels).await;
        for key in keys(&bucket).await {
            let dir = tempfile::tempdir().unwrap();
            let result =
                restore(&without_one(&bucket, &key).await, Options::new(dir.path().join("a.db"))).await;
            match result {
                Ok(Report::Restored(restored)) => {
                    let txid = restored.plan.txid.unwrap().to_string();
                    golden::assert_same(&read(&dir.path().join("a.db")), &states["states"][&txid]);
                    assert_eq!(names(dir.path()), ["a.db"]);
                    covered += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{key}: {error}");
                    assert_eq!(names(dir.path()), [""; 0], "{key}");
                }
                Ok(other) => panic!("{key}: {other:?}"),
            }
        }
    }
    assert!(covered > 10, "only {covered} losses were covered by other files");
}

#[tokio::test]
async fn a_gap_is_named_with_what_is_restorable() {
    let bucket = golden_without(&["ltx/1", "ltx/9"]).await;
    let bucket = without_one(&bucket, "ltx/0/0000000000000004-0000000000000004.ltx").await;
    let dir = tempfile::tempdir().unwrap();
    let error = restore(&bucket, Options::new(dir.path().join("a.db"))).await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot restore from memory:: transactions 0000000000000004 to 0000000000000004 are in no LTX file, although later ones exist; the newest state before the gap is -txid 0000000000000003");
    let options = Options { target: Target::Txid(Txid(3)), ..Options::new(dir.path().join("a.db")) };
    restored(&bucket, options).await;
}

#[tokio::test]
async fn every_object_cut_at_several_lengths() {
    for (name, used) in [("0.5.17-4096", "ltx/0/"), ("0.5.15-512", "ltx/0/"), ("0.3.13-4096", "generations/")]
    {
        let bucket = directory(golden::set(name));
        let others = keys(&bucket).await.into_iter().filter(|key| !key.starts_with(used)).collect();
        let bucket = without(&bucket, &others).await;
        for key in keys(&bucket).await.into_iter().step_by(2) {
            let len = read_all(bucket.as_ref(), &key, u64::MAX).await.unwrap().len();
            for (number, cut) in [0, 1, 4, 7, 50, len / 2, len - 9, len - 5, len - 1].into_iter().enumerate()
            {
                // The object itself is short, and so is its listing.
                let cut_object = cut_copy(&bucket, &key, cut).await;
                assert_refused(&cut_object, &key, cut).await;
                if number % 4 > 0 {
                    continue;
                }
                // The listing is right, but the answer ends early.
                let target = key.clone();
                let cut_body =
                    FaultyBucket::get(
                        &bucket,
                        move |_, key| {
                            if key == target { Get::Cut(cut) } else { Get::Normal }
                        },
                    );
                assert_refused(&(cut_body as Arc<dyn Bucket>), &key, cut).await;
            }
        }
    }
}

async fn cut_copy(bucket: &Arc<dyn Bucket>, key: &str, cut: usize) -> Arc<dyn Bucket> {
    let copy = without_one(bucket, key).await;
    let body = read_all(bucket.as_ref(), key, u64::MAX).await.unwrap().slice(..cut);
    let (condition, options) = (crate::bucket::PutCondition::Overwrite, Default::default());
    copy.put(key, body, condition, options).await.unwrap();
    copy
}

async fn assert_refused(bucket: &Arc<dyn Bucket>, key: &str, cut: usize) {
    let dir = tempfile::tempdir().unwrap();
    let error = restore(bucket, Options::new(dir.path().join("a.db"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{key} cut to {cut}: {error}");
    assert!(error.to_string().contains(key), "{error}");
    assert_eq!(names(dir.path()), [""; 0], "{key} cut to {cut}");
}

#[tokio::test]
async fn flipped_bytes_are_refused() {
    for name in ["0.5.17-4096", "0.3.13-4096"] {
        let bucket = directory(golden::set(name));
        let levels = keys(&bucket).await.into_iter().filter(|key| key.contains("/1/") || key.contains("/9/"));
        let bucket = without(&bucket, &levels.collect()).await;
        for key in keys(&bucket).await.into_iter().step_by(2) {
            let body = read_all(bucket.as_ref(), &key, u64::MAX).await.unwrap();
            for at in [3, body.len() / 3, body.len() / 2, body.len() - 4] {
                let mut damaged = body.to_vec();
                damaged[at] ^= 0x40;
                let copy = without_one(&bucket, &key).await;
                let (condition, options) = (crate::bucket::PutCondition::Overwrite, Default::default());
                copy.put(&key, damaged.into(), condition, options).await.unwrap();
                let dir = tempfile::tempdir().unwrap();
                let error = restore(&copy, Options::new(dir.path().join("a.db"))).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{key} flipped at {at}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_failing_get_fails_the_restore_with_its_own_kind_and_leaves_nothing() {
    let bucket = directory(golden::set("0.5.17-4096"));
    for kind in [ErrorKind::Denied, ErrorKind::Transient, ErrorKind::NotFound] {
        for number in 0.. {
            let faulty = FaultyBucket::get(&bucket, move |n, _| match n == number {
                true => Get::Fails(kind),
                false => Get::Normal,
            });
            let dir = tempfile::tempdir().unwrap();
            let faulty: Arc<dyn Bucket> = faulty;
            match restore(&faulty, Options::new(dir.path().join("a.db"))).await {
                Err(error) => {
                    assert_eq!(error.kind(), kind, "{error}");
                    assert_eq!(names(dir.path()), [""; 0]);
                }
                // One 404 is a hiccup and is survived; otherwise this restore needed fewer requests.
                Ok(_) if kind == ErrorKind::NotFound || number >= 1 => break,
                Ok(report) => panic!("{number}: {report:?}"),
            }
        }
    }
}

#[tokio::test]
async fn only_a_complete_authorised_empty_listing_is_no_replica() {
    let dir = tempfile::tempdir().unwrap();
    let empty = directory(dir.path().join("replica"));
    let flagged = || Options { if_replica_exists: true, ..Options::new(dir.path().join("a.db")) };
    assert_eq!(restore(&empty, flagged()).await.unwrap(), Report::NoReplica);
    let error = restore(&empty, Options::new(dir.path().join("a.db"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // Any one listing that is refused or fails, of any level or of the generations.
    for kind in [ErrorKind::Denied, ErrorKind::Transient] {
        let lists = Arc::new(AtomicUsize::new(0));
        let count = lists.clone();
        let counting = FaultyBucket::list(&empty, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        run(&host(), counting, flagged(), &NoProgress).await.unwrap();
        let total = lists.load(Ordering::SeqCst);
        assert_eq!(total, 3, "levels, generations, the other layout");
        for failing in 0..total {
            let seen = AtomicUsize::new(0);
            let faulty = FaultyBucket::list(&empty, move |prefix| {
                match seen.fetch_add(1, Ordering::SeqCst) == failing {
                    true => Err(Error::new(kind, format!("no listing of {prefix}"))),
                    false => Ok(()),
                }
            });
            let error = run(&host(), faulty, flagged(), &NoProgress).await.unwrap_err();
            assert_eq!(error.kind(), kind);
        }
    }
    // Something that cannot be restored is not nothing.
    let broken = golden_without(&["ltx/1", "ltx/9"]).await;
    let broken = without_one(&broken, "ltx/0/0000000000000001-0000000000000001.ltx").await;
    let error = restore(&broken, flagged()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let cut = synthetic::l0(1, 512, 1, &[(1, 1)]);
    let cut = synthetic::File { bytes: cut.bytes.slice(..100), ..cut };
    let error = restore(&synthetic::replica(&[cut]).await, flagged()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// A damaged object that others stand for is told, and no reason to fail; an older state would be one.
#[tokio::test]
async fn a_damaged_file_that_others_cover_does_not_end_the_restore() {
    let files =
        [(9, 1, 50), (1, 51, 75), (1, 76, 100), (9, 1, 100), (0, 101, 101)].map(|(level, min, max)| {
            synthetic::file(level, (min, max), 512, 1, &[(1, u8::try_from(max).unwrap())])
        });
    let key = files[3].key.clone();
    let bucket = synthetic::replica(&files).await;
    let body = read_all(bucket.as_ref(), &key, u64::MAX).await.unwrap();
    for at in [body.len() / 2, body.len() - 4] {
        let mut damaged = body.to_vec();
        damaged[at] ^= 0x40;
        overwrite(&bucket, &key, damaged).await;
        let dir = tempfile::tempdir().unwrap();
        let (report, image) = restored(&bucket, synthetic::options(&dir)).await;
        assert_eq!((report.plan.txid, image), (Some(Txid(101)), vec![101; 512]));
        assert_eq!(names(dir.path()), ["a.db"]);
    }
    // Without the other way there, the damage is what is told.
    let lost = without_one(&bucket, &files[2].key).await;
    let dir = tempfile::tempdir().unwrap();
    let error = restore(&lost, synthetic::options(&dir)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&key), "{error}");
    assert_eq!(names(dir.path()), [""; 0]);
}

/// A snapshot counts, not the file of level 0 that ends with it: that may be of a failed attempt.
#[tokio::test]
async fn a_damaged_snapshot_is_not_replaced_by_a_file_that_it_was_preferred_to() {
    let one = || synthetic::l0(1, 512, 1, &[(1, 1)]);
    let snapshot = synthetic::file(9, (1, 2), 512, 1, &[(1, 9)]);
    let key = snapshot.key.clone();
    let mut damaged = snapshot.bytes.to_vec();
    let at = damaged.len() - 4;
    damaged[at] ^= 0x40;
    let snapshot = synthetic::File { bytes: damaged.into(), ..snapshot };
    let bucket = synthetic::replica(&[one(), synthetic::l0(2, 512, 1, &[(1, 2)]), snapshot]).await;
    let dir = tempfile::tempdir().unwrap();
    let error = restore(&bucket, synthetic::options(&dir)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&key), "{error}");
}

async fn overwrite(bucket: &Arc<dyn Bucket>, key: &str, body: Vec<u8>) {
    let (condition, options) = (crate::bucket::PutCondition::Overwrite, Default::default());
    bucket.put(key, body.into(), condition, options).await.unwrap();
}
