//! LTX: the file format for ranges of committed pages, shared with Litestream 0.5.
//!
//! A file is a header, page frames in ascending page order, an index of those frames, and a trailer with a CRC over
//! everything (pages uncompressed). Files whose first transaction is 1 carry the whole database.
//!
//! Pure: bytes in, pages out, and back; no I/O, no clock. Must not know where files live, nor what they are called.

mod checksum;
mod decoder;
mod encoder;
mod format;
mod lz4_frame;
mod merge;
mod page_index;
mod page_order;
mod types;

pub use checksum::page_checksum;
pub use decoder::{Decoder, Event};
pub use encoder::{Encoder, Tail};
pub use format::{HEADER_LEN, MIN_FILE_LEN, Trailer};
pub use merge::{Merge, MergeEvent};
pub use types::{Header, LOCK_BYTE, PageNumber, PageSize, Txid};

#[cfg(test)]
mod tests;
