//! What a replica holds, as far as listings tell: names, sizes, times.

use std::collections::{BTreeMap, BTreeSet};

use super::name::{Level, LtxName};
use crate::bucket::{Bucket, KeyLayout, ObjectInfo};
use crate::error::Result;
use crate::host::UnixMillis;
use crate::ltx::{MIN_FILE_LEN, Txid};

/// One file of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Level and transactions.
    pub name: LtxName,
    /// Size in bytes.
    pub size: u64,
    /// When it was written, if known.
    pub modified: Option<UnixMillis>,
}

/// Transactions that no file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last transaction before the gap; 0 if there is no file to begin with.
    pub after: Txid,
    /// The first transaction after it.
    pub next: Txid,
}

/// The files of one replica, ordered by level and transactions, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    files: BTreeMap<LtxName, Entry>,
    undersized: BTreeSet<LtxName>,
}

impl Inventory {
    /// Lists all levels, in one listing.
    ///
    /// # Errors
    /// As [`Bucket::list`].
    pub async fn load(bucket: &dyn Bucket) -> Result<Self> {
        let layout = bucket.layout();
        let objects = bucket.list(common_prefix(layout), None).await?;
        Ok(Self::from_objects(layout, &objects))
    }

    /// Takes what a listing names, in any order and however often. Foreign names are ignored.
    pub fn from_objects<'a>(layout: KeyLayout, objects: impl IntoIterator<Item = &'a ObjectInfo>) -> Self {
        let mut inventory = Self::default();
        for object in objects {
            if let Some(name) = LtxName::parse_key(layout, &object.key) {
                inventory.insert(Entry { name, size: object.size, modified: object.modified });
            }
        }
        inventory
    }

    /// Adds a file, or replaces what is known about it. A file too small to be one counts as absent.
    pub fn insert(&mut self, entry: Entry) {
        self.remove(&entry.name);
        if entry.size < MIN_FILE_LEN {
            self.undersized.insert(entry.name);
        } else {
            self.files.insert(entry.name, entry);
        }
    }

    /// Forgets a file.
    pub fn remove(&mut self, name: &LtxName) {
        self.files.remove(name);
        self.undersized.remove(name);
    }

    /// Names of objects too small to be LTX files; whatever wrote them was cut off.
    #[must_use]
    pub fn undersized(&self) -> &BTreeSet<LtxName> {
        &self.undersized
    }

    /// Whether there are no files.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// One file by name.
    #[must_use]
    pub fn get(&self, name: &LtxName) -> Option<&Entry> {
        self.files.get(name)
    }

    /// All files, by level, then first transaction, then last.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.files.values()
    }

    /// The files of one level, by first transaction, then last.
    pub fn level(&self, level: Level) -> impl DoubleEndedIterator<Item = &Entry> {
        let first = LtxName { level, min: Txid(0), max: Txid(0) };
        let last = LtxName { level, min: Txid(u64::MAX), max: Txid(u64::MAX) };
        self.files.range(first..=last).map(|(_, entry)| entry)
    }

    /// The file of a level that reaches furthest.
    #[must_use]
    pub fn newest(&self, level: Level) -> Option<&Entry> {
        self.level(level).max_by_key(|entry| (entry.name.max, entry.name.min))
    }

    /// The snapshot of the latest transaction.
    #[must_use]
    pub fn newest_snapshot(&self) -> Option<&Entry> {
        self.level(Level::SNAPSHOT).filter(|entry| entry.name.is_base()).max_by_key(|entry| entry.name.max)
    }

    /// The latest transaction in any file.
    #[must_use]
    pub fn max_txid(&self) -> Option<Txid> {
        self.iter().map(|entry| entry.name.max).max()
    }

    /// The first gap that keeps a restore from reaching [`Inventory::max_txid`]. What lies before the newest snapshot
    /// is no such gap. Without any file that a restore can begin with, the gap is at the start.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        let mut names: Vec<LtxName> = self.files.keys().copied().collect();
        names.sort_unstable_by_key(|name| name.min);
        let mut after = Txid(0);
        for name in names {
            if name.min.0 - 1 > after.0 {
                return Some(Gap { after, next: name.min });
            }
            after = after.max(name.max);
        }
        None
    }

    /// The latest transaction that a restore can reach; `None` if there is nothing to begin with.
    #[must_use]
    pub fn restorable_max(&self) -> Option<Txid> {
        let reached = self.gap().map_or_else(|| self.max_txid(), |gap| Some(gap.after));
        reached.filter(|&txid| txid > Txid(0))
    }
}

/// Lists all levels in the layout of the store, or, if the replica holds no file in that, in the other one: a directory
/// that was copied into a bucket keeps the keys it had. Returns the layout of the keys, too.
///
/// # Errors
/// As [`Bucket::list`].
pub(crate) async fn list_either_layout(bucket: &dyn Bucket) -> Result<(KeyLayout, Vec<ObjectInfo>)> {
    let layout = bucket.layout();
    for layout in [layout, other_layout(layout)] {
        let objects = bucket.list(common_prefix(layout), None).await?;
        if objects.iter().any(|object| LtxName::parse_key(layout, &object.key).is_some()) {
            return Ok((layout, objects));
        }
    }
    Ok((layout, Vec::new()))
}

/// How keys spell levels in the other family of stores.
pub(crate) fn other_layout(layout: KeyLayout) -> KeyLayout {
    match layout {
        KeyLayout::HexLevel => KeyLayout::LtxDirectory,
        KeyLayout::LtxDirectory => KeyLayout::HexLevel,
    }
}

/// What the keys of all levels start with, so that one listing finds them all.
pub(crate) fn common_prefix(layout: KeyLayout) -> &'static str {
    match layout {
        KeyLayout::HexLevel => "000",
        KeyLayout::LtxDirectory => "ltx/",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::bucket::memory::MemoryBucket;
    use crate::bucket::{PutCondition, PutOptions};

    fn entry(level: u8, min: u64, max: u64) -> Entry {
        let name = LtxName { level: Level::new(level).unwrap(), min: Txid(min), max: Txid(max) };
        Entry { name, size: MIN_FILE_LEN, modified: None }
    }

    fn inventory(files: &[(u8, u64, u64)]) -> Inventory {
        let mut inventory = Inventory::default();
        for &(level, min, max) in files {
            inventory.insert(entry(level, min, max));
        }
        inventory
    }

    fn gap(files: &[(u8, u64, u64)]) -> Option<(u64, u64)> {
        inventory(files).gap().map(|gap| (gap.after.0, gap.next.0))
    }

    #[test]
    fn gaps_count_over_all_levels_and_above_the_newest_snapshot() {
        assert_eq!(gap(&[]), None);
        assert_eq!(gap(&[(0, 1, 1), (0, 2, 2), (0, 3, 3)]), None);
        assert_eq!(gap(&[(0, 1, 1), (0, 3, 3)]), Some((1, 3)));
        assert_eq!(gap(&[(0, 1, 1), (0, 3, 3), (1, 2, 2)]), None, "another level fills it");
        assert_eq!(gap(&[(0, 1, 1), (0, 3, 3), (9, 1, 2)]), None, "a snapshot spans it");
        assert_eq!(gap(&[(9, 1, 5), (1, 4, 7), (0, 9, 9)]), Some((7, 9)));
        assert_eq!(gap(&[(0, 5, 5)]), Some((0, 5)), "nothing to begin with");
        assert_eq!(gap(&[(0, 1, 1), (1, 5, 8), (1, 5, 9), (1, 2, 4)]), None, "overlap is no gap");
        assert_eq!(gap(&[(9, 1, u64::MAX), (0, u64::MAX, u64::MAX)]), None);
    }

    #[test]
    fn restorable_max_stops_at_the_gap() {
        assert_eq!(inventory(&[]).restorable_max(), None);
        assert_eq!(inventory(&[(0, 4, 4)]).restorable_max(), None);
        assert_eq!(inventory(&[(9, 1, 3), (0, 4, 4), (0, 6, 6)]).restorable_max(), Some(Txid(4)));
        assert_eq!(inventory(&[(9, 1, 6), (0, 6, 6)]).restorable_max(), Some(Txid(6)));
    }

    #[test]
    fn cut_objects_are_absent_but_named() {
        let mut inventory = inventory(&[(0, 1, 1)]);
        inventory.insert(Entry { size: 0, ..entry(0, 2, 2) });
        assert_eq!(inventory.max_txid(), Some(Txid(1)));
        assert_eq!(*inventory.undersized(), [LtxName::l0(Txid(2))].into());
        inventory.insert(entry(0, 2, 2));
        assert_eq!((inventory.max_txid(), inventory.undersized().len()), (Some(Txid(2)), 0));
        inventory.insert(Entry { size: 0, ..entry(0, 2, 2) });
        assert_eq!(inventory.max_txid(), Some(Txid(1)));
    }

    #[tokio::test]
    async fn one_listing_finds_every_level_and_nothing_else() {
        let bucket = MemoryBucket::new();
        let put = async |key: &str| {
            let body = Bytes::from(vec![0; 200]);
            bucket.put(key, body, PutCondition::IfAbsent, PutOptions::default()).await.unwrap();
        };
        for level in Level::all() {
            put(&LtxName { level, min: Txid(1), max: Txid(2) }.key(bucket.layout())).await;
        }
        put("000/x").await;
        put("0000/README").await;
        put("generations/0123456789abcdef/snapshots/00000000.snapshot.lz4").await;
        let inventory = Inventory::load(&bucket).await.unwrap();
        assert_eq!(inventory.iter().count(), 10);
        assert_eq!(inventory.level(Level::SNAPSHOT).count(), 1);
    }

    proptest! {
        #[test]
        fn gap_agrees_with_a_set_of_transactions(
            files in prop::collection::vec((0_u8..=8, 1_u64..30, 0_u64..6), 0..12),
            snapshots in prop::collection::vec(1_u64..30, 0..3),
        ) {
            let mut all: Vec<_> = files.iter().map(|&(level, min, more)| (level, min, min + more)).collect();
            all.extend(snapshots.iter().map(|&max| (9, 1, max)));
            let held: BTreeSet<u64> = all.iter().flat_map(|&(_, min, max)| min..=max).collect();
            let end = held.last().copied().unwrap_or(0);
            let after = (1..=end).find(|txid| !held.contains(txid)).map(|txid| txid - 1);
            let expected = after.map(|after| (after, *held.range(after + 1..).next().unwrap()));
            prop_assert_eq!(gap(&all), expected);
            all.reverse();
            prop_assert_eq!(gap(&all), expected);
        }

        #[test]
        fn any_order_and_repetition_of_a_listing_gives_the_same(
            files in prop::collection::vec((0_u8..=9, 1_u64..9, 0_u64..3), 1..20).prop_shuffle(),
        ) {
            let object = |&(level, min, more): &(u8, u64, u64)| ObjectInfo {
                key: entry(level, min, min + more).name.key(KeyLayout::LtxDirectory),
                size: 500,
                modified: None,
            };
            let once: Vec<_> = files.iter().map(object).collect();
            let mut sorted = once.clone();
            sorted.sort_by(|a, b| a.key.cmp(&b.key));
            sorted.extend(once.clone());
            prop_assert_eq!(
                Inventory::from_objects(KeyLayout::LtxDirectory, &once),
                Inventory::from_objects(KeyLayout::LtxDirectory, &sorted)
            );
        }
    }
}
