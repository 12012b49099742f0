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

/// Fingerprints of all pages of a whole database file.
#[must_use]
pub fn page_sums(database: &[u8], page_size: u32) -> Vec<u64> {
    database.chunks_exact(page_size as usize).zip(1..).map(|(page, number)| page_sum(number, page)).collect()
}

/// Page size named in a database header; `None` if this is not a database.
#[must_use]
pub fn page_size_of(database: &[u8]) -> Option<u32> {
    let valid = database.get(..16) == Some(b"SQLite format 3\0".as_slice());
    let raw = u32::from(u16::from_be_bytes(database.get(16..18)?.try_into().expect("two bytes")));
    valid.then_some(if raw == 1 { 65536 } else { raw })
}

/// Number of pages that belong to the database: the header knows, and the file may be longer until it is truncated.
pub(super) fn pages_in_use(database: &[u8], page_size: u32) -> usize {
    let whole = database.len() / page_size as usize;
    let word =
        |at: usize| database.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().expect("four bytes")));
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

/// Fingerprint of a database file's bytes, comparable with [`Committed::image`].
#[must_use]
pub fn image_of_file(database: &[u8]) -> Option<u64> {
    let page_size = page_size_of(database)?;
    let sums = page_sums(database, page_size);
    let pages = u32::try_from(sums.len()).ok()?;
    Some(image_of((1..).zip(sums), pages, page_size))
}
