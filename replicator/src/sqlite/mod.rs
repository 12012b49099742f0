//! To be filled: see the crate documentation for what `sqlite` owns.
