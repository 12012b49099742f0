//! Time: one simulated timeline, and per host a wall clock that may be wrong about it.
//!
//! Waiting is tokio's business (a paused runtime); this module only says what a clock on a wall would show.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use replicator::host::{Clock, UnixMillis};

/// Where the wall clocks start: 2026-01-05 00:00 UTC, a Monday.
pub const EPOCH_MILLIS: i64 = 1_767_571_200_000;

/// Simulated milliseconds since the start of the run.
#[derive(Clone)]
pub struct Timeline {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Manual(Arc<AtomicU64>),
    Tokio(tokio::time::Instant),
    Network,
}

impl Timeline {
    /// Time that passes only when [`Timeline::advance`] says so: for runs without a tokio runtime.
    #[must_use]
    pub fn manual() -> Self {
        Self { source: Source::Manual(Arc::default()) }
    }

    /// Time of the current (paused) tokio runtime, starting now.
    #[must_use]
    pub fn tokio() -> Self {
        Self { source: Source::Tokio(tokio::time::Instant::now()) }
    }

    /// Time of the simulated network that the calling host belongs to.
    #[must_use]
    pub fn network() -> Self {
        Self { source: Source::Network }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn millis(&self) -> u64 {
        match &self.source {
            Source::Manual(millis) => millis.load(Ordering::Relaxed),
            Source::Tokio(start) => u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            Source::Network => turmoil::sim_elapsed()
                .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Lets time pass on a manual timeline; a runtime's time passes by itself.
    pub fn advance(&self, millis: u64) {
        if let Source::Manual(now) = &self.source {
            now.fetch_add(millis, Ordering::Relaxed);
        }
    }
}

/// The wall clock of one host: true time, plus an offset, times a rate, or frozen.
pub struct WallClock {
    timeline: Timeline,
    /// Added to the reading, in milliseconds.
    offset_millis: AtomicI64,
    /// Parts per million by which this clock runs fast.
    drift_ppm: AtomicI64,
    /// Simulated millisecond at which it stopped, or -1.
    frozen_at: AtomicI64,
}

impl WallClock {
    /// A correct clock.
    #[must_use]
    pub fn new(timeline: Timeline) -> Arc<Self> {
        Arc::new(Self {
            timeline,
            offset_millis: AtomicI64::new(0),
            drift_ppm: AtomicI64::new(0),
            frozen_at: AtomicI64::new(-1),
        })
    }

    /// Moves the clock by `millis`, forward or back.
    pub fn jump(&self, millis: i64) {
        self.offset_millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// Makes the clock run fast (or slow, if negative) by `ppm` parts per million.
    pub fn drift(&self, ppm: i64) {
        self.drift_ppm.store(ppm, Ordering::Relaxed);
    }

    /// Stops the clock, or lets it continue from the true time.
    pub fn freeze(&self, frozen: bool) {
        let at = if frozen { i64::try_from(self.timeline.millis()).unwrap_or(i64::MAX) } else { -1 };
        self.frozen_at.store(at, Ordering::Relaxed);
    }

    /// Correct again: no offset, no drift, not frozen.
    pub fn heal(&self) {
        self.offset_millis.store(0, Ordering::Relaxed);
        self.drift(0);
        self.freeze(false);
    }
}

impl Clock for WallClock {
    fn now(&self) -> UnixMillis {
        let frozen = self.frozen_at.load(Ordering::Relaxed);
        let elapsed =
            if frozen >= 0 { frozen } else { i64::try_from(self.timeline.millis()).unwrap_or(i64::MAX) };
        let drift = elapsed.saturating_mul(self.drift_ppm.load(Ordering::Relaxed)) / 1_000_000;
        UnixMillis(EPOCH_MILLIS + elapsed + drift + self.offset_millis.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_jumps_drifts_freezes_and_heals() {
        let timeline = Timeline::manual();
        let clock = WallClock::new(timeline.clone());
        timeline.advance(1_000_000);
        assert_eq!(clock.now(), UnixMillis(EPOCH_MILLIS + 1_000_000));
        clock.jump(-3_600_000);
        clock.drift(100);
        assert_eq!(clock.now(), UnixMillis(EPOCH_MILLIS + 1_000_000 - 3_600_000 + 100));
        clock.freeze(true);
        timeline.advance(5_000);
        assert_eq!(clock.now(), UnixMillis(EPOCH_MILLIS + 1_000_000 - 3_600_000 + 100));
        clock.heal();
        assert_eq!(clock.now(), UnixMillis(EPOCH_MILLIS + 1_005_000));
    }
}
