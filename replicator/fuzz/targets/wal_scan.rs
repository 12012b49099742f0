//! Any bytes as a WAL and as a WAL-index header. With the first bit set, checksums and salts are made right first, so
//! that what lies behind them is reached; then the scanner must agree with a naive reading.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use replicator::wal::{FRAME_HEADER_SIZE, FrameHeader, HEADER_SIZE, Header, IndexHeader, Scanner, checksum};

fuzz_target!(|input: &[u8]| {
    let Some((&mode, bytes)) = input.split_first() else { return };
    if let Some(index) = bytes.first_chunk::<{ IndexHeader::SIZE }>() {
        let _ = IndexHeader::parse(index);
    }
    let mut wal = bytes.to_vec();
    let repaired = mode & 1 == 1;
    if repaired && !repair(&mut wal, mode) {
        return;
    }
    let Some(header) = Header::parse(&wal) else {
        assert!(!repaired, "a header with a right checksum is accepted");
        return;
    };
    let mut scanner = Scanner::new(header, 0, [0, 0]);
    // Naively: the newest frame of each page up to the last commit frame.
    let (mut pending, mut committed, mut size, mut last) = (BTreeMap::new(), BTreeMap::new(), 0, 0);
    for (number, frame) in (1..).zip(frames(&wal, header.page_size.bytes())) {
        let head = FrameHeader::parse(frame.first_chunk().expect("frames have a header"));
        match scanner.push(frame) {
            Ok(ends_transaction) => {
                assert_eq!(ends_transaction, head.commit != 0);
                pending.insert(head.page, number);
                if ends_transaction {
                    committed.clone_from(&pending);
                    (size, last) = (head.commit, number);
                }
            }
            Err(fault) => {
                assert!(!repaired || head.page == 0, "{fault}");
                break;
            }
        }
    }
    let batch = scanner.finish();
    assert_eq!(batch.is_some(), last > 0);
    if let Some(batch) = batch {
        committed.retain(|&page, _| page <= size);
        let pages: BTreeMap<u32, u32> = batch.pages.iter().map(|&(page, frame)| (page.0, frame)).collect();
        assert_eq!((pages, batch.commit, batch.end.frame), (committed, size, last));
        assert!(batch.pages.is_sorted());
    }
});

/// The whole frames of a log.
fn frames(wal: &[u8], page_size: usize) -> impl Iterator<Item = &[u8]> {
    wal.get(HEADER_SIZE..).unwrap_or_default().chunks_exact(FRAME_HEADER_SIZE + page_size)
}

/// Makes magic, version, page size, salts and checksums right; `false` if there are too few bytes.
fn repair(wal: &mut [u8], mode: u8) -> bool {
    if wal.len() < HEADER_SIZE {
        return false;
    }
    let big_endian = mode & 2 != 0;
    let page_size = 512_usize << (mode >> 2 & 3);
    let magic: u32 = if big_endian { 0x377f_0683 } else { 0x377f_0682 };
    let (header, frames) = wal.split_at_mut(HEADER_SIZE);
    header[..4].copy_from_slice(&magic.to_be_bytes());
    header[4..8].copy_from_slice(&3_007_000_u32.to_be_bytes());
    header[8..12].copy_from_slice(&u32::try_from(page_size).expect("small").to_be_bytes());
    let mut sum = checksum(big_endian, [0, 0], &header[..24]);
    store(&mut header[24..], sum);
    for frame in frames.chunks_exact_mut(FRAME_HEADER_SIZE + page_size) {
        frame[8..16].copy_from_slice(&header[16..24]);
        sum = checksum(big_endian, sum, &frame[..8]);
        sum = checksum(big_endian, sum, &frame[FRAME_HEADER_SIZE..]);
        store(&mut frame[16..24], sum);
    }
    true
}

fn store(target: &mut [u8], [first, second]: [u32; 2]) {
    target[..4].copy_from_slice(&first.to_be_bytes());
    target[4..8].copy_from_slice(&second.to_be_bytes());
}
