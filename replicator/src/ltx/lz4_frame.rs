//! One LZ4 frame, the page coding of Litestream 0.5.0 to 0.5.15.
//!
//! The frame has no length in front, so its end must be found by walking its blocks. Done here rather than with
//! `lz4_flex::frame`, whose reader allocates the block size a hostile frame announces (up to 8 MiB per page) and
//! cannot be resumed when input arrives in pieces.
//! Format: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>.

use std::hash::Hasher;

use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

const MAGIC: u32 = 0x184D_2204;

/// Longest frame descriptor with its magic: content size and dictionary id present.
const MAX_HEADER_LEN: usize = 19;

/// Marks an uncompressed block in its size field.
const STORED: u32 = 1 << 31;

/// Block boundaries allowed per page; Litestream needs one.
const MAX_BLOCKS: usize = 64;

/// Flags of the frame descriptor.
struct Flags(u8);

impl Flags {
    fn independent_blocks(&self) -> bool {
        self.0 & 0x20 != 0
    }
    fn block_checksums(&self) -> bool {
        self.0 & 0x10 != 0
    }
    fn content_size(&self) -> bool {
        self.0 & 0x08 != 0
    }
    fn content_checksum(&self) -> bool {
        self.0 & 0x04 != 0
    }
    fn dictionary(&self) -> bool {
        self.0 & 0x01 != 0
    }
    fn header_len(&self) -> usize {
        7 + if self.content_size() { 8 } else { 0 }
    }
}

/// Most bytes a frame around one page may take.
pub(super) fn max_len(page_len: usize) -> usize {
    MAX_HEADER_LEN + lz4_flex::block::get_maximum_output_size(page_len) + 8 * MAX_BLOCKS + 8
}

/// Bytes of the frame at the start of `input`, or `None` if more input is needed to tell.
pub(super) fn len(input: &[u8], page_len: usize) -> Result<Option<usize>, String> {
    let Some(flags) = header(input)? else { return Ok(None) };
    let block_trailer = if flags.block_checksums() { 4 } else { 0 };
    let mut at = flags.header_len();
    for _ in 0..=MAX_BLOCKS {
        let Some(size) = le_u32(input, at) else { return Ok(None) };
        at += 4;
        if size == 0 {
            at += if flags.content_checksum() { 4 } else { 0 };
            return Ok((at <= input.len()).then_some(at));
        }
        at += (size & !STORED) as usize + block_trailer;
        if at > max_len(page_len) {
            return Err(format!("LZ4 frame of at least {at} bytes around a page of {page_len}"));
        }
    }
    Err(format!("LZ4 frame of more than {MAX_BLOCKS} blocks"))
}

/// Decodes a whole frame, whose extent [`len`] has found, into exactly one page.
pub(super) fn decode(frame: &[u8], page: &mut [u8]) -> Result<(), String> {
    let flags = header(frame)?.ok_or("LZ4 frame is cut")?;
    if flags.content_size() {
        let size = u64::from_le_bytes(frame[6..14].try_into().expect("8 bytes"));
        if size != page.len() as u64 {
            return Err(format!("LZ4 frame announces {size} bytes, a page has {}", page.len()));
        }
    }
    let mut at = flags.header_len();
    let mut filled = 0;
    loop {
        let size = le_u32(frame, at).ok_or("LZ4 frame is cut")?;
        at += 4;
        if size == 0 {
            break;
        }
        let end = at + (size & !STORED) as usize;
        let block = frame.get(at..end).ok_or("LZ4 frame is cut")?;
        at = end;
        if flags.block_checksums() {
            check_hash(frame, at, block, "block")?;
            at += 4;
        }
        filled += block_into(block, size & STORED != 0, flags.independent_blocks(), page, filled)?;
    }
    if filled != page.len() {
        return Err(format!("LZ4 frame holds {filled} bytes, a page has {}", page.len()));
    }
    if flags.content_checksum() {
        check_hash(frame, at, page, "content")?;
    }
    Ok(())
}

/// Decodes one block behind the `filled` bytes of `page`; returns the bytes it added.
fn block_into(
    block: &[u8],
    stored: bool,
    independent: bool,
    page: &mut [u8],
    filled: usize,
) -> Result<usize, String> {
    let (before, rest) = page.split_at_mut(filled);
    if stored {
        let target = rest.get_mut(..block.len()).ok_or("LZ4 frame holds more than a page")?;
        target.copy_from_slice(block);
        return Ok(block.len());
    }
    let result = if independent || before.is_empty() {
        decompress_into(block, rest)
    } else {
        decompress_into_with_dict(block, rest, before)
    };
    result.map_err(|error| format!("LZ4 block: {error}"))
}

/// Checks the descriptor at the start of a frame; `None` if it is not there yet.
fn header(input: &[u8]) -> Result<Option<Flags>, String> {
    let Some(magic) = le_u32(input, 0) else { return Ok(None) };
    if magic != MAGIC {
        return Err(format!("page is not an LZ4 frame (magic {magic:#010x})"));
    }
    let Some(&flags) = input.get(4) else { return Ok(None) };
    if flags >> 6 != 1 || flags & 0x02 != 0 {
        return Err(format!("LZ4 frame flags {flags:#04x} are unknown"));
    }
    let flags = Flags(flags);
    if flags.dictionary() {
        return Err("LZ4 frame needs a dictionary".to_owned());
    }
    let Some(bytes) = input.get(..flags.header_len()) else { return Ok(None) };
    let (descriptor, check) = bytes[4..].split_at(bytes.len() - 5);
    let expected = xxh32(descriptor).to_le_bytes()[1];
    if check != [expected] {
        return Err("LZ4 frame header checksum does not match".to_owned());
    }
    Ok(Some(flags))
}

fn check_hash(frame: &[u8], at: usize, data: &[u8], what: &str) -> Result<(), String> {
    let stored = le_u32(frame, at).ok_or("LZ4 frame is cut")?;
    if stored == xxh32(data) { Ok(()) } else { Err(format!("LZ4 {what} checksum does not match")) }
}

fn xxh32(data: &[u8]) -> u32 {
    let mut hasher = XxHash32::with_seed(0);
    hasher.write(data);
    u32::try_from(hasher.finish()).expect("XXH32 has 32 bits")
}

fn le_u32(input: &[u8], at: usize) -> Option<u32> {
    let bytes = input.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().expect("4 bytes")))
}
