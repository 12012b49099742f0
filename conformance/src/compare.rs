//! Judges a restored database: which committed state is it, and is it one at all?
//!
//! Stricter than an application would be: the file alone, without its side files, must be a state, and opening it the
//! way an application does must show the same one.

use std::path::Path;

use rusqlite::{Connection, MAIN_DB, OpenFlags};

use crate::workload::{Digest, History, seq_of};

/// The state a database was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Its sequence number.
    pub seq: u64,
    /// Its digest.
    pub digest: Digest,
}

/// Why a restored database is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// SQLite cannot read it.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// `PRAGMA integrity_check` found damage.
    #[error("integrity check: {}", .0.join("; "))]
    Damaged(Vec<String>),
    /// Nothing in it says which state it is.
    #[error("there is no mark in it: it is empty, or from before the first commit")]
    NoMark,
    /// It says it is a state the application never had.
    #[error("it says it is state {seq}, the application never went beyond {newest}")]
    Unknown {
        /// What it says.
        seq: u64,
        /// Newest possible state.
        newest: u64,
    },
    /// It says it is a state, but its content is another.
    #[error(
        "it says it is state {seq}, but its content is not what was committed then: {expected} expected, {found} found"
    )]
    Mixture {
        /// What it says.
        seq: u64,
        /// Digest at the time.
        expected: Digest,
        /// Digest now.
        found: Digest,
    },
    /// It is a state, but older than allowed.
    #[error("it is state {seq}, older than state {at_least}, which must be restorable")]
    Old {
        /// What it is.
        seq: u64,
        /// The oldest acceptable.
        at_least: u64,
    },
    /// A WAL or journal lies beside it.
    #[error("{0} lies beside it: SQLite would replay it into the restored file")]
    SideFile(String),
    /// An application that opens it sees another state than the file alone.
    #[error("the file alone is state {alone}, an application that opens it sees state {opened}")]
    Replayed {
        /// The file alone.
        alone: u64,
        /// With whatever lies beside it.
        opened: u64,
    },
}

/// Judges a restored file, first alone, then as an application opens it.
///
/// # Errors
/// What is wrong with it.
pub fn judge(path: &Path, history: &History, at_least: u64) -> Result<State, Wrong> {
    let bytes =
        std::fs::read(path).map_err(|error| Wrong::Unreadable(format!("{}: {error}", path.display())))?;
    let alone = judge_image(&bytes, history, at_least)?;
    for suffix in ["-wal", "-journal"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        if std::fs::metadata(&beside).is_ok_and(|facts| facts.len() > 0) {
            return Err(Wrong::SideFile(beside.to_string_lossy().into_owned()));
        }
    }
    let opened = judge_opened(path, history, at_least)?;
    if opened == alone { Ok(alone) } else { Err(Wrong::Replayed { alone: alone.seq, opened: opened.seq }) }
}

/// Judges a database as an application sees it that opens it, with whatever lies beside the file.
///
/// # Errors
/// What is wrong with it.
pub fn judge_opened(path: &Path, history: &History, at_least: u64) -> Result<State, Wrong> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let db = Connection::open_with_flags(path, flags).map_err(unreadable)?;
    judge_connection(&db, history, at_least)
}

/// Judges a database image in memory.
///
/// # Errors
/// What is wrong with it.
pub fn judge_image(image: &[u8], history: &History, at_least: u64) -> Result<State, Wrong> {
    judge_connection(&open_image(image)?, history, at_least)
}

/// Opens a copy of a database image in memory.
///
/// # Errors
/// If it is not a database.
pub fn open_image(image: &[u8]) -> Result<Connection, Wrong> {
    let mut copy = image.to_vec();
    // An image in memory cannot be in WAL mode; these two bytes say which mode it is in, and nothing else.
    if let Some(modes) = copy.get_mut(18..20) {
        modes.fill(1);
    }
    let mut db = Connection::open_in_memory().map_err(unreadable)?;
    db.deserialize_read_exact(MAIN_DB, copy.as_slice(), copy.len(), true).map_err(unreadable)?;
    Ok(db)
}

fn judge_connection(db: &Connection, history: &History, at_least: u64) -> Result<State, Wrong> {
    let damage: Vec<String> = db
        .prepare("PRAGMA integrity_check(20)")
        .and_then(|mut check| check.query_map([], |row| row.get(0))?.collect())
        .map_err(unreadable)?;
    if damage != ["ok"] {
        return Err(Wrong::Damaged(damage));
    }
    let seq = seq_of(db).map_err(unreadable)?.ok_or(Wrong::NoMark)?;
    let found = Digest::of(db).map_err(unreadable)?;
    let expected = history.state(seq).ok_or(Wrong::Unknown { seq, newest: history.intended() })?;
    if found != expected {
        return Err(Wrong::Mixture { seq, expected, found });
    }
    if seq < at_least {
        return Err(Wrong::Old { seq, at_least });
    }
    Ok(State { seq, digest: found })
}

fn unreadable(error: rusqlite::Error) -> Wrong {
    Wrong::Unreadable(error.to_string())
}

/// How two database files differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageDifference {
    /// They have different sizes.
    #[error("{left} bytes against {right}")]
    Size {
        /// Bytes of the first.
        left: usize,
        /// Bytes of the second.
        right: usize,
    },
    /// Some pages differ.
    #[error("{count} pages differ, the first are {first:?}")]
    Pages {
        /// How many.
        count: usize,
        /// The numbers of the first few.
        first: Vec<usize>,
    },
}

/// Compares two database files page by page.
///
/// # Errors
/// How they differ.
pub fn same_pages(page_size: u32, left: &[u8], right: &[u8]) -> Result<(), PageDifference> {
    if left.len() != right.len() {
        return Err(PageDifference::Size { left: left.len(), right: right.len() });
    }
    let size = page_size as usize;
    let pairs = left.chunks(size).zip(right.chunks(size)).enumerate();
    let differing: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(index, _)| index + 1).collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(PageDifference::Pages { count: differing.len(), first: differing.into_iter().take(10).collect() })
}

#[cfg(test)]
mod tests;
