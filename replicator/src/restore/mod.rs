//! Restore: replica + target → a verified database file in place.
//!
//! Owns the choice of objects (pure), fetching, applying and the careful steps on disk that make a database appear
//! whole or not at all. Reads the replica, never writes to it.

mod options;
mod report;

use std::sync::Arc;

use crate::bucket::Bucket;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;

pub use options::{Identities, IntegrityCheck, LegacyOptions, Options, Target};
pub use report::{Format, NoProgress, Plan, PlannedFile, Progress, Report, Restored, Step};

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
    let _ = (host, progress, options);
    Err(Error::new(ErrorKind::Internal, format!("restore from {} is being built", bucket.location())))
}
