//! What a replica holds, and which of its two formats to restore from.

use std::cmp::Reverse;
use std::fmt;

use super::legacy;
use super::moment;
use super::options::{Options, Target};
use super::plan::File;
use super::{Context, Failure};
use crate::bucket::{Bucket, KeyLayout};
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;
use crate::ltx::MIN_FILE_LEN;
use crate::observe::time::rfc3339;
use crate::replica::{LtxName, common_prefix, other_layout};

/// So much later than its transaction a file is stored only if the store was away, or if it is a copy.
const LATE_MILLIS: i64 = 60 * 60 * 1000;

/// A complete listing.
#[derive(Debug)]
pub(super) struct Listing {
    /// LTX files of all levels.
    pub files: Vec<File>,
    /// 0.3.x generations.
    pub legacy: legacy::Inventory,
    /// What is wrong with the name of an object among the generations.
    misplaced: Option<Error>,
}

/// Where to restore from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// LTX files.
    Ltx,
    /// 0.3.x generations.
    Legacy,
    /// There is nothing at all.
    Nothing,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ltx => "LTX files",
            Self::Legacy => "only 0.3.x generations",
            Self::Nothing => "nothing",
        })
    }
}

impl Listing {
    /// Lists every level and the generations. Complete, or an error: a refused or failed request is never mistaken
    /// for an empty replica.
    pub(super) async fn read(bucket: &dyn Bucket) -> Result<Self> {
        let layout = bucket.layout();
        let (files, (legacy, misplaced)) =
            futures::try_join!(ltx_files(bucket, layout), legacy::Inventory::list(bucket))?;
        let mut listing = Self { files, legacy, misplaced };
        if listing.files.is_empty() && listing.legacy.is_empty() {
            listing.files = ltx_files(bucket, other_layout(layout)).await?;
            if !listing.files.is_empty() {
                tracing::warn!(
                    replica = bucket.location(),
                    "the keys have the layout of another kind of store; restoring from them all the same"
                );
            }
        }
        Ok(listing)
    }

    /// Chooses the format.
    ///
    /// # Errors
    /// `Corrupt` for an object that cannot be placed among the generations, unless LTX files are restored: those do not
    /// depend on it.
    pub(super) fn source(&mut self, options: &Options) -> Result<Source> {
        match (self.misplaced.take(), self.preferred(options)) {
            (Some(error), Source::Ltx) => {
                tracing::warn!(%error, "restoring from LTX files, so the 0.3.x generations do not matter");
                Ok(Source::Ltx)
            }
            (Some(error), _) => Err(error),
            (None, source) => Ok(source),
        }
    }

    /// To an error that says that the LTX files have no state of a time, adds what lies beside them.
    pub(super) fn offer_legacy(&self, failure: Failure, target: Target) -> Failure {
        if !matches!(target, Target::Timestamp(_)) {
            return failure;
        }
        match (failure, self.legacy.last_written()) {
            (Failure::Failed(error), Some((generation, time))) if error.kind() == ErrorKind::NotFound => {
                Failure::Failed(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "{error}; there are generations of Litestream 0.3, too, written to until {}, and what came after is \
                         not in them: their last state is restored by replicator restore -generation {generation}",
                        rfc3339(time)
                    ),
                ))
            }
            (failure, _) => failure,
        }
    }

    /// Refuses generations that were chosen for the newest state if the times of the store, which made them the newer
    /// ones, are those of a copy: then the order of the keys decided.
    ///
    /// # Errors
    /// `Conflict`, saying how to choose.
    pub(super) async fn check_times(&self, context: Context<'_>) -> Result<(), Failure> {
        let is_by_time = context.options.target == Target::Latest && !is_named(context.options);
        let whole = self.files.iter().filter(|file| is_by_time && file.size >= MIN_FILE_LEN);
        // Of the files that end with the last transaction, the one of the lowest level was stored first.
        let newest = whole.max_by_key(|file| (file.name.max, Reverse(file.name.level)));
        let Some((file, created)) = newest.and_then(|file| Some((file, file.created?))) else {
            return Ok(());
        };
        let captured = moment::captured_at(context.bucket.as_ref(), file).await?;
        if created.0.saturating_sub(captured.0) <= LATE_MILLIS {
            return Ok(());
        }
        let generation = self.legacy.last_written().map_or("ID", |(name, _)| name);
        let message = format!(
            "it holds LTX files and generations of Litestream 0.3, and the times of the store do not tell which are newer: \
             {} is of {}, but stored at {}, so this is a copy; choose with -txid {} or -generation {generation}",
            file.key,
            rfc3339(captured),
            rfc3339(created),
            file.name.max
        );
        Err(context.replica_error(ErrorKind::Conflict, message).into())
    }

    /// Times are compared only here, and only those the store itself gave: the newer writer wins, as in Litestream.
    fn preferred(&self, options: &Options) -> Source {
        match (self.files.is_empty(), self.legacy.is_empty()) {
            (true, true) => Source::Nothing,
            _ if is_named(options) => Source::Legacy,
            (true, false) => Source::Legacy,
            (false, true) => Source::Ltx,
            (false, false) if matches!(options.target, Target::Txid(_)) => Source::Ltx,
            (false, false) => {
                let is_legacy = self.legacy_is_newer(options.target);
                self.warn_of_both(is_legacy);
                if is_legacy { Source::Legacy } else { Source::Ltx }
            }
        }
    }

    /// A copy of the bucket has other times: whoever restores should know that there was a choice.
    fn warn_of_both(&self, is_legacy: bool) {
        let text = |time: Option<UnixMillis>| time.map_or_else(|| "unknown".to_owned(), rfc3339);
        let ltx = match newest(self.files.iter()) {
            Newest::At(time) => Some(time),
            Newest::Nothing | Newest::Unknown => None,
        };
        let (choice, other) = if is_legacy {
            ("a generation", "-txid restores from the LTX files")
        } else {
            ("the LTX files", "-generation restores from a generation")
        };
        tracing::warn!(
            ltx_written = text(ltx),
            generations_written = text(self.legacy.newest_object()),
            "the replica holds LTX files and generations of Litestream 0.3: by the times of the store, restoring from \
             {choice}; {other}"
        );
    }

    fn legacy_is_newer(&self, target: Target) -> bool {
        let (ltx, legacy) = match target {
            Target::Txid(_) => return false,
            Target::Latest => (newest(self.files.iter()), self.legacy.newest_object()),
            Target::Timestamp(time) if !self.legacy_reaches(time) => return false,
            Target::Timestamp(time) => {
                let bases = self.files.iter().filter(|file| file.name.is_base());
                let before = bases.filter(|file| file.created.is_none_or(|created| created < time));
                (newest(before), self.legacy.newest_snapshot(time))
            }
        };
        match (ltx, legacy) {
            (Newest::At(ltx), Some(legacy)) => legacy > ltx,
            (Newest::Nothing, Some(_)) => true,
            // Without times, the format that is still written to.
            (Newest::Unknown, Some(_)) | (_, None) => false,
        }
    }

    /// Whether the generations tell the state at a time: they were written to at it or later, or by whoever wrote last.
    /// Those that were left behind by a change to LTX files end with that.
    fn legacy_reaches(&self, time: UnixMillis) -> bool {
        self.legacy.newest_object().is_some_and(|legacy| {
            legacy >= time || matches!(newest(self.files.iter()), Newest::At(ltx) if legacy > ltx)
        })
    }
}

/// Whether the generations were asked for, whatever lies beside them.
fn is_named(options: &Options) -> bool {
    options.legacy.generation.is_some() || options.legacy.index.is_some()
}

enum Newest {
    Nothing,
    Unknown,
    At(UnixMillis),
}

fn newest<'a>(files: impl Iterator<Item = &'a File>) -> Newest {
    match files.map(|file| file.created).reduce(|a, b| a.max(b)) {
        None => Newest::Nothing,
        Some(None) => Newest::Unknown,
        Some(Some(time)) => Newest::At(time),
    }
}

/// LTX files of all levels in one layout.
async fn ltx_files(bucket: &dyn Bucket, layout: KeyLayout) -> Result<Vec<File>> {
    let listed = bucket.list(common_prefix(layout), None).await;
    let objects = planted!("failed-listing-is-empty", listed.unwrap_or_default(), listed?);
    let files = objects.into_iter().filter_map(|object| {
        let name = LtxName::parse_key(layout, &object.key)?;
        Some(File { key: object.key, name, size: object.size, created: object.modified, captured: None })
    });
    Ok(files.collect())
}
