//! Benchmarks: criterion for the hot paths (`benches/`), and side-by-side runs against Litestream.
//!
//! Only measures. Must not be needed by anything else, nor judge correctness beyond refusing to count a run whose
//! result is wrong.

pub mod content;
