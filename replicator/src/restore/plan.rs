//! Which LTX files make up a state. Pure: a listing in, an ordered list of files out.
//!
//! A file `min-max` can be applied to any state from `min-1` to `max-1` and gives state `max`: it holds the newest
//! version of every page changed in `min..=max`. A file that starts at 1 is a whole database. So overlapping files
//! are welcome, and the farther a state has come, the more files fit: always taking the file that reaches farthest
//! finds every state that any choice of files could reach. The brute-force tests below hold it to that.

use std::collections::BTreeSet;
use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;
use crate::ltx::{Header, Txid};
use crate::replica::{Level, LtxName};

/// An LTX file of a replica, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Key in the bucket.
    pub key: String,
    /// Its level and transactions.
    pub name: LtxName,
    /// Size in bytes.
    pub size: u64,
    /// When the store says it was written.
    pub created: Option<UnixMillis>,
    /// The time in its header, if a search for a time has read it: nothing vouched for it then.
    pub captured: Option<UnixMillis>,
}

impl File {
    /// Whether a header, for which the checksum at the end of the file will vouch, bears the time for which the file was
    /// chosen.
    ///
    /// # Errors
    /// `ErrorKind::Corrupt` if not.
    pub(super) fn check_time(&self, header: &Header) -> Result<()> {
        match self.captured {
            Some(read) if read != header.timestamp => Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "its header was read twice and bore two times, {} and {} ms",
                    read.0, header.timestamp.0
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// The state wanted by a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The newest; nothing may exist beyond it.
    Newest,
    /// Exactly this one.
    Exactly(Txid),
}

/// Why there is no plan, and what could be restored instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlan {
    /// No LTX file at all.
    Empty,
    /// No file holds a whole database.
    NoBase {
        /// The lowest first transaction of any file.
        first: Txid,
    },
    /// Files exist beyond the newest state that can be reached.
    Gap {
        /// The newest state in reach.
        reached: Txid,
        /// Transactions in no file, first and last.
        missing: (Txid, Txid),
    },
    /// No choice of files ends at the wanted state.
    Unreachable {
        /// What was asked for.
        wanted: Txid,
        /// The nearest state below.
        below: Option<Txid>,
        /// The nearest state above.
        above: Option<Txid>,
    },
}

impl fmt::Display for NoPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it holds no LTX files"),
            Self::NoBase { first } => {
                write!(
                    f,
                    "no LTX file starts at transaction 1 (the lowest starts at {first}), so there is no base"
                )
            }
            Self::Gap { reached, missing: (from, to) } => write!(
                f,
                "transactions {from} to {to} are in no LTX file, although later ones exist; \
                 the newest state before the gap is -txid {reached}"
            ),
            Self::Unreachable { wanted, below, above } => {
                write!(f, "no files end at transaction {wanted}")?;
                match (below, above) {
                    (Some(below), Some(above)) => write!(f, "; restorable around it: {below} and {above}"),
                    (Some(below), None) => write!(f, "; the newest restorable one is {below}"),
                    (None, Some(above)) => write!(f, "; the oldest restorable one is {above}"),
                    (None, None) => write!(f, ", and no other state is restorable either"),
                }
            }
        }
    }
}

/// Every state that some choice of `files` ends at, ascending.
pub(super) fn restorable(files: &[File]) -> Vec<Txid> {
    states(files, None)
}

/// States reachable from `have`, or from nothing.
fn states(files: &[File], have: Option<Txid>) -> Vec<Txid> {
    let mut names: Vec<LtxName> = files.iter().map(|file| file.name).collect();
    names.sort_unstable_by_key(|name| name.max);
    let mut states: Vec<Txid> = Vec::new();
    for name in names {
        // The newest state so far accepts every file that any older state accepts.
        let newest = states.last().copied().or(have).unwrap_or_default();
        if name.continues(newest) {
            states.push(name.max);
        }
    }
    states
}

/// The files to apply, in order, to get from `have` (or from nothing) to the wanted state. Empty only if `have`
/// already is the wanted state.
pub(super) fn plan(files: &[File], want: Want, have: Option<Txid>) -> Result<Vec<File>, NoPlan> {
    let Some(first) = files.iter().map(|file| file.name.min).min() else { return Err(NoPlan::Empty) };
    let states = states(files, have);
    let end = match want {
        Want::Newest => {
            let reached = states.last().copied().or(have).ok_or(NoPlan::NoBase { first })?;
            if let Some(missing) = planted!("gap-unnoticed", None, gap_after(files, reached)) {
                return Err(NoPlan::Gap { reached, missing });
            }
            reached
        }
        Want::Exactly(wanted) => {
            if have != Some(wanted) && states.binary_search(&wanted).is_err() {
                let at = states.partition_point(|&state| state < wanted);
                let below = at.checked_sub(1).map(|below| states[below]).or(have);
                return Err(NoPlan::Unreachable { wanted, below, above: states.get(at).copied() });
            }
            wanted
        }
    };
    Ok(choose(files, end, have))
}

/// The missing transactions, if files exist that start beyond what `reached` accepts.
pub(super) fn gap_after(files: &[File], reached: Txid) -> Option<(Txid, Txid)> {
    let beyond = files.iter().map(|file| file.name).filter(|name| name.max > reached);
    let next = beyond.map(|name| name.min).min()?;
    Some((reached.next(), Txid(next.0 - 1)))
}

/// Greedy choice; `end` is known to be reachable.
fn choose(files: &[File], end: Txid, have: Option<Txid>) -> Vec<File> {
    // Among files that reach equally far a snapshot is best: a full copy in level 0 under the same name may be one of a
    // failed attempt, which the store applied after retention had deleted the one that counts. For the same reason a merge
    // of one file stands for it. Then the smallest.
    let merged: BTreeSet<(Txid, Txid)> = files
        .iter()
        .filter(|file| file.name.level != Level::L0 && file.name.level != Level::SNAPSHOT)
        .map(|file| (file.name.min, file.name.max))
        .collect();
    let is_merged =
        |file: &File| file.name.level == Level::L0 && merged.contains(&(file.name.min, file.name.max));
    let better = |file: &&File| {
        let is_snapshot = file.name.level == Level::SNAPSHOT && !planted!("smallest-full-copy");
        (file.name.max, is_snapshot, std::cmp::Reverse(file.size), file.name.level)
    };
    let mut candidates: Vec<&File> =
        files.iter().filter(|file| file.name.max <= end && !is_merged(file)).collect();
    candidates.sort_unstable_by_key(|file| file.name.min);
    let mut chosen = Vec::new();
    let mut reached = have.unwrap_or_default();
    // One pass: files enter in the order of their first transaction, and the best seen so far stays the best.
    let mut next = 0;
    let mut best: Option<&File> = None;
    while reached < end {
        while let Some(&file) = candidates.get(next).filter(|file| file.name.min.0 - 1 <= reached.0) {
            best = best.into_iter().chain([file]).max_by_key(better);
            next += 1;
        }
        let file = best.filter(|file| file.name.continues(reached)).expect("the wanted state is reachable");
        // A whole database makes everything before it superfluous.
        if file.name.is_base() {
            chosen.clear();
        }
        chosen.push(file.clone());
        reached = file.name.max;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(level: u8, min: u64, max: u64) -> File {
        let name = LtxName { level: Level::new(level).unwrap(), min: Txid(min), max: Txid(max) };
        File { key: name.to_string(), name, size: max - min, created: None, captured: None }
    }

    fn ranges(files: &[File]) -> Vec<(u8, u64, u64)> {
        files.iter().map(|file| (file.name.level.number(), file.name.min.0, file.name.max.0)).collect()
    }

    /// Every state reachable by any sequence of files: a plain graph search.
    fn brute_force(files: &[File], have: Option<Txid>) -> BTreeSet<Txid> {
        let mut seen = BTreeSet::new();
        let mut queue: Vec<u64> = vec![have.map_or(0, |have| have.0)];
        while let Some(state) = queue.pop() {
            for file in files {
                let grows = file.name.min.0 <= state + 1 && file.name.max.0 > state;
                if grows && seen.insert(file.name.max) {
                    queue.push(file.name.max.0);
                }
            }
        }
        seen
    }

    fn any_files() -> impl Strategy<Value = Vec<File>> {
        let one = (0u8..10, 1u64..14, 0u64..6).prop_map(|(level, min, len)| {
            if level == 9 { file(9, 1, min) } else { file(level, min, min + len) }
        });
        proptest::collection::vec(one, 0..14)
    }

    proptest! {
        #[test]
        fn finds_every_state_that_brute_force_finds(files in any_files(), have in proptest::option::of(1u64..14)) {
            let have = have.map(Txid);
            let reachable = brute_force(&files, have);
            for wanted in (1..22).map(Txid) {
                match plan(&files, Want::Exactly(wanted), have) {
                    Ok(chosen) => {
                        prop_assert!(have == Some(wanted) || reachable.contains(&wanted));
                        let mut state = have.map_or(0, |have| have.0);
                        for file in &chosen {
                            prop_assert!(file.name.min.0 <= state + 1 && file.name.max.0 > state, "{:?}", ranges(&chosen));
                            state = file.name.max.0;
                        }
                        prop_assert_eq!(state, wanted.0);
                        let base = chosen.iter().skip(1).find(|file| file.name.min.0 == 1);
                        prop_assert!(base.is_none(), "files before a whole database: {:?}", ranges(&chosen));
                    }
                    Err(NoPlan::Empty) => prop_assert!(files.is_empty()),
                    Err(_) => prop_assert!(have != Some(wanted) && !reachable.contains(&wanted)),
                }
            }
        }

        #[test]
        fn newest_is_the_greatest_reachable_or_a_gap(files in any_files()) {
            let reachable = brute_force(&files, None);
            let greatest = files.iter().map(|file| file.name.max).max();
            match plan(&files, Want::Newest, None) {
                Ok(chosen) => prop_assert_eq!(chosen.last().map(|file| file.name.max), greatest),
                Err(NoPlan::Empty) => prop_assert!(files.is_empty()),
                Err(NoPlan::NoBase { .. }) => prop_assert!(reachable.is_empty()),
                Err(NoPlan::Gap { reached, missing: (from, to) }) => {
                    prop_assert_eq!(reachable.last(), Some(&reached));
                    prop_assert!(from <= to && Some(to) < greatest);
                    for file in &files {
                        prop_assert!(file.name.max < from || file.name.min > to, "{:?} covers {}", file, from);
                    }
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn snapshot_then_the_farthest_reaching_files() {
        let files = [file(9, 1, 5), file(2, 4, 9), file(0, 6, 6), file(0, 10, 10), file(1, 1, 3)];
        let chosen = plan(&files, Want::Newest, None).unwrap();
        assert_eq!(ranges(&chosen), [(9, 1, 5), (2, 4, 9), (0, 10, 10)]);
    }

    #[test]
    fn overlapping_ranges_in_one_level() {
        let files = [file(0, 1, 1), file(1, 2, 4), file(1, 5, 8), file(1, 5, 9)];
        let chosen = plan(&files, Want::Newest, None).unwrap();
        assert_eq!(ranges(&chosen), [(0, 1, 1), (1, 2, 4), (1, 5, 9)]);
        let chosen = plan(&files, Want::Exactly(Txid(8)), None).unwrap();
        assert_eq!(ranges(&chosen), [(0, 1, 1), (1, 2, 4), (1, 5, 8)]);
    }

    #[test]
    fn a_compacted_file_from_one_replaces_the_snapshot_before_it() {
        let files = [file(9, 1, 5), file(3, 1, 8)];
        assert_eq!(ranges(&plan(&files, Want::Newest, None).unwrap()), [(3, 1, 8)]);
    }

    #[test]
    fn gaps_and_unreachable_states_say_what_is_there() {
        let files = [file(9, 1, 5), file(0, 6, 6), file(0, 9, 9), file(1, 7, 7)];
        let gap = plan(&files, Want::Newest, None).unwrap_err();
        assert_eq!(gap, NoPlan::Gap { reached: Txid(7), missing: (Txid(8), Txid(8)) });
        insta::assert_snapshot!(gap, @"transactions 0000000000000008 to 0000000000000008 are in no LTX file, although later ones exist; the newest state before the gap is -txid 0000000000000007");
        let early = plan(&files, Want::Exactly(Txid(4)), None).unwrap_err();
        assert_eq!(early, NoPlan::Unreachable { wanted: Txid(4), below: None, above: Some(Txid(5)) });
        let no_base = plan(&files[1..], Want::Newest, None).unwrap_err();
        assert_eq!(no_base, NoPlan::NoBase { first: Txid(6) });
    }

    #[test]
    fn the_highest_ids_do_not_overflow() {
        let files = [file(9, 1, 5), file(0, u64::MAX, u64::MAX)];
        assert!(matches!(plan(&files, Want::Newest, None), Err(NoPlan::Gap { .. })));
        let files = [file(9, 1, u64::MAX), file(0, u64::MAX, u64::MAX)];
        assert_eq!(plan(&files, Want::Newest, None).unwrap().len(), 1);
    }

    #[test]
    fn continues_from_what_is_already_applied() {
        let files = [file(9, 1, 5), file(1, 4, 9), file(0, 10, 10)];
        let chosen = plan(&files, Want::Newest, Some(Txid(6))).unwrap();
        assert_eq!(ranges(&chosen), [(1, 4, 9), (0, 10, 10)]);
        assert!(plan(&files, Want::Exactly(Txid(6)), Some(Txid(6))).unwrap().is_empty());
    }

    /// Simulated seed 20000137: a failed attempt's full copy came in after retention had deleted the one that counts.
    #[test]
    fn of_two_full_copies_of_one_name_the_snapshot_is_restored() {
        let named = |level, size| {
            let name = LtxName { level, min: Txid(1), max: Txid(1) };
            File { key: name.to_string(), name, size, created: None, captured: None }
        };
        for size in [50, 500] {
            let files = [named(Level::L0, size), named(Level::SNAPSHOT, 200)];
            assert_eq!(plan(&files, Want::Newest, None).unwrap(), [files[1].clone()]);
        }
    }
}
