//! LTX files made up for one purpose; their pages are no SQLite database.

use bytes::Bytes;

use super::faults::{Fault, FaultyDisk};
use super::*;
use crate::bucket::memory::MemoryBucket;
use crate::bucket::{PutCondition, PutOptions};
use crate::host::UnixMillis;
use crate::ltx::{Encoder, Header, PageNumber, PageSize, Txid};

/// A file and its key.
pub(super) struct File {
    pub key: String,
    pub bytes: Bytes,
}

/// A page filled with one byte.
pub(super) type Fill = (u32, u8);

/// A file of a level; its timestamp is 1000 × its last transaction.
pub(super) fn file(level: u8, txids: (u64, u64), page_size: u32, commit: u32, pages: &[Fill]) -> File {
    let pages = pages.iter().map(|&(number, fill)| (number, vec![fill; page_size as usize]));
    file_of(level, txids, page_size, commit, pages)
}

/// A page that does not compress.
pub(super) fn noise(page_size: u32, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) << 1 | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..page_size).map(|_| random()).collect()
}

/// As [`file`], with any pages.
pub(super) fn file_of(
    level: u8,
    txids: (u64, u64),
    page_size: u32,
    commit: u32,
    pages: impl Iterator<Item = (u32, Vec<u8>)>,
) -> File {
    dated(level, txids, (txids.1 * 1000).cast_signed(), page_size, commit, pages)
}

/// As [`file_of`], of a time in milliseconds.
pub(super) fn dated(
    level: u8,
    txids: (u64, u64),
    time: i64,
    page_size: u32,
    commit: u32,
    pages: impl Iterator<Item = (u32, Vec<u8>)>,
) -> File {
    let (min, max) = (Txid(txids.0), Txid(txids.1));
    let header = Header {
        flags: Header::NO_CHECKSUM,
        page_size: PageSize::new(page_size).unwrap(),
        commit,
        min_txid: min,
        max_txid: max,
        timestamp: UnixMillis(time),
        pre_apply_checksum: 0,
        wal_offset: 0,
        wal_size: 0,
        wal_salt1: 0,
        wal_salt2: 0,
        node_id: 0,
    };
    let mut encoder = Encoder::new(header).unwrap();
    let mut bytes = encoder.header_bytes().to_vec();
    for (number, page) in pages {
        encoder.page(PageNumber(number), &page, &mut bytes).unwrap();
    }
    encoder.finish(&mut bytes).unwrap();
    File { key: format!("{level:04x}/{min}-{max}.ltx"), bytes: bytes.into() }
}

pub(super) fn l0(txid: u64, page_size: u32, commit: u32, pages: &[Fill]) -> File {
    file(0, (txid, txid), page_size, commit, pages)
}

/// A replica whose store gives no times.
pub(super) async fn replica(files: &[File]) -> Arc<dyn Bucket> {
    let bucket = MemoryBucket::new();
    for File { key, bytes } in files {
        bucket.put(key, bytes.clone(), PutCondition::IfAbsent, PutOptions::default()).await.unwrap();
    }
    Arc::new(bucket)
}

/// Options without an integrity check.
pub(super) fn options(dir: &tempfile::TempDir) -> Options {
    Options { integrity_check: IntegrityCheck::None, ..Options::new(dir.path().join("a.db")) }
}

async fn image(files: &[File]) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    restore(&replica(files).await, options(&dir)).await?;
    Ok(read(&dir.path().join("a.db")))
}

fn filled(page_size: usize, fills: &[u8]) -> Vec<u8> {
    fills.iter().flat_map(|&fill| vec![fill; page_size]).collect()
}

#[tokio::test]
async fn growing_shrinking_and_growing_again() {
    let files = [
        l0(1, 512, 3, &[(1, 1), (2, 2), (3, 3)]),
        l0(2, 512, 1, &[(1, 4)]),
        l0(3, 512, 3, &[(2, 5), (3, 6)]),
    ];
    assert_eq!(image(&files).await.unwrap(), filled(512, &[4, 5, 6]));
    assert_eq!(image(&files[..2]).await.unwrap(), filled(512, &[4]));
}

#[tokio::test]
async fn a_file_that_grows_the_database_without_its_pages_is_refused() {
    let files = [l0(1, 512, 1, &[(1, 1)]), l0(2, 512, 4, &[(2, 2), (4, 4)])];
    let error = image(&files).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    insta::assert_snapshot!(error, @"cannot restore from memory:: 0000/0000000000000002-0000000000000002.ltx: it should make the database grow from 1 to 4 pages of 512 bytes, but brings 2 of the 3 new ones; the newest state before this file is -txid 0000000000000001");
}

/// D3: an L0 with every page in another size begins anew.
#[tokio::test]
async fn a_change_of_page_size() {
    let old = || l0(1, 1024, 3, &[(1, 1), (2, 2), (3, 3)]);
    let whole = [old(), l0(2, 512, 2, &[(1, 7), (2, 8)]), l0(3, 512, 2, &[(2, 9)])];
    assert_eq!(image(&whole).await.unwrap(), filled(512, &[7, 9]));
    let partial = [old(), l0(2, 512, 2, &[(2, 8)])];
    assert_eq!(image(&partial).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn the_lock_page_is_zero_and_not_missed() {
    // Pages of 64 KiB reach it at 1 GiB.
    const LOCK: u32 = 16385;
    const COMMIT: u32 = LOCK + 1;
    let fill = |page| if page < LOCK - 1 { 0 } else { 7 };
    let pages = (1..=COMMIT).filter(|&page| page != LOCK).map(|page| (page, fill(page)));
    let bucket = replica(&[file(9, (1, 1), 65536, COMMIT, &pages.collect::<Vec<_>>())]).await;
    let dir = tempfile::tempdir().unwrap();
    let report = run(&FaultyDisk::host(Fault::Sparse).0, bucket, options(&dir), &NoProgress).await.unwrap();
    let Report::Restored(report) = report else { panic!("{report:?}") };
    assert_eq!(report.database_bytes, u64::from(COMMIT) * 65536);
    let disk = crate::host::os::host().disk;
    let restored = disk.open(&dir.path().join("a.db"), OpenMode::Read).unwrap();
    for (page, expected) in [(LOCK - 1, 7), (LOCK, 0), (LOCK + 1, 7)] {
        let mut bytes = [1; 65536];
        restored.read_exact_at(&mut bytes, u64::from(page - 1) * 65536).unwrap();
        assert_eq!(bytes, [expected; 65536], "page {page}");
    }
}

#[tokio::test]
async fn a_file_under_another_name_is_refused() {
    let mut second = l0(2, 512, 1, &[(1, 2)]);
    second.key = second.key.replace('2', "3");
    let files = [l0(1, 512, 1, &[(1, 1)]), l0(2, 512, 1, &[(1, 2)]), second];
    let error = image(&files).await.unwrap_err();
    assert!(error.to_string().contains("not those of its name"), "{error}");
}

#[tokio::test]
async fn foreign_objects_in_a_level_are_ignored() {
    let bucket = replica(&[l0(1, 512, 1, &[(1, 1)])]).await;
    for key in ["0000/notes.txt", "0000/x/0000000000000009-0000000000000009.ltx", "0000/9-9.ltx", "lock.json"]
    {
        let (condition, options) = (PutCondition::IfAbsent, PutOptions::default());
        bucket.put(key, Bytes::from_static(b"x"), condition, options).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = restored(&bucket, options(&dir)).await;
    assert_eq!(report.plan.txid, Some(Txid(1)));
}
