//! Point in time: the time in the headers counts, whatever the store says, and few requests find it.

use super::faults::{FaultyBucket, Get};
use super::synthetic::{self, dated, file, l0, options, replica};
use super::*;
use crate::host::UnixMillis;
use crate::ltx::Txid;

/// Where an LTX header has its time, in milliseconds.
const HEADER_TIME: usize = 32;

async fn at(bucket: &Arc<dyn Bucket>, millis: i64) -> Result<Option<Txid>> {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { target: Target::Timestamp(UnixMillis(millis)), ..options(&dir) };
    match restore(bucket, options).await? {
        Report::Restored(restored) => Ok(restored.plan.txid),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_newest_state_strictly_before() {
    let files: Vec<_> = (1..=9).map(|txid| l0(txid, 512, 1, &[(1, 1)])).collect();
    let bucket = replica(&files).await;
    for txid in 1..=9u64 {
        let time = (txid * 1000).cast_signed();
        assert_eq!(at(&bucket, time + 1).await.unwrap(), Some(Txid(txid)));
        if txid > 1 {
            assert_eq!(at(&bucket, time).await.unwrap(), Some(Txid(txid - 1)));
        }
    }
    assert_eq!(at(&bucket, i64::MAX).await.unwrap(), Some(Txid(9)));
    let error = at(&bucket, 1000).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    insta::assert_snapshot!(error, @"cannot restore from memory:: the oldest restorable state is transaction 0000000000000001 of 1970-01-01T00:00:01Z");
}

/// RR-05: level 0 has expired, levels are missing, only boundaries of merged files are left.
#[tokio::test]
async fn merged_files_offer_their_boundaries() {
    let files = [
        file(9, (1, 4), 512, 1, &[(1, 1)]),
        file(1, (5, 7), 512, 1, &[(1, 2)]),
        file(2, (3, 10), 512, 1, &[(1, 3)]),
        l0(11, 512, 1, &[(1, 4)]),
    ];
    let bucket = replica(&files).await;
    for (time, state) in [(4001, 4), (7000, 4), (7001, 7), (10_000, 7), (10_001, 10), (11_001, 11)] {
        assert_eq!(at(&bucket, time).await.unwrap(), Some(Txid(state)), "before {time}");
    }
}

/// The first byte of what is restored.
async fn page(files: &[synthetic::File], time: i64) -> Result<u8> {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { target: Target::Timestamp(UnixMillis(time)), ..options(&dir) };
    restore(&replica(files).await, options).await?;
    Ok(read(&dir.path().join("a.db"))[0])
}

/// A snapshot made later than its last transaction.
fn late_snapshot(max: u64, time: i64, fill: u8) -> synthetic::File {
    dated(9, (1, max), time, 512, 1, [(1, vec![fill; 512])].into_iter())
}

/// Found by simulation (seed 102671): a file of a killed replicator came in after its successor had published a
/// snapshot as the same transaction, so that the file's time stood for the snapshot's later state.
#[tokio::test]
async fn a_snapshot_of_a_later_time_does_not_stand_for_the_transaction_of_the_same_number() {
    let files = [l0(1, 512, 1, &[(1, 1)]), l0(2, 512, 1, &[(1, 2)]), late_snapshot(2, 9000, 9)];
    assert_eq!(page(&files, 5000).await.unwrap(), 2);
    // Litestream dates snapshots when they are made: if there is no other way, they stand for their transaction.
    let files = [l0(2, 512, 1, &[(1, 2)]), late_snapshot(2, 9000, 2)];
    assert_eq!(page(&files, 5000).await.unwrap(), 2);
}

/// Found by simulation (seed 51002413): as before, but retention had already deleted what led to the file's state.
#[tokio::test]
async fn a_file_of_another_state_dates_nothing() {
    let misdated = || l0(2, 512, 1, &[(1, 2)]);
    let error = page(&[misdated(), late_snapshot(2, 9000, 9)], 5000).await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot restore from memory:: the oldest restorable state is transaction 0000000000000002 of 1970-01-01T00:00:09Z");
    assert_eq!(page(&[misdated(), late_snapshot(2, 9000, 9)], 9001).await.unwrap(), 9);
    let older = [late_snapshot(1, 1000, 1), misdated(), late_snapshot(2, 9000, 9)];
    assert_eq!(page(&older, 5000).await.unwrap(), 2, "it is of the state that others give");
    let merged = file(1, (2, 2), 512, 1, &[(1, 3)]);
    assert_eq!(page(&[misdated(), late_snapshot(1, 1000, 1), merged], 2001).await.unwrap(), 3);
    // Its size tells, too.
    let grown = dated(9, (1, 2), 9000, 512, 2, [(1, vec![2; 512]), (2, vec![2; 512])].into_iter());
    page(&[misdated(), grown], 5000).await.unwrap_err();
}

/// What was lost hides states from before the time; the one before the gap must not pass for the newest of them.
#[tokio::test]
async fn a_gap_before_the_time_is_an_error_and_one_after_it_is_not() {
    let files = [file(9, (1, 5), 512, 1, &[(1, 1)]), l0(7, 512, 1, &[(1, 2)]), l0(8, 512, 1, &[(1, 3)])];
    let bucket = replica(&files).await;
    for time in [5001, 7000] {
        assert_eq!(at(&bucket, time).await.unwrap(), Some(Txid(5)), "before {time}");
    }
    for time in [7001, i64::MAX] {
        let error = at(&bucket, time).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"cannot restore from memory:: transactions 0000000000000006 to 0000000000000006 are in no LTX file, although later ones exist; the newest state before the gap is -txid 0000000000000005");
        }
    }
}

/// The time of the file behind a gap decides like any other, so it is held to its checksum.
#[tokio::test]
async fn a_damaged_time_behind_a_gap_is_reported() {
    let mut later = l0(7, 512, 1, &[(1, 2)]);
    let mut bytes = later.bytes.to_vec();
    bytes[HEADER_TIME + 5] ^= 1;
    later.bytes = bytes.into();
    let bucket = replica(&[file(9, (1, 5), 512, 1, &[(1, 1)]), later]).await;
    let error = at(&bucket, 7001).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("0000/0000000000000007"), "{error}");
}

/// Nobody can tell the time of a cut file: it may be what was asked for.
#[tokio::test]
async fn a_cut_file_behind_the_newest_state_is_named() {
    let mut cut = l0(7, 512, 1, &[(1, 2)]);
    cut.bytes = cut.bytes.slice(..50);
    let bucket = replica(&[l0(5, 512, 1, &[(1, 1)]), file(9, (1, 6), 512, 1, &[(1, 1)]), cut]).await;
    let error = at(&bucket, 6001).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("0000/0000000000000007"), "{error}");
    assert!(error.message().contains("-txid 0000000000000006"), "{error}");
}

/// RR-06: requests grow with the logarithm of the files, not with the files.
#[tokio::test]
async fn few_headers_are_read() {
    let mut files: Vec<_> = (1..=500).map(|txid| l0(txid, 512, 1, &[(1, 1)])).collect();
    files.extend((1..=50).map(|tens| file(9, (1, tens * 10), 512, 1, &[(1, 1)])));
    let bucket = FaultyBucket::get(&replica(&files).await, |_, _| Get::Normal);
    let shared: Arc<dyn Bucket> = bucket.clone();
    assert_eq!(at(&shared, 333_001).await.unwrap(), Some(Txid(333)));
    let gets = bucket.gets.lock().unwrap().len();
    assert!(gets <= 10 + 4 + 1, "{gets} requests: 10 headers, 4 files and the one after are enough");
}

/// Found by simulation (seed 6024907): a bit flipped in the time of a stored file moved the point in time, unnoticed.
/// Whatever file's time is wrong, the state is the right one, or the damage is reported.
#[tokio::test]
async fn a_damaged_time_moves_nothing_unnoticed() {
    let mut refused = 0;
    for damaged in 0..7 {
        for bit in [3, 13, 20] {
            let mut files: Vec<_> = (1..=7).map(|txid| l0(txid, 512, 1, &[(1, 1)])).collect();
            let mut bytes = files[damaged].bytes.to_vec();
            bytes[HEADER_TIME + 7 - bit / 8] ^= 1 << (bit % 8);
            files[damaged].bytes = bytes.into();
            let bucket = replica(&files).await;
            for txid in 1..=7u64 {
                match at(&bucket, (txid * 1000 + 1).cast_signed()).await {
                    Ok(state) => assert_eq!(state, Some(Txid(txid)), "file {damaged}, bit {bit}"),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                        assert!(damaged as u64 <= txid, "file {damaged} does not matter to {txid}: {error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 20, "{refused}: the files that are applied, and the one after");
}
