//! Fixed-size parts of the format: the header, the trailer, frame constants, and the rules they obey.
//!
//! Everything here is big-endian. Layout and rules are those of superfly/ltx v0.5, which Litestream 0.5 embeds.

use super::types::{Header, PageNumber, PageSize, Txid};
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;

/// Bytes of the file header.
pub const HEADER_LEN: usize = 100;

/// Bytes of the trailer.
pub(super) const TRAILER_LEN: usize = 16;

/// Bytes of a page header: number and flags. All zero ends the pages.
pub(super) const PAGE_HEADER_LEN: usize = 6;

/// Bytes of the big-endian length after the page index.
pub(super) const INDEX_LENGTH_LEN: usize = 8;

/// Bytes of the smallest possible file: no pages, an index of only its terminator.
pub const MIN_FILE_LEN: u64 = (HEADER_LEN + PAGE_HEADER_LEN + 1 + INDEX_LENGTH_LEN + TRAILER_LEN) as u64;

/// Page flag: a 4-byte length follows and the payload is one LZ4 block. Without it the payload is an LZ4 frame
/// (Litestream 0.5.0 to 0.5.15).
pub(super) const PAGE_IS_BLOCK: u16 = 1;

const MAGIC: [u8; 4] = *b"LTX1";

/// The last bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Rolling database checksum after this file; 0 when not tracked.
    pub post_apply_checksum: u64,
    /// CRC over the whole file with its pages uncompressed, top bit set.
    pub file_checksum: u64,
}

impl Header {
    /// Flag bit: the file does not track the rolling database checksum. Litestream 0.5 restores no other files.
    pub const NO_CHECKSUM: u32 = 0x2;

    /// Whether the file carries the whole database: pages 1 to `commit` without the lock page.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.min_txid == Txid(1)
    }

    /// The header as stored.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.flags.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.page_size.get().to_be_bytes());
        bytes[12..16].copy_from_slice(&self.commit.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.min_txid.0.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.max_txid.0.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.timestamp.0.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.pre_apply_checksum.to_be_bytes());
        bytes[48..56].copy_from_slice(&self.wal_offset.to_be_bytes());
        bytes[56..64].copy_from_slice(&self.wal_size.to_be_bytes());
        bytes[64..68].copy_from_slice(&self.wal_salt1.to_be_bytes());
        bytes[68..72].copy_from_slice(&self.wal_salt2.to_be_bytes());
        bytes[72..80].copy_from_slice(&self.node_id.to_be_bytes());
        bytes
    }

    /// Reads and checks a stored header.
    ///
    /// # Errors
    /// `Corrupt` if it is not an LTX header or breaks a rule of the format.
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Result<Self> {
        if bytes[0..4] != MAGIC {
            return Err(corrupt("not an LTX file: it does not begin with LTX1"));
        }
        let page_size = be_u32(&bytes[8..12]);
        let page_size = PageSize::new(page_size)
            .ok_or_else(|| corrupt(format!("page size {page_size} is not a power of two in 512..=65536")))?;
        let header = Self {
            flags: be_u32(&bytes[4..8]),
            page_size,
            commit: be_u32(&bytes[12..16]),
            min_txid: Txid(be_u64(&bytes[16..24])),
            max_txid: Txid(be_u64(&bytes[24..32])),
            timestamp: UnixMillis(be_u64(&bytes[32..40]).cast_signed()),
            pre_apply_checksum: be_u64(&bytes[40..48]),
            wal_offset: be_u64(&bytes[48..56]).cast_signed(),
            wal_size: be_u64(&bytes[56..64]).cast_signed(),
            wal_salt1: be_u32(&bytes[64..68]),
            wal_salt2: be_u32(&bytes[68..72]),
            node_id: be_u64(&bytes[72..80]),
        };
        header.check().map_err(corrupt)?;
        Ok(header)
    }

    /// The rules a header obeys in every file; the message says which one is broken.
    pub(super) fn check(&self) -> Result<(), String> {
        let tracked = self.flags & Self::NO_CHECKSUM == 0;
        let pre = self.pre_apply_checksum;
        if self.flags & !Self::NO_CHECKSUM != 0 {
            Err(format!("unknown header flags {:#x}", self.flags))
        } else if self.min_txid.0 == 0 || self.min_txid > self.max_txid {
            Err(format!("transaction range {}-{} is empty or starts at 0", self.min_txid, self.max_txid))
        } else if self.commit == 0 && !tracked {
            Err("a database of 0 pages, which no file without checksum tracking can hold".to_owned())
        } else if self.wal_offset < 0 || self.wal_size < 0 {
            Err(format!("negative WAL position: offset {}, size {}", self.wal_offset, self.wal_size))
        } else if self.wal_offset == 0 && (self.wal_salt1 != 0 || self.wal_salt2 != 0 || self.wal_size != 0) {
            Err("WAL salts or size without a WAL offset".to_owned())
        } else if (self.is_full() || !tracked) && pre != 0 {
            Err(format!("unexpected pre-apply checksum {pre:016x}"))
        } else if tracked && !self.is_full() && pre >> 63 == 0 {
            Err(format!("missing or malformed pre-apply checksum {pre:016x}"))
        } else {
            Ok(())
        }
    }
}

impl Trailer {
    pub(super) fn to_bytes(self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[0..8].copy_from_slice(&self.post_apply_checksum.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.file_checksum.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; TRAILER_LEN]) -> Self {
        Self { post_apply_checksum: be_u64(&bytes[0..8]), file_checksum: be_u64(&bytes[8..16]) }
    }
}

/// The 10 bytes before a block-coded page.
pub(super) fn block_page_header(number: PageNumber, compressed_len: u32) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[0..4].copy_from_slice(&number.0.to_be_bytes());
    bytes[4..6].copy_from_slice(&PAGE_IS_BLOCK.to_be_bytes());
    bytes[6..10].copy_from_slice(&compressed_len.to_be_bytes());
    bytes
}

/// Appends an unsigned LEB128 number.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// What [`get_varint`] found at the start of some bytes.
pub(super) enum Varint {
    /// The value, and the bytes it takes.
    Value(u64, usize),
    /// The bytes end before the number does.
    Cut,
    /// More than 64 bits.
    TooLong,
}

/// Reads an unsigned LEB128 number.
pub(super) fn get_varint(bytes: &[u8]) -> Varint {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && byte > 1 {
            return Varint::TooLong;
        }
        value |= bits << (7 * at);
        if byte < 0x80 {
            return Varint::Value(value, at + 1);
        }
    }
    Varint::Cut
}

pub(super) fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("callers pass 4 bytes"))
}

pub(super) fn be_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("callers pass 8 bytes"))
}

pub(super) fn corrupt(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}
