//! What the operator sees: log lines, metrics, heartbeats.
//!
//! Reads the state that others publish; decides nothing. Must not open databases or buckets.

mod level;
pub mod log;
pub mod time;

pub use level::{LogFormat, LogLevel};
