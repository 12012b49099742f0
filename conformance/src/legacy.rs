//! A naive reader of Litestream 0.3's backups: generations of snapshots and WAL segments.
//!
//! Names, LZ4 frames and the contiguity rule, from the layout alone; logs are read by [`crate::wal`]. Encrypted
//! backups are out of its reach.

use std::collections::BTreeMap;
use std::io::Read;

use crate::{Defect, wal};

/// What a 0.3 key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A copy of the database before the WAL with this index.
    Snapshot {
        /// WAL index it precedes.
        index: u64,
    },
    /// A piece of a WAL.
    Segment {
        /// WAL index.
        index: u64,
        /// Byte offset inside that WAL.
        offset: u64,
    },
}

/// Splits a key below the replica's path: `generations/<id>/…` → generation and part. `None` for any other key.
#[must_use]
pub fn parse_key(key: &str) -> Option<(String, Part)> {
    let mut words = key.split('/');
    let (root, generation, folder, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if root != "generations" || words.next().is_some() || generation.len() != 16 || hex(generation).is_none()
    {
        return None;
    }
    let part = match folder {
        "snapshots" => {
            let index = name.strip_suffix(".snapshot.lz4").filter(|digits| digits.len() == 8)?;
            Part::Snapshot { index: hex(index)? }
        }
        "wal" => {
            let (index, offset) = name.strip_suffix(".wal.lz4")?.split_once('_')?;
            // Offsets of 4 GiB and more need more than eight digits.
            if index.len() != 8 || !(8..=16).contains(&offset.len()) {
                return None;
            }
            Part::Segment { index: hex(index)?, offset: hex(offset)? }
        }
        _ => return None,
    };
    Some((generation.to_owned(), part))
}

fn hex(digits: &str) -> Option<u64> {
    let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if lower { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// Inflates a snapshot or segment.
///
/// # Errors
/// If it is not one whole LZ4 frame.
pub fn inflate(bytes: &[u8]) -> Result<Vec<u8>, Defect> {
    let mut content = Vec::new();
    let mut rest = bytes;
    lz4_flex::frame::FrameDecoder::new(&mut rest)
        .read_to_end(&mut content)
        .map_err(|error| Defect::new(format!("not an LZ4 frame: {error}")))?;
    // The decoder takes an end of input between two blocks for the end of the frame.
    match frame_len(bytes) {
        Some(len) if len == bytes.len() => Ok(content),
        Some(len) => Err(Defect::new(format!("{} bytes follow the LZ4 frame", bytes.len() - len))),
        None => Err(Defect::new(format!("an LZ4 frame without its end mark, after {} bytes", bytes.len()))),
    }
}

/// Length of the frame that begins here; `None` if it has no end. Its blocks are skipped, not read.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(4)?;
    let (block_sums, content_size, content_sum, dictionary) =
        (flags & 0x10 != 0, flags & 0x08 != 0, flags & 0x04 != 0, flags & 0x01 != 0);
    // Magic number, flags, block size and the header's checksum.
    let mut at = 7 + if content_size { 8 } else { 0 } + if dictionary { 4 } else { 0 };
    loop {
        let size = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
        at += 4;
        if size == 0 {
            at += if content_sum { 4 } else { 0 };
            return (at <= bytes.len()).then_some(at);
        }
        // The highest bit says that the block is not compressed.
        at += (size & 0x7FFF_FFFF) as usize + if block_sums { 4 } else { 0 };
    }
}

/// Restores a database from the inflated snapshot with this index and the inflated segments from it on, if any.
///
/// # Errors
/// If a segment is missing at the beginning or in the middle, or a log is not a WAL.
pub fn restore(
    first: u64,
    snapshot: &[u8],
    segments: &BTreeMap<(u64, u64), Vec<u8>>,
) -> Result<Vec<u8>, Defect> {
    let mut image = snapshot.to_vec();
    let mut logs: Vec<(u64, Vec<u8>)> = Vec::new();
    for (&(index, offset), bytes) in segments {
        match logs.last_mut() {
            Some((current, log)) if *current == index && log.len() as u64 == offset => log.extend(bytes),
            Some((current, _)) if *current + 1 == index && offset == 0 => logs.push((index, bytes.clone())),
            // A later log was written to a database that this snapshot is not.
            None if (index, offset) == (first, 0) => logs.push((index, bytes.clone())),
            _ => {
                return Err(Defect::new(format!(
                    "a WAL segment is missing before index {index:08x} offset {offset:08x}"
                )));
            }
        }
    }
    for (index, bytes) in &logs {
        let log = wal::parse(bytes).map_err(|defect| defect.context(format!("WAL index {index:08x}")))?;
        for commit in &log.commits {
            wal::apply(&mut image, log.header.page_size, commit);
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart_and_foreign_ones_are_not() {
        let generation = "generations/0123456789abcdef";
        let part = |rest: &str| parse_key(&format!("{generation}/{rest}")).map(|(_, part)| part);
        assert_eq!(part("snapshots/0000001f.snapshot.lz4"), Some(Part::Snapshot { index: 0x1f }));
        let segment = Part::Segment { index: 1, offset: 0x1038 };
        assert_eq!(part("wal/00000001_00001038.wal.lz4"), Some(segment));
        // A WAL of more than 4 GiB: its offsets have nine digits, which 0.3's own reader skips in silence.
        let far = Part::Segment { index: 1, offset: 0x1_0000_0000 };
        assert_eq!(part("wal/00000001_100000000.wal.lz4"), Some(far));
        for foreign in [
            "wal/00000001_0000103.wal.lz4",
            "wal/00000001_00001038.wal",
            "wal/0000000G_00001038.wal.lz4",
            "snapshots/1f.snapshot.lz4",
            "other/0000001f.snapshot.lz4",
            "snapshots/more/0000001f.snapshot.lz4",
        ] {
            assert_eq!(part(foreign), None, "{foreign}");
        }
        assert_eq!(parse_key("generations/0123/snapshots/0000001f.snapshot.lz4"), None);
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_an_error() {
        use std::io::Write as _;
        // Three blocks of 64 KiB.
        let content: Vec<u8> =
            (0..160_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let content = &content[..150_000];
        let blocks = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
        let mut frame = lz4_flex::frame::FrameEncoder::with_frame_info(blocks, Vec::new());
        frame.write_all(content).unwrap();
        let frame = frame.finish().unwrap();
        assert_eq!(inflate(&frame).unwrap(), content);
        assert_eq!(frame_len(&frame), Some(frame.len()));
        // Every cut near the blocks' ends, and some others.
        for len in (0..frame.len()).filter(|len| len % 997 == 0 || frame.len() - len < 20) {
            assert!(inflate(&frame[..len]).is_err(), "cut to {len} of {} bytes", frame.len());
        }
        let mut at = 7;
        for _ in 0..2 {
            let size = u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) & 0x7FFF_FFFF;
            at += 4 + size as usize;
            assert!(inflate(&frame[..at]).is_err(), "cut between two blocks, at {at}");
        }
        let longer = [frame.as_slice(), b"x"].concat();
        assert!(inflate(&longer).unwrap_err().to_string().contains("1 bytes follow"));
    }

    #[test]
    fn a_hole_between_segments_is_an_error() {
        let segments = BTreeMap::from([((0, 0), vec![0; 64]), ((0, 100), vec![0; 10])]);
        let said = restore(0, &[], &segments).unwrap_err().to_string();
        assert_eq!(said, "a WAL segment is missing before index 00000000 offset 00000064");
    }

    #[test]
    fn a_log_is_not_laid_over_the_snapshot_of_another_index() {
        let segments = BTreeMap::from([((2, 0), vec![0; 64])]);
        let said = restore(1, &[], &segments).unwrap_err().to_string();
        assert_eq!(said, "a WAL segment is missing before index 00000002 offset 00000000");
        assert_eq!(restore(1, b"alone", &BTreeMap::new()).unwrap(), b"alone");
    }
}
