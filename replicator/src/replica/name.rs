//! Levels, file names and keys, spelled as Litestream 0.5 spells them.

use std::fmt;

use crate::bucket::KeyLayout;
use crate::ltx::Txid;

/// A compaction level: 0 holds what was replicated, 1 to 8 ever larger merges of it, 9 snapshots of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// What replication writes: one file per transaction id.
    pub const L0: Self = Self(0);
    /// The first level that compaction writes.
    pub const L1: Self = Self(1);
    /// Snapshots: files `1-N` that stand for the whole database.
    pub const SNAPSHOT: Self = Self(9);

    /// A level by number, 0 to 9.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number <= 9).then_some(Self(number))
    }

    /// All levels, 0 first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..=9).map(Self)
    }

    /// The levels that compaction writes, 1 to 8.
    pub fn compacted() -> impl DoubleEndedIterator<Item = Self> {
        (1..=8).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// The level whose files are merged into this one; `None` for level 0 and snapshots, which nothing is merged into.
    #[must_use]
    pub fn source(self) -> Option<Self> {
        (1..=8).contains(&self.0).then(|| Self(self.0 - 1))
    }

    /// What every key of this level starts with.
    #[must_use]
    pub fn prefix(self, layout: KeyLayout) -> String {
        match layout {
            KeyLayout::HexLevel => format!("{:04x}/", self.0),
            KeyLayout::LtxDirectory => format!("ltx/{}/", self.0),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}

/// Name of an LTX file: its level and the transactions it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LtxName {
    /// Where it is kept.
    pub level: Level,
    /// First transaction.
    pub min: Txid,
    /// Last transaction.
    pub max: Txid,
}

impl LtxName {
    /// A level-0 file.
    #[must_use]
    pub fn l0(txid: Txid) -> Self {
        Self { level: Level::L0, min: txid, max: txid }
    }

    /// A snapshot of the database as of `txid`.
    #[must_use]
    pub fn snapshot(txid: Txid) -> Self {
        Self { level: Level::SNAPSHOT, min: Txid(1), max: txid }
    }

    /// Last component of the key: `<min>-<max>.ltx`, 16 lower-case hexadecimal digits each.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}.ltx", self.min, self.max)
    }

    /// The key of the file, relative to the replica's own path.
    #[must_use]
    pub fn key(&self, layout: KeyLayout) -> String {
        format!("{}{}", self.level.prefix(layout), self.file_name())
    }

    /// Reads a file name; `None` if it is not exactly what [`LtxName::file_name`] makes.
    #[must_use]
    pub fn parse_file_name(level: Level, file_name: &str) -> Option<Self> {
        let (min, max) = file_name.strip_suffix(".ltx")?.split_once('-')?;
        let name = Self { level, min: min.parse().ok()?, max: max.parse().ok()? };
        // Comparing the spelling also refuses upper case.
        (name.min.0 > 0 && name.min <= name.max && name.file_name() == file_name).then_some(name)
    }

    /// Reads a key; `None` if it is not exactly what [`LtxName::key`] makes, so foreign objects are left alone.
    #[must_use]
    pub fn parse_key(layout: KeyLayout, key: &str) -> Option<Self> {
        let (directory, file_name) = key.rsplit_once('/')?;
        let level = match layout {
            KeyLayout::HexLevel => u8::from_str_radix(directory, 16).ok()?,
            KeyLayout::LtxDirectory => directory.strip_prefix("ltx/")?.parse().ok()?,
        };
        let name = Self::parse_file_name(Level::new(level)?, file_name)?;
        (name.key(layout) == key).then_some(name)
    }

    /// Whether the file carries the whole database, so that a restore can begin with it.
    #[must_use]
    pub fn is_base(&self) -> bool {
        self.min == Txid(1)
    }

    /// Whether the file can be applied to the database as of `txid` and moves it forward.
    #[must_use]
    pub fn continues(&self, txid: Txid) -> bool {
        // Not `txid + 1`, which overflows for the highest id; `min` is never 0.
        self.min.0 - 1 <= txid.0 && self.max > txid
    }
}

impl fmt::Display for LtxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-{}", self.level, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAYOUTS: [KeyLayout; 2] = [KeyLayout::HexLevel, KeyLayout::LtxDirectory];

    #[test]
    fn keys_are_spelled_as_litestream_spells_them() {
        let name = LtxName { level: Level::L1, min: Txid(2), max: Txid(0x1f) };
        assert_eq!(name.key(KeyLayout::HexLevel), "0001/0000000000000002-000000000000001f.ltx");
        assert_eq!(name.key(KeyLayout::LtxDirectory), "ltx/1/0000000000000002-000000000000001f.ltx");
        assert_eq!(
            LtxName::snapshot(Txid(3)).key(KeyLayout::HexLevel),
            "0009/0000000000000001-0000000000000003.ltx"
        );
    }

    #[test]
    fn foreign_keys_are_ignored() {
        let foreign = [
            "",
            "/",
            "0000",
            "0000/",
            "0000/0000000000000001-0000000000000001.ltx.tmp",
            "0000/0000000000000001-000000000000000A.ltx",
            "0000/0000000000000002-0000000000000001.ltx",
            "0000/0000000000000000-0000000000000001.ltx",
            "0000/1-1.ltx",
            "0000/sub/0000000000000001-0000000000000001.ltx",
            "000a/0000000000000001-0000000000000001.ltx",
            "00/0000000000000001-0000000000000001.ltx",
            "+000/0000000000000001-0000000000000001.ltx",
            "/0000/0000000000000001-0000000000000001.ltx",
            "ltx/10/0000000000000001-0000000000000001.ltx",
            "ltx/00/0000000000000001-0000000000000001.ltx",
            "ltx/+1/0000000000000001-0000000000000001.ltx",
            "generations/0123456789abcdef/snapshots/00000000.snapshot.lz4",
        ];
        for key in foreign {
            for layout in LAYOUTS {
                assert_eq!(LtxName::parse_key(layout, key), None, "{key}");
            }
        }
        let key = LtxName::l0(Txid(1)).key(KeyLayout::HexLevel);
        assert_eq!(LtxName::parse_key(KeyLayout::LtxDirectory, &key), None);
    }

    proptest! {
        #[test]
        fn keys_read_back(level in 0_u8..=9, min in 1_u64.., length in 0_u64..1000) {
            let name = LtxName {
                level: Level::new(level).unwrap(),
                min: Txid(min),
                max: Txid(min.saturating_add(length)),
            };
            for layout in LAYOUTS {
                let key = name.key(layout);
                prop_assert!(key.starts_with(&name.level.prefix(layout)));
                prop_assert_eq!(LtxName::parse_key(layout, &key), Some(name));
            }
        }

        #[test]
        fn any_text_is_harmless(key in "[0-9a-f/.ltx+-]{0,60}") {
            for layout in LAYOUTS {
                if let Some(name) = LtxName::parse_key(layout, &key) {
                    prop_assert_eq!(name.key(layout), &*key);
                }
            }
        }
    }
}
