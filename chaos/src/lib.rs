//! Long seed runs, and real-process torture of replicator binaries.

pub mod real;
