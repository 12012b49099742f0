//! Counts of requests and bytes, by which idle means zero can be shown.

use std::collections::BTreeMap;

use super::fault::Verb;

/// What went over the wire since the server was made or the counts were last taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests by kind, whatever became of them.
    pub requests: BTreeMap<Verb, u64>,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of answer bodies, as intended (a cut body counts whole).
    pub bytes_out: u64,
}

impl Traffic {
    /// Requests of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Requests of one kind.
    #[must_use]
    pub fn of(&self, verb: Verb) -> u64 {
        self.requests.get(&verb).copied().unwrap_or(0)
    }
}
