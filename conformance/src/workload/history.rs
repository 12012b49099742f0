//! What the application committed, in order, and how much of it somebody promised to keep.
//!
//! A state's digest is written down *before* its COMMIT, because after a crash nobody knows whether it happened.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::Digest;

/// The states a database went through. Sequence numbers only ever grow, over restarts and replaced files too.
#[derive(Debug, Default)]
pub struct History {
    states: BTreeMap<u64, Digest>,
    committed: u64,
    acknowledged: u64,
    journal: Option<File>,
}

impl History {
    /// A history kept in memory only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a history file, which may end in the middle of a line, and goes on writing it.
    ///
    /// # Errors
    /// If the file cannot be read or created, or holds a line nobody wrote.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut history = Self::load(path)?;
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut journal = File::options().create(true).append(true).open(path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            journal.write_all(b"\n")?;
        }
        history.journal = Some(journal);
        Ok(history)
    }

    /// Reads a history file another process may be writing; absent means empty.
    ///
    /// # Errors
    /// If the file cannot be read, or a line that is not the last is malformed.
    pub fn load(path: &Path) -> io::Result<Self> {
        let mut history = Self::default();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(history),
            Err(error) => return Err(error),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            history.replay(line);
        }
        Ok(history)
    }

    /// A cut line is the end of a killed writer: what it said did not count yet.
    fn replay(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (verb, seq) = (words.next(), words.next().and_then(|word| word.parse::<u64>().ok()));
        match (verb, seq, words.next().map(str::parse)) {
            (Some("intend"), Some(seq), Some(Ok(digest))) => {
                self.states.insert(seq, digest);
            }
            (Some("commit"), Some(seq), None) => self.committed = self.committed.max(seq),
            (Some("keep"), Some(seq), None) => self.acknowledged = self.acknowledged.max(seq),
            _ => {}
        }
    }

    /// Called before COMMIT: if it happens, this is the state.
    ///
    /// # Errors
    /// If the history file cannot be written.
    pub fn intend(&mut self, seq: u64, digest: Digest) -> io::Result<()> {
        self.states.insert(seq, digest);
        self.write(format_args!("intend {seq} {digest}"))
    }

    /// Called after COMMIT returned.
    ///
    /// # Errors
    /// If the history file cannot be written.
    pub fn commit(&mut self, seq: u64) -> io::Result<()> {
        self.committed = self.committed.max(seq);
        self.write(format_args!("commit {seq}"))
    }

    /// Called when the replicator has promised that everything up to `seq` can be restored from now on.
    ///
    /// # Errors
    /// If the history file cannot be written.
    pub fn acknowledge(&mut self, seq: u64) -> io::Result<()> {
        self.acknowledged = self.acknowledged.max(seq);
        self.write(format_args!("keep {seq}"))
    }

    fn write(&mut self, line: std::fmt::Arguments<'_>) -> io::Result<()> {
        match &mut self.journal {
            // One write call per line, so that a reader or a kill sees whole lines or a cut last one.
            Some(journal) => journal.write_all(format!("{line}\n").as_bytes()),
            None => Ok(()),
        }
    }

    /// The digest of a state.
    #[must_use]
    pub fn state(&self, seq: u64) -> Option<Digest> {
        self.states.get(&seq).copied()
    }

    /// The newest state whose COMMIT returned; 0 before the first.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// The newest state that may exist.
    #[must_use]
    pub fn intended(&self) -> u64 {
        self.states.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// The newest state promised to be restorable; 0 before the first.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}
