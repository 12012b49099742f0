//! Walking frames: verifies each one's salts and checksum and collects whole transactions.

use super::format::{FRAME_HEADER_SIZE, FrameHeader, Header, checksum};
use super::position::Position;
use crate::ltx::PageNumber;

/// Why a frame that the index calls committed cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// The frame belongs to another generation of the log.
    #[error("frame {0} carries other salts than the log header")]
    Salt(u32),
    /// Bytes of the frame are not what the cumulative checksum says.
    #[error("frame {0} does not match its checksum")]
    Checksum(u32),
    /// Page number 0.
    #[error("frame {0} names page 0")]
    Page(u32),
}

/// Whole transactions found by a [`Scanner`], as one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Where copying stands after this batch.
    pub end: Position,
    /// Database size in pages after this batch.
    pub commit: u32,
    /// The frame that holds the newest version of each page, ascending by page; pages beyond `commit` are left out.
    pub pages: Vec<(PageNumber, u32)>,
    /// Number of frames in the batch.
    pub frames: u32,
}

/// Verifies consecutive frames behind a position. Eight bytes of memory per frame of the batch.
#[derive(Debug)]
pub struct Scanner {
    header: Header,
    /// State after the last frame seen.
    frame: u32,
    sum: [u32; 2],
    /// State after the last commit frame seen.
    committed: Option<(Position, u32, usize)>,
    seen: Vec<(PageNumber, u32)>,
}

impl Scanner {
    /// Starts behind `frame` frames whose cumulative checksum is `sum`; at 0 frames that is the header's checksum.
    #[must_use]
    pub fn new(header: Header, frame: u32, sum: [u32; 2]) -> Self {
        let sum = if frame == 0 { header.checksum } else { sum };
        Self { header, frame, sum, committed: None, seen: Vec::new() }
    }

    /// Number of the frame that [`Scanner::push`] expects next.
    #[must_use]
    pub fn next_frame(&self) -> u32 {
        self.frame + 1
    }

    /// Takes one frame (header and page). Returns whether it ends a transaction.
    ///
    /// # Errors
    /// If the frame does not continue the log; the scanner must not be used further.
    pub fn push(&mut self, frame: &[u8]) -> Result<bool, FrameFault> {
        let number = self.frame + 1;
        let (head, page) = frame.split_at(FRAME_HEADER_SIZE);
        debug_assert_eq!(page.len(), self.header.page_size.bytes());
        let head_bytes: &[u8; FRAME_HEADER_SIZE] = head.try_into().expect("split at its size");
        let parsed = FrameHeader::parse(head_bytes);
        if (parsed.salt1, parsed.salt2) != (self.header.salt1, self.header.salt2) {
            return Err(FrameFault::Salt(number));
        }
        let page_number = parsed.page_number().ok_or(FrameFault::Page(number))?;
        let sum = checksum(self.header.big_endian, self.sum, &head[..8]);
        let sum = checksum(self.header.big_endian, sum, page);
        if sum != parsed.checksum {
            return Err(FrameFault::Checksum(number));
        }
        self.frame = number;
        self.sum = sum;
        self.seen.push((page_number, number));
        if parsed.commit == 0 {
            return Ok(false);
        }
        let end = Position {
            salt1: self.header.salt1,
            salt2: self.header.salt2,
            frame: number,
            checksum: self.sum,
        };
        self.committed = Some((end, parsed.commit, self.seen.len()));
        Ok(true)
    }

    /// Number of frames pushed since the start.
    #[must_use]
    pub fn frames_pushed(&self) -> usize {
        self.seen.len()
    }

    /// The whole transactions pushed so far, or `None` if there is none. Frames behind the last commit are dropped.
    #[must_use]
    pub fn finish(mut self) -> Option<Batch> {
        let (end, commit, len) = self.committed?;
        self.seen.truncate(len);
        let frames = u32::try_from(len).expect("frame numbers are 32 bits");
        // The newest version of a page is the frame with the greatest number: sort so that it comes first.
        self.seen.sort_unstable_by_key(|&(page, frame)| {
            (page, planted!("oldest-frame-wins", frame, u32::MAX - frame))
        });
        self.seen.dedup_by_key(|&mut (page, _)| page);
        let keep = self.seen.partition_point(|&(page, _)| page.0 <= commit);
        self.seen.truncate(keep);
        Some(Batch { end, commit, pages: self.seen, frames })
    }
}

#[cfg(test)]
pub(super) mod test_support {
    use super::*;
    use crate::ltx::PageSize;

    pub(in crate::wal) fn header(big_endian: bool, page_size: PageSize, salt1: u32, salt2: u32) -> [u8; 32] {
        let mut bytes = [0; 32];
        let magic: u32 = if big_endian { 0x377f_0683 } else { 0x377f_0682 };
        let words = [magic, 3_007_000, page_size.get(), 0, salt1, salt2];
        for (i, word) in words.iter().enumerate() {
            bytes[i * 4..i * 4 + 4].copy_from_slice(&word.to_be_bytes());
        }
        let sum = checksum(big_endian, [0, 0], &bytes[..24]);
        bytes[24..28].copy_from_slice(&sum[0].to_be_bytes());
        bytes[28..].copy_from_slice(&sum[1].to_be_bytes());
        bytes
    }

    pub(in crate::wal) fn frame(
        header: &Header,
        sum: &mut [u32; 2],
        page: u32,
        commit: u32,
        fill: u8,
    ) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_HEADER_SIZE];
        bytes[..4].copy_from_slice(&page.to_be_bytes());
        bytes[4..8].copy_from_slice(&commit.to_be_bytes());
        bytes[8..12].copy_from_slice(&header.salt1.to_be_bytes());
        bytes[12..16].copy_from_slice(&header.salt2.to_be_bytes());
        let content = vec![fill; header.page_size.bytes()];
        *sum = checksum(header.big_endian, *sum, &bytes[..8]);
        *sum = checksum(header.big_endian, *sum, &content);
        bytes[16..20].copy_from_slice(&sum[0].to_be_bytes());
        bytes[20..24].copy_from_slice(&sum[1].to_be_bytes());
        bytes.extend(content);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ltx::PageSize;

    fn log(big_endian: bool, frames: &[(u32, u32)]) -> (Header, Vec<Vec<u8>>) {
        let bytes = test_support::header(big_endian, PageSize::new(512).unwrap(), 3, 4);
        let header = Header::parse(&bytes).unwrap();
        let mut sum = header.checksum;
        let frames = frames.iter().enumerate();
        let frames =
            frames.map(|(i, &(page, commit))| test_support::frame(&header, &mut sum, page, commit, i as u8));
        (header, frames.collect())
    }

    fn scan(header: Header, frames: &[Vec<u8>]) -> Option<Batch> {
        let mut scanner = Scanner::new(header, 0, [0, 0]);
        for frame in frames {
            scanner.push(frame).unwrap();
        }
        scanner.finish()
    }

    #[test]
    fn newest_version_wins_and_uncommitted_frames_are_left() {
        for big_endian in [false, true] {
            let (header, frames) = log(big_endian, &[(2, 0), (1, 2), (2, 0), (3, 3), (2, 0), (9, 0)]);
            let batch = scan(header, &frames).unwrap();
            assert_eq!(batch.commit, 3);
            assert_eq!(batch.end.frame, 4);
            assert_eq!(batch.pages, [(PageNumber(1), 2), (PageNumber(2), 3), (PageNumber(3), 4)]);
        }
    }

    #[test]
    fn a_shrinking_commit_drops_pages_beyond_it() {
        let (header, frames) = log(false, &[(5, 5), (1, 2)]);
        assert_eq!(scan(header, &frames).unwrap().pages, [(PageNumber(1), 2)]);
    }

    #[test]
    fn without_a_commit_there_is_nothing() {
        let (header, frames) = log(false, &[(1, 0), (2, 0)]);
        assert_eq!(scan(header, &frames), None);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let (header, frames) = log(false, &[(1, 0), (2, 2)]);
        for byte in 0..frames[1].len() {
            let mut damaged = frames[1].clone();
            damaged[byte] ^= 0x10;
            let mut scanner = Scanner::new(header, 0, [0, 0]);
            scanner.push(&frames[0]).unwrap();
            assert!(scanner.push(&damaged).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn scanning_resumes_from_a_position() {
        let (header, frames) = log(true, &[(1, 1), (2, 2), (1, 2)]);
        let first = scan(header, &frames[..1]).unwrap();
        let mut scanner = Scanner::new(header, first.end.frame, first.end.checksum);
        for frame in &frames[1..] {
            scanner.push(frame).unwrap();
        }
        assert_eq!(scanner.finish().unwrap().end, scan(header, &frames).unwrap().end);
    }
}
