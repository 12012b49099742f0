//! The ceiling on what a run may cost, for buckets that somebody pays for.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ClientError;

/// Counts requests and bytes against a ceiling.
#[derive(Debug)]
pub struct Budget {
    max_requests: u64,
    max_bytes: u64,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// What was used of a [`Budget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Spent {
    /// Requests sent.
    pub requests: u64,
    /// Bytes of bodies, both ways.
    pub bytes: u64,
}

impl Budget {
    /// A budget of so many requests and bytes.
    #[must_use]
    pub fn new(max_requests: u64, max_bytes: u64) -> Self {
        Self { max_requests, max_bytes, requests: AtomicU64::new(0), bytes: AtomicU64::new(0) }
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
        Spent { requests: self.requests.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
