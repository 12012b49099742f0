//! Fewer, larger objects: merges each level into the next one, and deletes what retention no longer needs.
//!
//! [`schedule`] and [`plan`] decide and are pure, `merge_job` streams one merge, [`Compactor`] ties them to a bucket
//! and a clock. Costs no request while nothing new was published: the inventory is kept in memory and listed again
//! only after errors, before history is deleted, and before a new gap is told. Must not know about databases or WALs,
//! and never writes level 0 or snapshots.

mod compactor;
mod copies;
mod input;
mod merge_job;
pub mod plan;
pub mod schedule;

pub use compactor::{Compactor, Merged, Released, Report, Settings};
pub use copies::LocalCopy;

#[cfg(test)]
mod tests;
