//! Made-up database content for measurements: pages that compress like real rows, and pages that do not.

use replicator::wal::{self, FRAME_HEADER_SIZE, HEADER_SIZE};

/// How compressible a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text rows, a third of the page still free, as in an ordinary table.
    Rows,
    /// Random bytes, as in encrypted or compressed columns.
    Random,
}

impl Kind {
    /// Both, with a name for reports.
    pub const ALL: [(&str, Self); 2] = [("rows", Self::Rows), ("random", Self::Random)];
}

/// A small generator of repeatable noise (splitmix64).
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// Equal seeds give equal noise.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// Random bytes.
    #[must_use]
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| self.next_u64().to_le_bytes())
            .take(len.div_ceil(8))
            .flatten()
            .collect();
        bytes.truncate(len);
        bytes
    }

    /// Words and numbers, `len` bytes of them: LZ4 halves it.
    #[must_use]
    pub fn text(&mut self, len: usize) -> String {
        const WORDS: [&str; 12] = [
            "pending",
            "shipped",
            "invoice",
            "customer",
            "Berlin",
            "Oslo",
            "refund",
            "total",
            "net",
            "express",
            "2026-11-24",
            "warehouse",
        ];
        let mut text = String::with_capacity(len + 16);
        while text.len() < len {
            text.push_str(WORDS[usize::try_from(self.below(12)).expect("below 12")]);
            text.push(' ');
            text.push_str(&self.below(100_000).to_string());
            text.push(' ');
        }
        text.truncate(len);
        text
    }
}

/// One page of `size` bytes.
#[must_use]
pub fn page(kind: Kind, size: usize, seed: u64) -> Vec<u8> {
    let mut noise = Noise::new(seed);
    match kind {
        Kind::Random => noise.bytes(size),
        Kind::Rows => {
            let mut page = vec![0; size];
            let text = noise.text(size * 2 / 3);
            page[size - text.len()..].copy_from_slice(text.as_bytes());
            page
        }
    }
}

/// A whole WAL file with one frame per page and a commit every `per_commit` frames; page numbers rise from 1.
///
/// # Panics
/// If `per_commit` is 0.
#[must_use]
pub fn wal_file(pages: &[Vec<u8>], per_commit: usize) -> Vec<u8> {
    let size = pages.first().map_or(4096, Vec::len);
    let words = [0x377f_0682, 3_007_000, u32::try_from(size).expect("a page size"), 0, 7, 9];
    let mut file: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
    let mut sum = wal::checksum(false, [0, 0], &file);
    push_sum(&mut file, sum);
    debug_assert_eq!(file.len(), HEADER_SIZE);
    file.reserve(pages.len() * (FRAME_HEADER_SIZE + size));
    for (index, page) in pages.iter().enumerate() {
        let number = u32::try_from(index + 1).expect("few pages");
        let commit = if (index + 1) % per_commit == 0 || index + 1 == pages.len() { number } else { 0 };
        let head: Vec<u8> = [number, commit].iter().flat_map(|word| word.to_be_bytes()).collect();
        sum = wal::checksum(false, sum, &head);
        sum = wal::checksum(false, sum, page);
        file.extend(head);
        file.extend([7_u32, 9].iter().flat_map(|salt| salt.to_be_bytes()));
        push_sum(&mut file, sum);
        file.extend_from_slice(page);
    }
    file
}

fn push_sum(file: &mut Vec<u8>, sum: [u32; 2]) {
    file.extend(sum.iter().flat_map(|half| half.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_reads_the_made_up_log() {
        let pages: Vec<_> = (0..10).map(|seed| page(Kind::Rows, 4096, seed)).collect();
        let log = conformance::wal::parse(&wal_file(&pages, 3)).unwrap();
        let commits: Vec<u32> = log.commits.iter().map(|commit| commit.size).collect();
        assert_eq!(commits, [3, 6, 9, 10]);
    }

    #[test]
    fn rows_compress_and_noise_does_not() {
        let zeros = |kind| page(kind, 4096, 1).iter().filter(|&&byte| byte == 0).count();
        assert!(zeros(Kind::Rows) > 1000);
        assert!(zeros(Kind::Random) < 100);
        assert_ne!(page(Kind::Rows, 4096, 1), page(Kind::Rows, 4096, 2));
    }
}
