//! What a run did and found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Milliseconds since the start of the run.
    pub at_ms: u64,
    /// The promise: `prefix`, `fresh`, `restorable`, `monotone`, `source`, `honest exit`, `whole`, `running`.
    pub promise: &'static str,
    /// What was seen instead.
    pub what: String,
}

/// How often an event happened, and how long it took at most, its own pauses included.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Times {
    /// How often.
    pub count: u64,
    /// The longest, in milliseconds.
    pub longest_ms: u64,
}

impl Times {
    pub(super) fn add(&mut self, took_ms: u64) {
        self.count += 1;
        self.longest_ms = self.longest_ms.max(took_ms);
    }
}

/// The result of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The replicator.
    pub binary: String,
    /// Seed of all choices. Processes are not repeatable, so the same seed gives a similar run, not the same.
    pub seed: u64,
    /// Length of the run in milliseconds.
    pub run_ms: u64,
    /// Transactions the application committed.
    pub commits: u64,
    /// The events.
    pub events: BTreeMap<&'static str, Times>,
    /// Restores that were judged.
    pub restores: u64,
    /// Times the replica caught up with a quiet application.
    pub quiets: u64,
    /// Longest time it took for that, in milliseconds.
    pub slowest_quiet_ms: u64,
    /// States in the final replica, each judged.
    pub states: u64,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// Where the evidence is, if something was.
    pub evidence: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, seed {}, {:.1} s", self.binary, self.seed, self.run_ms as f64 / 1000.0)?;
        let event =
            |(name, times): (&&str, &Times)| format!("{} {name} (≤ {} ms)", times.count, times.longest_ms);
        let events: Vec<_> = self.events.iter().map(event).collect();
        writeln!(f, "events: {}", events.join(", "))?;
        writeln!(
            f,
            "{} commits, {} restores judged, caught up {} times (slowest {} ms), {} states in the final replica",
            self.commits, self.restores, self.quiets, self.slowest_quiet_ms, self.states
        )?;
        for Violation { at_ms, promise, what } in &self.violations {
            writeln!(f, "VIOLATION after {:.1} s of \"{promise}\": {what}", *at_ms as f64 / 1000.0)?;
        }
        match &self.evidence {
            Some(folder) => writeln!(f, "evidence: {folder}"),
            None => writeln!(f, "no promise was broken"),
        }
    }
}
