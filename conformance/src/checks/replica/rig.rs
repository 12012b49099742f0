//! Applications, replicators and restores of one check, in a folder of its own, below the check's own prefix.
//!
//! Everything here ends with the check. Blocking: it waits for real processes in real time.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::super::work::Stop;
use super::super::{Complaint, ensure};
use crate::client::Client;
use crate::compare::{self, State};
use crate::process::{self, Finished, Process};
use crate::replica::{Replica, Report, Store};
use crate::site::Site;
use crate::witness::{Dialect, Replicator, Settings as Replication};
use crate::workload::{self, Action, History, Workload};

/// How long anything that should happen at once may take, on a busy machine and a slow store.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two transactions under load.
const PAUSE: Duration = Duration::from_millis(8);
/// Between two looks at the store.
const LOOK: Duration = Duration::from_millis(200);

/// What a check works with.
pub(super) struct Rig {
    pub(super) client: Client,
    pub(super) prefix: String,
    binary: PathBuf,
    folder: tempfile::TempDir,
    stop: Stop,
    /// How long it looks for what should happen.
    pub(super) patience: Duration,
}

impl From<std::io::Error> for Complaint {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<crate::Defect> for Complaint {
    fn from(defect: crate::Defect) -> Self {
        Self::new(defect.to_string())
    }
}

impl From<workload::Failure> for Complaint {
    fn from(failure: workload::Failure) -> Self {
        Self::new(format!("the application failed: {failure}"))
    }
}

impl Rig {
    pub(super) fn new(
        client: Client,
        prefix: String,
        binary: PathBuf,
        stop: Stop,
    ) -> Result<Self, Complaint> {
        Ok(Self { client, prefix, binary, folder: tempfile::tempdir()?, stop, patience: PATIENCE })
    }

    /// A place for a replica.
    pub(super) fn site(&self) -> Result<Site, Complaint> {
        Ok(Site::endpoint(&self.client, &format!("{}app", self.prefix))?)
    }

    /// The same place for somebody with the wrong secret key.
    pub(super) fn site_with_wrong_key(&self) -> Result<Site, Complaint> {
        let mut site = self.site()?;
        for (name, value) in &mut site.environment {
            if name == "AWS_SECRET_ACCESS_KEY" {
                value.push_str("-not");
            }
        }
        Ok(site)
    }

    /// An application on a new database; its commits are numbered from `first_seq` on.
    pub(super) fn app(&self, name: &str, first_seq: u64, history: &mut History) -> Result<App, Complaint> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder)?;
        let database = folder.join("app.db");
        let db = Connection::open(&database).map_err(workload::Failure::from)?;
        db.busy_timeout(PATIENCE).map_err(workload::Failure::from)?;
        let mut settings = workload::Settings::ordinary();
        // Nothing that takes the database away from under a replicator that is down: other suites do that.
        settings.weights.retain(|(action, _)| *action <= Action::Shrink);
        let workload = Workload::start(db, settings, first_seq, first_seq, history)?;
        let replicator = Replicator::new(self.binary.clone(), Dialect::V5, &folder);
        Ok(App { database, workload, replicator, folder, stop: self.stop.clone() })
    }

    /// Restores with further flags into a new file.
    pub(super) fn restore(&self, site: &Site, flags: &[&str]) -> Result<(PathBuf, Finished), Complaint> {
        self.stop.look()?;
        let folder = tempfile::tempdir_in(self.folder.path())?.keep();
        let replicator = Replicator::new(self.binary.clone(), Dialect::V5, &folder);
        let output = folder.join("restored.db");
        let finished = replicator.restore(site, &output, flags)?;
        Ok((output, finished))
    }

    /// What the replicator itself says of the place.
    pub(super) fn doctor(&self, site: &Site) -> Result<Finished, Complaint> {
        self.stop.look()?;
        Ok(Replicator::new(self.binary.clone(), Dialect::V5, self.folder.path()).doctor(site)?)
    }

    /// Restores, and judges what came out.
    pub(super) fn restored(
        &self,
        site: &Site,
        flags: &[&str],
        history: &History,
        at_least: u64,
    ) -> Result<State, Complaint> {
        let (output, finished) = self.restore(site, flags)?;
        ensure!(finished.code == Some(0), "restore {flags:?} failed: {}", last_line(&finished.output));
        let judged = compare::judge(&output, history, at_least);
        std::fs::remove_file(output)?;
        judged.map_err(|wrong| Complaint::new(format!("restore {flags:?}: {wrong}")))
    }

    /// Waits until the replica holds this state or a later one.
    pub(super) fn wait_for_seq(&self, site: &Site, seq: u64) -> Result<(), Complaint> {
        self.wait_until(&format!("state {seq} in the replica"), || {
            let replica = Replica::read(&*site.store)?;
            Ok(replica.newest_seq() >= Some(seq))
        })
    }

    /// Looks again and again, at a pace that a store can bear.
    pub(super) fn wait_until(
        &self,
        what: &str,
        mut holds: impl FnMut() -> Result<bool, Complaint>,
    ) -> Result<(), Complaint> {
        let mut last = None;
        let found = process::wait_for(what, self.patience, || {
            if let Err(ended) = self.stop.look() {
                return Some(Err(ended));
            }
            match holds() {
                Ok(true) => return Some(Ok(())),
                Ok(false) => last = None,
                // Files come and go while a replicator works; only what persists is a fault.
                Err(complaint) => last = Some(complaint),
            }
            pause(LOOK);
            None
        });
        match (found, last) {
            (Ok(result), _) => result,
            (Err(error), None) => Err(Complaint::late(error.to_string())),
            (Err(error), Some(complaint)) => Err(Complaint::new(format!("{error}: {}", complaint.0))),
        }
    }
}

/// An application and its replicator.
pub(super) struct App {
    pub(super) database: PathBuf,
    workload: Workload,
    replicator: Replicator,
    folder: PathBuf,
    stop: Stop,
}

impl App {
    /// Lets it work for a number of steps, at the pace of an application.
    pub(super) fn work(&mut self, steps: usize, history: &mut History) -> Result<(), Complaint> {
        for _ in 0..steps {
            self.workload.step(history)?;
            pause(PAUSE);
        }
        Ok(())
    }

    /// Fills rows of the workload's table with `count` blobs that do not compress.
    pub(super) fn fill(&mut self, count: i64, bytes: u64, history: &mut History) -> Result<(), Complaint> {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {count})
             INSERT INTO t0(id, name, number, body) SELECT i, 'large', i, randomblob({bytes}) FROM n"
        );
        Ok(self.workload.execute(history, &sql, "t0", 1..=count)?)
    }

    pub(super) fn seq(&self) -> u64 {
        self.workload.seq()
    }

    /// Starts replication, with further top-level lines of configuration.
    pub(super) fn replicate(&self, site: &Site, lines: &[&str]) -> Result<Process, Complaint> {
        self.stop.look()?;
        let mut settings = Replication::new(&self.database, site);
        settings.top_lines.extend(lines.iter().map(|line| (*line).to_owned()));
        Ok(self.replicator.replicate(&settings)?)
    }

    /// What the replicator printed in all its runs.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("replicate.log")).unwrap_or_default()
    }

    /// Asks the replicator to end; exit code 0 is its promise that the store holds everything.
    pub(super) fn end(&self, daemon: Process) -> Result<(), Complaint> {
        let status = daemon.terminate(PATIENCE)?;
        ensure!(status.success(), "replicate ended with {status}: {}", last_line(&self.log()));
        Ok(())
    }
}

/// The verdict of the independent decoders, which must be good.
pub(super) fn whole(site: &Site) -> Result<Report, Complaint> {
    whole_report(&Replica::read(&*site.store)?)
}

fn whole_report(replica: &Replica<'_>) -> Result<Report, Complaint> {
    let report = replica.report();
    ensure!(report.whole, "the replica is not whole: {:?}", report.problems.first());
    Ok(report)
}

/// The same, and every state in turn must be one that was committed: pages of somebody else between sound states are
/// gone from the newest one as soon as a full copy follows.
pub(super) fn committed_throughout(store: &dyn Store, history: &History) -> Result<(), Complaint> {
    let replica = Replica::read(store)?;
    whole_report(&replica)?;
    for (txid, image) in replica.images() {
        compare::judge_image(&image?.bytes, history, 0)
            .map_err(|wrong| Complaint::new(format!("state {txid:016x}: {wrong}")))?;
    }
    Ok(())
}

/// Files of a level.
pub(super) fn files(report: &Report, level: u8) -> usize {
    report.levels.iter().find(|found| found.level == level).map_or(0, |found| found.files)
}

#[expect(clippy::disallowed_methods, reason = "real processes are waited for in real time")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

pub(super) fn last_line(output: &str) -> &str {
    output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed nothing")
}

#[cfg(test)]
mod tests;
