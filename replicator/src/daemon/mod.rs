//! The running service: starts, watches and stops the replication of all configured databases.
//!
//! Owns the order of starting and stopping, the child process and the exit code. Must not copy or upload anything
//! itself (that is [`crate::sync`]).

pub mod discover;
