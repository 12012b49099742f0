//! The header of the WAL-index: what SQLite itself considers committed.
//!
//! A frame in the WAL file counts only when the index says so: between writing frames and updating the index, SQLite
//! syncs the log, and if that fails the frames are abandoned and overwritten. The index header lies in shared
//! memory and may change while it is read, hence the two copies and the checksum.
//!
//! Format: <https://www.sqlite.org/walformat.html#the_wal_index_file_format>.

use super::format::checksum;
use crate::ltx::PageSize;

/// Decoded `WalIndexHdr` plus the back-fill counter behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexHeader {
    /// Incremented with each transaction.
    pub change: u32,
    /// Number of committed frames in the log.
    pub max_frame: u32,
    /// Database size in pages.
    pub page_count: u32,
    /// Page size; `None` while the log has never had a frame.
    pub page_size: Option<PageSize>,
    /// Checksum of the last committed frame.
    pub frame_checksum: [u32; 2],
    /// Salt-1 of the log.
    pub salt1: u32,
    /// Salt-2 of the log.
    pub salt2: u32,
    /// Frames already copied into the database file.
    pub backfilled: u32,
    /// Frames that some checkpoint has at least begun to copy into the database file.
    pub backfill_attempted: u32,
}

impl IndexHeader {
    /// Bytes of shared memory needed by [`IndexHeader::parse`].
    pub const SIZE: usize = 132;
    const COPY: usize = 48;

    /// Decodes a copy of the first [`IndexHeader::SIZE`] bytes of the WAL-index. `None` if it was caught in the
    /// middle of an update or is not initialised.
    #[must_use]
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let (first, second) = (&bytes[..Self::COPY], &bytes[Self::COPY..2 * Self::COPY]);
        let initialised = first[12] != 0;
        let stored = [ne32(first, 40), ne32(first, 44)];
        if first != second
            || !initialised
            || checksum(cfg!(target_endian = "big"), [0, 0], &first[..40]) != stored
        {
            return None;
        }
        Some(Self {
            change: ne32(first, 8),
            max_frame: ne32(first, 16),
            page_count: ne32(first, 20),
            page_size: decode_page_size(u16::from_ne_bytes([first[14], first[15]])),
            frame_checksum: [ne32(first, 24), ne32(first, 28)],
            // The salts are copied from the WAL header byte by byte, so they stay big-endian.
            salt1: super::format::be32(first, 32),
            salt2: super::format::be32(first, 36),
            backfilled: ne32(bytes, 2 * Self::COPY),
            // Behind it: five read marks and eight bytes of lock space.
            backfill_attempted: ne32(bytes, 2 * Self::COPY + 4 + 5 * 4 + 8),
        })
    }
}

/// 65536 does not fit 16 bits and is stored as 1.
fn decode_page_size(stored: u16) -> Option<PageSize> {
    PageSize::new((u32::from(stored) & 0xfe00) + ((u32::from(stored) & 1) << 16))
}

fn ne32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_decoded_as_sqlite_does() {
        assert_eq!(decode_page_size(4096).map(PageSize::get), Some(4096));
        assert_eq!(decode_page_size(1).map(PageSize::get), Some(65536));
        assert_eq!(decode_page_size(0), None);
    }

    #[test]
    fn a_torn_or_uninitialised_header_is_not_used() {
        let mut bytes = [0; IndexHeader::SIZE];
        assert_eq!(IndexHeader::parse(&bytes), None);
        let mut copy = [0; 48];
        copy[12] = 1;
        copy[16..20].copy_from_slice(&5u32.to_ne_bytes());
        let sum = checksum(cfg!(target_endian = "big"), [0, 0], &copy[..40]);
        copy[40..44].copy_from_slice(&sum[0].to_ne_bytes());
        copy[44..48].copy_from_slice(&sum[1].to_ne_bytes());
        bytes[..48].copy_from_slice(&copy);
        assert_eq!(IndexHeader::parse(&bytes), None, "the second copy differs");
        bytes[48..96].copy_from_slice(&copy);
        assert_eq!(IndexHeader::parse(&bytes).unwrap().max_frame, 5);
        bytes[17] ^= 1;
        bytes[65] ^= 1;
        assert_eq!(IndexHeader::parse(&bytes), None, "both copies are damaged alike");
    }
}
