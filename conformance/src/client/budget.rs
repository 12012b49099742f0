//! The ceiling on what a run may cost, for buckets that somebody pays for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ClientError;

/// Most time spent in pauses before repetitions, all requests of a run together: an endpoint that refuses for good is
/// not waited for at every check.
const MAX_WAITED: Duration = Duration::from_secs(15 * 60);

/// Counts requests and bytes against a ceiling.
#[derive(Debug)]
pub struct Budget {
    max_requests: u64,
    max_bytes: u64,
    requests: AtomicU64,
    bytes: AtomicU64,
    repeated: AtomicU64,
    waited_millis: AtomicU64,
}

/// What was used of a [`Budget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Spent {
    /// Requests sent.
    pub requests: u64,
    /// Bytes of bodies, both ways.
    pub bytes: u64,
    /// Of the requests, those that repeat a refused one.
    pub repeated: u64,
    /// Time spent in pauses before these; requests at once add up.
    pub waited: Duration,
}

impl Budget {
    /// A budget of so many requests and bytes.
    #[must_use]
    pub fn new(max_requests: u64, max_bytes: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            max_requests,
            max_bytes,
            requests: zero(),
            bytes: zero(),
            repeated: zero(),
            waited_millis: zero(),
        }
    }

    /// Takes one repetition; gives its pause, made from its number, or nothing if enough was waited.
    pub(super) fn repetition(&self, pause: impl FnOnce(u64) -> Duration) -> Option<Duration> {
        if self.spent().waited >= MAX_WAITED {
            return None;
        }
        let pause = pause(self.repeated.fetch_add(1, Ordering::Relaxed));
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.waited_millis.fetch_add(millis, Ordering::Relaxed);
        Some(pause)
    }

    /// Takes one request with a body of this size, before it is sent.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), ClientError> {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.max_requests {
            return Err(ClientError::Ceiling(format!("{} requests", self.max_requests)));
        }
        self.charge_answer(bytes)
    }

    /// Takes the bytes of an answer.
    pub(super) fn charge_answer(&self, bytes: u64) -> Result<(), ClientError> {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.max_bytes {
            return Err(ClientError::Ceiling(format!("{} bytes", self.max_bytes)));
        }
        Ok(())
    }

    /// What was used.
    #[must_use]
    pub fn spent(&self) -> Spent {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Spent {
            requests: read(&self.requests),
            bytes: read(&self.bytes),
            repeated: read(&self.repeated),
            waited: Duration::from_millis(read(&self.waited_millis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_only_so_long_in_all() {
        let budget = Budget::new(0, 0);
        let long = MAX_WAITED / 2 + Duration::from_secs(1);
        assert_eq!(budget.repetition(|nth| long + Duration::from_secs(nth)), Some(long));
        assert_eq!(
            budget.repetition(|nth| long + Duration::from_secs(nth)),
            Some(long + Duration::from_secs(1))
        );
        assert_eq!(budget.repetition(|_| long), None);
        assert_eq!(budget.spent().repeated, 2);
    }

    #[test]
    fn stops_at_the_ceiling() {
        let budget = Budget::new(2, 10);
        budget.charge(4).unwrap();
        budget.charge_answer(6).unwrap();
        assert!(budget.charge_answer(1).unwrap_err().to_string().contains("10 bytes"));
        let budget = Budget::new(1, 10);
        budget.charge(0).unwrap();
        assert!(budget.charge(0).unwrap_err().to_string().contains("1 requests"));
    }
}
