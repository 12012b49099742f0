//! Fingerprints of pages and of whole database images. Pure.

use crate::choices::mix;

/// Fingerprint of some bytes; equal on all platforms.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut lanes = [0x243f_6a88_85a3_08d3_u64 ^ bytes.len() as u64, 0x1319_8a2e_0370_7344];
    let mut chunks = bytes.chunks_exact(16);
    for chunk in &mut chunks {
        let (left, right) = chunk.split_at(8);
        let left = u64::from_le_bytes(left.try_into().expect("eight bytes"));
        let right = u64::from_le_bytes(right.try_into().expect("eight bytes"));
        lanes[0] = (lanes[0] ^ left).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
        lanes[1] = (lanes[1] ^ right).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(31);
    }
    for byte in chunks.remainder() {
        lanes[0] = (lanes[0] ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    mix(lanes[0] ^ mix(lanes[1]))
}

pub(super) fn page_sum(number: u32, content: &[u8]) -> u64 {
    mix(hash_bytes(content) ^ mix(u64::from(number)))
}

pub(super) fn hole(number: u32, page_size: u32) -> u64 {
    page_sum(number, &vec![0; page_size as usize])
}

/// Page size named in a database header; `None` if this is not a database.
fn page_size_of(database: &[u8]) -> Option<u32> {
    let valid = database.get(..16) == Some(b"SQLite format 3\0".as_slice());
    let raw = u32::from(u16::from_be_bytes(database.get(16..18)?.try_into().expect("two bytes")));
    valid.then_some(if raw == 1 { 65536 } else { raw })
}

/// Number of pages that belong to the database: the header knows, and the file may be longer until it is truncated.
fn pages_in_use(header: &[u8], whole: usize) -> usize {
    let word =
        |at: usize| header.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().expect("four bytes")));
    match (word(28), word(24) == word(92)) {
        (Some(pages), true) if pages > 0 && (pages as usize) < whole => pages as usize,
        _ => whole,
    }
}

/// The page that holds SQLite's lock bytes; it has no content.
fn lock_page(page_size: u32) -> u32 {
    0x4000_0000 / page_size + 1
}

/// Fingerprint of a whole image from its pages' fingerprints.
pub(super) fn image_of(sums: impl Iterator<Item = (u32, u64)>, pages: u32, page_size: u32) -> u64 {
    let lock = lock_page(page_size);
    let all = sums.filter(|(number, _)| *number != lock).fold(0_u64, |sum, (_, page)| sum.wrapping_add(page));
    mix(all ^ mix(u64::from(pages)) ^ (u64::from(page_size) << 40))
}

/// What a database file holds, by its pages' fingerprints: a file past 1 GiB need not be kept for the oracles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileImage {
    /// Bytes per page; `None` if this is not a database.
    pub page_size: Option<u32>,
    /// Fingerprints of its pages, in order.
    pub pages: Vec<u64>,
    /// Pages that belong to the database by its header.
    pub in_use: usize,
    /// Fingerprint of the whole, comparable with [`Committed::image`](super::Committed::image).
    pub image: Option<u64>,
}

impl FileImage {
    /// The image of a file's bytes.
    #[must_use]
    pub fn of(database: &[u8]) -> Self {
        Self::read(database.len() as u64, None, |buffer, offset| {
            let rest = database.get(usize::try_from(offset).expect("fits in memory")..).unwrap_or_default();
            let read = rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&rest[..read]);
            read
        })
    }

    /// The image of a file of `len` bytes that is read page by page. `log_page_size` is for one whose header was spoiled.
    #[must_use]
    pub fn read(len: u64, log_page_size: Option<u32>, read: impl Fn(&mut [u8], u64) -> usize) -> Self {
        let mut header = [0; 100];
        let there = read(&mut header, 0);
        let Some(page_size) = page_size_of(&header[..there]).or(log_page_size) else {
            return Self::default();
        };
        let mut page = vec![0; page_size as usize];
        let count = u32::try_from(len / u64::from(page_size)).expect("page counts are 32 bits");
        let sum = |number: u32| {
            read(&mut page, u64::from(number - 1) * u64::from(page_size));
            page_sum(number, &page)
        };
        let pages: Vec<u64> = (1..=count).map(sum).collect();
        let image = image_of((1..).zip(pages.iter().copied()), count, page_size);
        let in_use = pages_in_use(&header[..there], pages.len());
        Self { page_size: Some(page_size), pages, in_use, image: Some(image) }
    }
}
