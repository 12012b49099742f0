//! Named checks: each asks an endpoint one question that a replicator's safety or cost depends on.
//!
//! A check is a small function with an identifier, the requirement it tests, why a replicator needs it, and what to
//! set if it fails. [`run`] works on any [`Target`], in its own prefix, within a stated ceiling, and cleans up.

mod address;
mod authentication;
mod cleaning;
mod conditional;
mod consistency;
mod delete;
mod figures;
mod get;
mod head;
mod list;
mod multipart;
mod probe;
mod put;
mod replica;
mod runner;
mod sdk;
mod work;

use std::future::Future;
use std::pin::Pin;

pub use self::probe::{Complaint, Probe, Reason};
pub use self::runner::{Ceiling, Options, ceiling, run};
pub use crate::verdict::Report;

/// What a failure of the check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The endpoint cannot be trusted with a replica.
    Required,
    /// It can, if this is set or heeded.
    Setting(&'static str),
    /// Good to know; nothing to be done.
    Optional,
    /// A figure; there is no failing.
    Figure,
}

/// A check at work.
type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Complaint>> + Send + 'a>>;

/// A question to an endpoint.
#[derive(Clone, Copy)]
pub struct Check {
    /// `group.name`, stable: expectations and reports refer to it.
    pub id: &'static str,
    /// What a failure means.
    pub need: Need,
    /// What must hold.
    pub requirement: &'static str,
    /// Why a replicator needs it, or which provider made us ask.
    pub why: &'static str,
    /// Most requests it makes.
    pub requests: u64,
    /// Most KiB it moves, both ways.
    pub kib: u64,
    run: for<'a> fn(&'a Probe) -> Running<'a>,
}

impl Check {
    /// The part of the id before the dot.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }
}

/// Declares a check: id, need, most requests, most KiB, requirement, reason, function.
macro_rules! check {
    ($id:literal, $need:expr, $requests:expr, $kib:expr, $requirement:literal, $why:literal, $run:path) => {
        $crate::checks::Check {
            id: $id,
            need: $need,
            requirement: $requirement,
            why: $why,
            requests: $requests,
            kib: $kib,
            run: |probe| Box::pin($run(probe)),
        }
    };
}

/// Ends the check with a complaint unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::checks::Complaint::new(format!($($text)+)));
        }
    };
}

use {check, ensure};

/// All checks, in the order they are run and reported.
#[must_use]
pub fn all() -> Vec<&'static Check> {
    let groups: [&'static [Check]; 13] = [
        address::CHECKS,
        authentication::CHECKS,
        put::CHECKS,
        conditional::CHECKS,
        multipart::CHECKS,
        get::CHECKS,
        head::CHECKS,
        list::CHECKS,
        delete::CHECKS,
        consistency::CHECKS,
        sdk::CHECKS,
        replica::CHECKS,
        figures::CHECKS,
    ];
    groups.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let mut ids: Vec<_> = all().iter().map(|check| check.id).collect();
        assert!(ids.len() >= 80, "{} checks", ids.len());
        assert!(ids.iter().all(|id| id.split('.').count() == 2), "{ids:?}");
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "an id is used twice");
    }
}
