//! What the replicator says of the place, and what a restore gives: nothing, an error, the last state, any state.

use std::time::Duration;

use jiff::Timestamp;

use super::super::{Complaint, ensure};
use super::rig::{Rig, committed_throughout, last_line, pause, whole};
use crate::compare;
use crate::replica::Replica;
use crate::workload::History;

pub(super) fn absent(rig: &Rig) -> Result<(), Complaint> {
    let site = rig.site()?;
    let (output, finished) = rig.restore(&site, &[])?;
    ensure!(finished.code != Some(0), "restore of nothing succeeded: {}", last_line(&finished.output));
    ensure!(!output.exists(), "restore of nothing left a file");
    let (output, finished) = rig.restore(&site, &["-if-replica-exists"])?;
    ensure!(
        finished.code == Some(0),
        "restore -if-replica-exists of nothing failed: {}",
        last_line(&finished.output)
    );
    ensure!(!output.exists(), "restore -if-replica-exists of nothing left a file");
    Ok(())
}

pub(super) fn refused(rig: &Rig) -> Result<(), Complaint> {
    let (output, finished) = rig.restore(&rig.site_with_wrong_key()?, &["-if-replica-exists"])?;
    ensure!(finished.code != Some(0), "a refusal was taken for an empty replica");
    ensure!(!output.exists(), "a refused restore left a file");
    Ok(())
}

pub(super) fn doctor(rig: &Rig) -> Result<(), Complaint> {
    let finished = rig.doctor(&rig.site()?)?;
    ensure!(
        matches!(finished.code, Some(0 | 10)),
        "doctor ended with {:?}: {}",
        finished.code,
        last_line(&finished.output)
    );
    let finished = rig.doctor(&rig.site_with_wrong_key()?)?;
    ensure!(finished.code == Some(20), "with a wrong key doctor ended with {:?}", finished.code);
    Ok(())
}

pub(super) fn kill_and_restore(rig: &Rig) -> Result<(), Complaint> {
    let (site, mut history) = (rig.site()?, History::new());
    let mut app = rig.app("app", 1, &mut history)?;
    let daemon = app.replicate(&site, &[])?;
    app.work(20, &mut history)?;
    let held = app.seq();
    rig.wait_for_seq(&site, held)?;
    // In the middle of the load, with files on their way.
    app.work(30, &mut history)?;
    daemon.kill()?;
    rig.restored(&site, &[], &history, held)?;
    // While nobody watches.
    app.work(15, &mut history)?;
    let daemon = app.replicate(&site, &[])?;
    app.work(15, &mut history)?;
    app.end(daemon)?;
    rig.restored(&site, &[], &history, history.committed())?;
    committed_throughout(&*site.store, &history)
}

pub(super) fn endpoint_in_environment(rig: &Rig) -> Result<(), Complaint> {
    let (site, mut history) = (rig.site()?.endpoint_in_environment(), History::new());
    let mut app = rig.app("app", 1, &mut history)?;
    let daemon = app.replicate(&site, &[])?;
    app.work(5, &mut history)?;
    rig.wait_for_seq(&site, app.seq())?;
    app.end(daemon)?;
    rig.restored(&site, &[], &history, history.committed())?;
    Ok(())
}

pub(super) fn every_state(rig: &Rig) -> Result<(), Complaint> {
    let (site, mut history) = (rig.site()?, History::new());
    let mut app = rig.app("app", 1, &mut history)?;
    let daemon = app.replicate(&site, &[])?;
    for _ in 0..4 {
        app.work(4, &mut history)?;
        rig.wait_for_seq(&site, app.seq())?;
        // So that states have different times.
        pause(Duration::from_millis(120));
    }
    app.end(daemon)?;
    whole(&site)?;
    let replica = Replica::read(&*site.store)?;
    let states: Vec<_> = replica.restorable().collect();
    ensure!(states.len() >= 3, "only {} states can be restored", states.len());
    for &(txid, _) in [states.first(), states.get(states.len() / 2), states.last()].into_iter().flatten() {
        let (output, finished) = rig.restore(&site, &["-txid", &format!("{txid:016x}")])?;
        ensure!(finished.code == Some(0), "restore of {txid:016x} failed: {}", last_line(&finished.output));
        let image = replica.restore(txid)?;
        let found = std::fs::read(&output)?;
        compare::same_pages(image.page_size, &image.bytes, &found)
            .map_err(|difference| Complaint::new(format!("restore of {txid:016x}: {difference}")))?;
    }
    let (_, moment) = states[states.len() / 2];
    let time = Timestamp::from_millisecond(moment + 1).map_err(|error| Complaint::new(error.to_string()))?;
    let expected = replica
        .before(moment + 1)
        .ok_or_else(|| Complaint::new(format!("no state is from before {time}")))?;
    let (output, finished) = rig.restore(&site, &["-timestamp", &format!("{time:.3}")])?;
    ensure!(finished.code == Some(0), "restore to {time} failed: {}", last_line(&finished.output));
    let image = replica.restore(expected)?;
    compare::same_pages(image.page_size, &image.bytes, &std::fs::read(&output)?)
        .map_err(|difference| Complaint::new(format!("restore to {time}: {difference}")))
}

pub(super) fn multipart(rig: &Rig) -> Result<(), Complaint> {
    let (site, mut history) = (rig.site()?, History::new());
    let mut app = rig.app("app", 1, &mut history)?;
    // Three parts of the least size and a bit.
    app.fill(16, 1 << 20, &mut history)?;
    let daemon = app.replicate(&site, &[])?;
    rig.wait_for_seq(&site, app.seq())?;
    app.end(daemon)?;
    rig.restored(&site, &[], &history, history.committed())?;
    let report = whole(&site)?;
    let largest = report.levels.iter().map(|level| level.bytes).max().unwrap_or(0);
    ensure!(largest > 15 << 20, "the largest level has only {largest} bytes");
    Ok(())
}
