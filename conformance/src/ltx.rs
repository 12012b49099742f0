//! A naive reader of LTX files, written from the format alone.
//!
//! The whole file in memory, one pass, every claim checked: this is the judge, so it prefers being obviously right
//! over being fast. It must not share code with the product. Both forms of pages are read: LZ4 blocks (Litestream
//! 0.5.16 and later) and LZ4 frames (0.5.0–0.5.15).

use std::collections::BTreeMap;
use std::io::Read;

use crc::{CRC_64_GO_ISO, Crc};

use crate::Defect;

/// CRC-64 as Go's `crc64.ISO` computes it. Litestream's own format page says ECMA; its files say ISO.
const CRC64: Crc<u64> = Crc::<u64>::new(&CRC_64_GO_ISO);
/// Set in every LTX checksum, so that a present checksum is never zero.
const CHECKSUM_FLAG: u64 = 1 << 63;
/// Byte offset whose page SQLite keeps empty for its locks.
const LOCK_BYTE: u64 = 0x4000_0000;
const HEADER_LEN: usize = 100;
const TRAILER_LEN: usize = 16;
const PAGE_HEADER_LEN: usize = 6;
/// Header flag: the file carries no rolling database checksum.
const NO_CHECKSUM: u32 = 0x2;
/// Page flag: a 4-byte length follows, and the payload is one LZ4 block.
const BLOCK_PAGE: u16 = 0x1;

/// How a page's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageForm {
    /// Length-prefixed LZ4 block.
    Block,
    /// Self-contained LZ4 frame.
    Frame,
}

/// The fixed 100 bytes at the start, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Flag bits.
    pub flags: u32,
    /// Page size in bytes.
    pub page_size: u32,
    /// Database size in pages after this file.
    pub commit: u32,
    /// First transaction id covered.
    pub min_txid: u64,
    /// Last transaction id covered.
    pub max_txid: u64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Rolling database checksum before this file; 0 when not tracked.
    pub pre_apply_checksum: u64,
    /// Offset of the first WAL byte covered.
    pub wal_offset: i64,
    /// WAL bytes covered.
    pub wal_size: i64,
    /// First salt of that WAL.
    pub wal_salt1: u32,
    /// Second salt of that WAL.
    pub wal_salt2: u32,
    /// Writer's node id.
    pub node_id: u64,
}

/// A file that was read to its end and kept every promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The header.
    pub header: Header,
    /// Page number → content, each of `header.page_size` bytes.
    pub pages: BTreeMap<u32, Vec<u8>>,
    /// The forms that occur.
    pub forms: Vec<PageForm>,
    /// Rolling database checksum after this file; 0 when not tracked.
    pub post_apply_checksum: u64,
    /// Checksum of the file itself.
    pub file_checksum: u64,
}

impl File {
    /// The page that contains SQLite's lock byte, and is in no file.
    #[must_use]
    pub fn lock_page(&self) -> u32 {
        lock_page(self.header.page_size)
    }
}

/// The number of the page at 1 GiB for a page size in bytes.
#[must_use]
pub fn lock_page(page_size: u32) -> u32 {
    u32::try_from(LOCK_BYTE / u64::from(page_size)).unwrap_or(u32::MAX - 1) + 1
}

/// Reads a complete file.
///
/// # Errors
/// The first claim that does not hold, with its offset.
pub fn parse(bytes: &[u8]) -> Result<File, Defect> {
    if bytes.len() < HEADER_LEN + PAGE_HEADER_LEN + 9 + TRAILER_LEN {
        return Err(Defect::new(format!("{} bytes are too few for an LTX file", bytes.len())));
    }
    let header = parse_header(bytes)?;
    let mut digest = CRC64.digest();
    digest.update(&bytes[..HEADER_LEN]);
    let pages = parse_pages(bytes, &header, &mut digest)?;
    check_order(&header, &pages.content)?;
    check_index(bytes, &pages)?;
    let trailer = bytes.len() - TRAILER_LEN;
    digest.update(&bytes[pages.index_at..trailer + 8]);
    let post_apply_checksum = u64_at(bytes, trailer);
    let file_checksum = u64_at(bytes, trailer + 8);
    let computed = digest.finalize() | CHECKSUM_FLAG;
    if computed != file_checksum {
        return Err(Defect::new(format!(
            "file checksum {file_checksum:016x} is stored, {computed:016x} is computed"
        )));
    }
    if header.flags & NO_CHECKSUM != 0 && post_apply_checksum != 0 {
        return Err(Defect::new("a post-apply checksum is present although the header says there is none"));
    }
    Ok(File { header, pages: pages.content, forms: pages.forms, post_apply_checksum, file_checksum })
}

/// Reads and checks the first 100 bytes.
///
/// # Errors
/// The first field that is not legal.
pub fn parse_header(bytes: &[u8]) -> Result<Header, Defect> {
    if bytes.len() < HEADER_LEN {
        return Err(Defect::new(format!("{} bytes are too few for an LTX header", bytes.len())));
    }
    if &bytes[..4] != b"LTX1" {
        return Err(Defect::new("the file does not begin with LTX1"));
    }
    let header = Header {
        flags: u32_at(bytes, 4),
        page_size: u32_at(bytes, 8),
        commit: u32_at(bytes, 12),
        min_txid: u64_at(bytes, 16),
        max_txid: u64_at(bytes, 24),
        timestamp: i64_at(bytes, 32),
        pre_apply_checksum: u64_at(bytes, 40),
        wal_offset: i64_at(bytes, 48),
        wal_size: i64_at(bytes, 56),
        wal_salt1: u32_at(bytes, 64),
        wal_salt2: u32_at(bytes, 68),
        node_id: u64_at(bytes, 72),
    };
    let tracked = header.flags & NO_CHECKSUM == 0;
    let salted = header.wal_salt1 != 0 || header.wal_salt2 != 0;
    let rules = [
        (header.flags & !NO_CHECKSUM != 0, "unknown flags"),
        (
            !header.page_size.is_power_of_two() || !(512..=65536).contains(&header.page_size),
            "page size is not a power of two from 512 to 65536",
        ),
        (header.commit == 0, "database size is zero pages"),
        (header.min_txid == 0, "first transaction id is zero"),
        (header.max_txid < header.min_txid, "last transaction id is below the first"),
        (header.wal_offset < 0 || header.wal_size < 0, "negative WAL position"),
        (header.wal_offset == 0 && (salted || header.wal_size != 0), "WAL salt or size without an offset"),
        (
            header.pre_apply_checksum != 0 && (!tracked || header.min_txid == 1),
            "unexpected pre-apply checksum",
        ),
        (
            tracked && header.min_txid > 1 && header.pre_apply_checksum & CHECKSUM_FLAG == 0,
            "missing pre-apply checksum",
        ),
        (bytes[80..HEADER_LEN].iter().any(|byte| *byte != 0), "reserved bytes are not zero"),
    ];
    match rules.iter().find(|(broken, _)| *broken) {
        Some((_, what)) => Err(Defect::new(format!("header: {what}"))),
        None => Ok(header),
    }
}

/// Pages and where they were.
struct Pages {
    content: BTreeMap<u32, Vec<u8>>,
    /// Page number → (offset of its header, bytes of header and payload).
    places: BTreeMap<u32, (u64, u64)>,
    forms: Vec<PageForm>,
    /// First byte after the end-of-pages marker, counted from before the marker was hashed.
    index_at: usize,
}

fn parse_pages(bytes: &[u8], header: &Header, digest: &mut crc::Digest<'_, u64>) -> Result<Pages, Defect> {
    let size = header.page_size as usize;
    let mut pages =
        Pages { content: BTreeMap::new(), places: BTreeMap::new(), forms: Vec::new(), index_at: 0 };
    let mut at = HEADER_LEN;
    let mut previous = 0;
    loop {
        let start = at;
        let head = slice(bytes, at, PAGE_HEADER_LEN, "page header")?;
        at += PAGE_HEADER_LEN;
        digest.update(head);
        let number = u32_at(head, 0);
        let flags = u16::from_be_bytes([head[4], head[5]]);
        if number == 0 {
            if flags != 0 {
                return Err(Defect::new(format!("flags {flags:#x} on the end-of-pages marker at {start}")));
            }
            pages.index_at = at;
            return Ok(pages);
        }
        if number <= previous {
            return Err(Defect::new(format!("page {number} at {start} comes after page {previous}")));
        }
        previous = number;
        let (content, form) = match flags {
            BLOCK_PAGE => {
                let length = slice(bytes, at, 4, "page length")?;
                digest.update(length);
                let packed = slice(bytes, at + 4, u32_at(length, 0) as usize, "page payload")?;
                at += 4 + packed.len();
                (unpack_block(packed, size, number)?, PageForm::Block)
            }
            0 => {
                let (content, used) = unpack_frame(&bytes[at..], size, number)?;
                at += used;
                (content, PageForm::Frame)
            }
            _ => return Err(Defect::new(format!("page {number} at {start} has unknown flags {flags:#x}"))),
        };
        digest.update(&content);
        if !pages.forms.contains(&form) {
            pages.forms.push(form);
        }
        pages.places.insert(number, (start as u64, (at - start) as u64));
        pages.content.insert(number, content);
    }
}

fn unpack_block(packed: &[u8], size: usize, number: u32) -> Result<Vec<u8>, Defect> {
    let mut page = vec![0; size];
    match lz4_flex::block::decompress_into(packed, &mut page) {
        Ok(length) if length == size => Ok(page),
        Ok(length) => Err(Defect::new(format!("page {number} inflates to {length} bytes, not {size}"))),
        Err(error) => Err(Defect::new(format!("page {number} is not an LZ4 block: {error}"))),
    }
}

/// Inflates one frame and says how many bytes it occupied, its end mark and checksum included.
fn unpack_frame(bytes: &[u8], size: usize, number: u32) -> Result<(Vec<u8>, usize), Defect> {
    let broken = |error: std::io::Error| Defect::new(format!("page {number} is not an LZ4 frame: {error}"));
    let used = frame_len(bytes).ok_or_else(|| Defect::new(format!("page {number}: LZ4 frame is cut")))?;
    let mut decoder = lz4_flex::frame::FrameDecoder::new(&bytes[..used]);
    let mut page = vec![0; size];
    decoder.read_exact(&mut page).map_err(broken)?;
    // Reading to the end makes the decoder check the content checksum.
    if decoder.read(&mut [0]).map_err(broken)? != 0 {
        return Err(Defect::new(format!("page {number} inflates to more than {size} bytes")));
    }
    Ok((page, used))
}

/// Length of the LZ4 frame at the start of `bytes`, found by walking its blocks.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(4)?;
    let (block_checksums, content_size, content_checksum, dictionary) =
        (flags & 0x10 != 0, flags & 0x08 != 0, flags & 0x04 != 0, flags & 0x01 != 0);
    let mut at = 7 + if content_size { 8 } else { 0 } + if dictionary { 4 } else { 0 };
    loop {
        let word = bytes.get(at..at + 4)?;
        let length = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        at += 4;
        if length == 0 {
            at += if content_checksum { 4 } else { 0 };
            return (at <= bytes.len()).then_some(at);
        }
        at += (length & 0x7fff_ffff) as usize + if block_checksums { 4 } else { 0 };
    }
}

/// A file from transaction 1 holds every page; any file holds no lock page and none past the end.
fn check_order(header: &Header, pages: &BTreeMap<u32, Vec<u8>>) -> Result<(), Defect> {
    let lock_page = lock_page(header.page_size);
    if let Some(number) = pages.keys().find(|number| **number > header.commit || **number == lock_page) {
        return Err(Defect::new(format!(
            "page {number} may not be here: the database has {} pages and the lock page is {lock_page}",
            header.commit
        )));
    }
    if header.min_txid == 1 {
        let missing = (1..=header.commit).find(|number| *number != lock_page && !pages.contains_key(number));
        if let Some(number) = missing {
            return Err(Defect::new(format!(
                "page {number} of {} is missing in a file that starts at transaction 1",
                header.commit
            )));
        }
    }
    Ok(())
}

/// The index repeats every page's place, and its length comes last.
fn check_index(bytes: &[u8], pages: &Pages) -> Result<(), Defect> {
    let length_at = bytes.len() - TRAILER_LEN - 8;
    let stored = u64_at(bytes, length_at);
    let found = length_at.checked_sub(pages.index_at);
    if found.map(|length| length as u64) != Some(stored) {
        return Err(Defect::new(format!("page index says {stored} bytes, the file has {found:?}")));
    }
    let mut rest = &bytes[pages.index_at..length_at];
    for (number, (offset, length)) in &pages.places {
        let entry = (varint(&mut rest)?, varint(&mut rest)?, varint(&mut rest)?);
        if entry != (u64::from(*number), *offset, *length) {
            return Err(Defect::new(format!(
                "page index entry {entry:?} should be {:?}",
                (number, offset, length)
            )));
        }
    }
    match (varint(&mut rest)?, rest.len()) {
        (0, 0) => Ok(()),
        (word, left) => {
            Err(Defect::new(format!("page index ends with {word} and {left} more bytes, not with one zero")))
        }
    }
}

/// Takes one unsigned LEB128 number off the front.
fn varint(bytes: &mut &[u8]) -> Result<u64, Defect> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or_else(|| Defect::new("page index is cut"))?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Defect::new("page index holds a number of more than 64 bits"))
}

fn slice<'a>(bytes: &'a [u8], at: usize, length: usize, what: &str) -> Result<&'a [u8], Defect> {
    at.checked_add(length)
        .and_then(|end| bytes.get(at..end))
        .ok_or_else(|| Defect::new(format!("the file ends inside the {what} at {at}")))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
