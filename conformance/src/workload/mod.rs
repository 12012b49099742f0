//! A seeded application: real transactions on a real SQLite file, each leaving a mark that says which one it was.
//!
//! The file holds its own sequence number (table `mark`), and the [`History`] holds the digest of every state, so any
//! copy of the file can be judged by [`crate::compare`]. Knows nothing about replication.

mod action;
mod digest;
mod history;
mod random;

use std::ops::RangeInclusive;

use rusqlite::Connection;

pub use action::Action;
pub use digest::{Digest, Tracker};
pub use history::History;
pub use random::Random;

/// The table whose only row carries the sequence number of the last commit.
pub const MARK_TABLE: &str = "mark";

/// How an application behaves. [`Settings::from_seed`] draws all of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Page size in bytes.
    pub page_size: u32,
    /// `PRAGMA auto_vacuum`: 0 none, 1 full, 2 incremental.
    pub auto_vacuum: u8,
    /// Pages in SQLite's cache; few make long transactions spill into the WAL before they commit.
    pub cache_pages: u32,
    /// `PRAGMA wal_autocheckpoint`, in pages; 0 is off.
    pub autocheckpoint_pages: u32,
    /// Rows per table above which deletions get more likely than insertions.
    pub many_rows: usize,
    /// Longest blob in bytes.
    pub blob_bytes: u64,
    /// Relative weight of each action.
    pub weights: Vec<(Action, u64)>,
}

impl Settings {
    /// Ordinary behaviour: 4096-byte pages, every action with its usual weight.
    #[must_use]
    pub fn ordinary() -> Self {
        Self {
            page_size: 4096,
            auto_vacuum: 0,
            cache_pages: 2000,
            autocheckpoint_pages: 1000,
            many_rows: 400,
            blob_bytes: 20_000,
            weights: Action::ALL.to_vec(),
        }
    }

    /// Draws a behaviour; over many seeds every combination turns up.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed, "workload settings");
        let mut settings = Self::ordinary();
        settings.page_size = 512 << random.below(8);
        settings.auto_vacuum = random.pick(&[0, 0, 1, 2]);
        settings.cache_pages = random.pick(&[10, 100, 2000]);
        settings.autocheckpoint_pages = random.pick(&[0, 10, 100, 1000]);
        settings.many_rows = random.pick(&[50, 400, 1500]);
        settings.blob_bytes = random.pick(&[2_000, 20_000, 200_000]);
        for (_, weight) in &mut settings.weights {
            *weight = *weight * random.below(5) / 2;
        }
        settings
    }
}

/// The running application: one connection, one stream of choices.
#[derive(Debug)]
pub struct Workload {
    db: Connection,
    settings: Settings,
    random: Random,
    tracker: Tracker,
    seq: u64,
}

impl Workload {
    /// Starts on an open connection, on an empty database or on one a workload left behind.
    ///
    /// `first_seq` is the least number the next commit may get, for a database that takes the place of another.
    ///
    /// # Errors
    /// If SQLite refuses; in a database that is not empty the schema must be a workload's.
    pub fn start(
        db: Connection,
        settings: Settings,
        seed: u64,
        first_seq: u64,
        history: &mut History,
    ) -> Result<Self, Failure> {
        db.pragma_update(None, "page_size", settings.page_size)?;
        db.pragma_update(None, "auto_vacuum", settings.auto_vacuum)?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "cache_size", settings.cache_pages)?;
        db.pragma_update(None, "wal_autocheckpoint", settings.autocheckpoint_pages)?;
        let tracker = Tracker::of(&db)?;
        let found = seq_of(&db)?;
        let mut workload = Self {
            db,
            settings,
            random: Random::new(seed, "workload"),
            tracker,
            seq: found.unwrap_or(0).max(first_seq.saturating_sub(1)),
        };
        // A COMMIT that a kill left without an answer has happened if it is found here.
        if let Some(seq) = found.filter(|seq| *seq > history.committed() && history.state(*seq).is_some()) {
            history.commit(seq)?;
        }
        if found.is_none() {
            workload.transaction(history, |workload| {
                workload.db.execute_batch(
                    "CREATE TABLE mark(id INTEGER PRIMARY KEY CHECK(id = 1), seq INTEGER NOT NULL);
                     CREATE TABLE t0(id INTEGER PRIMARY KEY, name TEXT, number INTEGER, body BLOB);
                     CREATE INDEX t0_by_name ON t0(name);
                     CREATE TABLE t1(id INTEGER PRIMARY KEY, name TEXT, number INTEGER, body BLOB) WITHOUT ROWID;",
                )?;
                Ok(())
            })?;
        }
        Ok(workload)
    }

    /// Does one thing: usually a transaction, sometimes a checkpoint or a VACUUM.
    ///
    /// A database that is busy is not an error: the attempt is rolled back and counts as done.
    ///
    /// # Errors
    /// If SQLite fails in a way an application must not see, or the history cannot be written.
    pub fn step(&mut self, history: &mut History) -> Result<Action, Failure> {
        let action = self.random.weighted(&self.settings.weights);
        match action::perform(self, action, history) {
            Err(Failure::Sqlite(error)) if is_busy(&error) => {
                self.roll_back()?;
                Ok(action)
            }
            other => other.map(|()| action),
        }
    }

    /// Performs one action instead of choosing one.
    ///
    /// # Errors
    /// As [`Workload::step`], a busy database included.
    pub fn perform(&mut self, action: Action, history: &mut History) -> Result<(), Failure> {
        action::perform(self, action, history)
    }

    /// Commits one statement of the caller's, which may change only these rows of this table.
    ///
    /// # Errors
    /// As [`Workload::step`], a busy database included.
    pub fn execute(
        &mut self,
        history: &mut History,
        sql: &str,
        table: &str,
        ids: RangeInclusive<i64>,
    ) -> Result<(), Failure> {
        self.transaction(history, |app| {
            app.db.execute_batch(sql)?;
            Ok(app.tracker.look_again(&app.db, table, ids)?)
        })
    }

    /// Commits what `body` does, with the next sequence number.
    fn transaction(
        &mut self,
        history: &mut History,
        body: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        body(self)?;
        let seq = self.seq + 1;
        let mark = "INSERT INTO mark(id, seq) VALUES (1, ?1) ON CONFLICT(id) DO UPDATE SET seq = ?1";
        self.db.prepare(mark)?.execute([seq])?;
        self.tracker.look_again(&self.db, MARK_TABLE, 1..=1)?;
        history.intend(seq, self.tracker.digest(&self.db)?)?;
        self.db.execute_batch("COMMIT")?;
        self.seq = seq;
        history.commit(seq)?;
        Ok(())
    }

    /// Ends an open transaction without effect and forgets what it did.
    fn roll_back(&mut self) -> Result<(), Failure> {
        if !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK")?;
        }
        self.tracker = Tracker::of(&self.db)?;
        Ok(())
    }

    /// Sequence number of the last commit.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The connection, to do what no action does.
    #[must_use]
    pub fn db(&self) -> &Connection {
        &self.db
    }

    /// Ends the application; the last connection to a database checkpoints it and deletes its WAL.
    ///
    /// # Errors
    /// If SQLite cannot close it.
    pub fn close(self) -> Result<(), Failure> {
        self.db.close().map_err(|(_, error)| Failure::Sqlite(error))
    }
}

/// The sequence number in a database; `None` if it has no mark.
///
/// # Errors
/// If SQLite cannot read it.
pub fn seq_of(db: &Connection) -> rusqlite::Result<Option<u64>> {
    if !db.table_exists(None, MARK_TABLE)? {
        return Ok(None);
    }
    db.query_row("SELECT max(seq) FROM mark", [], |row| row.get(0))
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Why the application could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// SQLite said so.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The history could not be written.
    #[error("history: {0}")]
    History(#[from] std::io::Error),
}

#[cfg(test)]
mod tests;
