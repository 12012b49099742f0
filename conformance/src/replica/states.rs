//! Which states a set of LTX objects leads to, and whether all objects agree about them.
//!
//! Pure. The finest objects that connect form the chain; every other object is a shortcut between two of its states
//! and must give the same pages.

use std::collections::BTreeMap;

use super::{Entry, Problem};
use crate::ltx;

/// The states that can be restored.
#[derive(Debug, Default)]
pub(super) struct States {
    /// Transaction id → index of the object that leads to it from the state before, or from nothing.
    chain: BTreeMap<u64, usize>,
    /// Objects that lead to a state from one before it, or from nothing: those of the chain, and shortcuts.
    connected: Vec<usize>,
    history: History,
}

/// Every page's contents over time.
#[derive(Debug, Default)]
struct History {
    /// Page number → (transaction id, hash; `None` once the database had shrunk below it).
    pages: BTreeMap<u32, Vec<(u64, Option<u64>)>>,
}

impl History {
    fn at(&self, page: u32, txid: u64) -> Option<u64> {
        let versions = self.pages.get(&page)?;
        versions.iter().rev().find(|(since, _)| *since <= txid).and_then(|(_, hash)| *hash)
    }

    fn record(&mut self, entry: &Entry) {
        let txid = entry.header.max_txid;
        for (page, hash) in &entry.hashes {
            self.pages.entry(*page).or_default().push((txid, Some(*hash)));
        }
        for (_, versions) in self.pages.range_mut(entry.header.commit.saturating_add(1)..) {
            if versions.last().is_some_and(|(_, hash)| hash.is_some()) {
                versions.push((txid, None));
            }
        }
    }
}

impl States {
    /// Connects the objects, and reports every gap and every disagreement.
    pub(super) fn of(entries: &[Entry], problems: &mut Vec<Problem>) -> Self {
        find_gaps(entries, problems);
        let mut states = Self::default();
        let mut skipped = Vec::new();
        let mut by_end: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            by_end.entry(entry.header.max_txid).or_default().push(index);
        }
        for (txid, mut ending_here) in by_end {
            // The finest first: the latest start.
            ending_here.sort_by_key(|index| std::cmp::Reverse(entries[*index].header.min_txid));
            let before = states.chain.last_key_value().map(|(_, index)| &entries[*index].header);
            // Nothing continues a state of another page size; only an object that starts over can follow it.
            let connects = |index: &usize| {
                let header = &entries[*index].header;
                header.min_txid == 1
                    || before.is_some_and(|before| {
                        header.min_txid <= before.max_txid + 1 && header.page_size == before.page_size
                    })
            };
            let reached = before.map_or(0, |before| before.max_txid);
            let connecting: Vec<usize> = ending_here.iter().copied().filter(connects).collect();
            let Some(&first) = connecting.first() else {
                skipped.extend(ending_here);
                continue;
            };
            states.connected.extend(connecting);
            states.step(entries, first, reached, problems);
            for other in ending_here.into_iter().filter(|index| *index != first) {
                states.compare(entries, other, txid, problems);
            }
        }
        states.find_lost(entries, &skipped, problems);
        states
    }

    fn step(&mut self, entries: &[Entry], index: usize, reached: u64, problems: &mut Vec<Problem>) {
        let entry = &entries[index];
        let key = &entry.object.key;
        if let Some(before) = self.chain.get(&reached).map(|before| &entries[*before].header)
            && before.timestamp > entry.header.timestamp
        {
            problems.push(Problem::suspicious(key, "its time is before that of the state it follows"));
        }
        self.history.record(entry);
        self.chain.insert(entry.header.max_txid, index);
        let lock_page = ltx::lock_page(entry.header.page_size);
        let hole = (1..=entry.header.commit)
            .find(|page| *page != lock_page && self.history.at(*page, entry.header.max_txid).is_none());
        if let Some(page) = hole {
            problems
                .push(Problem::broken(key, format!("page {page} of {} has no content", entry.header.commit)));
        }
    }

    /// A shortcut must lead to the same pages as the chain.
    fn compare(&self, entries: &[Entry], index: usize, txid: u64, problems: &mut Vec<Problem>) {
        let entry = &entries[index];
        let key = &entry.object.key;
        let chained = &entries[self.chain[&txid]];
        if entry.header.commit != chained.header.commit {
            let what = format!(
                "{} pages, but {} has {}",
                entry.header.commit, chained.object.key, chained.header.commit
            );
            problems.push(Problem::broken(key, what));
            return;
        }
        let differs = entry.hashes.iter().find(|(page, hash)| self.history.at(**page, txid) != Some(**hash));
        if let Some((page, _)) = differs {
            problems.push(Problem::broken(key, format!("page {page} differs from {}", chained.object.key)));
        }
        // Its own start is not always a state of the chain; any later one serves as well.
        let Some((start, _)) = self.chain.range(entry.header.min_txid - 1..txid).next() else {
            return;
        };
        let written = self.chain.range(start + 1..=txid).flat_map(|(_, step)| entries[*step].hashes.keys());
        let forgotten = written.copied().find(|page| {
            *page <= entry.header.commit
                && !entry.hashes.contains_key(page)
                && self.history.at(*page, *start) != self.history.at(*page, txid)
        });
        if let Some(page) = forgotten {
            problems.push(Problem::broken(key, format!("page {page} changed in its range and is not in it")));
        }
    }

    /// An object that no state leads to means that something before it is missing.
    ///
    /// That is nothing new where a merged file holds the same transactions: whoever merged them dropped the states in
    /// between. Nor up to the oldest snapshot, where retention deletes what it can: the newest of each level stay
    /// there, files of level 0 until their own time has come, and whatever a store refused to delete.
    fn find_lost(&self, entries: &[Entry], skipped: &[usize], problems: &mut Vec<Problem>) {
        let newest = self.chain.last_key_value().map_or(0, |(txid, _)| *txid);
        let kept_from = self.kept_from(entries);
        for entry in skipped.iter().map(|index| &entries[*index]) {
            let end = entry.header.max_txid;
            if end > newest {
                let what = format!("cannot be reached: the newest state that connects is {newest:016x}");
                problems.push(Problem::broken(&entry.object.key, what));
            } else if end > kept_from && !self.is_merged(entries, entry) {
                let before = self.chain.range(..end).next_back().map_or(0, |(txid, _)| *txid);
                let what = format!("cannot be reached: the last state before it is {before:016x}");
                problems.push(Problem::broken(&entry.object.key, what));
            }
        }
    }

    /// The state from which on everything is kept: the oldest snapshot's, or the oldest of all.
    fn kept_from(&self, entries: &[Entry]) -> u64 {
        let snapshots = entries.iter().filter(|entry| entry.level == super::SNAPSHOT_LEVEL);
        let oldest = snapshots.map(|entry| entry.header.max_txid).min();
        oldest.or_else(|| self.chain.keys().next().copied()).unwrap_or(0)
    }

    /// Whether a file that connects, and is no snapshot, holds an object's transactions with others.
    fn is_merged(&self, entries: &[Entry], lost: &Entry) -> bool {
        let (min, max) = (lost.header.min_txid, lost.header.max_txid);
        self.connected
            .iter()
            .map(|index| &entries[*index])
            .filter(|entry| entry.level < super::SNAPSHOT_LEVEL)
            .any(|entry| entry.header.min_txid <= min && max <= entry.header.max_txid)
    }

    /// The objects of the chain, oldest state first.
    pub(super) fn chain(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.chain.values().copied()
    }

    /// The objects to apply for a state, oldest first; empty if it is none.
    pub(super) fn plan(&self, entries: &[Entry], txid: u64) -> Vec<usize> {
        if !self.chain.contains_key(&txid) {
            return Vec::new();
        }
        let mut plan: Vec<usize> = self.chain.range(..=txid).map(|(_, index)| *index).collect();
        let base = plan.iter().rposition(|index| entries[*index].header.min_txid == 1).unwrap_or(0);
        plan.drain(..base);
        plan
    }
}

/// Within a level, each object continues where the one before ended. Snapshots stand alone.
///
/// What another level holds can be restored all the same: a level begins above a snapshot, and deletions may be
/// refused one by one. What follows a gap and cannot be restored is found by [`States::find_lost`].
fn find_gaps(entries: &[Entry], problems: &mut Vec<Problem>) {
    for level in 0..super::SNAPSHOT_LEVEL {
        let mut of_level: Vec<&Entry> = entries.iter().filter(|entry| entry.level == level).collect();
        of_level.sort_by_key(|entry| (entry.header.min_txid, entry.header.max_txid));
        for pair in of_level.windows(2) {
            let (first, last) = (pair[0].header.max_txid + 1, pair[1].header.min_txid - 1);
            if first <= last {
                let key = &pair[1].object.key;
                let what = format!("level {level} has nothing from {first:016x} to {last:016x}");
                problems.push(if is_held(entries, first, last) {
                    Problem::suspicious(key, what)
                } else {
                    Problem::broken(key, what)
                });
            }
        }
    }
}

/// Whether the objects of all levels together hold a range of transactions.
fn is_held(entries: &[Entry], first: u64, last: u64) -> bool {
    let mut next = first;
    while next <= last {
        let holding = entries.iter().filter(|entry| entry.header.min_txid <= next);
        match holding.map(|entry| entry.header.max_txid).max() {
            Some(end) if end >= next => next = end.saturating_add(1),
            _ => return false,
        }
    }
    true
}
