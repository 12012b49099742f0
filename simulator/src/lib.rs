//! A world made from one seed, in which the real replicator and the real SQLite run on one thread.
//!
//! | part | module |
//! | --- | --- |
//! | every decision, by name | [`choices`] |
//! | everything that happened | [`events`] |
//! | time and wrong clocks | [`clock`] |
//! | files, page cache, platter, locks, shared memory, power loss | [`disk`] |
//! | SQLite's door to that disk | [`vfs`] |
//! | blocking code that can be paused and killed inside its own I/O | [`fiber`] |
//! | the page image of every commit, derived without the product | [`history`] |
//!
//! The rest is in the package's README.

pub mod app;
pub mod choices;
pub mod clock;
pub mod context;
pub mod crash_loop;
pub mod disk;
pub mod events;
pub mod evidence;
pub mod fiber;
pub mod full;
pub mod history;
pub mod interpose;
pub mod lite;
pub mod oracles;
pub mod panics;
pub mod plan;
pub mod report;
pub mod shrink;
pub mod simhost;
pub mod store;
pub mod vfs;

/// Runs a plan in its lane; `trace` keeps every step as text.
#[must_use]
pub fn run(plan: &plan::Plan, trace: bool) -> lite::Outcome {
    if plan.full { full::run(plan, trace) } else { lite::run(plan, trace) }
}
