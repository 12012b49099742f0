//! The vocabulary of LTX: transaction ids, page numbers, page sizes, the file header.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::host::UnixMillis;

/// Byte offset whose page SQLite never stores data in (`PENDING_BYTE`).
pub const LOCK_BYTE: u64 = 0x4000_0000;

/// Replication transaction id: counts published files, starting at 1. Not an SQLite transaction count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Txid(pub u64);

impl Txid {
    /// The id after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Txid {
    /// 16 lower-case hexadecimal digits, as in file names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Txid {
    type Err = Error;

    /// Exactly 16 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Error> {
        let valid = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = if valid { u64::from_str_radix(text, 16).ok() } else { None };
        number.map(Self).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("transaction id {text:?} is not 16 hexadecimal digits"))
        })
    }
}

/// Page number in a database file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNumber(pub u32);

/// Database page size in bytes: a power of two from 512 to 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// Checks a size in bytes.
    #[must_use]
    pub fn new(bytes: u32) -> Option<Self> {
        (bytes.is_power_of_two() && (512..=65536).contains(&bytes)).then_some(Self(bytes))
    }

    /// Bytes per page.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0 as usize
    }

    /// Bytes per page as stored in headers.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// The page that holds [`LOCK_BYTE`]; no file ever carries it.
    #[must_use]
    pub fn lock_page(self) -> PageNumber {
        PageNumber(u32::try_from(LOCK_BYTE / u64::from(self.0)).expect("2^30 / 512 fits") + 1)
    }
}

/// The fixed first 100 bytes of an LTX file, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Flag bits; only 0x2 (no checksum tracking) is defined.
    pub flags: u32,
    /// Page size of every page in the file.
    pub page_size: PageSize,
    /// Database size in pages after this file is applied.
    pub commit: u32,
    /// First transaction covered.
    pub min_txid: Txid,
    /// Last transaction covered.
    pub max_txid: Txid,
    /// When the content was captured.
    pub timestamp: UnixMillis,
    /// Rolling database checksum before this file; 0 when not tracked.
    pub pre_apply_checksum: u64,
    /// Offset in bytes of the first WAL frame covered, or 0.
    pub wal_offset: i64,
    /// WAL bytes covered, or 0.
    pub wal_size: i64,
    /// Salt-1 of that WAL, or 0.
    pub wal_salt1: u32,
    /// Salt-2 of that WAL, or 0.
    pub wal_salt2: u32,
    /// Writer's node id; 0 for Litestream and for us.
    pub node_id: u64,
}
