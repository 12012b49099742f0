//! The application is not harmed: no error but "busy", no wrong answer, a sound database, its files and locks left
//! alone, no step blocked beyond a bound, and the write lock never taken (unless the settings ask for checkpoints
//! that wait).

use crate::evidence::{Evidence, Violation};
use crate::plan::Happening;

pub const NAME: &str = "unharmed";

/// The longest that one step of the application may take: its busy timeout, and what its own pauses add.
const SLOWEST_STEP_MILLIS: u64 = 60_000;

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found: Vec<String> = evidence.ledger.complaints.clone();
    found.extend(evidence.history.anomalies());
    match &evidence.integrity {
        Ok(verdict) if verdict == "ok" => {}
        Ok(verdict) => found.push(format!("integrity_check: {verdict}")),
        Err(error) => found.push(format!("the database cannot be read at the end: {error}")),
    }
    found.extend(
        evidence.touched.iter().map(|path| format!("the replicator wrote or removed {}", path.display())),
    );
    let lost = evidence.lost_locks.iter();
    found.extend(lost.map(|path| format!("the replicator dropped SQLite's locks on {}", path.display())));
    if evidence.wrote && evidence.plan.settings().all(|settings| settings.truncate_pages == 0) {
        found.push("the replicator took the write lock, and writers had to wait".into());
    }
    if !evidence.app_stopped {
        found.push("the application's writers did not end in time when they were asked to".into());
    }
    let stopped = evidence.plan.faults.iter().map(|fault| match fault.what {
        Happening::Pause { app: true, millis } => u64::from(millis),
        _ => 0,
    });
    // A large transaction of an application that sleeps inside its own calls takes long without anybody's help.
    let own = if evidence.plan.app.pace.sleeps_per_mille > 0 { SLOWEST_STEP_MILLIS } else { 0 };
    if evidence.ledger.slowest_millis > SLOWEST_STEP_MILLIS.saturating_add(own).saturating_add(stopped.sum())
    {
        found.push(format!("one step took {} ms", evidence.ledger.slowest_millis));
    }
    // Nobody else ever holds a lock for long, and it waits for ten seconds.
    let is_alone = evidence.plan.app.writers == 1
        && evidence.plan.settings().all(|settings| settings.truncate_pages == 0)
        && evidence.plan.faults.is_empty();
    if is_alone && evidence.ledger.busy > 0 {
        found.push(format!("{} steps of a single writer met a lock", evidence.ledger.busy));
    }
    let promised = "replication never harms the application or its database";
    found
        .into_iter()
        .map(|happened| Violation { oracle: NAME, at_millis: 0, promised: promised.into(), happened })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::oracles::fixture;

    #[test]
    fn every_kind_of_harm_is_seen() {
        let (mut evidence, _) = fixture::evidence();
        assert_eq!(super::check(&evidence), []);
        evidence.ledger.complaints.push("disk image is malformed".into());
        evidence.integrity = Ok("row 3 missing from index i".into());
        evidence.touched.push("/data/app.db-wal".into());
        evidence.lost_locks.push("/data/app.db".into());
        evidence.app_stopped = false;
        evidence.ledger.slowest_millis = u64::MAX;
        evidence.wrote = true;
        evidence.plan.replicator.truncate_pages = 0;
        evidence.plan.faults.clear();
        assert_eq!(super::check(&evidence).len(), 7);
        evidence.plan.replicator.truncate_pages = 300;
        assert_eq!(super::check(&evidence).len(), 6, "these settings ask for it");
        evidence.plan.replicator.truncate_pages = 0;
        (evidence.ledger.busy, evidence.plan.app.writers) = (1, 2);
        assert_eq!(super::check(&evidence).len(), 7, "its own writers are in each other's way");
        evidence.plan.app.writers = 1;
        assert_eq!(super::check(&evidence).len(), 8);
    }
}
