//! Benchmarks: hot paths, and side-by-side runs against Litestream.
