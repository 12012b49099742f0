//! CRC-64 as LTX uses it: GO-ISO, with the top bit set so that a checksum is never zero.

use crc_fast::{CrcAlgorithm, Digest};

use super::types::PageNumber;

/// Set in every checksum stored in a file; zero then means "none".
const PRESENT: u64 = 1 << 63;

/// A running CRC-64/GO-ISO.
#[derive(Clone)]
pub(super) struct Crc(Digest);

impl Crc {
    pub(super) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64GoIso))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything so far, as stored in files.
    pub(super) fn stored(&self) -> u64 {
        self.0.finalize() | PRESENT
    }
}

/// Checksum of one page: CRC over its big-endian number and its bytes, top bit set.
#[must_use]
pub fn page_checksum(number: PageNumber, data: &[u8]) -> u64 {
    let mut crc = Crc::new();
    crc.update(&number.0.to_be_bytes());
    crc.update(data);
    crc.stored()
}
