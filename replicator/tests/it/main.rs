//! One binary for all integration tests: the formats against real files, and real processes against each other.
//!
//! The test process is the application: it writes the database through its own SQLite. Replicators, the product's and
//! Litestream's, run as child processes that end with their test.
#![expect(clippy::disallowed_methods, reason = "these tests live in the real world: files, processes, time")]
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod credentials;
mod directories;
mod formats;
mod liars;
mod lock_page;
mod pace;
mod regressions;
mod replicate_for_them;
mod restore_command;
mod restore_theirs;
mod scene;
mod service;
mod stopping;
mod swap;
mod take_over;
mod tidy;
mod troubles;
mod witness_alone;
