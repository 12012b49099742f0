//! Tests of the codec, with writers and a model that share no code with it.

mod decoding;
mod encoding;
mod golden;
mod hostile;
mod merging;

use std::collections::BTreeMap;
use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::*;
use crate::error::Result;
use crate::host::UnixMillis;

/// Pages by number.
type Pages = BTreeMap<u32, Vec<u8>>;

fn header(page_size: u32, commit: u32, min: u64, max: u64) -> Header {
    Header {
        flags: Header::NO_CHECKSUM,
        page_size: PageSize::new(page_size).unwrap(),
        commit,
        min_txid: Txid(min),
        max_txid: Txid(max),
        timestamp: UnixMillis((1_700_000_000_000 + max % 1_000_000).cast_signed()),
        pre_apply_checksum: 0,
        wal_offset: 0,
        wal_size: 0,
        wal_salt1: 0,
        wal_salt2: 0,
        node_id: 0,
    }
}

/// A page whose compressibility depends on the seed: zeros, repetitive, half random, random.
fn page(page_size: u32, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let size = page_size as usize;
    match seed % 4 {
        0 => vec![0; size],
        1 => (0..size).map(|at| (at % 37).to_le_bytes()[0] ^ seed.to_le_bytes()[0]).collect(),
        2 => (0..size).map(|at| if at < size / 2 { random() } else { 7 }).collect(),
        _ => (0..size).map(|_| random()).collect(),
    }
}

fn encode(header: Header, pages: &Pages) -> Vec<u8> {
    let mut encoder = Encoder::new(header).unwrap();
    let mut out = encoder.header_bytes().to_vec();
    for (&number, data) in pages {
        encoder.page(PageNumber(number), data, &mut out).unwrap();
    }
    encoder.finish(&mut out).unwrap();
    out
}

/// Decodes with the input cut into pieces of `piece` bytes.
fn decode(file: &[u8], piece: usize) -> Result<(Header, Pages, Trailer)> {
    let mut decoder = Decoder::new();
    let mut header = None;
    let mut pages = Pages::new();
    for bytes in file.chunks(piece.max(1)) {
        decoder.push(bytes);
        while let Some(event) = decoder.next()? {
            match event {
                Event::Header(found) => header = Some(found),
                Event::Page { number, data } => {
                    assert!(pages.insert(number.0, data.to_vec()).is_none());
                }
                Event::End(_) => {}
            }
        }
    }
    let trailer = decoder.finish()?;
    Ok((header.expect("a complete file has a header"), pages, trailer))
}

/// How [`naive_file`] stores pages.
#[derive(Debug, Clone, Copy)]
enum Coding {
    /// LZ4 block made of literals only, as no compressor would write it.
    Literals,
    /// LZ4 frame, with these options.
    Frame { linked: bool, block_checksums: bool, content_checksum: bool, content_size: bool },
}

/// The frame Litestream 0.5.0 to 0.5.15 write.
const LITESTREAM_FRAME: Coding =
    Coding::Frame { linked: false, block_checksums: false, content_checksum: true, content_size: false };

/// Writes a file straight from the description of the format, with another CRC implementation.
fn naive_file(header: &Header, post_apply_checksum: u64, pages: &Pages, coding: Coding) -> Vec<u8> {
    let mut file = header.to_bytes().to_vec();
    let mut hashed = file.clone();
    let mut index = Vec::new();
    for (&number, data) in pages {
        let mut frame = number.to_be_bytes().to_vec();
        match coding {
            Coding::Literals => {
                let block = literal_block(data);
                frame.extend([0, 1]);
                frame.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
                hashed.extend(&frame);
                frame.extend(block);
            }
            Coding::Frame { .. } => {
                frame.extend([0, 0]);
                hashed.extend(&frame);
                frame.extend(lz4_frame_of(data, coding));
            }
        }
        hashed.extend(data);
        for value in [u64::from(number), file.len() as u64, frame.len() as u64] {
            leb128(value, &mut index);
        }
        file.extend(frame);
    }
    index.push(0);
    let mut tail = vec![0; 6];
    tail.extend(&index);
    tail.extend((index.len() as u64).to_be_bytes());
    tail.extend(post_apply_checksum.to_be_bytes());
    hashed.extend(&tail);
    file.extend(tail);
    file.extend(oracle_crc(&hashed).to_be_bytes());
    file
}

fn oracle_crc(bytes: &[u8]) -> u64 {
    crc::Crc::<u64>::new(&crc::CRC_64_GO_ISO).checksum(bytes) | 1 << 63
}

fn leb128(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = (value % 128).to_le_bytes()[0];
        value /= 128;
        out.push(if value > 0 { low | 128 } else { low });
        if value == 0 {
            return;
        }
    }
}

fn literal_block(data: &[u8]) -> Vec<u8> {
    let mut block = vec![0xf0];
    let mut rest = data.len() - 15;
    while rest >= 255 {
        block.push(255);
        rest -= 255;
    }
    block.push(rest.to_le_bytes()[0]);
    block.extend(data);
    block
}

fn lz4_frame_of(data: &[u8], coding: Coding) -> Vec<u8> {
    let Coding::Frame { linked, block_checksums, content_checksum, content_size } = coding else {
        unreachable!("asked for a frame")
    };
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
        .block_checksums(block_checksums)
        .content_checksum(content_checksum)
        .content_size(content_size.then_some(data.len() as u64));
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    if linked {
        // Two blocks, so that the second can refer to the first.
        let (first, second) = data.split_at(data.len() / 2);
        encoder.write_all(first).unwrap();
        encoder.flush().unwrap();
        encoder.write_all(second).unwrap();
    } else {
        encoder.write_all(data).unwrap();
    }
    encoder.finish().unwrap()
}

/// A valid header and pages for it: every page if it starts at transaction 1, some otherwise.
fn any_file() -> impl Strategy<Value = (Header, Pages)> {
    (9_u32..=16, 1_u32..40, 1_u64..4, 0_u64..5, any::<u64>()).prop_flat_map(
        |(power, commit, min, more, seed)| {
            let header = header(1 << power, commit, min, min + more);
            let chosen = prop::collection::vec(any::<bool>(), commit as usize);
            chosen.prop_map(move |chosen| {
                let numbers = (1..=commit).filter(|&n| min == 1 || chosen[n as usize - 1]);
                (header, numbers.map(|n| (n, page(1 << power, seed.wrapping_add(n.into())))).collect())
            })
        },
    )
}
