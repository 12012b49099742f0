//! LTX: the file format for ranges of committed pages, shared with Litestream 0.5.
//!
//! Pure: bytes in, pages out, and back; no I/O, no clock. Must not know where files live.

mod types;

pub use types::{Header, LOCK_BYTE, PageNumber, PageSize, Txid};
