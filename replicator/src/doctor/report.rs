//! What was found, and what follows from it. Pure.

use serde::Serialize;

/// What a failure of a check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// The place cannot be trusted with a replica.
    Required,
    /// It can, if the advice is heeded.
    Setting,
    /// Good to know.
    Optional,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It holds with another setting, which the rest of the run used.
    Changed,
    /// It does not hold.
    Fail,
    /// It was not asked; the detail says why.
    Skipped,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name.
    pub check: &'static str,
    /// What a failure means.
    pub need: Need,
    /// What must hold.
    pub requirement: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub millis: u64,
    /// A figure, or what was found instead.
    pub detail: Option<String>,
    /// What to change in the configuration.
    pub advice: Option<String>,
}

/// The most a run costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ceiling {
    /// Requests, cleaning up included.
    pub requests: u64,
    /// Bytes of objects, both ways.
    pub bytes: u64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "because", rename_all = "snake_case")]
pub enum Verdict {
    /// As configured.
    Usable,
    /// With these settings.
    UsableWith(Vec<String>),
    /// These required checks failed.
    NotUsable(Vec<&'static str>),
}

impl Verdict {
    /// 0 usable, 10 usable with settings, 20 not usable; the same as those of `conformance run`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usable => 0,
            Self::UsableWith(_) => 10,
            Self::NotUsable(_) => 20,
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The place, without secrets.
    pub location: String,
    /// In the order asked.
    pub findings: Vec<Finding>,
    /// Requests made; 0 for directories, where none are counted.
    pub requests: u64,
    /// Why objects of the run are still there.
    pub left_behind: Option<String>,
}

impl Report {
    /// The verdict: the worst failure decides.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let failed = |need: Need| {
            self.findings.iter().filter(move |found| found.outcome == Outcome::Fail && found.need == need)
        };
        let fatal: Vec<_> = failed(Need::Required).map(|found| found.check).collect();
        if !fatal.is_empty() {
            return Verdict::NotUsable(fatal);
        }
        let changed = self.findings.iter().filter(|found| found.outcome == Outcome::Changed);
        let mut settings: Vec<String> = Vec::new();
        for advice in changed.chain(failed(Need::Setting)).filter_map(|found| found.advice.clone()) {
            if !settings.contains(&advice) {
                settings.push(advice);
            }
        }
        if settings.is_empty() { Verdict::Usable } else { Verdict::UsableWith(settings) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(need: Need, outcome: Outcome, advice: Option<&str>) -> Finding {
        Finding {
            check: "a-check",
            need,
            requirement: "it holds",
            outcome,
            millis: 1,
            detail: None,
            advice: advice.map(str::to_owned),
        }
    }

    fn verdict(findings: &[Finding]) -> Verdict {
        let findings = findings.to_vec();
        Report { location: "s3://b".to_owned(), findings, requests: 1, left_behind: None }.verdict()
    }

    #[test]
    fn the_worst_failure_decides() {
        let fatal = finding(Need::Required, Outcome::Fail, None);
        let setting = finding(Need::Setting, Outcome::Fail, Some("one writer only"));
        let changed = finding(Need::Required, Outcome::Changed, Some("sign-payload: true"));
        let harmless = finding(Need::Optional, Outcome::Fail, Some("never mind"));
        assert_eq!(verdict(std::slice::from_ref(&harmless)).exit_code(), 0);
        assert_eq!(
            verdict(&[setting.clone(), changed.clone(), setting.clone()]),
            Verdict::UsableWith(vec!["sign-payload: true".to_owned(), "one writer only".to_owned()])
        );
        assert_eq!(verdict(&[changed, setting, fatal]), Verdict::NotUsable(vec!["a-check"]));
    }

    #[test]
    fn what_was_not_asked_is_no_failure() {
        assert_eq!(verdict(&[finding(Need::Required, Outcome::Skipped, None)]), Verdict::Usable);
    }
}
