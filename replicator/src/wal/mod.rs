//! Reading the write-ahead log: bytes and a position in, committed pages and a verdict out.
//!
//! Pure: no I/O, no clock. Owns the WAL header, frame headers, checksums and the proof that frames continue a known
//! position. Must not open files, nor trust anything that the checksums do not cover.
//!
//! Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

mod format;
mod index;
mod position;
mod scan;

pub use format::{FRAME_HEADER_SIZE, FrameHeader, HEADER_SIZE, Header, checksum, frame_offset};
pub use index::IndexHeader;
pub use position::{Continuity, Position, continuity};
pub use scan::{Batch, FrameFault, Scanner};
