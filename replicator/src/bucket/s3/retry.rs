//! When to try again. Pure but for the random pause.
//!
//! The SDK's own retries are off: they know neither a body that makes progress nor a PUT whose outcome is unknown,
//! and their token bucket is shared by the whole process, so that an outage of one store would starve the others
//! long after it ended. This budget belongs to one operation and is refilled by progress.

use std::time::Duration;

use tokio::time::Instant;

use super::super::settings::RetrySettings;
use crate::host::Entropy;

/// How much failing an operation may still do.
pub(super) struct Budget {
    settings: RetrySettings,
    /// Failures since the last progress.
    failures: u32,
    /// When the first of them happened. Not when the operation began: a long transfer is no failure, and one that
    /// breaks late deserves as many attempts as one that breaks early.
    since: Option<Instant>,
}

impl Budget {
    pub(super) fn new(settings: RetrySettings) -> Self {
        Self { settings, failures: 0, since: None }
    }

    /// Something was achieved; failures before it no longer count.
    pub(super) fn refill(&mut self) {
        self.failures = 0;
        self.since = None;
    }

    /// Counts a failure. `Some(pause)` if another attempt is due after that long.
    pub(super) fn fail(&mut self, entropy: &dyn Entropy, retry_after: Option<Duration>) -> Option<Duration> {
        self.failures += 1;
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.failures >= self.settings.attempts || since.elapsed() >= self.settings.patience {
            return None;
        }
        let pause = pause(&self.settings, self.failures, entropy.u64());
        Some(retry_after.map_or(pause, |asked| pause.max(asked.min(self.settings.longest_pause))))
    }
}

/// A pause drawn evenly from nothing to a bound that doubles with each failure.
fn pause(settings: &RetrySettings, failures: u32, random: u64) -> Duration {
    let doublings = 1u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
    let bound = settings.first_pause.saturating_mul(doublings).min(settings.longest_pause);
    let part = u128::from(random) * bound.as_micros() / u128::from(u64::MAX);
    Duration::from_micros(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Entropy for Fixed {
        fn fill(&self, buffer: &mut [u8]) {
            for (to, from) in buffer.iter_mut().zip(self.0.to_le_bytes().iter().cycle()) {
                *to = *from;
            }
        }
    }

    const SETTINGS: RetrySettings = RetrySettings {
        attempts: 5,
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_millis(350),
        patience: Duration::from_secs(60),
    };

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_bound_and_attempts_end() {
        let mut budget = Budget::new(SETTINGS);
        let pauses: Vec<_> =
            std::iter::from_fn(|| budget.fail(&Fixed(u64::MAX), None)).map(|p| p.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 350, 350]);
        let mut budget = Budget::new(SETTINGS);
        assert_eq!(budget.fail(&Fixed(0), None), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn progress_refills() {
        let mut budget = Budget::new(SETTINGS);
        for _ in 0..100 {
            assert!(budget.fail(&Fixed(1), None).is_some());
            budget.refill();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured_within_the_bound() {
        let mut budget = Budget::new(SETTINGS);
        let asked = |ms| Some(Duration::from_millis(ms));
        assert_eq!(budget.fail(&Fixed(0), asked(300)), asked(300));
        assert_eq!(budget.fail(&Fixed(0), asked(3_600_000)), asked(350));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_begins_with_the_first_failure_and_ends() {
        let mut budget = Budget::new(SETTINGS);
        // The first attempt moved bytes all the time.
        tokio::time::advance(Duration::from_secs(600)).await;
        for _ in 0..2 {
            assert!(budget.fail(&Fixed(0), None).is_some());
            tokio::time::advance(Duration::from_secs(59)).await;
            assert!(budget.fail(&Fixed(0), None).is_some());
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(budget.fail(&Fixed(0), None).is_none());
            budget.refill();
        }
    }
}
