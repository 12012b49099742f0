//! What came later to plans: company on the replica, decay, impatience, a WAL-index that is deleted, an old database, a
//! full disk, runs in a rush, a store that is away, a large database.
//!
//! Drawn under names of its own; the last three change what was drawn before.

use super::{Draw, Happening, Plan, Timed};
use crate::disk::{Call, Effect, Fault, Pace};

/// One plan in so many has a database that grows past 1 GiB.
const LARGE_ONE_IN: u64 = 4_000;

impl Draw<'_> {
    /// At most one of each kind.
    pub(super) fn company(&self, run_millis: u64) -> Vec<Timed> {
        let mut faults = Vec::new();
        let mut add = |at, what| faults.push(Timed { at_millis: self.below(at, run_millis), what });
        let millis = self.pick("company.millis", &[1_000, 3_000, 10_000]);
        if self.on("second.on", 10) {
            add("second.at", Happening::SecondReplicator { millis });
        }
        if self.on("twice.on", 8) {
            let old_ends = self.on("twice.old", 60);
            add(
                "twice.at",
                Happening::Twice { millis: self.pick("twice.millis", &[1_000, 200, 4_000]), old_ends },
            );
        }
        if self.on("decay.on", 12) {
            add("decay.at", Happening::Decay { millis });
        }
        if self.on("impatient.on", 12) {
            let patience_millis = self.pick("impatient.millis", &[300, 1_000, 3_000]);
            let down_millis = self.pick("impatient.down", &[1, 500, 3_000]);
            add("impatient.at", Happening::StopInOutage { patience_millis, down_millis });
        }
        if self.on("index.on", 6) {
            add("index.at", Happening::LoseWalIndex);
        }
        if self.on("old.on", 6) {
            let age_millis = self.pick("old.age", &[1_000, 200, 5_000]);
            add("old.at", Happening::OldDatabase { age_millis });
        }
        if self.on("full.on", 5) {
            let full = Fault {
                role: Some("replicator".into()),
                path_contains: "-litestream".into(),
                call: Call::Write,
                effect: Effect::NoSpace,
                skip: 0,
                times: u32::MAX,
            };
            add("full.at", Happening::Disk(full));
        }
        faults
    }

    /// The store is away for a while, often from the very beginning.
    pub(super) fn away(&self, plan: &mut Plan) {
        if !self.on("away.on", 6) {
            return;
        }
        let at_millis = self.pick("away.at", &[0, 0, 1_000, plan.run_millis / 2]);
        let millis = self.pick("away.millis", &[2_000, 12_000, 45_000]);
        plan.faults.push(Timed { at_millis, what: Happening::Outage { millis } });
        plan.faults.sort_by_key(|fault| fault.at_millis);
        plan.run_millis = plan.run_millis.max(at_millis + u64::from(millis) + 5_000);
    }

    /// A database that grows past the lock page. Seldom, because every copy of it takes a second; what copies the whole
    /// machine is left out.
    pub(super) fn large(&self, plan: &mut Plan) {
        if self.below("large.on", LARGE_ONE_IN) != LARGE_ONE_IN - 1 {
            return;
        }
        let app = &mut plan.app;
        (app.begins_large, app.page_size, app.value_bytes) = (true, 65_536, 40_000);
        (app.steps, app.autocheckpoint) = (app.steps.min(30), app.autocheckpoint.min(50));
        plan.replicator.snapshot_millis = plan.replicator.snapshot_millis.max(20_000);
        plan.crash_images = 0;
        plan.restores.truncate(1);
        plan.faults.retain(|fault| {
            use Happening as H;
            matches!(
                fault.what,
                H::KillReplicator { .. }
                    | H::StopReplicator { .. }
                    | H::KillApp { .. }
                    | H::PowerLoss { .. }
                    | H::Outage { .. }
                    | H::Disk(_)
                    | H::WipeLocalState { .. }
                    | H::LeaveWal { .. }
            )
        });
        plan.faults.truncate(2);
    }

    /// Writers that hardly pause, checkpoints and snapshots all the time, and a replicator that is often held up in
    /// the middle of a call: what needs two things in the same instant happens here.
    pub(super) fn rush(&self, plan: &mut Plan) {
        if !self.on("rush.on", 12) {
            return;
        }
        let app = &mut plan.app;
        (app.writers, app.steps) = (2 + self.below("rush.writers", 2) as u8, 120);
        app.think_millis = self.pick("rush.think", &[20, 5, 60]);
        app.value_bytes = app.value_bytes.min(3_000);
        app.autocheckpoint = self.pick("rush.autocheckpoint", &[5, 1, 20]);
        let replicator = &mut plan.replicator;
        (replicator.monitor_millis, replicator.sync_millis) = (100, 100);
        replicator.checkpoint_pages = self.pick("rush.checkpoint", &[10, 1, 50]);
        replicator.snapshot_millis = self.pick("rush.snapshot", &[5_000, 1_000, 500]);
        replicator.level_millis = self.pick("rush.level", &[1_000, 300]);
        replicator.pace = Pace {
            yields_per_mille: 300,
            sleeps_per_mille: self.pick("rush.sleeps", &[50, 200]),
            max_sleep_millis: self.pick("rush.sleep", &[50, 10, 200]),
        };
    }
}
