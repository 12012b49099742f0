//! Level-0 files that this process published and that still lie on its disk: compaction reads these instead of asking
//! the store for what it was just given.
//!
//! A copy is believed only as far as it is the published object: the size and the file checksum that were seen on the
//! way out must be those of the bytes that are read back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::ltx::Txid;
use crate::replica::{Entry, Level};

/// Bytes of local files that are kept for compaction; what is older is read from the store.
const BYTES: u64 = 64 << 20;

/// Files that are kept for compaction.
const FILES: usize = 4096;

/// A file on this host that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCopy {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The checksum in its trailer, found right when it was published.
    pub file_checksum: u64,
}

/// The copies of the newest files that no compaction has taken up.
#[derive(Debug, Default)]
pub(super) struct Copies {
    by_txid: BTreeMap<Txid, LocalCopy>,
    bytes: u64,
}

impl Copies {
    /// Adds one; gives up the oldest beyond the limits.
    pub(super) fn add(&mut self, txid: Txid, copy: LocalCopy) {
        self.bytes += copy.size;
        if let Some(replaced) = self.by_txid.insert(txid, copy) {
            self.bytes -= replaced.size;
        }
        while self.bytes > BYTES || self.by_txid.len() > FILES {
            let Some((_, oldest)) = self.by_txid.pop_first() else { break };
            self.bytes -= oldest.size;
        }
    }

    /// Forgets those that a file up to `txid` holds.
    pub(super) fn forget_to(&mut self, txid: Txid) {
        while let Some(oldest) = self.by_txid.first_entry().filter(|oldest| *oldest.key() <= txid) {
            self.bytes -= oldest.remove().size;
        }
    }

    /// The oldest.
    pub(super) fn first(&self) -> Option<Txid> {
        self.by_txid.first_key_value().map(|(&txid, _)| txid)
    }

    /// The copy of a published file, if there is one.
    pub(super) fn of(&self, entry: &Entry) -> Option<LocalCopy> {
        let copy = self.by_txid.get(&entry.name.max)?;
        let is_it =
            entry.name.level == Level::L0 && entry.name.min == entry.name.max && entry.size == copy.size;
        is_it.then(|| copy.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_within_the_limits() {
        let copy = |size| LocalCopy { path: PathBuf::new(), size, file_checksum: 1 };
        let mut copies = Copies::default();
        for txid in 1..=10 {
            copies.add(Txid(txid), copy(BYTES / 4));
        }
        assert_eq!(copies.first(), Some(Txid(7)));
        copies.add(Txid(10), copy(1));
        copies.forget_to(Txid(8));
        assert_eq!((copies.first(), copies.bytes), (Some(Txid(9)), BYTES / 4 + 1));
        copies.forget_to(Txid(u64::MAX));
        assert_eq!((copies.first(), copies.bytes), (None, 0));
        for txid in 1..=FILES as u64 + 3 {
            copies.add(Txid(txid), copy(0));
        }
        assert_eq!(copies.first(), Some(Txid(4)));
    }
}
