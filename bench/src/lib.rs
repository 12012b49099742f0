//! Benchmarks: criterion for the hot paths (`benches/`), and side-by-side runs against Litestream.
//!
//! Only measures. Must not be needed by anything else, nor judge correctness beyond refusing to count a run whose
//! result is wrong.

pub mod arrivals;
pub mod chart;
pub mod contender;
pub mod content;
pub mod figures;
pub mod lag;
pub mod measure;
pub mod stage;
pub mod workloads;

/// What goes wrong in a measurement is only ever reported.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
