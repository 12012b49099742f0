//! What a run leaves behind for the oracles.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use replicator::ltx::Txid;
use replicator::replica::LtxName;

use crate::app::Ledger;
use crate::history::{FileImage, History, StateId};
use crate::plan::{Happening, Plan, ReplicatorPlan};
use crate::store::Stored;

/// Something the replicator claimed about the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// When, in simulated milliseconds.
    pub at_millis: u64,
    /// Everything up to this state is durable in the store (from `last_sync`); only while clocks were right.
    pub state: Option<StateId>,
    /// Everything up to this transaction is.
    pub txid: Option<Txid>,
    /// Simulated millisecond named by the claim.
    pub synced_millis: u64,
}

/// What a restore was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The newest state.
    Latest,
    /// The newest state before a simulated millisecond.
    Before(u64),
}

/// One restore by the operator, on another machine.
#[derive(Debug, Clone)]
pub struct RestoreRun {
    /// When it began, in simulated milliseconds.
    pub started_millis: u64,
    /// When it ended.
    pub ended_millis: u64,
    /// What was asked.
    pub asked: Asked,
    /// The store's weather, decay or a second replicator could hit it: it may fail, but not lie.
    pub exposed: bool,
    /// The last claim before it began, and the last that names a state.
    pub claimed: Vec<Claim>,
    /// Head of the database when it began and when it ended.
    pub heads: (Option<StateId>, Option<StateId>),
    /// The restored database, as it is after a power loss right then, and its transaction; or why there is none.
    pub outcome: Result<(FileImage, Option<Txid>), RestoreError>,
    /// Files that SQLite would read together with the result, and unfinished ones.
    pub beside: Vec<PathBuf>,
}

/// A restore after an object was spoiled behind the store's back.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// What was done to which object.
    pub what: String,
    /// The newest transaction of any object is gone, so nothing can tell that there was one.
    pub newest_gone: bool,
    /// What lies in the store now.
    pub left: Vec<LtxName>,
    /// The restore of the newest state that followed.
    pub restore: RestoreRun,
}

/// Why a restore gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreError {
    /// What the product calls it.
    pub kind: Option<replicator::ErrorKind>,
    /// Its message.
    pub message: String,
}

impl RestoreError {
    /// Whether it says that there is nothing to restore.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        self.kind == Some(replicator::ErrorKind::NotFound) || self.message == NO_REPLICA
    }
}

/// Message of a restore that found no replica and was told to accept that.
pub const NO_REPLICA: &str = "there is no replica";

/// What a look at everything finds when nothing has been written for long.
#[derive(Debug, Clone, Default)]
pub struct AtRest {
    /// Requests in the quiet time before it, per verb.
    pub requests: BTreeMap<&'static str, u64>,
    /// Objects in the store.
    pub objects: Vec<Stored>,
    /// Simulated millisecond at which they were looked at.
    pub at_millis: u64,
    /// What the replicator says of itself, if it is not that all is well.
    pub complaint: Option<String>,
    /// The replicator's local files and their sizes in bytes, the largest first.
    pub local: Vec<(u64, PathBuf)>,
    /// Size of the database file in bytes.
    pub database_bytes: u64,
    /// Multipart uploads begun and neither completed nor aborted.
    pub unfinished_uploads: usize,
}

/// Everything a run left behind.
pub struct Evidence {
    /// What was planned.
    pub plan: Plan,
    /// Exact history of the database.
    pub history: Arc<History>,
    /// All claims, in order.
    pub claims: Vec<Claim>,
    /// All restores, in order; the last ones came after healing.
    pub restores: Vec<RestoreRun>,
    /// What restores made of a spoiled replica, at the very end.
    pub damaged: Vec<Damaged>,
    /// How long after healing a restore gave the head, in milliseconds.
    pub caught_up_after: Option<u64>,
    /// As before, after one more commit that follows a long silence.
    pub caught_up_again: Option<u64>,
    /// How the final stop of the replicator ended, and after how many milliseconds.
    pub stopped: Option<(Result<(), String>, u64)>,
    /// What the application saw.
    pub ledger: Ledger,
    /// Result of `PRAGMA integrity_check` on the live database at the end.
    pub integrity: Result<String, String>,
    /// Whether the application's writers ended in time when asked to.
    pub app_stopped: bool,
    /// Files of the application that the replicator wrote or removed by plain file calls.
    pub touched: Vec<PathBuf>,
    /// SQLite's locks that the replicator lost by closing a descriptor.
    pub lost_locks: Vec<PathBuf>,
    /// What was wrong with other legal images of a power loss.
    pub crash_images: Vec<String>,
    /// Histories of copies of the database that another replicator put into the same replica.
    pub others: Vec<Arc<History>>,
    /// The replicator held SQLite's write lock.
    pub wrote: bool,
    /// What there was after the quiet time.
    pub at_rest: AtRest,
    /// What the replicator ran with at the end.
    pub settings: ReplicatorPlan,
    /// Requests of the whole run, per verb.
    pub requests: BTreeMap<&'static str, u64>,
    /// Restores made, early ones that are no evidence included.
    pub restores_made: u64,
    /// Panics of product code.
    pub panics: Vec<String>,
    /// Replicators of one machine that worked at the same time, and when that was seen, in simulated milliseconds.
    pub together: Vec<(u64, String)>,
}

impl Evidence {
    /// Whether `restored` is a state of a copy that another replicator put into the replica.
    #[must_use]
    pub fn is_foreign(&self, restored: &FileImage) -> bool {
        restored.image.is_some_and(|image| self.others.iter().any(|other| !other.find(image).is_empty()))
    }

    /// Whether an event of a kind was planned.
    #[must_use]
    pub fn planned(&self, kind: impl Fn(&Happening) -> bool) -> bool {
        self.plan.faults.iter().any(|fault| kind(&fault.what))
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Which oracle objects.
    pub oracle: &'static str,
    /// When it was seen, in simulated milliseconds.
    pub at_millis: u64,
    /// What was promised.
    pub promised: String,
    /// What happened.
    pub happened: String,
}
