//! What a run found, and what follows from it: usable, usable with settings, not usable.
//!
//! Owns the result types and their forms for people and machines. Knows nothing about requests.

mod junit;
mod table;
mod targets_page;

use serde::{Deserialize, Serialize};

pub use self::junit::junit;
pub use self::table::{as_declared, table};
pub use self::targets_page::{Recorded, targets_page};

/// What a failed check means; the data-only form of [`crate::checks::Need`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// The endpoint cannot be trusted with a replica.
    Required,
    /// It can, with a setting.
    Setting,
    /// Good to know.
    Optional,
    /// A figure.
    Figure,
}

impl Meaning {
    /// Word for tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Setting => "setting",
            Self::Optional => "optional",
            Self::Figure => "figure",
        }
    }
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Id of the check.
    pub id: String,
    /// What was to hold.
    pub requirement: String,
    /// Why a replicator needs it.
    pub why: String,
    /// What a failure means.
    pub meaning: Meaning,
    /// Whether it held.
    pub passed: bool,
    /// Complaint of a failed check, figure of a passed one.
    pub detail: Option<String>,
    /// It failed only by taking too long, for which a busy machine may be to blame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_late: bool,
    /// What to set, if it failed and a setting helps.
    pub advice: Option<String>,
    /// Reason for which the target is known to fail this check.
    pub declared: Option<String>,
    /// What the first look found, if there was a second one, whose result this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_look: Option<String>,
    /// Why the check's objects could not be removed.
    pub left_behind: Option<String>,
    /// How long it took.
    pub millis: u64,
    /// Requests made, without cleaning up.
    pub requests: u64,
    /// Bytes moved, without cleaning up.
    pub bytes: u64,
}

impl Outcome {
    /// Takes the reason for which the target is known to fail, unless it names another complaint than the one found.
    pub fn declare(&mut self, reason: Option<&str>) {
        let found = self.detail.as_deref().unwrap_or_default();
        self.declared = reason.filter(|reason| self.passed || covers(reason, found)).map(str::to_owned);
    }

    /// The result differs from what the target's data say: an undeclared failure, or a declared one that passed.
    /// A reason that begins with `sometimes` declares a race, which may pass.
    #[must_use]
    pub fn is_surprise(&self) -> bool {
        match &self.declared {
            Some(reason) => self.passed && !reason.starts_with("sometimes"),
            None => !self.passed,
        }
    }

    /// Whether a result that nobody declared deserves a second look: a busy machine is late, and a server may stumble.
    /// Not what the replicator's own run found to be wrong, a replicator that hangs included.
    #[must_use]
    pub fn may_be_chance(&self) -> bool {
        self.is_surprise() && (self.is_late || !self.id.starts_with("replica."))
    }

    /// Word for tables: `pass`, `quirk` (failed as declared), `fail`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.passed, &self.declared) {
            (true, _) => "pass",
            (false, Some(_)) => "quirk",
            (false, None) => "fail",
        }
    }
}

/// Whether a reason explains what was found. Complaints in backticks are all that it explains: a check that demands much
/// may be known to fail in one point, and must not hide a failure in another.
pub(crate) fn covers(reason: &str, found: &str) -> bool {
    let mut complaints = reason.split('`').skip(1).step_by(2).peekable();
    complaints.peek().is_none() || complaints.any(|complaint| found.starts_with(complaint))
}

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the target.
    pub target: String,
    /// One per check, in the order run.
    pub outcomes: Vec<Outcome>,
    /// Requests made.
    pub requests: u64,
    /// Bytes moved.
    pub bytes: u64,
}

/// The verdict on an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every check passed that is more than optional.
    Usable,
    /// Usable with these settings.
    UsableWith(Vec<String>),
    /// Not to be trusted, because of these required checks.
    NotUsable(Vec<String>),
}

impl Verdict {
    /// Exit code of `conformance run`: 0 usable, 10 usable with settings, 20 not usable.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usable => 0,
            Self::UsableWith(_) => 10,
            Self::NotUsable(_) => 20,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usable => f.write_str("usable"),
            Self::UsableWith(settings) => write!(f, "usable with:\n  - {}", settings.join("\n  - ")),
            Self::NotUsable(ids) => write!(f, "NOT usable, because of: {}", ids.join(", ")),
        }
    }
}

impl Report {
    /// The verdict. A declared failure counts like any other: it is known, not harmless.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let failed =
            |meaning: Meaning| self.outcomes.iter().filter(move |o| !o.passed && o.meaning == meaning);
        let fatal: Vec<_> = failed(Meaning::Required).map(|o| o.id.clone()).collect();
        if !fatal.is_empty() {
            return Verdict::NotUsable(fatal);
        }
        let mut settings: Vec<_> = failed(Meaning::Setting).filter_map(|o| o.advice.clone()).collect();
        settings.dedup();
        let mut seen = Vec::new();
        settings.retain(|setting| {
            let new = !seen.contains(setting);
            seen.push(setting.clone());
            new
        });
        if settings.is_empty() { Verdict::Usable } else { Verdict::UsableWith(settings) }
    }

    /// Results that differ from what the target's data say.
    #[must_use]
    pub fn surprises(&self) -> Vec<&Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.is_surprise()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_chance_is_looked_at_twice() {
        let found = |id: &str, detail: &str| Outcome {
            detail: Some(detail.to_owned()),
            ..outcome(id, Meaning::Required, false)
        };
        assert!(found("put.small", "500 where 200 was wanted").may_be_chance());
        let late = Outcome { is_late: true, ..found("replica.every-state", "no upload within 10s") };
        assert!(late.may_be_chance());
        for hangs in ["no word of a second writer within 60s", "replicator did not end within 60s"] {
            assert!(!found("replica.two-writers", hangs).may_be_chance(), "{hangs}");
        }
        assert!(!found("replica.every-state", "the restore is of state 3, not 4").may_be_chance());
        let known = Outcome { declared: Some("known".to_owned()), ..found("put.small", "500") };
        assert!(!known.may_be_chance(), "as declared");
    }

    pub(super) fn outcome(id: &str, meaning: Meaning, passed: bool) -> Outcome {
        Outcome {
            id: id.to_owned(),
            requirement: format!("{id} holds"),
            why: "because".to_owned(),
            meaning,
            passed,
            detail: (!passed).then(|| "it did <not>".to_owned()),
            is_late: false,
            advice: (!passed && meaning == Meaning::Setting).then(|| "a-setting: true".to_owned()),
            declared: None,
            first_look: None,
            left_behind: None,
            millis: 12,
            requests: 1,
            bytes: 2,
        }
    }

    pub(super) fn report(outcomes: Vec<Outcome>) -> Report {
        Report { target: "example".to_owned(), outcomes, requests: 3, bytes: 4096 }
    }

    #[test]
    fn the_worst_failure_decides() {
        let optional = outcome("a.a", Meaning::Optional, false);
        let setting = outcome("b.b", Meaning::Setting, false);
        let required = outcome("c.c", Meaning::Required, false);
        assert_eq!(report(vec![optional.clone()]).verdict(), Verdict::Usable);
        let with = Verdict::UsableWith(vec!["a-setting: true".to_owned()]);
        assert_eq!(report(vec![optional, setting.clone(), setting.clone()]).verdict(), with);
        assert_eq!(report(vec![setting, required]).verdict(), Verdict::NotUsable(vec!["c.c".to_owned()]));
    }

    #[test]
    fn a_declared_failure_that_passes_is_a_surprise_too() {
        let mut passed = outcome("a.a", Meaning::Required, true);
        assert!(!passed.is_surprise());
        passed.declared = Some("once failed".to_owned());
        assert!(passed.is_surprise());
        passed.declared = Some("sometimes fails".to_owned());
        assert!(!passed.is_surprise());
        let mut failed = outcome("b.b", Meaning::Required, false);
        assert!(failed.is_surprise());
        failed.declared = Some("known".to_owned());
        assert!(!failed.is_surprise());
    }

    #[test]
    fn a_reason_hides_no_other_complaint_than_the_one_it_names() {
        let declared = |found: &str| {
            let mut failed =
                Outcome { detail: Some(found.to_owned()), ..outcome("a.a", Meaning::Setting, false) };
            failed.declare(Some("sometimes `it ended with 0 at state` or `lost`: a race"));
            failed
        };
        let known = declared("it ended with 0 at state 7, the replica holds 5");
        assert!(!known.is_surprise() && known.word() == "quirk", "{known:?}");
        assert!(!declared("lost: 3").is_surprise());
        let other = declared("the replica is not whole");
        assert!(other.is_surprise() && other.word() == "fail", "{other:?}");
        let mut passed = outcome("a.a", Meaning::Setting, true);
        passed.declare(Some("sometimes `it ended with 0 at state`: a race"));
        assert!(!passed.is_surprise() && passed.declared.is_some());
    }
}
