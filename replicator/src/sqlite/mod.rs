//! The live database seen from outside: a pinned WAL, safe moments to checkpoint, facts from the header.
//!
//! Owns our SQLite connections and the descriptors of the database and its WAL. Never writes to the user's database
//! (checkpoints move what the application wrote; one that is not in WAL mode is switched to it) and never takes the
//! write lock unless the user configured a blocking checkpoint. Must not interpret WAL frames ([`crate::wal`]).
//!
//! # How the log is pinned
//!
//! * A reader with a read mark above 0 keeps anybody from restarting the log, and checkpoints from copying back
//!   more than its mark.
//! * A reader that starts when the whole log is already copied back takes read lock 0. It lets one writer restart
//!   the log once, but stops every checkpoint, so that the new generation cannot be restarted in turn.
//!
//! At every instant one of our readers is in a transaction, so whatever has not been copied stays readable, and the
//! log is restarted at most once between two looks. Source: `walTryBeginRead` and `walRestartLog` in SQLite's
//! `wal.c`, and <https://www.sqlite.org/walformat.html#locking_matrix>.

mod ahead;
mod header;
mod index;
mod log;
mod reader;
mod source;
mod view;

pub use ahead::ReadAhead;
pub use header::{DbHeader, engine_is_affected, require_fixed_engine};
pub use log::Span;
pub use source::{CheckpointMode, CheckpointOutcome, LongView, Opened, Pin, Source};
pub use view::{DbFacts, PinnedView, SourceFiles};

#[cfg(test)]
mod tests;
