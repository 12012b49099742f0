//! A naive reader of SQLite write-ahead logs, written from SQLite's format description.
//!
//! The whole log in memory. It answers one question: which committed states does this log hold? It must not share
//! code with the product.

use crate::Defect;

const HEADER_LEN: usize = 32;
const FRAME_HEADER_LEN: usize = 24;
/// Magic number; its lowest bit says that checksums read the log as big-endian words.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// The log's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether checksums are computed over big-endian words.
    pub big_endian: bool,
    /// Page size in bytes.
    pub page_size: u32,
    /// Checkpoint sequence number.
    pub sequence: u32,
    /// Changes whenever the log starts over.
    pub salt: (u32, u32),
}

/// One transaction in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Pages written, in log order; the last of several for one page counts.
    pub pages: Vec<(u32, Vec<u8>)>,
    /// Database size in pages afterwards.
    pub size: u32,
    /// Byte offset just after its last frame.
    pub end: usize,
}

/// The valid part of a log: what SQLite would recover from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The header.
    pub header: Header,
    /// Its transactions, in order.
    pub commits: Vec<Commit>,
}

/// Reads a log up to its first frame that is not valid, keeping whole transactions only.
///
/// # Errors
/// If the 32-byte header is not that of a WAL.
pub fn parse(bytes: &[u8]) -> Result<Log, Defect> {
    let header = parse_header(bytes)?;
    let size = header.page_size as usize;
    let mut sums = checksum(header.big_endian, &bytes[..24], (0, 0));
    let mut commits = Vec::new();
    let mut open = Vec::new();
    let mut at = HEADER_LEN;
    while let Some(frame) = bytes.get(at..at + FRAME_HEADER_LEN + size) {
        let salted = (word(frame, 8), word(frame, 12)) == header.salt;
        sums = checksum(header.big_endian, &frame[..8], sums);
        sums = checksum(header.big_endian, &frame[FRAME_HEADER_LEN..], sums);
        if !salted || word(frame, 0) == 0 || sums != (word(frame, 16), word(frame, 20)) {
            break;
        }
        at += frame.len();
        open.push((word(frame, 0), frame[FRAME_HEADER_LEN..].to_vec()));
        if word(frame, 4) != 0 {
            commits.push(Commit { pages: std::mem::take(&mut open), size: word(frame, 4), end: at });
        }
    }
    Ok(Log { header, commits })
}

fn parse_header(bytes: &[u8]) -> Result<Header, Defect> {
    if bytes.len() < HEADER_LEN {
        return Err(Defect::new(format!("{} bytes are too few for a WAL header", bytes.len())));
    }
    let magic = word(bytes, 0);
    if magic & !1 != MAGIC {
        return Err(Defect::new(format!("{magic:#010x} is not a WAL magic number")));
    }
    let version = word(bytes, 4);
    if version != VERSION {
        return Err(Defect::new(format!("WAL version {version} is not {VERSION}")));
    }
    let page_size = word(bytes, 8);
    if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
        return Err(Defect::new(format!(
            "WAL page size {page_size} is not a power of two from 512 to 65536"
        )));
    }
    let big_endian = magic & 1 == 1;
    if checksum(big_endian, &bytes[..24], (0, 0)) != (word(bytes, 24), word(bytes, 28)) {
        return Err(Defect::new("WAL header checksum does not match"));
    }
    Ok(Header { big_endian, page_size, sequence: word(bytes, 12), salt: (word(bytes, 16), word(bytes, 20)) })
}

/// SQLite's running checksum over pairs of 32-bit words.
#[must_use]
pub fn checksum(big_endian: bool, bytes: &[u8], (mut first, mut second): (u32, u32)) -> (u32, u32) {
    let read = |word: &[u8]| {
        let word = word.try_into().expect("chunks of four");
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(read(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(read(&pair[4..])).wrapping_add(first);
    }
    (first, second)
}

/// Applies one transaction to a database image.
pub fn apply(image: &mut Vec<u8>, page_size: u32, commit: &Commit) {
    let page_size = page_size as usize;
    for (number, content) in &commit.pages {
        let start = (*number as usize - 1) * page_size;
        if image.len() < start + page_size {
            image.resize(start + page_size, 0);
        }
        image[start..start + page_size].copy_from_slice(content);
    }
    image.resize(commit.size as usize * page_size, 0);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A database file and its WAL of four commits, from a connection that has not been closed yet.
    fn real_log(folder: &tempfile::TempDir) -> (Vec<u8>, Vec<u8>) {
        let db = Connection::open(folder.path().join("app.db")).unwrap();
        db.execute_batch(
            "PRAGMA page_size = 1024; PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE t(x); INSERT INTO t VALUES (1);
             INSERT INTO t SELECT randomblob(3000); UPDATE t SET x = 2 WHERE x = 1;",
        )
        .unwrap();
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        (read("app.db"), read("app.db-wal"))
    }

    /// The same log as a big-endian machine would have written it.
    fn as_big_endian(log: &[u8]) -> Vec<u8> {
        let mut log = log.to_vec();
        log[3] |= 1;
        let mut sums = checksum(true, &log[..24], (0, 0));
        let put = |bytes: &mut [u8], sums: (u32, u32)| {
            bytes[..4].copy_from_slice(&sums.0.to_be_bytes());
            bytes[4..8].copy_from_slice(&sums.1.to_be_bytes());
        };
        put(&mut log[24..32], sums);
        for frame in log[HEADER_LEN..].chunks_exact_mut(FRAME_HEADER_LEN + 1024) {
            sums = checksum(true, &frame[..8], sums);
            sums = checksum(true, &frame[FRAME_HEADER_LEN..], sums);
            put(&mut frame[16..24], sums);
        }
        log
    }

    #[test]
    fn both_byte_orders_hold_the_same_commits_and_sqlite_agrees() {
        let folder = tempfile::tempdir().unwrap();
        let (file, little) = real_log(&folder);
        let big = as_big_endian(&little);
        let (little, parsed) = (parse(&little).unwrap(), parse(&big).unwrap());
        assert!(!little.header.big_endian && parsed.header.big_endian);
        assert_eq!((little.commits.len(), &little.commits), (4, &parsed.commits));
        // SQLite recovers the rewritten log, so it is a big-endian log and not only our idea of one.
        let path = folder.path().join("other.db");
        std::fs::write(&path, &file).unwrap();
        std::fs::write(folder.path().join("other.db-wal"), &big).unwrap();
        let db = Connection::open(&path).unwrap();
        assert_eq!(db.query_row("SELECT min(x) FROM t", [], |row| row.get(0)), Ok(2));
        drop(db);
        let mut image = file;
        for commit in &parsed.commits {
            apply(&mut image, 1024, commit);
        }
        assert!(image == std::fs::read(&path).unwrap(), "SQLite's own checkpoint gives other pages");
    }

    #[test]
    fn a_cut_or_damaged_log_ends_before_the_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (_, bytes) = real_log(&folder);
        let whole = parse(&bytes).unwrap();
        for length in 0..bytes.len() {
            let Ok(log) = parse(&bytes[..length]) else {
                assert!(length < HEADER_LEN);
                continue;
            };
            let expected = whole.commits.iter().filter(|commit| commit.end <= length).count();
            assert_eq!(log.commits, whole.commits[..expected], "cut to {length}");
        }
        for at in (HEADER_LEN..bytes.len()).step_by(61) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let expected = whole.commits.iter().filter(|commit| commit.end <= at).count();
            assert_eq!(parse(&damaged).unwrap().commits, whole.commits[..expected], "damaged at {at}");
        }
        for at in 0..HEADER_LEN {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(parse(&damaged).is_err(), "header damaged at {at}");
        }
    }
}
