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
//! | is it of that time | `confirm` |
//! | sync, check, rename | `finish`, `output` |

mod apply;
mod confirm;
mod fetch;
mod finish;
mod legacy;
mod listing;
mod ltx;
mod moment;
mod options;
mod output;
mod plan;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;

pub use options::{Identities, IntegrityCheck, LegacyOptions, Options, Target};
pub use report::{Format, NoProgress, Plan, PlannedFile, Progress, Report, Restored, Step};

use listing::{Listing, Source};
use output::Existing;
use plan::File;

/// How often a restore plans again because objects vanished under it (retention, compaction).
const REPLANS: usize = 5;

/// What the attempts of one restore leave to the next.
#[derive(Default)]
struct Earlier {
    /// Where the first one restored from.
    source: Option<Source>,
    /// How often an object was listed and not there, by its key.
    vanished: BTreeMap<String, usize>,
    ltx: ltx::Progress,
}

/// What the steps of one restore share.
#[derive(Clone, Copy)]
struct Context<'a> {
    host: &'a Host,
    bucket: &'a Arc<dyn Bucket>,
    options: &'a Options,
    progress: &'a dyn Progress,
}

/// How one attempt failed.
enum Failure {
    /// An object that was listed is gone: list again.
    Vanished {
        /// Its key.
        key: String,
        /// What the store said.
        error: Error,
    },
    /// The content of an object is wrong: others may lead to the same state.
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong.
        error: Error,
    },
    /// A file that dates a state is of another state: plan without it.
    Misdated {
        /// Its key.
        key: String,
    },
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Failure {
    /// A failed request for `key`, or what is wrong with its answer.
    fn of_object(key: &str, error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Vanished { key: key.to_owned(), error },
            ErrorKind::Corrupt => Self::Damaged { key: key.to_owned(), error },
            _ => Self::Failed(error),
        }
    }
}

/// Restores a database.
///
/// The output appears under its name only when it is complete, verified and durable. On an error, or when the
/// future is dropped, nothing is left behind.
///
/// # Errors
/// `NotFound` if the replica provably holds no state for the target; `Corrupt` if an object that is needed is damaged or
/// ids are missing in between; `Usage` if the output may not be replaced; `Conflict` if the replica becomes another one
/// meanwhile; otherwise as the store or the disk says.
pub async fn run(
    host: &Host,
    bucket: Arc<dyn Bucket>,
    mut options: Options,
    progress: &dyn Progress,
) -> Result<Report> {
    let (disk, output) = (host.disk.clone(), options.output.clone());
    options.output = host.blocking(move || output::follow_links(disk.as_ref(), output)).await?;
    let context = Context { host, bucket: &bucket, options: &options, progress };
    if !context.may_write_output().await? {
        return Ok(Report::OutputExists);
    }
    let mut earlier = Earlier::default();
    let result = context.attempts(&mut earlier).await.map_err(|error| earlier.ltx.first_cause(error));
    if let Some(unfinished) = earlier.ltx.applier.take() {
        context.discard(unfinished).await;
    }
    result
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

    /// Lists, plans and applies, again and again as long as objects vanish in between, or others stand for damaged
    /// ones.
    async fn attempts(self, earlier: &mut Earlier) -> Result<Report> {
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            match self.attempt(earlier, started).await {
                Ok(report) => return Ok(report),
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Damaged { key, error }) => earlier.ltx.do_without(&key, error)?,
                Err(Failure::Misdated { key }) => earlier.ltx.disbelieve(key),
                Err(Failure::Vanished { key, error }) if attempt < planted!("no-second-plan", 0, REPLANS) => {
                    attempt += 1;
                    tracing::warn!(key, %error, "an object vanished during the restore: planning again");
                    *earlier.vanished.entry(key).or_default() += 1;
                }
                Err(Failure::Vanished { key, error }) => {
                    // Not `NotFound`: there is a replica.
                    let message = format_args!(
                        "objects kept vanishing, {REPLANS} times, {key} last ({error}): restore again when nothing \
                         deletes from the replica any more"
                    );
                    return Err(self.replica_error(ErrorKind::Transient, message));
                }
            }
        }
    }

    async fn attempt(self, earlier: &mut Earlier, started: Instant) -> Result<Report, Failure> {
        self.progress.step(Step::Listing);
        let mut listing = Listing::read(self.bucket.as_ref()).await?;
        let source = listing.source(self.options)?;
        self.check_same_source(&mut earlier.source, source)?;
        match source {
            Source::Nothing if self.options.if_replica_exists => Ok(Report::NoReplica),
            Source::Nothing => {
                let message = "it holds no backup: neither LTX files nor 0.3.x generations";
                Err(self.replica_error(ErrorKind::NotFound, message).into())
            }
            Source::Legacy => {
                listing.check_times(self).await?;
                legacy::restore(self, &listing.legacy, started).await
            }
            Source::Ltx => {
                // A stale listing can go on naming what is gone. One 404 alone may be a hiccup.
                let is_ghost = |file: &File| earlier.vanished.get(&file.key).is_some_and(|&times| times >= 2);
                let (ghosts, files) = std::mem::take(&mut listing.files).into_iter().partition(is_ghost);
                let result = ltx::restore(self, files, ghosts, &mut earlier.ltx, started).await;
                result.map_err(|failure| listing.offer_legacy(failure, self.options.target))
            }
        }
    }

    /// Refuses to go on with another format, or with nothing, after what an earlier attempt has seen: that would be an old
    /// state or none at all, silently.
    fn check_same_source(self, first: &mut Option<Source>, now: Source) -> Result<()> {
        let first = *first.get_or_insert(now);
        if first == now {
            return Ok(());
        }
        let message = format!(
            "it held {first} when the restore began, and now it holds {now}: was it deleted, or its file system \
             unmounted? Look at it, and restore again"
        );
        Err(self.replica_error(ErrorKind::Conflict, message))
    }

    /// Drops what cleans up after itself, as blocking work.
    async fn discard<T: Send + 'static>(&self, unfinished: T) {
        self.host.blocking(move || drop(unfinished)).await;
    }

    /// An error about the replica as a whole.
    fn replica_error(&self, kind: ErrorKind, message: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("cannot restore from {}: {message}", self.bucket.location()))
    }
}

#[cfg(test)]
mod tests;
