//! Waiting longer and longer between failures, with jitter.

use std::time::Duration;

use crate::host::Entropy;

/// Doubles from `first`, or at once `max` if that is less, to `max`; each wait is between half and all of that.
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
        let first = first.min(max);
        Self { first, max, current: first }
    }

    /// The next wait.
    pub fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let wait = self.current;
        self.current = (self.current * 2).min(self.max);
        let percent = u32::try_from(50 + entropy.u64() % 51).expect("at most 100");
        wait * percent / 100
    }

    /// Back to the start, after a success.
    pub fn reset(&mut self) {
        self.current = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::os;

    /// With a sync interval of an hour, the first failure used to cost the better part of it.
    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let (entropy, second) = (os::host().entropy, Duration::from_secs(1));
        for first in [second, 7 * second, 3600 * second] {
            let mut backoff = Backoff::new(first, 60 * second);
            for _ in 0..10 {
                let wait = backoff.next(entropy.as_ref());
                assert!(
                    wait <= 60 * second && wait >= first.min(60 * second) / 2,
                    "{wait:?} after {first:?}"
                );
            }
        }
    }
}
