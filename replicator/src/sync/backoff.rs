//! Waiting longer and longer between failures, with jitter.

use std::time::Duration;

use crate::host::Entropy;

/// Doubles from `first` to `max`; each wait is between half and all of that.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    current: Duration,
}

impl Backoff {
    /// Starts at `first`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, current: first }
    }

    /// The next wait.
    pub fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let wait = self.current;
        self.current = (self.current * 2).min(self.max);
        let percent = u32::try_from(50 + entropy.u64() % 51).expect("at most 100");
        wait * percent / 100
    }

    /// Whether nothing has failed since the last success.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.current == self.first
    }

    /// Back to the start, after a success.
    pub fn reset(&mut self) {
        self.current = self.first;
    }
}
