//! Configuration.
pub mod environment;
pub mod node;
pub mod values;
