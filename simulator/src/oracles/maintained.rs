//! Once nothing is written, maintenance has done its work, and the replicator says so: it is level and complains of
//! nothing, level 0 is merged, snapshots are as young as their interval asks, and the local state is small.
//!
//! The other side of `hygiene`, which judges only what an existing merge or snapshot makes superfluous: without any, it
//! would have nothing to say. Not asked where the replicator cannot know better: see there; nor where something was lost.

use replicator::bucket::KeyLayout;
use replicator::ltx::Txid;
use replicator::replica::{Level, LtxName};

use crate::evidence::{AtRest, Evidence, Violation};
use crate::plan::Happening;
use crate::store::Weather;

use super::hygiene;

pub const NAME: &str = "maintained";

/// Snapshots with an interval up to this, in milliseconds, are due before the quiet time ends.
const LONGEST_DUE_MILLIS: u32 = 60_000;

/// Local state may be larger than the database by so much.
const LOCAL_BYTES: u64 = 1 << 20;

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let clock_was_wrong = evidence.planned(|what| {
        matches!(
            what,
            Happening::ClockJump { .. } | Happening::ClockDrift { .. } | Happening::ClockFreeze { .. }
        )
    });
    if let Some(complaint) = evidence.at_rest.complaint.as_ref().filter(|_| !clock_was_wrong) {
        found.push(format!("when all is quiet, it says: {complaint}"));
    }
    if hygiene::is_asked(evidence) {
        found.extend(neglected(evidence));
    }
    let AtRest { local, database_bytes, .. } = &evidence.at_rest;
    let local_bytes: u64 = local.iter().map(|(len, _)| len).sum();
    // Merges wait for a clock that was ahead to catch up, and files for the merges (seed 90000431).
    if local_bytes > 2 * database_bytes + LOCAL_BYTES && !clock_was_wrong {
        let some = local.iter().take(3).map(|(len, path)| format!("{} ({len})", path.display()));
        let some = some.collect::<Vec<_>>().join(", ");
        let files = local.len();
        found.push(format!(
            "{local_bytes} bytes of local state in {files} files for {database_bytes} bytes of database: {some}"
        ));
    }
    let unfinished = evidence.at_rest.unfinished_uploads;
    let may_be_abandoned =
        evidence.plan.weather != Weather::default() || evidence.planned(|what| !what.leaves_requests_alone());
    if unfinished > 0 && !may_be_abandoned {
        found.push(format!("{unfinished} multipart uploads were begun and neither completed nor aborted"));
    }
    let violation = |happened| Violation {
        oracle: NAME,
        at_millis: evidence.at_rest.at_millis,
        promised: "when nothing is written, maintenance is done".into(),
        happened,
    };
    found.into_iter().map(violation).collect()
}

fn neglected(evidence: &Evidence) -> Vec<String> {
    let objects = &evidence.at_rest.objects;
    if objects.iter().any(|object| object.misread) {
        return Vec::new();
    }
    let names: Vec<LtxName> =
        objects.iter().filter_map(|object| LtxName::parse_key(KeyLayout::HexLevel, &object.key)).collect();
    let newest = names.iter().map(|name| name.max).max().unwrap_or_default();
    let is_merged = |file: &LtxName| {
        names.iter().any(|name| name.level != Level::L0 && name.min <= file.min && file.max <= name.max)
    };
    let unmerged =
        names.iter().filter(|name| name.level == Level::L0 && name.min > Txid(1) && !is_merged(name));
    let mut found: Vec<String> = unmerged.map(|name| format!("{name} was never merged")).collect();
    let settings = &evidence.settings;
    let is_due = settings.snapshot_millis <= LONGEST_DUE_MILLIS && newest > Txid(1);
    let is_there = names.iter().any(|name| name.level == Level::SNAPSHOT && name.max == newest);
    if is_due && !is_there {
        found.push(format!("no snapshot of transaction {newest}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracles::fixture::{self, objects};

    #[test]
    fn maintenance_that_stopped_is_seen() {
        let (mut evidence, _) = fixture::evidence();
        evidence.plan.faults.clear();
        evidence.plan.weather.late = 0;
        evidence.settings.snapshot_millis = 86_400_000;
        evidence.at_rest.objects = objects(&[(0, 1, 1), (1, 2, 5), (0, 5, 5)]);
        assert_eq!(check(&evidence), []);
        evidence.at_rest.objects.extend(objects(&[(0, 6, 6)]));
        assert_eq!(check(&evidence).len(), 1, "nobody merges it");
        evidence.settings.snapshot_millis = 1_000;
        assert_eq!(check(&evidence).len(), 2, "nor is there a snapshot");
        evidence.at_rest.objects = objects(&[(0, 1, 1), (1, 2, 6), (9, 1, 6)]);
        assert_eq!(check(&evidence), []);
        evidence.at_rest.complaint = Some("Failing".into());
        evidence.at_rest.local = vec![(1 << 30, "/data/large".into())];
        assert_eq!(check(&evidence).len(), 2);
        evidence.plan.weather = Weather::default();
        evidence.at_rest.unfinished_uploads = 1;
        assert_eq!(check(&evidence).len(), 3);
    }
}
