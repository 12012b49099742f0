//! Reads a replica written by anything and says whether it is whole.
//!
//! Built on the naive decoders alone. Every object is read once and reduced to page hashes, so memory grows with the
//! number of pages stored, not with their size; restoring reads the needed objects again.

mod generations;
mod reading;
mod report;
mod s3;
mod states;
mod store;
mod url;

use std::collections::BTreeMap;
use std::hash::Hasher;

pub use report::{LegacyReport, LevelReport, Problem, Report, RestorePoint, Severity};
pub use s3::S3;
pub use store::{Directory, Embedded, Object, Store, Unread};

use crate::{Defect, compare, ltx, workload};
use generations::Generations;
use states::States;

/// The level that holds snapshots.
pub const SNAPSHOT_LEVEL: u8 = 9;

/// One LTX object that could be read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it is, and what the store says.
    pub object: Object,
    /// Level by its key.
    pub level: u8,
    /// Its header.
    pub header: ltx::Header,
    /// How its pages are packed.
    pub forms: Vec<ltx::PageForm>,
    /// Page number → hash of its content.
    hashes: BTreeMap<u32, u64>,
}

/// A database file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Page size in bytes.
    pub page_size: u32,
    /// The file.
    pub bytes: Vec<u8>,
}

/// A replica, read completely.
pub struct Replica<'a> {
    store: &'a dyn Store,
    entries: Vec<Entry>,
    generations: Generations,
    problems: Vec<Problem>,
    states: States,
}

impl<'a> Replica<'a> {
    /// Reads every object; what is deleted meanwhile is no part of it.
    ///
    /// # Errors
    /// If the store cannot be listed, or an object cannot be read. One that is broken is a problem of the replica, not
    /// an error here.
    pub fn read(store: &'a dyn Store) -> Result<Self, Defect> {
        reading::read(store)
    }

    /// The LTX objects, in key order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Transaction ids that can be restored, with the time of each in milliseconds since 1970.
    pub fn restorable(&self) -> impl DoubleEndedIterator<Item = (u64, i64)> + '_ {
        self.states
            .chain()
            .map(|index| (self.entries[index].header.max_txid, self.entries[index].header.timestamp))
    }

    /// The newest transaction id that can be restored.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.restorable().next_back().map(|(txid, _)| txid)
    }

    /// The newest transaction id from before a moment, as `restore -timestamp` chooses it.
    #[must_use]
    pub fn before(&self, millis: i64) -> Option<u64> {
        self.restorable().rev().find(|(_, time)| *time < millis).map(|(txid, _)| txid)
    }

    /// The database as it was after a transaction id.
    ///
    /// # Errors
    /// If no chain of objects leads there, or one of them is broken.
    pub fn restore(&self, txid: u64) -> Result<Image, Defect> {
        let plan = self.states.plan(&self.entries, txid);
        if plan.is_empty() {
            return Err(Defect::new(format!(
                "transaction {txid:016x} cannot be restored from {}",
                self.store.location()
            )));
        }
        let mut image = Image { page_size: 0, bytes: Vec::new() };
        for index in plan {
            let key = &self.entries[index].object.key;
            let file = ltx::parse(&self.store.get(key)?).map_err(|defect| defect.context(key))?;
            image.apply(&file);
        }
        Ok(image)
    }

    /// Every state in turn, oldest first; cheaper than restoring each.
    ///
    /// # Errors
    /// An item is an error if its object is broken; the ones after it build on the wrong pages then.
    pub fn images(&self) -> impl Iterator<Item = (u64, Result<Image, Defect>)> + '_ {
        let mut image = Image { page_size: 0, bytes: Vec::new() };
        self.states.chain().map(move |index| {
            let entry = &self.entries[index];
            let read = self.store.get(&entry.object.key).map_err(Defect::from);
            let read = read.and_then(|bytes| ltx::parse(&bytes));
            let applied = read.map(|file| {
                image.apply(&file);
                image.clone()
            });
            (entry.header.max_txid, applied.map_err(|defect| defect.context(&entry.object.key)))
        })
    }

    /// Restores the newest state of a 0.3 generation that a snapshot index leads to.
    ///
    /// # Errors
    /// If a part is missing or broken.
    pub fn restore_legacy(&self, generation: &str, snapshot: u64) -> Result<Vec<u8>, Defect> {
        Ok(self.generations.restore(self.store, generation, snapshot)?)
    }

    /// The 0.3 snapshots: generation and index.
    pub fn legacy_snapshots(&self) -> impl Iterator<Item = (&str, u64)> {
        self.generations.snapshots()
    }

    /// The 0.3 snapshot of the generation that was written to last.
    #[must_use]
    pub fn newest_legacy(&self) -> Option<(&str, u64)> {
        self.generations.newest()
    }

    /// The sequence number a workload left in the newest state, of LTX or else of 0.3.
    #[must_use]
    pub fn newest_seq(&self) -> Option<u64> {
        let image = match self.newest() {
            Some(txid) => self.restore(txid).ok()?.bytes,
            None => {
                let (generation, snapshot) = self.newest_legacy()?;
                self.restore_legacy(generation, snapshot).ok()?
            }
        };
        workload::seq_of(&compare::open_image(&image).ok()?).ok()?
    }

    /// The verdict.
    #[must_use]
    pub fn report(&self) -> Report {
        report::build(self)
    }
}

impl Image {
    /// Lays a file's pages over the image and cuts or extends it to the file's database size.
    fn apply(&mut self, file: &ltx::File) {
        if self.page_size != file.header.page_size {
            // Only a file that holds every page may change the size.
            self.bytes.clear();
        }
        self.page_size = file.header.page_size;
        let size = self.page_size as usize;
        self.bytes.resize(file.header.commit as usize * size, 0);
        for (number, content) in &file.pages {
            let start = (*number as usize - 1) * size;
            self.bytes[start..start + size].copy_from_slice(content);
        }
    }
}

/// The level in `0009/<name>` or `ltx/9/<name>`; `None` if the key has another shape.
fn level_of(key: &str) -> Option<u8> {
    name_of(key)?;
    let (folder, _) = key.rsplit_once('/')?;
    let level = match folder.strip_prefix("ltx/") {
        Some(decimal) => decimal.parse().ok()?,
        None if folder.len() == 4 => u8::from_str_radix(folder, 16).ok()?,
        None => return None,
    };
    (level <= SNAPSHOT_LEVEL).then_some(level)
}

/// The ids in `<min>-<max>.ltx`.
fn name_of(key: &str) -> Option<(u64, u64)> {
    let name = key.rsplit('/').next()?.strip_suffix(".ltx")?;
    let (min, max) = name.split_once('-')?;
    let number = |digits: &str| {
        let lower =
            digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if lower { u64::from_str_radix(digits, 16).ok() } else { None }
    };
    Some((number(min)?, number(max)?))
}

/// A hash to compare pages by; never stored.
fn hash(content: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}
