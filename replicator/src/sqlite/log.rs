//! Reading frames from the WAL file into a [`Scanner`].

use super::view::SourceFiles;
use crate::error::{Error, ErrorKind, Result};
use crate::wal::{self, Batch, FRAME_HEADER_SIZE, HEADER_SIZE, Position, Scanner, frame_offset};

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Which frames to look at.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Where copying stands.
    pub from: Position,
    /// Last frame that SQLite calls committed.
    pub max_frame: u32,
    /// Stop at the first commit at or past this many bytes.
    pub max_bytes: u64,
}

impl SourceFiles {
    /// The log's header; `None` if the log is empty.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn wal_header(&self) -> Result<Option<wal::Header>> {
        let mut bytes = [0; HEADER_SIZE];
        let read = self.read_wal(&mut bytes, 0)?;
        Ok(wal::Header::parse(&bytes[..read]))
    }

    /// The checksum stored in a frame's header, or `None` if the file ends before it.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn frame_checksum(&self, header: &wal::Header, frame: u32) -> Result<Option<[u32; 2]>> {
        let mut bytes = [0; FRAME_HEADER_SIZE];
        let read = self.read_wal(&mut bytes, frame_offset(header.page_size, frame))?;
        let parsed = wal::FrameHeader::parse(&bytes);
        let same_log = (parsed.salt1, parsed.salt2) == (header.salt1, header.salt2);
        Ok((read == bytes.len() && same_log).then_some(parsed.checksum))
    }

    /// Reads and verifies the frames of `span`. `None` if it holds no whole transaction.
    ///
    /// # Errors
    /// `ErrorKind::Corrupt`, naming the frame, if the log is not what its checksums say.
    pub fn scan(&self, header: wal::Header, span: Span) -> Result<Option<Batch>> {
        let frame_size = FRAME_HEADER_SIZE + header.page_size.bytes();
        let frames_per_chunk = (CHUNK_BYTES / frame_size).max(1);
        let mut chunk = vec![0; frames_per_chunk * frame_size];
        let mut scanner = Scanner::new(header, span.from.frame, span.from.checksum);
        while scanner.next_frame() <= span.max_frame {
            let first = scanner.next_frame();
            let wanted = frames_per_chunk.min((span.max_frame - first + 1) as usize) * frame_size;
            let read = self.read_wal(&mut chunk[..wanted], frame_offset(header.page_size, first))?;
            if read < wanted {
                return Err(self.fault(format!("ends before frame {}", span.max_frame)));
            }
            for frame in chunk[..wanted].chunks_exact(frame_size) {
                let ends_transaction = scanner.push(frame).map_err(|fault| self.fault(fault.to_string()))?;
                let bytes = scanner.frames_pushed() as u64 * frame_size as u64;
                if ends_transaction && bytes >= span.max_bytes {
                    return Ok(scanner.finish());
                }
            }
        }
        Ok(scanner.finish())
    }

    fn fault(&self, what: String) -> Error {
        Error::new(ErrorKind::Corrupt, format!("WAL of {}: {what}", self.db_path.display()))
    }
}
