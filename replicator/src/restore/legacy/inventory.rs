//! What a 0.3.x replica holds. Pure apart from the one listing.
//!
//! ```text
//! generations/<16 hex>/snapshots/<index>.snapshot.lz4      the database file, just before WAL <index>
//! generations/<16 hex>/wal/<index>_<offset>.wal.lz4        a piece of WAL <index>, from byte <offset>
//! ```
//!
//! Index and offset have 8 hexadecimal digits; an offset past 4 GiB has more, and a beta wrote 16.

use std::collections::BTreeMap;

use crate::bucket::{Bucket, LEGACY_PREFIX, ObjectInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;

/// A listing of generations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::restore) struct Inventory {
    /// Generations by name. The name is random: its order says nothing.
    pub(super) generations: BTreeMap<String, Generation>,
}

/// One unbroken run of replication.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Generation {
    /// Snapshots by WAL index.
    pub snapshots: BTreeMap<u64, ObjectInfo>,
    /// WAL segments by index and offset.
    pub segments: BTreeMap<(u64, u64), ObjectInfo>,
}

impl Generation {
    /// All its objects.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectInfo> {
        self.snapshots.values().chain(self.segments.values())
    }
}

impl Inventory {
    /// Lists all generations. Complete or an error. The other error is that of [`Inventory::parse`].
    pub(in crate::restore) async fn list(bucket: &dyn Bucket) -> Result<(Self, Option<Error>)> {
        Ok(Self::parse(bucket.list(LEGACY_PREFIX, None).await?))
    }

    /// Sorts objects by what their names say. The error is a `Corrupt` for the first name that looks like data but
    /// cannot be placed: leaving it out could leave out commits, so the inventory must not be restored from.
    pub(super) fn parse(objects: Vec<ObjectInfo>) -> (Self, Option<Error>) {
        let mut inventory = Self::default();
        let mut misplaced = None;
        for object in objects {
            if let Err(error) = inventory.place(object) {
                misplaced.get_or_insert(error);
            }
        }
        (inventory, misplaced)
    }

    fn place(&mut self, object: ObjectInfo) -> Result<()> {
        let is_data = object.key.ends_with(".wal.lz4") || object.key.ends_with(".snapshot.lz4");
        match Name::parse(&object.key) {
            Some(name) => self.add(name, object),
            None if is_data => Err(Error::new(
                ErrorKind::Corrupt,
                format!("{} is not a name that Litestream 0.3 gives: move it away", object.key),
            )),
            None => {
                tracing::debug!(key = object.key, "not part of the replica");
                Ok(())
            }
        }
    }

    fn add(&mut self, name: Name, object: ObjectInfo) -> Result<()> {
        let key = object.key.clone();
        let generation = self.generations.entry(name.generation).or_default();
        let other = match name.part {
            Part::Snapshot { index } => generation.snapshots.insert(index, object),
            Part::Segment { index, offset } => generation.segments.insert((index, offset), object),
        };
        match other {
            None => Ok(()),
            Some(other) => Err(Error::new(
                ErrorKind::Corrupt,
                format!("{} and {key} are two spellings of one name: move one away", other.key),
            )),
        }
    }

    /// Whether there is nothing.
    pub(in crate::restore) fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    /// When the last object of any kind was written.
    pub(in crate::restore) fn newest_object(&self) -> Option<UnixMillis> {
        self.last_written().map(|(_, time)| time)
    }

    /// The generation that was written to last, and when.
    pub(in crate::restore) fn last_written(&self) -> Option<(&str, UnixMillis)> {
        let written =
            |generation: &Generation| generation.objects().filter_map(|object| object.modified).max();
        let all = self.generations.iter();
        all.filter_map(|(name, generation)| Some((name.as_str(), written(generation)?)))
            .max_by_key(|&(_, time)| time)
    }

    /// When the last snapshot at or before `time` was written.
    pub(in crate::restore) fn newest_snapshot(&self, time: UnixMillis) -> Option<UnixMillis> {
        let snapshots = self.generations.values().flat_map(|generation| generation.snapshots.values());
        snapshots.filter_map(|object| object.modified).filter(|&written| written <= time).max()
    }
}

/// A key, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    generation: String,
    part: Part,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Snapshot { index: u64 },
    Segment { index: u64, offset: u64 },
}

impl Name {
    fn parse(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(LEGACY_PREFIX)?.split('/');
        let (generation, folder, file) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || generation.len() != 16 || !is_lower_hex(generation) {
            return None;
        }
        let part = match folder {
            "snapshots" => Part::Snapshot { index: number(file.strip_suffix(".snapshot.lz4")?)? },
            "wal" => {
                let (index, offset) = file.strip_suffix(".wal.lz4")?.split_once('_')?;
                Part::Segment { index: number(index)?, offset: number(offset)? }
            }
            _ => return None,
        };
        Some(Self { generation: generation.to_owned(), part })
    }
}

fn number(text: &str) -> Option<u64> {
    let valid = (8..=16).contains(&text.len()) && is_lower_hex(text);
    if valid { u64::from_str_radix(text, 16).ok() } else { None }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> ObjectInfo {
        ObjectInfo { key: key.to_owned(), size: 1, modified: None }
    }

    #[test]
    fn names_of_every_width_are_placed() {
        let (inventory, misplaced) = Inventory::parse(vec![
            object("generations/00000000000000aa/snapshots/0000000a.snapshot.lz4"),
            object("generations/00000000000000aa/wal/0000000a_00000000.wal.lz4"),
            object("generations/00000000000000aa/wal/0000000a_fffff000.wal.lz4"),
            object("generations/00000000000000aa/wal/0000000a_100000fd8.wal.lz4"),
            object("generations/00000000000000aa/wal/000000000000000b_0000000000000000.wal.lz4"),
            object("generations/00000000000000aa/wal/0000000a_00000000.wal.lz4.tmp"),
            object("generations/.DS_Store"),
        ]);
        assert!(misplaced.is_none(), "{misplaced:?}");
        let generation = &inventory.generations["00000000000000aa"];
        assert_eq!(generation.snapshots.keys().collect::<Vec<_>>(), [&10]);
        let places: Vec<_> = generation.segments.keys().copied().collect();
        assert_eq!(places, [(10, 0), (10, 0xffff_f000), (10, 0x1_0000_0fd8), (11, 0)]);
    }

    #[test]
    fn data_that_cannot_be_placed_is_an_error() {
        for name in [
            "generations/00000000000000aa/wal/0000000A_00000000.wal.lz4",
            "generations/00000000000000aa/wal/0000000a_0.wal.lz4",
            "generations/00000000000000aa/wal/x/0000000a_00000000.wal.lz4",
            "generations/aa/snapshots/0000000a.snapshot.lz4",
            "generations/00000000000000aa/wal/0000000a.snapshot.lz4",
        ] {
            let error = Inventory::parse(vec![object(name)]).1.unwrap();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
        }
        let twice = vec![
            object("generations/00000000000000aa/snapshots/0000000a.snapshot.lz4"),
            object("generations/00000000000000aa/snapshots/000000000000000a.snapshot.lz4"),
        ];
        assert!(Inventory::parse(twice).1.unwrap().message().contains("two spellings"));
    }
}
