//! Deterministic world for the replicator: one seed, one thread.
