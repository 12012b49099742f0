//! Random histories, random compaction, random losses: every target gives exactly its state, or an error exactly when
//! no choice of files leads there.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::synthetic::{File, file, options, replica};
use super::*;
use crate::ltx::Txid;

const PAGE_SIZE: u32 = 512;

/// One transaction: the size after it, and the pages it writes (taken modulo the size).
#[derive(Debug, Clone)]
struct Commit {
    pages: u32,
    writes: Vec<u32>,
}

/// What each transaction changed, and the state after it: one fill byte per page.
struct History {
    changes: Vec<BTreeMap<u32, u8>>,
    states: Vec<Vec<u8>>,
}

impl History {
    fn new(commits: &[Commit]) -> Self {
        let mut history = Self { changes: Vec::new(), states: Vec::new() };
        let mut state: Vec<u8> = Vec::new();
        for (number, commit) in (1u8..).zip(commits) {
            let grown = state.len() as u32 + 1..=commit.pages;
            let written = commit.writes.iter().map(|write| write % commit.pages + 1);
            let changed: BTreeMap<u32, u8> = written.chain(grown).map(|page| (page, number)).collect();
            state.resize(commit.pages as usize, 0);
            for (&page, &fill) in &changed {
                state[page as usize - 1] = fill;
            }
            history.changes.push(changed);
            history.states.push(state.clone());
        }
        history
    }

    /// The file that compaction makes of a range; level 9 and ranges from 1 hold the whole state.
    fn file(&self, level: u8, min: usize, max: usize) -> File {
        let state = &self.states[max - 1];
        let changed = self.changes[min - 1..max].iter().flat_map(BTreeMap::keys).copied();
        let changed: BTreeSet<u32> =
            if min == 1 { (1..=state.len() as u32).collect() } else { changed.collect() };
        let pages = changed.into_iter().filter(|&page| page as usize <= state.len());
        let pages: Vec<_> = pages.map(|page| (page, state[page as usize - 1])).collect();
        file(level, (min as u64, max as u64), PAGE_SIZE, state.len() as u32, &pages)
    }

    fn image(&self, txid: usize) -> Vec<u8> {
        self.states[txid - 1].iter().flat_map(|&fill| [fill; PAGE_SIZE as usize]).collect()
    }
}

fn commits() -> impl Strategy<Value = Vec<Commit>> {
    let commit = (1u32..9, proptest::collection::vec(0u32..16, 1..5));
    proptest::collection::vec(commit.prop_map(|(pages, writes)| Commit { pages, writes }), 1..9)
}

/// States that lie on some path through the files, by plain search.
fn reachable(ranges: &BTreeSet<(u8, usize, usize)>) -> BTreeSet<usize> {
    let (mut found, mut queue) = (BTreeSet::new(), vec![0]);
    while let Some(state) = queue.pop() {
        for &(_, min, max) in ranges {
            if min <= state + 1 && max > state && found.insert(max) {
                queue.push(max);
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_target_gives_exactly_its_state(
        commits in commits(),
        merges in proptest::collection::vec((1u8..10, 0usize..9, 0usize..9), 0..6),
        lost in proptest::collection::btree_set(0usize..9, 0..3),
    ) {
        let history = History::new(&commits);
        let last = commits.len();
        let mut ranges: BTreeSet<_> =
            (1..=last).filter(|txid| !lost.contains(txid)).map(|txid| (0, txid, txid)).collect();
        for (level, from, len) in merges {
            let min = if level == 9 { 1 } else { from % last + 1 };
            ranges.insert((level, min, (min + len).min(last)));
        }
        let files: Vec<File> = ranges.iter().map(|&(level, min, max)| history.file(level, min, max)).collect();
        let reachable = reachable(&ranges);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bucket = replica(&files).await;
            for txid in 1..=last {
                let dir = tempfile::tempdir().unwrap();
                let target = Target::Txid(Txid(txid as u64));
                let result = restore(&bucket, Options { target, ..options(&dir) }).await;
                assert_eq!(result.is_ok(), reachable.contains(&txid), "{txid} of {ranges:?}: {result:?}");
                if result.is_ok() {
                    assert_eq!(read(&dir.path().join("a.db")), history.image(txid), "{txid} of {ranges:?}");
                }
            }
        });
    }
}
