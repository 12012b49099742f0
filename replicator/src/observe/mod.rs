//! What the operator sees: log lines, metrics, heartbeats.
//!
//! Reads the state that others publish; decides nothing. Must not open databases or buckets.

mod board;
mod heartbeat;
mod level;
pub mod log;
mod metrics;
mod operations;
mod ping;
mod process;
mod server;
pub mod time;

pub use board::Board;
pub use heartbeat::Heartbeat;
pub use level::{LogFormat, LogLevel};
pub use operations::Operations;
pub use server::Server;
