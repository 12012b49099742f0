//! Objects that are deleted while a restore runs: retention and compaction do that.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::executor::block_on;

use super::faults::{FaultyBucket, Get};
use super::synthetic::{File, file, file_of, l0, noise, options, replica};
use super::*;
use crate::bucket::{PutCondition, PutOptions};
use crate::ltx::Txid;

/// Runs a restore during which, at the first GET of `trigger`, `gone` are deleted and `new` appear.
async fn restore_while(
    before: &[File],
    trigger: &str,
    gone: &[&str],
    new: Vec<File>,
    parallelism: usize,
) -> (Result<Restored>, Vec<u8>, Vec<String>) {
    let inner = replica(before).await;
    let change = inner.clone();
    let (trigger, once) = (trigger.to_owned(), AtomicBool::new(false));
    let gone: Vec<String> = gone.iter().map(|&key| key.to_owned()).collect();
    let bucket = FaultyBucket::get(&inner, move |_, key| {
        if key == trigger && !once.swap(true, Ordering::SeqCst) {
            for File { key, bytes } in &new {
                let put = change.put(key, bytes.clone(), PutCondition::IfAbsent, PutOptions::default());
                block_on(put).unwrap();
            }
            block_on(change.delete(&gone)).unwrap();
        }
        Get::Normal
    });
    let dir = tempfile::tempdir().unwrap();
    let options = Options { parallelism: parallelism.try_into().unwrap(), ..options(&dir) };
    let output = options.output.clone();
    let result = run(&crate::host::os::host(), bucket.clone(), options, &NoProgress).await;
    let gets = bucket.gets.lock().unwrap().clone();
    match result {
        Ok(Report::Restored(restored)) => (Ok(restored), read(&output), gets),
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            assert_eq!(names(dir.path()), [""; 0]);
            (Err(error), Vec::new(), gets)
        }
    }
}

fn key(level: u8, min: u64, max: u64) -> String {
    format!("{level:04x}/{}-{}.ltx", Txid(min), Txid(max))
}

#[tokio::test]
async fn compaction_and_retention_in_the_middle_continue_from_what_is_applied() {
    let before = [
        file(9, (1, 3), 512, 2, &[(1, 1), (2, 1)]),
        l0(4, 512, 2, &[(1, 4)]),
        l0(5, 512, 2, &[(2, 5)]),
        l0(6, 512, 2, &[(2, 6)]),
    ];
    let merged = file(1, (4, 6), 512, 2, &[(1, 4), (2, 6)]);
    for parallelism in [1, 8] {
        let merged = File { key: merged.key.clone(), bytes: merged.bytes.clone() };
        let gone = [key(0, 4, 4), key(0, 5, 5), key(0, 6, 6)];
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        let (result, image, gets) =
            restore_while(&before, &key(0, 5, 5), &gone, vec![merged], parallelism).await;
        let restored = result.unwrap();
        assert_eq!(restored.plan.txid, Some(Txid(6)));
        assert_eq!((image[0], image[512]), (4, 6));
        if parallelism == 1 {
            let bases = gets.iter().filter(|get| **get == key(9, 1, 3)).count();
            assert_eq!(bases, 1, "the base is not fetched again: {gets:?}");
        }
    }
}

/// Half of a file was applied when it vanished, and what is left does not reach as far: its pages must not stay.
#[tokio::test]
async fn a_half_applied_file_that_nothing_replaces_is_undone() {
    const PAGES: u32 = 200;
    let base = || file(9, (1, 3), 65536, PAGES, &(1..=PAGES).map(|page| (page, 3)).collect::<Vec<_>>());
    let large = file_of(1, (4, 6), 65536, PAGES, (1..=PAGES).map(|page| (page, noise(65536, page))));
    assert!(large.bytes.len() as u64 > 3 * fetch::PIECE_LEN);
    let four = l0(4, 65536, PAGES, &[(PAGES, 4)]);
    let inner = replica(&[base(), large, four]).await;
    let (gone, change) = (key(1, 4, 6), inner.clone());
    let pieces = std::sync::atomic::AtomicUsize::new(0);
    let bucket = FaultyBucket::get(&inner, move |_, key| {
        if key == gone && pieces.fetch_add(1, Ordering::SeqCst) == 2 {
            block_on(change.delete(std::slice::from_ref(&gone))).unwrap();
        }
        Get::Normal
    });
    let dir = tempfile::tempdir().unwrap();
    let options = Options { parallelism: 1.try_into().unwrap(), ..options(&dir) };
    let bucket: Arc<dyn Bucket> = bucket;
    let (report, image) = restored(&bucket, options).await;
    assert_eq!(report.plan.txid, Some(Txid(4)));
    let expected = |page: u32| if page == PAGES { 4 } else { 3 };
    let wrong = (1..=PAGES).zip(image.chunks(65536)).find(|(page, data)| data[0] != expected(*page));
    assert_eq!(wrong.map(|(page, _)| page), None, "this page is from the vanished file");
}

/// A new plan began a whole database anew, which emptied the file, and that vanished half-way too: what was applied
/// before is no longer there to go on from.
#[tokio::test]
async fn a_half_applied_whole_database_is_no_state_to_continue_from() {
    const PAGES: u32 = 200;
    let base = file(9, (1, 3), 65536, PAGES, &(1..=PAGES).map(|page| (page, 3)).collect::<Vec<_>>());
    let newer = file_of(9, (1, 6), 65536, PAGES, (1..=PAGES).map(|page| (page, noise(65536, page))));
    assert!(newer.bytes.len() as u64 > 3 * fetch::PIECE_LEN);
    let small = [4, 5, 6].map(|txid| l0(txid, 65536, PAGES, &[(PAGES, 6)]));
    let [four, five, six] = small;
    let inner = replica(&[base, four, five, six]).await;
    let change = inner.clone();
    let (pieces, once) = (std::sync::atomic::AtomicUsize::new(0), AtomicBool::new(false));
    let bucket = FaultyBucket::get(&inner, move |_, key| {
        if key == newer.key && pieces.fetch_add(1, Ordering::SeqCst) == 2 {
            block_on(change.delete(std::slice::from_ref(&newer.key))).unwrap();
        }
        if key != self::key(0, 4, 4) || once.swap(true, Ordering::SeqCst) {
            return Get::Normal;
        }
        let (bytes, condition) = (newer.bytes.clone(), PutCondition::IfAbsent);
        block_on(change.put(&newer.key, bytes, condition, PutOptions::default())).unwrap();
        Get::Fails(ErrorKind::NotFound)
    });
    let dir = tempfile::tempdir().unwrap();
    let options = Options { parallelism: 1.try_into().unwrap(), ..options(&dir) };
    let bucket: Arc<dyn Bucket> = bucket;
    let (report, image) = restored(&bucket, options).await;
    assert_eq!(report.plan.txid, Some(Txid(6)));
    let expected = |page: u32| if page == PAGES { 6 } else { 3 };
    let wrong = (1..=PAGES).zip(image.chunks(65536)).find(|(page, data)| data[0] != expected(*page));
    assert_eq!(wrong.map(|(page, _)| page), None, "this page was lost");
}

/// DL-15: the base itself is removed by retention; a newer one is there by then.
#[tokio::test]
async fn a_vanished_base_is_replaced_by_a_newer_one() {
    let before = [file(9, (1, 3), 512, 2, &[(1, 1), (2, 1)]), l0(4, 512, 2, &[(1, 4)])];
    let newer = file(9, (1, 5), 512, 1, &[(1, 5)]);
    let gone = [key(9, 1, 3), key(0, 4, 4)];
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    let (result, image, _) = restore_while(&before, &key(9, 1, 3), &gone, vec![newer], 8).await;
    assert_eq!(result.unwrap().plan.txid, Some(Txid(5)));
    assert_eq!(image, vec![5; 512]);
}

#[tokio::test]
async fn what_is_gone_for_good_is_an_error_with_the_gap() {
    let before = [file(9, (1, 3), 512, 1, &[(1, 1)]), l0(4, 512, 1, &[(1, 4)]), l0(5, 512, 1, &[(1, 5)])];
    let four = key(0, 4, 4);
    let (result, ..) = restore_while(&before, &four, &[&four], Vec::new(), 8).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("0000000000000004"), "{error}");
}

/// A store whose listing goes on naming a deleted object: after the second 404 it counts as gone.
#[tokio::test]
async fn a_stale_listing_does_not_end_the_restore() {
    let files = [
        l0(1, 512, 1, &[(1, 1)]),
        l0(2, 512, 1, &[(1, 2)]),
        l0(3, 512, 1, &[(1, 3)]),
        file(1, (2, 3), 512, 1, &[(1, 3)]),
        file(1, (1, 2), 512, 1, &[(1, 2)]),
    ];
    let inner = replica(&files).await;
    let ghost = key(1, 2, 3);
    let bucket = FaultyBucket::get(&inner, move |_, key| match key == ghost {
        true => Get::Fails(ErrorKind::NotFound),
        false => Get::Normal,
    });
    let dir = tempfile::tempdir().unwrap();
    let bucket: Arc<dyn Bucket> = bucket;
    let (report, image) = restored(&bucket, options(&dir)).await;
    assert_eq!((report.plan.txid, image[0]), (Some(Txid(3)), 3));
}

/// A listed file that is not there, and nothing that stands for it: what is left is an old state.
#[tokio::test]
async fn the_newest_file_listed_and_not_there_is_an_error() {
    let three = [1, 2, 3].map(|txid| l0(txid, 512, 1, &[(1, u8::try_from(txid).unwrap())]));
    let inner = replica(&three).await;
    let ghost = key(0, 3, 3);
    let bucket: Arc<dyn Bucket> = FaultyBucket::get(&inner, move |_, key| match key == ghost {
        true => Get::Fails(ErrorKind::NotFound),
        false => Get::Normal,
    });
    let target = |target| {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { target, ..options(&dir) };
        (dir, options)
    };
    for newest in [Target::Latest, Target::Timestamp(crate::host::UnixMillis(9000))] {
        let (_dir, options) = target(newest);
        let error = restore(&bucket, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"cannot restore from memory:: 0000/0000000000000003-0000000000000003.ltx is listed, but the store has no such object; the newest state without it is -txid 0000000000000002");
        }
    }
    let (_dir, options) = target(Target::Txid(Txid(2)));
    assert_eq!(restored(&bucket, options).await.1[0], 2);
}

/// It is not listed any more when the restore looks again: another writer has withdrawn it.
#[tokio::test]
async fn a_newest_file_that_is_deleted_meanwhile_is_done_without() {
    let before = [l0(1, 512, 1, &[(1, 1)]), l0(2, 512, 1, &[(1, 2)]), l0(3, 512, 1, &[(1, 3)])];
    let three = key(0, 3, 3);
    let (result, image, _) = restore_while(&before, &three, &[&three], Vec::new(), 1).await;
    assert_eq!((result.unwrap().plan.txid, image[0]), (Some(Txid(2)), 2));
}

/// There is a replica, so `NotFound` would be wrong: the scripts of users take that for a first start.
#[tokio::test]
async fn objects_that_vanish_again_and_again_end_it() {
    let all = [
        l0(1, 512, 1, &[(1, 1)]),
        l0(2, 512, 1, &[(1, 1)]),
        file(1, (1, 2), 512, 1, &[(1, 1)]),
        file(9, (1, 2), 512, 1, &[(1, 1)]),
    ];
    for (files, kind) in [(&all[..1], ErrorKind::Corrupt), (&all, ErrorKind::Transient)] {
        let bucket = FaultyBucket::get(&replica(files).await, |_, _| Get::Fails(ErrorKind::NotFound));
        let dir = tempfile::tempdir().unwrap();
        let shared: Arc<dyn Bucket> = bucket.clone();
        let error = restore(&shared, options(&dir)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains("0000/0000000000000001-0000000000000001.ltx"), "{error}");
        assert!(bucket.gets.lock().unwrap().len() <= files.len() * (1 + REPLANS));
    }
}

/// A bucket all of whose LTX files are gone after the first request for one of them: its file system was unmounted.
fn gone_after_the_first_get(inner: &Arc<dyn Bucket>) -> Arc<dyn Bucket> {
    let change = inner.clone();
    FaultyBucket::get(inner, move |_, _| {
        let listed = block_on(change.list("000", None)).unwrap();
        let keys: Vec<String> = listed.into_iter().map(|object| object.key).collect();
        block_on(change.delete(&keys)).unwrap();
        Get::Normal
    })
}

#[tokio::test]
async fn a_replica_that_goes_away_is_not_taken_for_none() {
    let bucket = gone_after_the_first_get(&replica(&[l0(1, 512, 1, &[(1, 1)])]).await);
    let dir = tempfile::tempdir().unwrap();
    let flagged = Options { if_replica_exists: true, ..options(&dir) };
    let error = restore(&bucket, flagged).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    insta::assert_snapshot!(error, @"cannot restore from memory:: it held LTX files when the restore began, and now it holds nothing: was it deleted, or its file system unmounted? Look at it, and restore again");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[tokio::test]
async fn generations_do_not_take_the_place_of_files_that_go_away() {
    let inner = replica(&[l0(1, 512, 1, &[(1, 1)])]).await;
    let generation = "generations/000000000000000a/snapshots/00000000.snapshot.lz4";
    let (condition, put) = (PutCondition::IfAbsent, PutOptions::default());
    inner.put(generation, bytes::Bytes::from_static(b"x"), condition, put).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let error = restore(&gone_after_the_first_get(&inner), options(&dir)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("now it holds only 0.3.x generations"), "{error}");
}
