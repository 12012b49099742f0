//! The subcommands, one module each: arguments, printing and the exit code.

pub mod diff;
pub mod page;
pub mod replica;
pub mod run;
