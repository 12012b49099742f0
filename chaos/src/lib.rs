//! The demonstration, simulated runs with a theme, and real-process torture of replicator binaries.

pub mod demo;

pub mod real;

pub mod suites;
