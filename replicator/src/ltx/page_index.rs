//! The page index: (page number, frame offset, frame size) for every page, at the end of the file.
//!
//! Neither side keeps it as a table: the writer logs what it cannot recompute (about 2 bytes per page), the reader
//! compares two running checksums, so neither costs memory that matters.

use std::collections::VecDeque;

use super::checksum::Crc;
use super::format::{HEADER_LEN, Varint, get_varint, put_varint};
use super::types::PageNumber;

/// Log bytes per allocation; chunks are freed as they are written out.
const CHUNK_LEN: usize = 16 * 1024;

/// Longest entry of the log: two varints.
const MAX_LOG_ENTRY: usize = 20;

/// What a writer remembers of its frames. Frames follow each other without holes from the header on, so sizes give
/// the offsets; page numbers mostly rise by one, so a bit stands for that.
pub(super) struct IndexLog {
    chunks: VecDeque<Vec<u8>>,
    last_page: u32,
}

impl IndexLog {
    pub(super) fn new() -> Self {
        Self { chunks: VecDeque::new(), last_page: 0 }
    }

    /// Notes the next frame.
    pub(super) fn push(&mut self, PageNumber(page): PageNumber, frame_len: u64) {
        if self.chunks.back().is_none_or(|chunk| chunk.len() + MAX_LOG_ENTRY > CHUNK_LEN) {
            // Most files are small: the first chunk grows as needed.
            let capacity = if self.chunks.is_empty() { 64 } else { CHUNK_LEN };
            self.chunks.push_back(Vec::with_capacity(capacity));
        }
        let chunk = self.chunks.back_mut().expect("just added");
        let step = page - self.last_page;
        put_varint(frame_len << 1 | u64::from(step != 1), chunk);
        if step != 1 {
            put_varint(u64::from(step), chunk);
        }
        self.last_page = page;
    }

    /// Turns the log into index bytes, piece by piece.
    pub(super) fn into_writer(self) -> IndexWriter {
        IndexWriter { chunks: self.chunks, page: 0, offset: HEADER_LEN as u64 }
    }
}

/// Replays an [`IndexLog`].
pub(super) struct IndexWriter {
    chunks: VecDeque<Vec<u8>>,
    page: u64,
    offset: u64,
}

impl IndexWriter {
    /// Appends some entries; `false` when there are none left. The terminator is not written here.
    pub(super) fn write_some(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(chunk) = self.chunks.pop_front() else { return false };
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let sized = take_logged(&mut rest);
            let step = if sized & 1 == 1 { take_logged(&mut rest) } else { 1 };
            let frame_len = sized >> 1;
            self.page += step;
            put_varint(self.page, out);
            put_varint(self.offset, out);
            put_varint(frame_len, out);
            self.offset += frame_len;
        }
        true
    }
}

fn take_logged(rest: &mut &[u8]) -> u64 {
    let Varint::Value(value, len) = get_varint(rest) else { unreachable!("written by IndexLog::push") };
    *rest = &rest[len..];
    value
}

/// A checksum over index entries: equal for two equal sequences, whatever their encoding.
pub(super) struct IndexDigest {
    crc: Crc,
    entries: u64,
}

impl IndexDigest {
    pub(super) fn new() -> Self {
        Self { crc: Crc::new(), entries: 0 }
    }

    pub(super) fn push(&mut self, page: u64, offset: u64, frame_len: u64) {
        let mut bytes = [0; 24];
        bytes[0..8].copy_from_slice(&page.to_le_bytes());
        bytes[8..16].copy_from_slice(&offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&frame_len.to_le_bytes());
        self.crc.update(&bytes);
        self.entries += 1;
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn matches(&self, other: &Self) -> bool {
        self.entries == other.entries && self.crc.stored() == other.crc.stored()
    }
}
