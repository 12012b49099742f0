//! Retention against a naive model of what a restore can reach.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::ltx::MIN_FILE_LEN;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn retention(snapshot_hours: u64, level0_minutes: u64) -> Retention {
    Retention {
        snapshot: Duration::from_secs(snapshot_hours * 3600),
        level0: Duration::from_secs(level0_minutes * 60),
    }
}

fn entry(level: u8, min: u64, max: u64, modified: i64) -> Entry {
    let name = LtxName { level: Level::new(level).unwrap(), min: Txid(min), max: Txid(max) };
    Entry { name, size: MIN_FILE_LEN, modified: Some(UnixMillis(modified)) }
}

fn inventory(entries: &[Entry]) -> Inventory {
    let mut inventory = Inventory::default();
    entries.iter().for_each(|&entry| inventory.insert(entry));
    inventory
}

/// Names as `(level, min, max)`.
fn expired(retention: &Retention, entries: &[Entry], now: i64) -> Vec<(u8, u64, u64)> {
    let expired = retention.expired(&inventory(entries), UnixMillis(now));
    expired.iter().map(|name| (name.level.number(), name.min.0, name.max.0)).collect()
}

/// Every transaction that a restore can end at exactly, found by trying everything.
fn restorable(inventory: &Inventory) -> BTreeSet<u64> {
    let names: Vec<LtxName> = inventory.iter().map(|entry| entry.name).collect();
    let mut reached: BTreeSet<u64> =
        names.iter().filter(|name| name.min.0 == 1).map(|name| name.max.0).collect();
    loop {
        let next: Vec<u64> = names
            .iter()
            .filter(|name| reached.range(name.min.0 - 1..name.max.0).next().is_some())
            .map(|name| name.max.0)
            .filter(|txid| !reached.contains(txid))
            .collect();
        if next.is_empty() {
            return reached;
        }
        reached.extend(next);
    }
}

#[test]
fn level0_goes_once_level1_has_covered_it_for_a_while() {
    let retention = retention(24, 5);
    let mut files = vec![entry(9, 1, 1, 0)];
    files.extend((1..=12).map(|txid| entry(0, txid, txid, 0)));
    files.push(entry(1, 2, 6, 2 * MINUTE));
    files.push(entry(1, 7, 9, 4 * MINUTE));
    assert_eq!(expired(&retention, &files, 4 * MINUTE), []);
    assert_eq!(expired(&retention, &files, 6 * MINUTE), [(0, 1, 1)], "the snapshot holds it");
    let first_six: Vec<_> = (1..=6).map(|txid| (0, txid, txid)).collect();
    assert_eq!(expired(&retention, &files, 7 * MINUTE), first_six);
    let first_nine: Vec<_> = (1..=9).map(|txid| (0, txid, txid)).collect();
    assert_eq!(expired(&retention, &files, HOUR), first_nine, "10 to 12 are in no other file");
    assert_eq!(expired(&Retention { level0: Duration::ZERO, ..retention }, &files, HOUR), []);
}

#[test]
fn level0_that_level1_skips_stays() {
    let retention = retention(24, 5);
    let files = [
        entry(9, 1, 1, 0),
        entry(1, 2, 3, 0),
        entry(1, 5, 6, 0),
        entry(0, 4, 4, 0),
        entry(0, 5, 5, 0),
        entry(0, 7, 7, 0),
    ];
    assert_eq!(expired(&retention, &files, HOUR), [(0, 5, 5)]);
    // The same with transaction 4 lost: above the gap nothing is touched.
    let lost: Vec<_> = files.iter().filter(|entry| entry.name.min.0 != 4).copied().collect();
    assert_eq!(expired(&retention, &lost, HOUR), []);
}

#[test]
fn level0_that_leads_to_an_oddly_overlapping_file_stays() {
    // 12 can be reached only over 8, which level 1 ends nowhere at.
    let retention = retention(24, 5);
    let mut files = vec![entry(9, 1, 1, 0), entry(1, 2, 20, 0), entry(1, 9, 12, 0)];
    files.extend((2..=20).map(|txid| entry(0, txid, txid, 0)));
    let expected: Vec<_> = (9..=19).map(|txid| (0, txid, txid)).collect();
    assert_eq!(expired(&retention, &files, HOUR), expected);
}

#[test]
fn the_newest_of_each_level_stays() {
    let retention = retention(24, 5);
    let files = [entry(9, 1, 9, 0), entry(3, 2, 5, 0), entry(1, 2, 9, 0), entry(0, 9, 9, 0)];
    assert_eq!(expired(&retention, &files, 1000 * HOUR), []);
}

/// Nobody we know of writes such a file, and no restore begins with one.
#[test]
fn a_file_among_the_snapshots_that_is_none_goes_with_what_it_holds() {
    let files =
        [entry(9, 1, 9, 0), entry(9, 3, 8, 0), entry(9, 3, 9, 0), entry(9, 3, 10, 0), entry(9, 1, 11, HOUR)];
    assert_eq!(expired(&retention(20, 5), &files, 20 * HOUR), [], "no snapshot is old enough");
    assert_eq!(expired(&retention(20, 5), &files, 21 * HOUR), [(9, 3, 8), (9, 3, 9)]);
}

#[test]
fn the_window_opens_at_the_newest_snapshot_before_it() {
    let retention = retention(20, 5);
    let mut files = Vec::new();
    for day in 0..4 {
        let last = u64::try_from(day).unwrap() * 100 + 1;
        files.push(entry(9, 1, last, day * 24 * HOUR));
        files.push(entry(2, last + 1, last + 50, day * 24 * HOUR + HOUR));
        files.push(entry(2, last + 51, last + 100, day * 24 * HOUR + 2 * HOUR));
    }
    // Grace is an hour, so the window of 20 hours is served from 21 hours ago.
    let now = 3 * 24 * HOUR + 21 * HOUR;
    assert_eq!(
        expired(&retention, &files, now - 1),
        [(9, 1, 1), (9, 1, 101), (2, 2, 51), (2, 52, 101), (2, 102, 151), (2, 152, 201)]
    );
    let later = expired(&retention, &files, now);
    assert!(later.contains(&(9, 1, 201)) && later.contains(&(2, 252, 301)), "{later:?}");
    assert!(!later.contains(&(9, 1, 301)) && !later.contains(&(2, 302, 351)), "{later:?}");
}

#[test]
fn unknown_and_future_times_count_as_young() {
    let retention = retention(24, 5);
    let files =
        [entry(9, 1, 5, 0), entry(9, 1, 8, 0), entry(1, 2, 5, 0), entry(0, 4, 4, 0), entry(0, 8, 8, 0)];
    assert_eq!(expired(&retention, &files, 100 * HOUR), [(9, 1, 5), (0, 4, 4)]);
    let unknown: Vec<_> = files.iter().map(|&entry| Entry { modified: None, ..entry }).collect();
    assert_eq!(expired(&retention, &unknown, 100 * HOUR), []);
    assert_eq!(expired(&retention, &files, -100 * HOUR), []);
    assert_eq!(expired(&retention, &files, i64::MIN), []);
}

/// A replica as it grows: when each transaction was committed, and the files that exist.
#[derive(Debug, Default)]
struct World {
    now: i64,
    committed: BTreeMap<u64, i64>,
    files: Inventory,
}

#[derive(Debug, Clone)]
enum Step {
    /// Transactions, one a minute.
    Commit(u8),
    /// Merge all of the level below that is new, from above the newest snapshot if the level is empty.
    Compact {
        level: u8,
        overlap: u64,
    },
    Snapshot,
    /// The store loses a file.
    Lose(prop::sample::Index),
    Wait {
        minutes: i64,
    },
    Retain,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u8..20).prop_map(Step::Commit),
        6 => (1_u8..4, prop_oneof![4 => Just(0_u64), 1 => 1_u64..4]).prop_map(|(level, overlap)| Step::Compact { level, overlap }),
        2 => Just(Step::Snapshot),
        1 => any::<prop::sample::Index>().prop_map(Step::Lose),
        3 => (1_i64..300).prop_map(|minutes| Step::Wait { minutes }),
        4 => Just(Step::Retain),
    ]
}

impl World {
    fn add(&mut self, level: u8, min: u64, max: u64) {
        self.files.insert(entry(level, min, max, self.now));
    }

    fn last(&self) -> u64 {
        self.committed.len() as u64
    }

    fn apply(&mut self, step: &Step, retention: &Retention) {
        match *step {
            Step::Commit(count) => {
                for _ in 0..count {
                    self.now += MINUTE;
                    let txid = self.last() + 1;
                    self.committed.insert(txid, self.now);
                    self.add(0, txid, txid);
                }
            }
            Step::Compact { level, overlap } => self.compact(level, overlap),
            Step::Snapshot if self.last() > 0 => self.add(9, 1, self.last()),
            Step::Snapshot => {}
            Step::Lose(index) => {
                let names: Vec<LtxName> = self.files.iter().map(|entry| entry.name).collect();
                if !names.is_empty() {
                    self.files.remove(index.get(&names));
                }
            }
            Step::Wait { minutes } => self.now += minutes * MINUTE,
            Step::Retain => self.retain(retention),
        }
    }

    fn compact(&mut self, level: u8, overlap: u64) {
        let own = self.files.newest(Level::new(level).unwrap()).map(|entry| entry.name.max.0);
        let base = self.files.newest_snapshot().map_or(1, |entry| entry.name.max.0);
        let after = own.unwrap_or(base).saturating_sub(overlap).max(1);
        let mut range: Option<(u64, u64)> = None;
        for name in self.files.level(Level::new(level - 1).unwrap()).map(|entry| entry.name) {
            match &mut range {
                None if name.min.0 > after => range = Some((name.min.0, name.max.0)),
                Some((_, end)) if name.min.0 <= *end + 1 => *end = name.max.0.max(*end),
                _ => {}
            }
        }
        if let Some((min, max)) = range {
            self.add(level, min, max);
        }
    }

    fn retain(&mut self, retention: &Retention) {
        let expired = retention.expired(&self.files, UnixMillis(self.now));
        self.delete(retention, &expired);
    }

    /// Deletes files one by one and checks the promises at every step.
    fn delete(&mut self, retention: &Retention, expired: &[LtxName]) {
        let before = self.files.clone();
        let reachable = restorable(&before);
        let within = |txid: u64, window: Duration| {
            self.committed[&txid] >= self.now - i64::try_from(window.as_millis()).unwrap()
        };
        let mut promised: BTreeSet<u64> = before
            .iter()
            .filter(|entry| {
                let window =
                    if entry.name.level == Level::L0 { retention.level0 } else { retention.snapshot };
                within(entry.name.max.0, window)
            })
            .map(|entry| entry.name.max.0)
            .collect();
        promised.extend(reachable.last());
        for name in expired {
            assert!(self.files.get(name).is_some(), "{name} is named twice or does not exist");
            self.files.remove(name);
            let left = restorable(&self.files);
            for txid in promised.intersection(&reachable) {
                assert!(left.contains(txid), "deleting {name} loses {txid}; left: {:?}", self.files);
            }
        }
        for level in Level::all() {
            assert_eq!(before.newest(level), self.files.newest(level), "newest of {level}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_happened_promised_transactions_stay_restorable(
        steps in prop::collection::vec(any_step(), 1..60),
        retention in (1_u64..10, 1_u64..60).prop_map(|(hours, minutes)| retention(hours, minutes)),
    ) {
        let mut world = World::default();
        for step in &steps {
            world.apply(step, &retention);
        }
        world.retain(&retention);
    }
}

/// The model must be able to fail: a young transaction goes with the older ones that lead to it.
#[test]
#[should_panic(expected = "loses 4")]
fn the_model_notices_a_deleted_link() {
    let mut world = World::default();
    let retention = retention(1, 5);
    world.apply(&Step::Commit(9), &retention);
    world.add(9, 1, 1);
    let old: Vec<_> = (1..=4).map(|txid| LtxName::l0(Txid(txid))).collect();
    world.delete(&retention, &old);
}

/// Litestream's level-0 rule: covered by level 1 and old enough, file by file.
#[test]
#[should_panic(expected = "loses")]
fn the_model_notices_a_rule_that_looks_at_ages_alone() {
    let mut world = World::default();
    let retention = retention(1, 5);
    world.apply(&Step::Commit(1), &retention);
    world.apply(&Step::Snapshot, &retention);
    world.apply(&Step::Commit(9), &retention);
    world.apply(&Step::Compact { level: 1, overlap: 0 }, &retention);
    let aged = |entry: &&Entry| is_older(entry, retention.level0, UnixMillis(world.now));
    let expired: Vec<_> = world.files.level(Level::L0).filter(aged).map(|entry| entry.name).collect();
    world.delete(&retention, &expired);
}

#[test]
fn a_long_run_stays_bounded() {
    let retention = retention(4, 5);
    let mut world = World::default();
    for minute in 0..60 * 24 {
        world.apply(&Step::Commit(1), &retention);
        for (level, interval) in [(1, 2), (2, 10), (3, 60)] {
            if minute % interval == 0 {
                world.apply(&Step::Compact { level, overlap: 0 }, &retention);
            }
        }
        if minute % 120 == 0 {
            world.apply(&Step::Snapshot, &retention);
        }
        if minute % 10 == 0 {
            world.retain(&retention);
        }
    }
    let counts: Vec<_> = Level::all().map(|level| world.files.level(level).count()).collect();
    // Window 4 h plus grace 24 min, served from a snapshot up to 2 h older: at most 384 minutes of history.
    assert!(counts[0] < 20 && counts[1] <= 194 && counts[2] <= 40 && counts[9] <= 4, "{counts:?}");
}

/// Simulated seed 20008035: the file of the snapshot's own transaction stayed for ever. The newest of level 0 must.
#[test]
fn a_damaged_file_of_level0_goes_with_the_snapshot_of_its_transaction() {
    let damaged = entry(0, 5, 5, 0).name;
    let outlived = |level0_minutes: u64, newest: u64, hours: i64| {
        let files = inventory(&[entry(9, 1, 5, 0), entry(0, newest, newest, 0)]);
        let expired = retention(1, level0_minutes).outlived([&damaged], &files, UnixMillis(hours * HOUR));
        expired == [damaged]
    };
    assert!(outlived(5, 6, 2));
    assert!(!outlived(5, 6, 1), "the snapshot is young");
    assert!(!outlived(5, 4, 2), "it is the newest of level 0");
    assert!(!outlived(0, 6, 2), "level 0 is kept for ever");
}
