//! To be filled: see the crate documentation for what `observe` owns.
