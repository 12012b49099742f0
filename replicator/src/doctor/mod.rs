//! Is this place good enough for a replica? Asked of the user's own endpoint, with this program's own client.
//!
//! Every check is a small function on a [`Bucket`](crate::bucket::Bucket) below a prefix of its own, so it sees what
//! replication would see, work-arounds included. Where one fails, other settings are tried ([`remedies`]), so that the
//! answer is what to write into the configuration. What an endpoint does with single raw requests is the business of
//! the conformance suite, which has checks of its own. Must not know about command lines or databases.

mod checks;
mod remedies;
mod report;
mod run;
#[cfg(test)]
mod tests;

pub use report::{Ceiling, Finding, Need, Outcome, Report, Verdict};
pub use run::{Doctor, ceiling};
