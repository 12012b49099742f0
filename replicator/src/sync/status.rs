//! What a replicated database reports about itself. Every claim here is true when it is made.

use crate::host::UnixMillis;
use crate::ltx::Txid;

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
    /// Copies of new commits since start, and how many of the attempts failed.
    pub sync_count: u64,
    /// Failed attempts since start.
    pub sync_error_count: u64,
    /// Checkpoints since start.
    pub checkpoint_count: u64,
    /// Failed checkpoints since start.
    pub checkpoint_error_count: u64,
    /// Whether the last failure was a full disk.
    pub disk_full: bool,
}
