//! Levels, snapshots and retention, in fractions of a second instead of hours.

use super::super::{Complaint, ensure};
use super::rig::{App, Rig, committed_throughout, files, whole};
use crate::replica::Replica;
use crate::site::Site;
use crate::workload::History;

/// Everything is due all the time.
const SHORT: [&str; 4] = [
    "levels: [{interval: 500ms}, {interval: 1500ms}]",
    "snapshot: {interval: 1s, retention: 1500ms}",
    "l0-retention: 500ms",
    "l0-retention-check-interval: 300ms",
];

/// Lets the application work until the replica is as wanted.
fn work_until(
    rig: &Rig,
    what: &str,
    app: &mut App,
    site: &Site,
    history: &mut History,
    mut wanted: impl FnMut(&Replica<'_>) -> bool,
) -> Result<(), Complaint> {
    rig.wait_until(what, || {
        app.work(4, history)?;
        Ok(wanted(&Replica::read(&*site.store)?))
    })
}

pub(super) fn compaction(rig: &Rig) -> Result<(), Complaint> {
    let (site, mut history) = (rig.site()?, History::new());
    let mut app = rig.app("app", 1, &mut history)?;
    // Without deletions, so that what is merged and what it was merged from are there to be compared.
    let daemon = app.replicate(&site, &[SHORT[0], "retention: {enabled: false}", SHORT[2], SHORT[3]])?;
    work_until(rig, "files of levels 1 and 2", &mut app, &site, &mut history, |replica| {
        let report = replica.report();
        files(&report, 1) >= 3 && files(&report, 2) >= 1
    })?;
    app.end(daemon)?;
    // The report compares every merged file with the finest ones that lead to the same state.
    committed_throughout(&*site.store, &history)?;
    rig.restored(&site, &[], &history, history.committed()).map(drop)
}

pub(super) fn retention(rig: &Rig) -> Result<(), Complaint> {
    let (site, mut history) = (rig.site()?, History::new());
    let mut app = rig.app("app", 1, &mut history)?;
    let daemon = app.replicate(&site, &SHORT)?;
    let mut most = 0;
    work_until(rig, "fewer snapshots and files than before", &mut app, &site, &mut history, |replica| {
        let oldest = replica.entries().iter().map(|entry| entry.header.max_txid).min().unwrap_or(0);
        let snapshots = files(&replica.report(), 9);
        most = most.max(snapshots);
        most >= 2 && oldest > 2 && replica.entries().iter().all(|entry| entry.object.key != first_file())
    })?;
    app.end(daemon)?;
    let report = whole(&site)?;
    ensure!(files(&report, 9) >= 1, "no snapshot is left");
    rig.restored(&site, &[], &history, history.committed()).map(drop)
}

/// What begins every replica.
fn first_file() -> String {
    format!("0000/{:016x}-{:016x}.ltx", 1, 1)
}
