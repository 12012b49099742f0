//! Replication of one database: from a commit in its WAL to a durable object.
//!
//! Owns the order of events that makes an acknowledgement true: pin, copy, stage durably, upload in order, report.
//! Must not parse WAL or LTX bytes itself ([`crate::wal`], [`crate::ltx`]), nor decide on levels and retention
//! ([`crate::compact`]).

mod backoff;
mod base;
pub mod capture;
mod checked;
mod contact;
mod ending;
mod failures;
mod first;
mod follow;
mod handle;
pub mod image;
pub mod local;
mod lock;
mod maintain;
mod options;
pub mod pages;
mod place;
mod policy;
mod queue;
pub mod reconcile;
mod rest;
mod rival;
pub mod session;
mod status;
mod task;
mod turns;
mod upload;

pub use failures::{Failures, Work};
pub use handle::{Handle, start};
pub use maintain::Upkeep;
pub use options::{Options, default_meta_dir};
pub use status::{Attempts, Phase, State, Status};
pub use turns::Turns;

#[cfg(test)]
mod tests;
