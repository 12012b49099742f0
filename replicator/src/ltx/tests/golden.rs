//! Files written by superfly/ltx, the Go library inside Litestream: v0.5.1 (LZ4 frames, Litestream up to 0.5.15) and
//! v0.5.2 (LZ4 blocks, from 0.5.16). `full` holds pages 1 to 4 as transaction 1, `delta` pages 1 and 3 of a database
//! shrunk to 3 pages as transaction 2, `merged` is that library's compaction of both.

use super::*;

/// The page content of the Go program that wrote the files.
fn golden_page(number: u32, version: u64) -> Vec<u8> {
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(version);
    let byte = |at| {
        if at % 3 == 0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        state.to_le_bytes()[0] & 0x1f
    };
    (0..512).map(byte).collect()
}

fn check(full: &[u8], delta: &[u8], merged: &[u8]) {
    let expected = Header { timestamp: UnixMillis(1_700_000_000_123), ..header(512, 4, 1, 1) };
    let pages: Pages = (1..=4).map(|n| (n, golden_page(n, 1))).collect();
    let (found, found_pages, _) = decode(full, 100).unwrap();
    assert_eq!((found, found_pages), (expected, pages));

    let expected = Header { wal_offset: 32, wal_size: 1072, wal_salt1: 7, wal_salt2: 8, ..expected };
    let expected = Header { commit: 3, min_txid: Txid(2), max_txid: Txid(2), ..expected };
    let pages: Pages = [(1, golden_page(1, 2)), (3, golden_page(3, 2))].into();
    let (found, found_pages, _) = decode(delta, 100).unwrap();
    assert_eq!((found, found_pages), (expected, pages));

    let (theirs, their_pages, their_trailer) = decode(merged, 100).unwrap();
    let (ours, our_pages) = merging::merge(&[full.to_vec(), delta.to_vec()], 100).unwrap();
    assert_eq!((ours, &our_pages), (theirs, &their_pages));
    // Content, not bytes: compressors differ, and compressed lengths are part of the file checksum.
    let (again, again_pages, our_trailer) = decode(&encode(ours, &our_pages), 100).unwrap();
    assert_eq!((again, again_pages), (theirs, their_pages));
    assert_eq!(our_trailer.post_apply_checksum, their_trailer.post_apply_checksum);
}

#[test]
fn frame_coded_files_of_litestream_are_read_and_merged_alike() {
    check(
        include_bytes!("golden/ltx-0.5.1-full.ltx"),
        include_bytes!("golden/ltx-0.5.1-delta.ltx"),
        include_bytes!("golden/ltx-0.5.1-merged.ltx"),
    );
}

#[test]
fn block_coded_files_of_litestream_are_read_and_merged_alike() {
    check(
        include_bytes!("golden/ltx-0.5.2-full.ltx"),
        include_bytes!("golden/ltx-0.5.2-delta.ltx"),
        include_bytes!("golden/ltx-0.5.2-merged.ltx"),
    );
}
