//! Evidence that a database is what it should be.
//!
//! Owns SQLite's integrity checks of files at rest. Reads, never writes.

mod integrity;

pub use integrity::{Checked, Depth, check_integrity};
