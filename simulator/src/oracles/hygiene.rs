//! Nothing is left over in the store once nothing is written: what retention promises to remove is gone, and every
//! object has a name that somebody reads.
//!
//! Deduced from names and times alone, apart from the product's own rules, and only where those leave no doubt:
//! what lies before a snapshot that is older than the window, and level-0 files that level 1 covers without a hole.
//! Not asked where objects can appear behind the replicator's back (late writes, lagging listings, a second one), nor
//! where clocks were wrong: the replicator then believes in less time than has gone by, and keeps more.

use std::collections::BTreeMap;

use replicator::bucket::KeyLayout;
use replicator::replica::LtxName;

use crate::clock::EPOCH_MILLIS;
use crate::evidence::{Evidence, Violation};
use crate::plan::Happening;

pub const NAME: &str = "hygiene";

/// Time beyond the retention after which a file must be gone: a look comes once per level interval at least, and a
/// deletion that was refused is tried again.
const GRACE_MILLIS: u64 = 60_000;

struct File {
    level: u8,
    min: u64,
    max: u64,
    age_millis: u64,
    /// It may count as lost until a snapshot has outlived it: it covers nothing, and stays as long as it likes.
    misread: bool,
}

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut files: BTreeMap<String, File> = BTreeMap::new();
    for object in &evidence.at_rest.objects {
        let Some(name) = LtxName::parse_key(KeyLayout::HexLevel, &object.key) else {
            found.push(format!("{} has a name that nobody reads", object.key));
            continue;
        };
        let written = u64::try_from(object.modified.0 - EPOCH_MILLIS).unwrap_or(0);
        let age_millis = evidence.at_rest.at_millis.saturating_sub(written);
        let (level, min, max) = (name.level.number(), name.min.0, name.max.0);
        let misread = object.misread;
        files.insert(object.key.clone(), File { level, min, max, age_millis, misread });
    }
    if is_asked(evidence) {
        found.extend(expired(evidence, &files));
    }
    let violation = |happened| Violation {
        oracle: NAME,
        at_millis: evidence.at_rest.at_millis,
        promised: "what is no longer needed is removed from the store".into(),
        happened,
    };
    found.into_iter().map(violation).collect()
}

/// Whether the replicator can know what is in the store and how old it is.
pub fn is_asked(evidence: &Evidence) -> bool {
    let behind_its_back = |what: &Happening| {
        matches!(
            what,
            Happening::StaleListings { .. }
                | Happening::SecondReplicator { .. }
                | Happening::ClockJump { .. }
                | Happening::ClockDrift { .. }
                | Happening::ClockFreeze { .. }
        )
    };
    // With HTTP, the abandoned client of a killed process may still repeat a request, and what a network lost may come late.
    let may_be_repeated = evidence.plan.full && evidence.planned(|what| !what.leaves_requests_alone());
    evidence.plan.weather.late == 0 && !may_be_repeated && !evidence.planned(behind_its_back)
}

fn expired(evidence: &Evidence, files: &BTreeMap<String, File>) -> Vec<String> {
    let sound = || files.values().filter(|file| !file.misread);
    // Of those that count: with the newest one lost, the one before stays in its place (seed 40003610).
    let is_newest = |file: &File| sound().all(|other| other.level != file.level || other.max <= file.max);
    let window = u64::from(evidence.settings.retention_millis) * 11 / 10 + GRACE_MILLIS;
    let floor = sound()
        .filter(|file| file.level == SNAPSHOT && file.min == 1 && file.age_millis > window)
        .map(|file| file.max)
        .max()
        .unwrap_or(0);
    let level0 = u64::from(evidence.settings.level_millis) * 2 + GRACE_MILLIS;
    let covered = covered_without_a_hole(files, level0);
    let is_expired = |file: &File| {
        let before_floor = if file.level == SNAPSHOT { file.max < floor } else { file.max <= floor };
        let is_covered = file.level == 0
            && file.age_millis > level0
            && covered.is_some_and(|(min, max)| min <= file.min && file.max <= max);
        (before_floor || is_covered) && !is_newest(file) && !file.misread
    };
    files
        .iter()
        .filter(|(_, file)| is_expired(file))
        .map(|(key, file)| {
            format!("{key} is {} ms old and not needed (snapshot up to {floor})", file.age_millis)
        })
        .collect()
}

const SNAPSHOT: u8 = 9;

/// The transactions of level 1, if its files join, all are old enough, and each level above joins as well, so that no
/// level-0 file is needed to get from one of their files to the next.
fn covered_without_a_hole(files: &BTreeMap<String, File>, old_millis: u64) -> Option<(u64, u64)> {
    let mut whole = None;
    for level in (1..SNAPSHOT).rev() {
        let mut of_level: Vec<&File> = files.values().filter(|file| file.level == level).collect();
        of_level.sort_by_key(|file| file.min);
        let (Some(first), Some(last)) = (of_level.first(), of_level.last()) else { continue };
        let joins = of_level.windows(2).all(|pair| pair[0].max + 1 == pair[1].min);
        if !joins || of_level.iter().any(|file| file.age_millis <= old_millis || file.misread) {
            return None;
        }
        // The levels must join each other, too: the lower one goes on where the upper one ends.
        if let Some((_, upper_end)) = whole
            && first.min > upper_end + 1
        {
            return None;
        }
        whole = Some((first.min, last.max));
    }
    let has_level1 = files.values().any(|file| file.level == 1);
    // From a full copy to the first file of the levels, too, no single transaction may be missing.
    let (start, end) = whole?;
    let sound = || files.values().filter(|file| !file.misread);
    let joins_a_copy = sound().any(|file| file.min == 1 && file.max + 1 >= start && file.level != 0)
        || sound().any(|file| file.level == 0 && file.min == 1 && start == 2);
    (has_level1 && joins_a_copy).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracles::fixture::{self, objects};

    #[test]
    fn what_should_be_gone_is_seen_and_what_is_needed_is_not() {
        let (mut evidence, _) = fixture::evidence();
        evidence.plan.faults.clear();
        (evidence.plan.weather.late, evidence.plan.weather.flipped) = (0, 0);
        (evidence.settings.retention_millis, evidence.settings.level_millis) = (86_400_000, 1_000);
        evidence.at_rest.objects = objects(&[(0, 1, 1), (1, 2, 5), (0, 6, 6)]);
        assert_eq!(check(&evidence), []);
        evidence.at_rest.objects.extend(objects(&[(0, 4, 4)]));
        assert_eq!(check(&evidence).len(), 1, "level 1 covers it");
        evidence.at_rest.objects = objects(&[(0, 1, 1), (1, 2, 3), (1, 5, 5), (0, 4, 4), (0, 6, 6)]);
        assert_eq!(check(&evidence), [], "a file that links two others");
        evidence.at_rest.objects = objects(&[(9, 1, 4), (1, 2, 4), (1, 5, 6), (0, 6, 6)]);
        assert_eq!(check(&evidence), [], "the window is long");
        evidence.settings.retention_millis = 10_000;
        assert_eq!(check(&evidence).len(), 1, "it is over, and a snapshot holds what 2-4 held");
        evidence.at_rest.objects = objects(&[(0, 5, 5), (9, 1, 6), (0, 6, 6)]);
        assert_eq!(check(&evidence).len(), 1, "the snapshot holds 5");
        evidence.at_rest.objects[2].misread = true;
        assert_eq!(check(&evidence), [], "the newest that counts");
        evidence.at_rest.objects = objects(&[(9, 1, 4)]);
        evidence.at_rest.objects[0].key = "0000/part-7".into();
        assert_eq!(check(&evidence).len(), 1, "an unknown name");
    }
}
