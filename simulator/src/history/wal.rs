//! A second reading of SQLite's WAL format, written from the file-format document: the oracle must not trust the
//! product's parser. Pure; slow is fine.

/// WAL header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// Checksums read big-endian words.
    pub big_endian: bool,
    /// Bytes per page.
    pub page_size: u32,
    /// Both salts as they stand in the file.
    pub salt: [u8; 8],
    /// Checksum of the header, the seed of the first frame's.
    pub checksum: [u32; 2],
}

/// One frame whose checksum and salts are right.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Page it replaces.
    pub page: u32,
    /// Database size in pages if this frame commits, else 0.
    pub commit: u32,
    /// Running checksum after it.
    pub checksum: [u32; 2],
    /// New content of the page.
    pub content: &'a [u8],
}

/// Bytes before the first frame.
pub const HEADER: u64 = 32;
/// Bytes before the page in each frame.
pub const FRAME_HEADER: u64 = 24;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn checksum(big_endian: bool, data: &[u8], [mut a, mut b]: [u32; 2]) -> [u32; 2] {
    for pair in data.chunks_exact(8) {
        let read = |at: usize| {
            let bytes = pair[at..at + 4].try_into().expect("four bytes");
            if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        a = a.wrapping_add(read(0)).wrapping_add(b);
        b = b.wrapping_add(read(4)).wrapping_add(a);
    }
    [a, b]
}

/// Decodes a WAL header; `None` if it is not a valid one.
pub fn header(bytes: &[u8]) -> Option<WalHeader> {
    let bytes = bytes.get(..HEADER as usize)?;
    let big_endian = match word(bytes, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return None,
    };
    let sum = checksum(big_endian, &bytes[..24], [0, 0]);
    let valid = word(bytes, 4) == 3_007_000 && sum == [word(bytes, 24), word(bytes, 28)];
    valid.then(|| WalHeader {
        big_endian,
        page_size: word(bytes, 8),
        salt: bytes[16..24].try_into().expect("eight bytes"),
        checksum: sum,
    })
}

/// Decodes the frame in `bytes` that follows one with running checksum `before`; `None` if it does not.
pub fn frame<'a>(header: &WalHeader, before: [u32; 2], bytes: &'a [u8]) -> Option<Frame<'a>> {
    let size = FRAME_HEADER as usize + header.page_size as usize;
    let bytes = bytes.get(..size)?;
    let sum = checksum(header.big_endian, &bytes[..8], before);
    let sum = checksum(header.big_endian, &bytes[24..], sum);
    let valid =
        bytes[8..16] == header.salt && sum == [word(bytes, 16), word(bytes, 20)] && word(bytes, 0) > 0;
    valid.then(|| Frame {
        page: word(bytes, 0),
        commit: word(bytes, 4),
        checksum: sum,
        content: &bytes[24..],
    })
}

/// All frames up to the last commit of a WAL file, as recovery after a crash would accept them.
pub fn committed(wal: &[u8]) -> Option<(WalHeader, Vec<Frame<'_>>)> {
    let header = header(wal)?;
    let size = FRAME_HEADER as usize + header.page_size as usize;
    let mut frames = Vec::new();
    let mut before = header.checksum;
    for bytes in wal[HEADER as usize..].chunks_exact(size) {
        let Some(frame) = frame(&header, before, bytes) else { break };
        before = frame.checksum;
        frames.push(frame);
    }
    let last = frames.iter().rposition(|frame| frame.commit > 0).map_or(0, |at| at + 1);
    frames.truncate(last);
    Some((header, frames))
}
