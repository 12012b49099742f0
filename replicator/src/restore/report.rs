//! What a restore tells its caller: the plan, the result, and how far it is.

use std::time::Duration;

use super::options::IntegrityCheck;
use crate::host::UnixMillis;
use crate::ltx::Txid;

/// How a restore ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The database is in place, durable.
    Restored(Restored),
    /// Dry run: what would be fetched.
    Planned(Plan),
    /// The output exists, and the caller asked to leave it alone then.
    OutputExists,
    /// The replica provably holds nothing, and the caller said that this is fine.
    NoReplica,
}

/// A finished restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The plan that was carried out (the last one, if objects vanished on the way).
    pub plan: Plan,
    /// Bytes fetched from the replica.
    pub bytes_fetched: u64,
    /// Size of the database in bytes.
    pub database_bytes: u64,
    /// Wall time of the whole restore.
    pub duration: Duration,
    /// Which check passed. None if the one that was asked for could not run, which is a warning.
    pub integrity_check: IntegrityCheck,
}

/// The objects that make up a state, in the order they are applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Who wrote these objects.
    pub format: Format,
    /// The state after the last file; `None` for 0.3.x, which has no transaction ids.
    pub txid: Option<Txid>,
    /// Files in the order they are applied, the base first.
    pub files: Vec<PlannedFile>,
}

impl Plan {
    /// Bytes to fetch.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Generation of the replica format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Ours and Litestream 0.5.x.
    Ltx,
    /// Litestream 0.3.x: generations, snapshots, WAL segments.
    Legacy,
}

/// One object of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Compaction level, 0 to 9; `None` for 0.3.x.
    pub level: Option<u8>,
    /// File name of an LTX file; key of a 0.3.x object.
    pub name: String,
    /// First transaction; `None` for 0.3.x.
    pub min_txid: Option<Txid>,
    /// Last transaction; `None` for 0.3.x.
    pub max_txid: Option<Txid>,
    /// Size in bytes.
    pub size: u64,
    /// When the store says it was written.
    pub created: Option<UnixMillis>,
}

/// What a restore is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Listing the replica.
    Listing,
    /// Fetching, verifying and writing.
    Fetching,
    /// Waiting until the file is on stable storage, and running the integrity check.
    Checking,
}

/// Told how far a restore is. Calls are cheap and come from async tasks: do not block.
pub trait Progress: Send + Sync {
    /// A new step begins. `Fetching` can come again, after objects vanished and a new plan was made.
    fn step(&self, step: Step) {
        let _ = step;
    }

    /// The plan to be fetched now; counting starts again from zero.
    fn planned(&self, plan: &Plan) {
        let _ = plan;
    }

    /// More bytes of the plan were fetched, verified and written.
    fn advanced(&self, bytes: u64) {
        let _ = bytes;
    }
}

/// Tells nobody.
pub struct NoProgress;

impl Progress for NoProgress {}
