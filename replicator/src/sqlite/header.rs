//! Facts from the first 100 bytes of a database file, and which SQLite versions may be trusted.
//!
//! Format: <https://www.sqlite.org/fileformat2.html#the_database_header>.

use crate::error::{Error, ErrorKind, Result};
use crate::ltx::PageSize;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DbHeader {
    /// Page size of the file.
    pub page_size: PageSize,
    /// Size in pages without what is in a log; 0 if the header does not know (written by a library older than
    /// 3.7.0) and the length of the file counts.
    pub page_count: u32,
    /// Whether the file is in WAL mode.
    pub is_wal: bool,
    /// `SQLITE_VERSION_NUMBER` of the library that last wrote the file; 0 if unknown.
    pub writer_version: u32,
}

impl DbHeader {
    /// Bytes of a file's start needed by [`DbHeader::parse`].
    pub const SIZE: usize = 100;

    /// Decodes a header; `None` if this is not an SQLite database.
    #[must_use]
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        if &bytes[..16] != b"SQLite format 3\0" {
            return None;
        }
        let be32 = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let stored = u32::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        // The count holds only if it was written together with the change counter.
        let page_count = if bytes[24..28] == bytes[92..96] { be32(28) } else { 0 };
        Some(Self {
            page_count,
            page_size: PageSize::new(if stored == 1 { 65536 } else { stored })?,
            is_wal: bytes[18] == 2 && bytes[19] == 2,
            writer_version: be32(96),
        })
    }
}

/// First version with the fix for the WAL-reset corruption (<https://www.sqlite.org/wal.html#walresetbug>).
const FIRST_FIXED: u32 = 3_051_003;
/// First version with WAL.
const FIRST_WAL: u32 = 3_007_000;

/// Whether a SQLite version can corrupt a database when a checkpoint and a commit meet in two processes.
#[must_use]
pub fn engine_is_affected(version: u32) -> bool {
    (FIRST_WAL..FIRST_FIXED).contains(&version)
}

/// Refuses to run on a linked SQLite that has the WAL-reset corruption.
///
/// # Errors
/// `ErrorKind::Unsupported`, naming the version.
pub fn require_fixed_engine() -> Result<()> {
    let version = u32::try_from(rusqlite::version_number()).unwrap_or(0);
    if version < FIRST_FIXED {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the linked SQLite {} can corrupt databases (WAL reset bug); build with 3.51.3 or later",
                rusqlite::version()
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linked_engine_is_fixed_and_old_ones_are_known() {
        require_fixed_engine().unwrap();
        assert!(engine_is_affected(3_051_002) && engine_is_affected(3_007_000));
        assert!(!engine_is_affected(3_051_003) && !engine_is_affected(3_006_023));
    }

    #[test]
    fn only_databases_have_a_header() {
        assert_eq!(DbHeader::parse(&[0; 100]), None);
        let mut bytes = [0; 100];
        bytes[..16].copy_from_slice(b"SQLite format 3\0");
        bytes[16..18].copy_from_slice(&1u16.to_be_bytes());
        bytes[18..20].copy_from_slice(&[2, 2]);
        let header = DbHeader::parse(&bytes).unwrap();
        assert_eq!((header.page_size.get(), header.is_wal), (65536, true));
    }
}
