//! From a failing plan to a small one that breaks the same promise.
//!
//! Because every choice depends on its name and not on what was drawn before, taking one thing out of a plan leaves
//! the rest of the run alone, so plain deletion works in every dimension: faults, restores, kinds of steps, sizes,
//! settings, time, and whole groups of choices (pauses, latencies, the details of a crash).

use crate::disk::{Hardware, Pace, Persistence};
use crate::plan::{Happening, Plan};
use crate::store::Weather;

/// What shrinking came to.
pub struct Shrunk {
    /// The smallest plan found.
    pub plan: Plan,
    /// Runs made.
    pub runs: u64,
    /// Simplifications that kept the failure.
    pub accepted: u64,
}

/// Shrinks `plan` as long as `fails` says that it still breaks the same promise and `go_on` allows another run.
pub fn shrink(plan: &Plan, mut fails: impl FnMut(&Plan) -> bool, mut go_on: impl FnMut() -> bool) -> Shrunk {
    let mut best = Shrunk { plan: plan.clone(), runs: 0, accepted: 0 };
    loop {
        let before = best.accepted;
        let mut index = 0;
        // Candidates are made anew after each success, from the smaller plan.
        while let Some(candidate) = candidate(&best.plan, index) {
            index += 1;
            if candidate == best.plan {
                continue;
            }
            if !go_on() {
                return best;
            }
            best.runs += 1;
            if fails(&candidate) {
                best.accepted += 1;
                best.plan = candidate;
                index = index.saturating_sub(1);
            }
        }
        if best.accepted == before {
            return best;
        }
    }
}

type Edit = Box<dyn Fn(&mut Plan)>;

fn candidate(plan: &Plan, index: usize) -> Option<Plan> {
    let mut edits = coarse(plan);
    edits.extend(single_events(plan));
    edits.extend(settings());
    edits.extend(numbers(plan));
    let edit = edits.into_iter().nth(index)?;
    let mut smaller = plan.clone();
    edit(&mut smaller);
    Some(smaller)
}

/// Whole dimensions at once.
fn coarse(_plan: &Plan) -> Vec<Edit> {
    let mute = |prefix: &'static str| -> Edit {
        Box::new(move |plan| {
            if !plan.muted.iter().any(|muted| muted == prefix) {
                plan.muted.push(prefix.into());
            }
        })
    };
    vec![
        Box::new(|plan| plan.faults.clear()),
        Box::new(|plan| plan.restores.clear()),
        Box::new(|plan| plan.weather = Weather::default()),
        Box::new(|plan| plan.crash_images = 0),
        Box::new(|plan| {
            let half = plan.faults.len() / 2;
            plan.faults.truncate(half);
        }),
        Box::new(|plan| {
            let half = plan.faults.len() / 2;
            plan.faults.drain(..half);
        }),
        mute("store.latency"),
        mute("pause"),
        mute("crash."),
        mute("app.think"),
    ]
}

/// Faults and restores, one by one.
fn single_events(plan: &Plan) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    for n in 0..plan.faults.len() {
        edits.push(Box::new(move |plan| {
            plan.faults.remove(n);
        }));
    }
    for n in 0..plan.restores.len() {
        edits.push(Box::new(move |plan| {
            plan.restores.remove(n);
        }));
    }
    for n in 1..plan.app.weights.len() {
        edits.push(Box::new(move |plan| plan.app.weights[n] = 0));
    }
    edits
}

/// Settings back to their plain values.
fn settings() -> Vec<Edit> {
    vec![
        Box::new(|plan| plan.weather.refused = 0),
        Box::new(|plan| plan.weather.unanswered = 0),
        Box::new(|plan| plan.weather.late = 0),
        Box::new(|plan| plan.weather.slow = 0),
        Box::new(|plan| plan.weather.cut = 0),
        Box::new(|plan| plan.weather.flipped = 0),
        Box::new(|plan| plan.weather.undeleted = 0),
        Box::new(|plan| plan.app.writers = 1),
        Box::new(|plan| plan.app.pace = Pace::default()),
        Box::new(|plan| plan.replicator.pace = Pace::default()),
        Box::new(|plan| plan.app.page_size = 4096),
        Box::new(|plan| plan.app.auto_vacuum = false),
        Box::new(|plan| plan.app.full_sync = true),
        Box::new(|plan| plan.app.autocheckpoint = 1000),
        Box::new(|plan| plan.app.value_bytes = 100),
        Box::new(|plan| plan.replicator.watch = false),
        Box::new(|plan| plan.replicator.slots = 4),
        Box::new(|plan| plan.replicator.batch_bytes = 0),
        Box::new(|plan| plan.replicator.truncate_pages = 0),
        Box::new(|plan| plan.replicator.checkpoint_pages = 1000),
        Box::new(|plan| plan.replicator.checkpoint_millis = 60_000),
        Box::new(|plan| plan.replicator.snapshot_millis = 86_400_000),
        Box::new(|plan| plan.replicator.retention_millis = 86_400_000),
        Box::new(|plan| plan.replicator.level_millis = 30_000),
        Box::new(|plan| plan.replicator.monitor_millis = 1000),
        Box::new(|plan| plan.replicator.sync_millis = 1000),
        Box::new(|plan| {
            plan.hardware =
                Hardware { sector: 4096, powersafe_overwrite: true, persistence: Persistence::Prefix };
        }),
    ]
}

/// Numbers, by halves.
fn numbers(plan: &Plan) -> Vec<Edit> {
    let mut edits: Vec<Edit> = vec![
        Box::new(|plan| plan.run_millis = (plan.run_millis / 2).max(1)),
        Box::new(|plan| plan.run_millis = (plan.run_millis * 9 / 10).max(1)),
        Box::new(|plan| plan.app.steps = (plan.app.steps / 2).max(1)),
        Box::new(|plan| plan.app.steps = plan.app.steps.saturating_sub(1).max(1)),
        Box::new(|plan| plan.app.think_millis /= 2),
    ];
    for n in 0..plan.faults.len() {
        edits.push(Box::new(move |plan| halve(&mut plan.faults[n].what)));
        edits.push(Box::new(move |plan| plan.faults[n].at_millis = plan.faults[n].at_millis * 9 / 10));
    }
    edits
}

fn halve(what: &mut Happening) {
    match what {
        Happening::KillReplicator { after_calls, down_millis }
        | Happening::KillApp { after_calls, down_millis } => {
            *after_calls = (*after_calls / 2).max(1);
            *down_millis /= 2;
        }
        Happening::StopReplicator { down_millis }
        | Happening::PowerLoss { down_millis }
        | Happening::WipeLocalState { down_millis } => *down_millis /= 2,
        Happening::HalfLocalState { down_millis } | Happening::Reconfigure { down_millis, .. } => {
            *down_millis /= 2;
        }
        Happening::OldLocalState { age_millis, down_millis } => {
            *age_millis /= 2;
            *down_millis /= 2;
        }
        Happening::StopInOutage { patience_millis, down_millis } => {
            *patience_millis /= 2;
            *down_millis /= 2;
        }
        Happening::OldMachine { age_millis } | Happening::OldDatabase { age_millis } => *age_millis /= 2,
        Happening::Outage { millis }
        | Happening::Pause { millis, .. }
        | Happening::ClockFreeze { millis }
        | Happening::SecondReplicator { millis }
        | Happening::Twice { millis, .. }
        | Happening::Decay { millis }
        | Happening::ExpiredCredentials { millis } => *millis /= 2,
        Happening::StaleListings { millis, lag_millis } => {
            *millis /= 2;
            *lag_millis /= 2;
        }
        Happening::ClockJump { millis } => *millis /= 2,
        Happening::ClockDrift { ppm } => *ppm /= 2,
        Happening::Disk(fault) => {
            fault.skip /= 2;
            fault.times = (fault.times / 2).max(1);
        }
        Happening::LeaveWal { page_size, .. } => *page_size = 4096,
        Happening::ReplaceDatabase
        | Happening::CopyOver
        | Happening::LoseWalIndex
        | Happening::RotLocalState => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let seed = (0..).find(|seed| {
            let plan = Plan::draw(*seed);
            plan.faults.iter().any(|f| matches!(f.what, Happening::PowerLoss { .. })) && plan.faults.len() > 3
        });
        let plan = Plan::draw(seed.expect("one in a few seeds"));
        let fails = |plan: &Plan| {
            plan.app.steps >= 3 && plan.faults.iter().any(|f| matches!(f.what, Happening::PowerLoss { .. }))
        };
        let shrunk = shrink(&plan, fails, || true);
        assert_eq!(shrunk.plan.faults.len(), 1);
        assert_eq!(shrunk.plan.app.steps, 3);
        assert_eq!((shrunk.plan.restores.len(), shrunk.plan.app.writers), (0, 1));
        assert_eq!(shrunk.plan.weather, Weather::default());
        assert!(shrunk.plan.app.weights[1..].iter().all(|weight| *weight == 0));
    }
}
