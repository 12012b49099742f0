//! What every part of one simulated run shares: its choices, its log, its timeline.

use crate::choices::Choices;
use crate::clock::Timeline;
use crate::events::{Log, Mark};

/// Shared by all parts of a run; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Every decision.
    pub choices: Choices,
    /// Everything that happened.
    pub log: Log,
    /// When.
    pub timeline: Timeline,
}

impl Context {
    /// A run of `seed` on `timeline`.
    #[must_use]
    pub fn new(seed: u64, timeline: Timeline) -> Self {
        Self { choices: Choices::new(seed), log: Log::default(), timeline }
    }

    /// Adds a readable event, now.
    pub fn event(&self, lane: &'static str, mark: Mark, text: impl Into<String>) {
        self.log.event(self.timeline.millis(), lane, mark, text);
    }
}

/// Held for the length of a run: SQLite's random generator and allocator are one per operating-system process, so two
/// runs at the same time would not be deterministic.
pub struct Exclusive(#[expect(dead_code, reason = "held, not used")] std::sync::MutexGuard<'static, ()>);

/// Waits for its turn.
#[must_use]
pub fn exclusive() -> Exclusive {
    static WORLD: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A run that panicked leaves nothing behind that the next one reads.
    Exclusive(WORLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}
