//! What happens on the wire, reported to whoever counts it.

use std::time::Duration;

/// What a request does; the `operation` label of Litestream's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Writes an object, or a step of writing one in parts.
    Put,
    /// Reads an object.
    Get,
    /// Deletes objects.
    Delete,
    /// Lists keys.
    List,
    /// Asks for facts about an object.
    Head,
}

impl Verb {
    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Get => "GET",
            Self::Delete => "DELETE",
            Self::List => "LIST",
            Self::Head => "HEAD",
        }
    }
}

/// One request, from its first byte to the head of its answer. Repetitions are requests of their own.
#[derive(Debug, Clone, Copy)]
pub struct RequestReport<'a> {
    /// `s3`.
    pub replica_type: &'static str,
    /// What it was for.
    pub verb: Verb,
    /// How long it took.
    pub duration: Duration,
    /// Bytes of the object in its body.
    pub sent_bytes: u64,
    /// Why it failed: the store's code, or `network`. `None` if it succeeded.
    pub error_code: Option<&'a str>,
}

/// Counts requests. Called on the request's task: must be quick and must not block.
pub trait RequestObserver: Send + Sync {
    /// A request ended.
    fn finished(&self, report: &RequestReport<'_>);
    /// Bytes of an object arrived.
    fn received(&self, verb: Verb, bytes: u64);
}
