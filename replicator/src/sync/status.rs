//! What a replicated database reports about itself. Every claim here is true when it is made.

use std::time::Duration;

use crate::host::UnixMillis;
use crate::ltx::Txid;

use super::capture::Chain;

/// What replication of one database is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Opening the database, or proving continuity with earlier local state.
    #[default]
    Starting,
    /// The database file does not exist yet, or is empty.
    WaitingForDatabase,
    /// Commits are copied and uploaded as they come.
    Replicating,
    /// The last attempt failed and is being repeated; see [`Status::error`].
    Failing,
    /// Ended: by request, or for good because somebody else writes to the same replica.
    Stopped,
}

/// How often something was tried, and how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attempts {
    /// All of them.
    pub count: u64,
    /// Those that failed.
    pub errors: u64,
    /// Time they took.
    pub time: Duration,
}

impl Attempts {
    /// Counts one.
    pub fn add(&mut self, time: Duration, failed: bool) {
        self.count += 1;
        self.errors += u64::from(failed);
        self.time += time;
    }
}

/// A snapshot of the state of one replicated database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// What is going on.
    pub state: State,
    /// Newest file durable on the local disk.
    pub local_txid: Option<Txid>,
    /// Newest file durable in the store with everything below it.
    pub replicated_txid: Option<Txid>,
    /// Size of the database in bytes, as of the last copied commit.
    pub db_size: u64,
    /// Bytes of the WAL up to the last copied commit.
    pub wal_size: u64,
    /// When everything committed at that moment was durable in the store.
    pub last_sync: Option<UnixMillis>,
    /// The last failure, if it has not been overcome.
    pub error: Option<String>,
    /// Bytes of WAL frames copied since start.
    pub wal_bytes_total: u64,
    /// Copies of new commits since start.
    pub sync_count: u64,
    /// Time spent looking for new commits and copying them since start.
    pub sync_time: Duration,
    /// Failed attempts since start.
    pub sync_error_count: u64,
    /// Checkpoints that waited for nobody, since start.
    pub passive_checkpoints: Attempts,
    /// Checkpoints that made writers wait, since start; only if the user asked for them.
    pub blocking_checkpoints: Attempts,
    /// Compactions since start that found missing or damaged files.
    pub compaction_verify_error_count: u64,
    /// Whether the last failure was a full disk.
    pub disk_full: bool,
}

impl Status {
    /// Takes over how large database and log were at the last copied commit.
    pub(super) fn note_size(&mut self, chain: &Chain) {
        let page_size = u64::from(chain.page_size.get());
        self.db_size = u64::from(chain.commit) * page_size;
        self.wal_size = u64::from(chain.newest.position.frame) * (page_size + 24) + 32;
    }
}
