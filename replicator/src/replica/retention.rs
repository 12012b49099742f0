//! What may be deleted, as a pure function of the inventory and the time.
//!
//! The promise: every transaction that ends a file of level 1 or higher stays restorable for the snapshot retention,
//! every transaction of level 0 for the level-0 retention, the latest one for ever. Doubt (unknown ages, gaps, odd
//! overlaps) keeps files. Any prefix of the deletions keeps the promise too, so a crash between them is harmless.

use std::time::Duration;

use super::inventory::{Entry, Inventory};
use super::name::{Level, LtxName};
use crate::host::UnixMillis;
use crate::ltx::Txid;

/// Longest time that a running restore is given to finish with files that were needed when it began.
const MAX_GRACE: Duration = Duration::from_secs(3600);

/// How long files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How far back a restore can go.
    pub snapshot: Duration,
    /// How long single transactions are kept once level 1 covers them; zero keeps them for ever.
    pub level0: Duration,
}

/// Files of level 0, by what keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level0Files {
    /// Nothing does: they go when retention looks next.
    pub eligible: usize,
    /// Old enough, but something may still need them.
    pub not_compacted: usize,
    /// Younger than the retention of level 0.
    pub too_recent: usize,
}

impl Retention {
    /// Counts the files of level 0 at `now`.
    #[must_use]
    pub fn level0_files(&self, inventory: &Inventory, now: UnixMillis) -> Level0Files {
        let expired = self.expired(inventory, now);
        let eligible = expired.iter().filter(|name| name.level == Level::L0).count();
        let all = inventory.level(Level::L0).count();
        let aged = |entry: &&Entry| !self.level0.is_zero() && is_older(entry, self.level0, now);
        let aged = inventory.level(Level::L0).filter(aged).count();
        Level0Files { eligible, not_compacted: aged - eligible, too_recent: all - aged }
    }

    /// The files that are no longer needed at `now`, in the order in which to delete them.
    #[must_use]
    pub fn expired(&self, inventory: &Inventory, now: UnixMillis) -> Vec<LtxName> {
        let floor = self.floor(inventory, now);
        let mut expired = Vec::new();
        for level in Level::all().rev().filter(|&level| level != Level::L0) {
            let newest = inventory.newest(level).map(|entry| entry.name);
            // The floor is a snapshot itself, and stays.
            let dispensable = |name: LtxName| name.max <= floor && name != LtxName::snapshot(floor);
            let names = inventory.level(level).map(|entry| entry.name);
            expired.extend(names.filter(|&name| dispensable(name) && Some(name) != newest));
        }
        if !self.level0.is_zero() {
            let kept = kept_above_level0(inventory, &expired);
            expired.extend(self.expired_level0(inventory, &kept, floor, now));
        }
        expired
    }

    /// Of `others`, files that do not count in the inventory because their content is wrong or cut off: those whose content
    /// nobody can want any more at `now`.
    #[must_use]
    pub fn outlived<'a>(
        &self,
        others: impl IntoIterator<Item = &'a LtxName>,
        inventory: &Inventory,
        now: UnixMillis,
    ) -> Vec<LtxName> {
        let floor = self.floor(inventory, now);
        // Of level 0 the newest stays, whatever it holds: it tells a chain that ended from one that went on.
        let newest = inventory.newest(Level::L0).map(|entry| entry.name.max);
        let is_outlived = |name: &&LtxName| match name.level {
            Level::L0 => name.max <= floor && Some(name.max) < newest && !self.level0.is_zero(),
            _ => name.max < floor || name.max == floor && !name.is_base(),
        };
        others.into_iter().filter(is_outlived).copied().collect()
    }

    /// The ages at which a file's being older can let something expire.
    pub fn ages(&self) -> impl Iterator<Item = Duration> {
        [self.level0, self.window()].into_iter().filter(|age| !age.is_zero())
    }

    /// How long snapshots serve: the retention, and a grace for restores that began with what was kept then.
    fn window(&self) -> Duration {
        self.snapshot.saturating_add(MAX_GRACE.min(self.snapshot / 10))
    }

    /// The transaction at or before which nothing is promised except the snapshot that ends there: the newest one
    /// that was already there when the window (and the grace for running restores) began. 0 if there is none.
    fn floor(&self, inventory: &Inventory, now: UnixMillis) -> Txid {
        inventory
            .level(Level::SNAPSHOT)
            .filter(|entry| {
                entry.name.is_base()
                    && (planted!("any-snapshot-is-old") || is_older(entry, self.window(), now))
            })
            .map(|entry| entry.name.max)
            .max()
            .unwrap_or_default()
    }

    fn expired_level0(
        &self,
        inventory: &Inventory,
        kept: &[Entry],
        floor: Txid,
        now: UnixMillis,
    ) -> Vec<LtxName> {
        let newest = inventory.newest(Level::L0).map(|entry| entry.name);
        let needed = planted!("links-expire", Vec::new(), level0_links(kept, floor));
        let gap = inventory.gap();
        // A file that has just covered others may be unknown to a restore that is running, so it must age as well.
        let aged = |entry: &&Entry| is_older(entry, self.level0, now);
        let covered = ranges(kept.iter().filter(|entry| entry.name.level == Level::L1).filter(aged));
        let bases: Vec<Txid> = kept
            .iter()
            .filter(|entry| entry.name.is_base())
            .filter(aged)
            .map(|entry| entry.name.max)
            .collect();
        let dispensable = |name: LtxName| {
            planted!("uncompacted-files-expire")
                || name.max <= floor
                || covered.iter().any(|&(min, max)| min <= name.min && name.max <= max)
                // Compaction starts above the first file, so level 1 need not cover it: a snapshot may replace it.
                || name.is_base() && bases.contains(&name.max)
        };
        inventory
            .level(Level::L0)
            .filter(aged)
            .map(|entry| entry.name)
            .filter(|&name| Some(name) != newest)
            .filter(|name| gap.is_none_or(|gap| name.max <= gap.after))
            .filter(|name| !needed.iter().any(|&(after, upto)| name.max > after && name.min <= upto))
            .filter(|&name| dispensable(name))
            .collect()
    }
}

/// Whether a file was written at least `age` before `now`. Unknown times and times in the future count as young.
fn is_older(entry: &Entry, age: Duration, now: UnixMillis) -> bool {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    entry.modified.is_some_and(|modified| now.0.saturating_sub(modified.0) >= age)
}

fn kept_above_level0(inventory: &Inventory, expired: &[LtxName]) -> Vec<Entry> {
    let mut expired: Vec<LtxName> = expired.to_vec();
    expired.sort_unstable();
    inventory
        .iter()
        .filter(|entry| entry.name.level != Level::L0 && expired.binary_search(&entry.name).is_err())
        .copied()
        .collect()
}

/// Ranges `(after, upto]` of transactions whose level-0 files other levels need, because their own files do not
/// connect: a file can only be applied to the database as of a transaction just before it or within it.
fn level0_links(kept: &[Entry], floor: Txid) -> Vec<(Txid, Txid)> {
    let mut by_end: Vec<LtxName> = kept.iter().map(|entry| entry.name).collect();
    by_end.sort_unstable_by_key(|name| (name.max, name.min));
    let mut links = Vec::new();
    let mut reached = Txid(0);
    for name in by_end {
        let before = Txid(name.min.0 - 1);
        if before > reached && name.max > floor {
            links.push((reached, before));
        }
        reached = name.max;
    }
    links
}

/// The transactions that files cover, as ranges that do not touch each other. The files come ordered by start.
fn ranges<'a>(files: impl Iterator<Item = &'a Entry>) -> Vec<(Txid, Txid)> {
    let mut ranges: Vec<(Txid, Txid)> = Vec::new();
    for Entry { name, .. } in files {
        match ranges.last_mut() {
            Some((_, max)) if name.min.0 - 1 <= max.0 => *max = name.max.max(*max),
            _ => ranges.push((name.min, name.max)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
