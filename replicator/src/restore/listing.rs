//! What a replica holds, and which of its two formats to restore from.

use super::legacy;
use super::options::{Options, Target};
use super::plan::File;
use crate::bucket::{Bucket, KeyLayout};
use crate::error::{Error, Result};
use crate::host::UnixMillis;
use crate::replica::{LtxName, common_prefix};

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

impl Listing {
    /// Lists every level and the generations. Complete, or an error: a refused or failed request is never mistaken
    /// for an empty replica.
    pub(super) async fn read(bucket: &dyn Bucket) -> Result<Self> {
        let layout = bucket.layout();
        let (files, (legacy, misplaced)) =
            futures::try_join!(ltx_files(bucket, layout), legacy::Inventory::list(bucket))?;
        let mut listing = Self { files, legacy, misplaced };
        if listing.files.is_empty() && listing.legacy.is_empty() {
            // A directory replica copied into a bucket, or the other way round, keeps the keys it had.
            let other = match layout {
                KeyLayout::HexLevel => KeyLayout::LtxDirectory,
                KeyLayout::LtxDirectory => KeyLayout::HexLevel,
            };
            listing.files = ltx_files(bucket, other).await?;
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

    /// Times are compared only here, and only those the store itself gave: the newer writer wins, as in Litestream.
    fn preferred(&self, options: &Options) -> Source {
        let named = options.legacy.generation.is_some() || options.legacy.index.is_some();
        match (self.files.is_empty(), self.legacy.is_empty()) {
            (true, true) => Source::Nothing,
            _ if named => Source::Legacy,
            (true, false) => Source::Legacy,
            (false, true) => Source::Ltx,
            (false, false) if self.legacy_is_newer(options.target) => Source::Legacy,
            (false, false) => Source::Ltx,
        }
    }

    fn legacy_is_newer(&self, target: Target) -> bool {
        let (ltx, legacy) = match target {
            Target::Txid(_) => return false,
            Target::Latest => (newest(self.files.iter()), self.legacy.newest_object()),
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
