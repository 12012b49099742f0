//! What happened, in order: the one log that reports, oracles and the determinism check read.
//!
//! Two kinds of entries. *Events* are few and readable (a fault, an acknowledgement, a restore). *Steps* are many
//! (each disk and lock call); they go into a running digest, and are kept as text only while tracing. Must not
//! decide anything.

use std::sync::{Arc, Mutex};

use crate::choices::mix;

/// Why an event matters; decides how reports mark it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Mark {
    /// Ordinary progress.
    Note,
    /// The application was told that a commit succeeded.
    Commit,
    /// The replicator claimed something (replicated up to here, restored, caught up).
    Promise,
    /// The world misbehaved on purpose.
    Fault,
    /// An oracle objected.
    Violation,
}

/// One readable entry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Event {
    /// Simulated milliseconds since the start.
    pub at_millis: u64,
    /// Host or actor: a lane in the timeline.
    pub lane: &'static str,
    /// Why it matters.
    pub mark: Mark,
    /// One line.
    pub text: String,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    digest: u64,
    steps: u64,
    trace: Option<Vec<String>>,
}

/// Log of one run. Cheap to clone; all clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<State>>);

impl Log {
    /// Keeps the text of every step from now on (slow, for replays).
    pub fn trace_steps(&self) {
        self.lock().trace.get_or_insert_default();
    }

    /// Adds a readable entry.
    pub fn event(&self, at_millis: u64, lane: &'static str, mark: Mark, text: impl Into<String>) {
        let text = text.into();
        let mut state = self.lock();
        let sum = crate::choices::hash_name(&text) ^ crate::choices::hash_name(lane) ^ mix(at_millis);
        state.digest = mix(state.digest ^ sum);
        if let Some(trace) = &mut state.trace {
            trace.push(format!("{at_millis:>8} {lane:<10} {mark:?} {text}"));
        }
        state.events.push(Event { at_millis, lane, mark, text });
    }

    /// Adds one step: what was done, by which process, and numbers that identify it.
    pub fn step(&self, what: &'static str, process: u64, numbers: [u64; 3]) {
        let mut state = self.lock();
        let mut sum =
            state.digest ^ what.len() as u64 ^ (u64::from(what.as_bytes()[0]) << 8) ^ (process << 16);
        for number in numbers {
            sum = mix(sum ^ number);
        }
        state.digest = sum;
        state.steps += 1;
        if let Some(trace) = &mut state.trace {
            trace.push(format!("step {} p{process} {what} {numbers:?}", trace.len()));
        }
    }

    /// All readable entries so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Fingerprint of everything logged so far, steps included.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.lock().digest
    }

    /// Number of steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// The lines kept since [`Log::trace_steps`].
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no panic while logging")
    }
}
