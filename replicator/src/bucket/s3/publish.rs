//! Making an object appear exactly once, or not at all.
//!
//! A store's conditional PUT is believed only after it was *seen to refuse* an existing key in this bucket; some
//! stores accept the condition and ignore it. Until then, and where the condition is refused, the key is looked up
//! before it is written. When an attempt ends without a clear answer, the object is read back and compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures::future::BoxFuture;

use super::super::PutOutcome;
use super::super::observer::Verb;
use super::client::{Client, Request, Tried};
use super::failure::Failure;
use super::read::{self, Digest};
use super::retry::Budget;
use crate::error::Result;

/// Objects up to this size are written a second time, with the condition, to see it refused.
const PROBE_LIMIT: u64 = 1 << 20;

/// What is known about a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Belief {
    /// Never seen at work.
    Unknown,
    /// Seen to refuse an existing key.
    Holds,
    /// Refused as unknown, or seen to be ignored.
    Useless,
}

/// What is known about `If-None-Match: *`, for single PUTs and for the end of a multipart upload.
#[derive(Debug, Default)]
pub(super) struct Trust {
    put: AtomicU8,
    complete: AtomicU8,
}

/// How an object is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One request, which may be sent again.
    Put,
    /// The end of a multipart upload, which happens once.
    Complete,
}

impl Trust {
    fn cell(&self, way: Way) -> &AtomicU8 {
        match way {
            Way::Put => &self.put,
            Way::Complete => &self.complete,
        }
    }

    fn get(&self, way: Way) -> Belief {
        match self.cell(way).load(Ordering::Relaxed) {
            0 => Belief::Unknown,
            1 => Belief::Holds,
            _ => Belief::Useless,
        }
    }

    fn set(&self, way: Way, belief: Belief) {
        self.cell(way).store(belief as u8, Ordering::Relaxed);
    }

    /// Whether a conditional PUT is known to be atomic.
    pub(super) fn holds(&self) -> bool {
        self.get(Way::Put) == Belief::Holds
    }
}

/// An object about to be published.
pub(super) struct Publication<'a> {
    pub client: &'a Arc<Client>,
    pub request: Request,
    pub digest: Digest,
    pub way: Way,
    /// Sends it; the argument says whether with the condition.
    pub send: &'a (dyn Fn(bool) -> BoxFuture<'a, Result<(), Failure>> + Send + Sync),
}

impl Publication<'_> {
    /// Replaces whatever is there. Repeating is harmless, the bytes are the same.
    pub(super) async fn overwrite(&self) -> Result<PutOutcome> {
        let mut attempts = Attempts::new(self.client);
        loop {
            let Err(failure) = (self.send)(false).await else { return Ok(PutOutcome::Written) };
            if let Some(outcome) = self.after(failure, &mut attempts).await? {
                return Ok(outcome);
            }
        }
    }

    /// Creates the object unless its key is taken.
    pub(super) async fn create(&self) -> Result<PutOutcome> {
        let mut attempts = Attempts::new(self.client);
        let mut must_look = self.way == Way::Complete || self.trust() != Belief::Holds;
        // Whether the condition may be what the last attempt was refused for: the next one goes without.
        let mut refused = false;
        loop {
            if must_look && let Some(outcome) = self.read_back().await? {
                return Ok(attempts.meaning(outcome));
            }
            let without = std::mem::take(&mut refused);
            let conditional = !without && self.trust() != Belief::Useless;
            let mut failure = match (self.send)(conditional).await {
                Ok(()) => {
                    if conditional {
                        self.probe().await;
                    } else if without {
                        self.distrust();
                    }
                    return Ok(PutOutcome::Written);
                }
                Err(failure) => failure,
            };
            if conditional && failure.is_precondition_failed() {
                // Seen to refuse, if the object really is there.
                if let Some(outcome) = self.read_back().await? {
                    self.client.trust.set(self.way, Belief::Holds);
                    return Ok(attempts.meaning(outcome));
                }
                // It was there and is gone, or reads lag behind: ask again, within the budget.
                failure = Failure::bad_answer("the key was reported as taken, but nothing is there");
            } else if conditional && self.trust() == Belief::Unknown && failure.may_refuse_header() {
                refused = true;
                continue;
            }
            must_look |= failure.is_ambiguous();
            if let Some(outcome) = self.after(failure, &mut attempts).await? {
                return Ok(outcome);
            }
        }
    }

    /// After a failed attempt: waits until another is due (`None`), or finds out what became of the object.
    async fn after(&self, failure: Failure, attempts: &mut Attempts) -> Result<Option<PutOutcome>> {
        attempts.perhaps_applied |= failure.is_ambiguous();
        let recovered =
            self.client.recover(&self.request, failure, &mut attempts.budget, &mut attempts.tried).await;
        let Err(failure) = recovered else { return Ok(None) };
        let error = self.client.error(&self.request, &failure);
        if attempts.perhaps_applied && planted!("no-answer-is-success") {
            return Ok(Some(PutOutcome::Written));
        }
        if !attempts.perhaps_applied {
            return Err(error);
        }
        match self.read_back().await {
            Ok(Some(outcome)) => Ok(Some(attempts.meaning(outcome))),
            Ok(None) => Err(error),
            Err(_) => Err(error.context("it is unknown whether the object was written")),
        }
    }

    fn trust(&self) -> Belief {
        self.client.trust.get(self.way)
    }

    /// Notes that the object was taken without the condition right after it was refused with it. That alone tells a
    /// refused condition from a request that would have been refused anyway.
    fn distrust(&self) {
        if self.trust() == Belief::Unknown {
            tracing::debug!(bucket = self.client.bucket, "If-None-Match is refused, looking before writing");
            self.client.trust.set(self.way, Belief::Useless);
        }
    }

    /// Compares what is under the key, if anything, with what was sent.
    async fn read_back(&self) -> Result<Option<PutOutcome>> {
        read::compare(self.client, &self.request.key, &self.digest).await
    }

    /// Writes the same bytes once more, with the condition: a store that honours it must refuse. Harmless where it
    /// is ignored. Done once per bucket.
    async fn probe(&self) {
        if self.way != Way::Put || self.trust() != Belief::Unknown || self.digest.size > PROBE_LIMIT {
            return;
        }
        match (self.send)(true).await {
            Ok(()) => {
                tracing::debug!(
                    bucket = self.client.bucket,
                    "the store ignores If-None-Match, looking before writing"
                );
                self.client.trust.set(self.way, Belief::Useless);
            }
            Err(failure) if failure.is_precondition_failed() => {
                self.client.trust.set(self.way, Belief::Holds);
            }
            // Nothing learned; the next new object asks again.
            Err(_) => {}
        }
    }
}

/// What has been tried so far.
struct Attempts {
    budget: Budget,
    tried: Tried,
    /// An earlier attempt may have been applied.
    perhaps_applied: bool,
}

impl Attempts {
    fn new(client: &Client) -> Self {
        Self { budget: client.budget(), tried: Tried::default(), perhaps_applied: false }
    }

    /// What a comparison means: the same bytes are ours if an attempt of ours may have been applied.
    fn meaning(&self, found: PutOutcome) -> PutOutcome {
        match found {
            PutOutcome::AlreadyThere if self.perhaps_applied => PutOutcome::Written,
            other => other,
        }
    }
}

/// A request that writes `bytes` to `key`.
pub(super) fn request(operation: &'static str, key: &str, bytes: usize) -> Request {
    Request::new(Verb::Put, operation, key).with_body(bytes)
}
