//! The WAL header, frame headers and the rolling checksum.

use crate::ltx::{PageNumber, PageSize};

/// Bytes before the first frame.
pub const HEADER_SIZE: usize = 32;
/// Bytes before the page in each frame.
pub const FRAME_HEADER_SIZE: usize = 24;

const MAGIC_LITTLE_ENDIAN: u32 = 0x377f_0682;
const MAGIC_BIG_ENDIAN: u32 = 0x377f_0683;
const VERSION: u32 = 3_007_000;

/// The 32 bytes at the start of a WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether checksums are computed over big-endian words.
    pub big_endian: bool,
    /// Page size of the frames.
    pub page_size: PageSize,
    /// Incremented each time the log is restarted.
    pub salt1: u32,
    /// Random, new each time the log is restarted.
    pub salt2: u32,
    /// Checksum of the first 24 bytes; the seed of the first frame's checksum.
    pub checksum: [u32; 2],
}

impl Header {
    /// Decodes and verifies a header. `None` means what it means to SQLite: the log is empty.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_SIZE] = bytes.get(..HEADER_SIZE)?.try_into().ok()?;
        let big_endian = match be32(bytes, 0) {
            MAGIC_LITTLE_ENDIAN => false,
            MAGIC_BIG_ENDIAN => true,
            _ => return None,
        };
        let stored = [be32(bytes, 24), be32(bytes, 28)];
        if be32(bytes, 4) != VERSION || checksum(big_endian, [0, 0], &bytes[..24]) != stored {
            return None;
        }
        Some(Self {
            big_endian,
            page_size: PageSize::new(be32(bytes, 8))?,
            salt1: be32(bytes, 16),
            salt2: be32(bytes, 20),
            checksum: stored,
        })
    }
}

/// The 24 bytes before each page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Which page follows; 0 is never valid.
    pub page: u32,
    /// For the last frame of a transaction, the database size in pages after it; otherwise 0.
    pub commit: u32,
    /// Copy of the header's salt-1.
    pub salt1: u32,
    /// Copy of the header's salt-2.
    pub salt2: u32,
    /// Checksum of the log up to and including this frame.
    pub checksum: [u32; 2],
}

impl FrameHeader {
    /// Decodes; verifies nothing.
    #[must_use]
    pub fn parse(bytes: &[u8; FRAME_HEADER_SIZE]) -> Self {
        Self {
            page: be32(bytes, 0),
            commit: be32(bytes, 4),
            salt1: be32(bytes, 8),
            salt2: be32(bytes, 12),
            checksum: [be32(bytes, 16), be32(bytes, 20)],
        }
    }

    /// The page number, if it is one.
    #[must_use]
    pub fn page_number(&self) -> Option<PageNumber> {
        (self.page > 0).then_some(PageNumber(self.page))
    }
}

/// Byte offset of frame number `frame` (from 1).
///
/// # Panics
/// If `frame` is 0.
#[must_use]
pub fn frame_offset(page_size: PageSize, frame: u32) -> u64 {
    assert!(frame > 0, "frames are numbered from 1");
    let frame_size = (FRAME_HEADER_SIZE + page_size.bytes()) as u64;
    HEADER_SIZE as u64 + u64::from(frame - 1) * frame_size
}

/// Continues SQLite's rolling WAL checksum over `bytes`, whose length must be a multiple of 8.
#[must_use]
pub fn checksum(big_endian: bool, seed: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    debug_assert_eq!(bytes.len() % 8, 0);
    // Two monomorphic loops: the choice must not sit inside the hottest loop of the product.
    if big_endian { sum(seed, bytes, u32::from_be_bytes) } else { sum(seed, bytes, u32::from_le_bytes) }
}

#[inline(always)]
fn sum([mut s0, mut s1]: [u32; 2], bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> [u32; 2] {
    for pair in bytes.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *pair;
        s0 = s0.wrapping_add(word([a, b, c, d])).wrapping_add(s1);
        s1 = s1.wrapping_add(word([e, f, g, h])).wrapping_add(s0);
    }
    [s0, s1]
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_offsets_follow_the_format() {
        let page_size = PageSize::new(4096).unwrap();
        assert_eq!(frame_offset(page_size, 1), 32);
        assert_eq!(frame_offset(page_size, 3), 32 + 2 * 4120);
    }

    #[test]
    fn checksum_of_zeros_with_zero_seed_is_zero_and_order_matters() {
        assert_eq!(checksum(false, [0, 0], &[0; 16]), [0, 0]);
        let a = checksum(false, [0, 0], &[1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(a, [1, 3]);
        assert_eq!(checksum(true, [0, 0], &[0, 0, 0, 1, 0, 0, 0, 2]), [1, 3]);
        assert_ne!(checksum(false, [0, 0], &[2, 0, 0, 0, 1, 0, 0, 0]), a);
    }

    #[test]
    fn damaged_headers_mean_an_empty_log() {
        let mut bytes = test_header(false);
        assert!(Header::parse(&bytes).is_some());
        assert!(Header::parse(&bytes[..31]).is_none());
        bytes[17] ^= 1;
        assert!(Header::parse(&bytes).is_none());
    }

    fn test_header(big_endian: bool) -> [u8; HEADER_SIZE] {
        super::super::scan::test_support::header(big_endian, PageSize::new(512).unwrap(), 7, 9)
    }
}
