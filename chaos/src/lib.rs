//! The demonstration, long seed runs, and real-process torture of replicator binaries.

pub mod demo;

pub mod real;

pub mod suites;
