//! Restore: replica + target → a verified database file in place.
//!
//! Owns the choice of objects (pure), fetching, applying and the careful steps on disk that make a database appear
//! whole or not at all. Reads the replica, never writes to it.
//!
//! | step | where |
//! | --- | --- |
//! | may the output be replaced? | `output` |
//! | what is there | `listing` |
//! | which state, which files | `moment`, `plan` (pure); `legacy` for 0.3.x |
//! | fetch | `fetch` |
//! | decode, verify, write | `apply`; `legacy` |
//! | sync, check, rename | `finish`, `output` |

mod apply;
mod fetch;
mod finish;
mod listing;
mod ltx;
mod moment;
mod options;
mod output;
mod plan;
mod report;

use std::sync::Arc;

use crate::bucket::Bucket;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;

pub use options::{Identities, IntegrityCheck, LegacyOptions, Options, Target};
pub use report::{Format, NoProgress, Plan, PlannedFile, Progress, Report, Restored, Step};

use output::Existing;

/// How often a restore starts over because objects vanished under it (retention, compaction).
const REPLANS: usize = 5;

/// What the steps of one restore share.
#[derive(Clone, Copy)]
struct Context<'a> {
    host: &'a Host,
    bucket: &'a Arc<dyn Bucket>,
    options: &'a Options,
    progress: &'a dyn Progress,
}

/// Restores a database.
///
/// The output appears under its name only when it is complete, verified and durable. On an error, or when the
/// future is dropped, nothing is left behind.
///
/// # Errors
/// `NotFound` if the replica provably holds no state for the target; `Corrupt` if an object is damaged or ids are
/// missing in between; `Usage` if the output may not be replaced; otherwise as the store or the disk says.
pub async fn run(
    host: &Host,
    bucket: Arc<dyn Bucket>,
    options: Options,
    progress: &dyn Progress,
) -> Result<Report> {
    let context = Context { host, bucket: &bucket, options: &options, progress };
    if !context.may_write_output().await? {
        return Ok(Report::OutputExists);
    }
    ltx::restore(context).await
}

impl Context<'_> {
    /// False if the output exists and is to be left alone.
    async fn may_write_output(&self) -> Result<bool> {
        let disk = self.host.disk.clone();
        let (output, force) = (self.options.output.clone(), self.options.force);
        let (keep, dry_run) = (self.options.if_db_not_exists, self.options.dry_run);
        self.host
            .blocking(move || {
                let existing = output::look(disk.as_ref(), &output)?;
                if existing == Existing::Present && keep {
                    return Ok(false);
                }
                if !dry_run {
                    output::check_replaceable(disk.as_ref(), &output, existing, force)?;
                }
                Ok(true)
            })
            .await
    }

    /// An error about the replica as a whole.
    fn replica_error(&self, kind: ErrorKind, message: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("cannot restore from {}: {message}", self.bucket.location()))
    }
}
