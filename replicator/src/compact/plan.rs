//! Which files to merge next into a level.

use crate::ltx::Txid;
use crate::replica::{Entry, Gap, Inventory, Level, LtxName};

/// Most files merged at once; each costs a decoder.
pub const MAX_INPUTS: usize = 128;

/// What to do for a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The level holds all that its source level has.
    Nothing,
    /// Merge these, oldest first. More may remain.
    Merge(Vec<Entry>),
    /// The source level continues only after transactions that no file holds: publish a snapshot (or the missing
    /// files) first. Merging across would lose the fact that they are missing.
    Blocked(Gap),
}

/// Decides the next merge into `level`, 1 to 8.
///
/// A run begins where the level ends. An empty level begins above the newest file that carries the whole database, so
/// that the database is not copied through every level. It may skip transactions that other files hold (a snapshot,
/// say), and ends before transactions that its source level lacks.
#[must_use]
pub fn next(inventory: &Inventory, level: Level) -> Next {
    let Some(source) = level.source() else { return Next::Nothing };
    let base = planted!("base-in-every-level", None, newest_base(inventory));
    let start = inventory.newest(level).map_or(base, |entry| Some(entry.name.max));
    let mut reached = start.unwrap_or(Txid(0));
    let ahead: Vec<&Entry> = inventory.level(source).filter(|entry| entry.name.max > reached).collect();
    let Some(first) = ahead.first().map(|entry| before(&entry.name)) else { return Next::Nothing };
    if first > reached {
        if let Some(gap) = inventory.gap()
            && gap.after < first
        {
            return Next::Blocked(gap);
        }
        reached = first;
    }
    Next::Merge(run(&ahead, reached))
}

/// Shortens a merge into `level` until its name is not taken by an object in whose place nothing can be published. What is
/// left out then follows under another name, or waits for what comes next.
#[must_use]
pub fn avoiding(next: Next, level: Level, is_taken: impl Fn(&LtxName) -> bool) -> Next {
    let Next::Merge(mut inputs) = next else { return next };
    while let [first, .., last] | [first @ last] = inputs.as_slice() {
        if !is_taken(&LtxName { level, min: first.name.min, max: last.name.max }) {
            return Next::Merge(inputs);
        }
        inputs.pop();
    }
    Next::Nothing
}

/// The longest run of files, ordered by start, that continues the database as of `reached`, each file leading as far
/// as one can.
fn run(ahead: &[&Entry], mut reached: Txid) -> Vec<Entry> {
    let mut run = Vec::new();
    let mut rest = ahead;
    while run.len() < MAX_INPUTS {
        let within = rest.iter().take_while(|entry| before(&entry.name) <= reached).count();
        let (candidates, later) = rest.split_at(within);
        let furthest = candidates.iter().max_by_key(|entry| entry.name.max);
        let Some(&furthest) = furthest.filter(|entry| entry.name.max > reached) else { break };
        reached = furthest.name.max;
        run.push(*furthest);
        rest = later;
    }
    run
}

/// The last transaction of the newest file that carries the whole database.
fn newest_base(inventory: &Inventory) -> Option<Txid> {
    inventory.iter().filter(|entry| entry.name.is_base()).map(|entry| entry.name.max).max()
}

fn before(name: &LtxName) -> Txid {
    Txid(name.min.0 - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inventory(files: &[(u8, u64, u64)]) -> Inventory {
        let mut inventory = Inventory::default();
        for &(level, min, max) in files {
            let name = LtxName { level: Level::new(level).unwrap(), min: Txid(min), max: Txid(max) };
            inventory.insert(Entry { name, size: 1000, modified: None });
        }
        inventory
    }

    fn plan(files: &[(u8, u64, u64)], level: u8) -> Result<Vec<(u64, u64)>, (u64, u64)> {
        match next(&inventory(files), Level::new(level).unwrap()) {
            Next::Nothing => Ok(Vec::new()),
            Next::Merge(inputs) => {
                Ok(inputs.iter().map(|entry| (entry.name.min.0, entry.name.max.0)).collect())
            }
            Next::Blocked(gap) => Err((gap.after.0, gap.next.0)),
        }
    }

    #[test]
    fn continues_where_the_level_ends() {
        assert_eq!(
            plan(&[(0, 1, 1), (1, 1, 2), (0, 2, 2), (0, 3, 3), (0, 4, 4)], 1),
            Ok(vec![(3, 3), (4, 4)])
        );
        assert_eq!(plan(&[(0, 1, 1), (1, 1, 1)], 1), Ok(vec![]));
        assert_eq!(plan(&[(9, 1, 1), (1, 2, 5), (1, 6, 9), (2, 2, 5)], 2), Ok(vec![(6, 9)]));
        assert_eq!(plan(&[(9, 1, 1), (0, 2, 2)], 9), Ok(vec![]), "snapshots are not merged");
        assert_eq!(plan(&[(9, 1, 1), (0, 2, 2)], 0), Ok(vec![]));
    }

    #[test]
    fn an_empty_level_leaves_the_base_where_it_is() {
        assert_eq!(plan(&[(0, 1, 1), (0, 2, 2)], 1), Ok(vec![(2, 2)]), "no snapshot yet");
        assert_eq!(plan(&[(0, 1, 1), (0, 2, 2), (0, 3, 3), (9, 1, 2)], 1), Ok(vec![(3, 3)]));
        assert_eq!(plan(&[(9, 1, 7), (1, 2, 5), (1, 6, 9)], 2), Ok(vec![(6, 9)]), "spans the snapshot");
        assert_eq!(
            plan(&[(1, 1, 9), (1, 10, 12)], 2),
            Ok(vec![(10, 12)]),
            "level 1 of Litestream has the base"
        );
        assert_eq!(plan(&[(0, 1, 1)], 1), Ok(vec![]));
    }

    #[test]
    fn ends_before_a_gap_and_does_not_begin_after_one() {
        let mut files = vec![(9, 1, 1), (0, 2, 2), (0, 3, 3), (0, 5, 5)];
        assert_eq!(plan(&files, 1), Ok(vec![(2, 2), (3, 3)]));
        files.push((1, 2, 3));
        assert_eq!(plan(&files, 1), Err((3, 5)));
        files.push((9, 1, 4));
        assert_eq!(plan(&files, 1), Ok(vec![(5, 5)]), "a snapshot holds what is missing");
        assert_eq!(plan(&[(0, 5, 5)], 1), Err((0, 5)), "nothing to begin with");
        assert_eq!(plan(&[(9, 1, 4), (0, 7, 7), (0, 5, 5), (1, 2, 5), (9, 1, 8)], 1), Ok(vec![(7, 7)]));
    }

    #[test]
    fn overlapping_sources_are_used_once() {
        let files = [(9, 1, 4), (1, 5, 8), (1, 5, 9), (1, 9, 12), (1, 10, 11), (2, 2, 4)];
        assert_eq!(plan(&files, 2), Ok(vec![(5, 9), (9, 12)]));
    }

    proptest! {
        /// Whatever exists: inputs continue each other, move the level forward, and everything they leave out below
        /// them is held by other files.
        #[test]
        fn plans_are_contiguous(files in prop::collection::vec((0_u8..=3, 1_u64..60, 0_u64..8), 0..40), bases in prop::collection::vec(1_u64..60, 0..3), level in 1_u8..=4) {
            let mut files: Vec<_> = files.iter().map(|&(level, min, more)| (level, min, min + more)).collect();
            files.extend(bases.iter().map(|&max| (9, 1, max)));
            let inventory = inventory(&files);
            let level = Level::new(level).unwrap();
            let end = inventory.newest(level).map_or(0, |entry| entry.name.max.0);
            match next(&inventory, level) {
                Next::Merge(inputs) => {
                    prop_assert!(!inputs.is_empty() && inputs.len() <= MAX_INPUTS);
                    let first = inputs[0].name;
                    prop_assert!(first.max.0 > end);
                    prop_assert!(inventory.gap().is_none_or(|gap| gap.after.0 >= first.min.0 - 1) || end >= first.min.0 - 1);
                    for pair in inputs.windows(2) {
                        prop_assert!(pair[1].name.continues(pair[0].name.max));
                    }
                }
                Next::Blocked(gap) => prop_assert_eq!(Some(gap), inventory.gap()),
                Next::Nothing => {
                    let source = inventory.newest(level.source().unwrap()).map_or(0, |entry| entry.name.max.0);
                    prop_assert!(source <= end.max(newest_base(&inventory).map_or(0, |txid| txid.0)));
                }
            }
        }
    }

    #[test]
    fn many_files_are_merged_in_batches() {
        let files: Vec<_> = (1..1000).map(|txid| (0, txid, txid)).collect();
        assert_eq!(plan(&files, 1).unwrap().len(), MAX_INPUTS);
    }
}
