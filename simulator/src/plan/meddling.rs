//! What people and machines do to a running setup: settings, files, clocks, credentials, pauses.
//!
//! Drawn under names of its own, so that the faults drawn before these existed stay where they were.

use super::{Draw, Happening, Timed};

/// Kinds drawn here.
const KINDS: u64 = 12;

impl Draw<'_> {
    pub(super) fn meddling(&self, run_millis: u64) -> Vec<Timed> {
        let kinds: Vec<u64> = (0..KINDS).filter(|_| self.on("meddle.kind.on", 25)).collect();
        if kinds.is_empty() {
            return Vec::new();
        }
        self.times("meddle.at", run_millis, 3)
            .into_iter()
            .map(|at_millis| Timed { at_millis, what: self.meddle(self.pick("meddle.kind", &kinds)) })
            .collect()
    }

    fn meddle(&self, kind: u64) -> Happening {
        let down_millis = self.pick("meddle.down", &[1, 500, 4_000]);
        let age_millis = self.pick("meddle.age", &[1_000, 200, 10_000]);
        let millis = self.pick("meddle.millis", &[1_000, 5_000, 15_000]);
        match kind {
            0 => Happening::ClockDrift { ppm: self.pick("meddle.drift", &[200, -200, 50_000, -50_000]) },
            1 => Happening::ClockFreeze { millis },
            2 => Happening::Reconfigure { down_millis, settings: Box::new(self.other_settings()) },
            3 => Happening::Pause { app: false, millis },
            4 => Happening::Pause { app: true, millis },
            5 => Happening::LeaveWal {
                replicator_down: self.on("meddle.leave.down", 70),
                page_size: self.pick("meddle.page", &[4096, 1024, 2048, 16_384]),
            },
            6 => Happening::CopyOver,
            7 => Happening::OldLocalState { age_millis, down_millis },
            8 => Happening::OldMachine { age_millis },
            9 => Happening::HalfLocalState { down_millis },
            10 => Happening::RotLocalState,
            _ if self.on("meddle.credentials", 50) => Happening::ExpiredCredentials { millis },
            _ => Happening::StaleListings { millis, lag_millis: self.pick("meddle.lag", &[500, 3_000]) },
        }
    }

    fn other_settings(&self) -> super::ReplicatorPlan {
        super::ReplicatorPlan {
            monitor_millis: self.pick("again.monitor", &[1000, 100, 500]),
            sync_millis: self.pick("again.sync", &[1000, 100, 200]),
            checkpoint_pages: self.pick("again.checkpoint", &[1000, 10, 50, 200]),
            checkpoint_millis: self.pick("again.checkpoint.millis", &[60_000, 2_000, 10_000]),
            truncate_pages: self.pick("again.truncate", &[0, 0, 300]),
            snapshot_millis: self.pick("again.snapshot", &[86_400_000, 5_000, 20_000]),
            retention_millis: self.pick("again.retention", &[86_400_000, 10_000, 30_000]),
            level_millis: self.pick("again.level", &[10_000, 1_000, 5_000]),
            watch: self.on("again.watch", 70),
            slots: self.pick("again.slots", &[4, 1, 2]),
            batch_bytes: self.pick("again.batch", &[0, 20_000, 200_000]),
            pace: self.pace("again.pace"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{Happening, Plan};

    #[test]
    fn every_kind_is_drawn_and_time_is_in_order() {
        let plans: Vec<Plan> = (0..2_000).map(Plan::draw).collect();
        assert!(plans.iter().all(|plan| plan.faults.is_sorted_by_key(|fault| fault.at_millis)));
        let kinds: std::collections::BTreeSet<String> = plans
            .iter()
            .flat_map(|plan| &plan.faults)
            .map(|fault| format!("{:?}", fault.what).split([' ', '(']).next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(kinds.len(), 27, "{kinds:?}");
        let round_trip = |plan: &Plan| toml::from_str::<Plan>(&toml::to_string(plan).expect("plain data"));
        let reconfigured = plans.iter().find(|plan| plan.settings().count() > 1).expect("one in ten plans");
        assert_eq!(round_trip(reconfigured).as_ref(), Ok(reconfigured));
        assert!(plans.iter().any(|plan| plan.faults.iter().any(|f| f.what == Happening::CopyOver)));
    }
}
