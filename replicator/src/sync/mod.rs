//! Replication of one database: from a commit in its WAL to a durable object.
//!
//! Owns the order of events that makes an acknowledgement true: pin, copy, stage durably, upload in order, report.
//! Must not parse WAL or LTX bytes itself ([`crate::wal`], [`crate::ltx`]), nor decide on levels and retention
//! ([`crate::compact`]).

pub mod capture;
pub mod image;
pub mod local;
mod options;
pub mod pages;
pub mod reconcile;
pub mod session;
mod status;

pub use options::{Options, default_meta_dir};
pub use status::{State, Status};
