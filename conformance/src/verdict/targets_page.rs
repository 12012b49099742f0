//! The page of all targets × checks, made from recorded runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Meaning, Report, Verdict};
use crate::targets::Quirk;

/// What is kept of a run: small enough to be checked in, without times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Name of the target.
    pub target: String,
    /// What it is and how it ran, in one sentence.
    pub about: String,
    /// Failed checks and what was found.
    pub failed: BTreeMap<String, String>,
    /// All checks run.
    pub ran: Vec<String>,
    /// The verdict in words.
    pub verdict: String,
}

impl Recorded {
    /// Keeps what the page needs of a report.
    #[must_use]
    pub fn of(report: &Report, about: &str) -> Self {
        let checks = report.outcomes.iter().filter(|outcome| outcome.meaning != Meaning::Figure);
        let verdict = match report.verdict() {
            Verdict::Usable => "usable".to_owned(),
            Verdict::UsableWith(settings) => format!("usable with: {}", settings.join("; ")),
            Verdict::NotUsable(ids) => format!("**not usable**: {}", ids.join(", ")),
        };
        Self {
            target: report.target.clone(),
            about: about.to_owned(),
            failed: checks
                .clone()
                .filter(|outcome| !outcome.passed)
                .map(|outcome| {
                    (
                        outcome.id.clone(),
                        outcome.declared.clone().or(outcome.detail.clone()).unwrap_or_default(),
                    )
                })
                .collect(),
            ran: checks.map(|outcome| outcome.id.clone()).collect(),
            verdict,
        }
    }
}

/// The page. `checks` are id, meaning and requirement of all checks, in order.
#[must_use]
pub fn targets_page(checks: &[(String, Meaning, String)], quirks: &[Quirk], runs: &[Recorded]) -> String {
    let mut text = String::from(
        "# Targets and checks\n\n\
         Generated from recorded runs by `cargo run -p conformance -- page`; do not edit.\n\
         `✓` passed, `✗` failed, an empty cell means that the check did not run there.\n\n\
         ## Verdicts\n\n| target | what it is | passed | verdict |\n| --- | --- | --- | --- |\n",
    );
    for run in runs {
        text.push_str(&format!(
            "| {} | {} | {} of {} | {} |\n",
            run.target,
            run.about,
            run.ran.len() - run.failed.len(),
            run.ran.len(),
            run.verdict
        ));
    }
    text.push_str(&quirks_section(quirks, runs));
    text.push_str("\n## Checks\n\n| check | |");
    for run in runs {
        text.push_str(&format!(" {} |", run.target));
    }
    text.push_str("\n| --- | --- |");
    text.push_str(&" --- |".repeat(runs.len()));
    text.push('\n');
    for (id, meaning, _) in checks.iter().filter(|(_, meaning, _)| *meaning != Meaning::Figure) {
        text.push_str(&format!("| {id} | {} |", meaning.word()));
        for run in runs {
            let mark = match (run.ran.contains(id), run.failed.contains_key(id)) {
                (false, _) => "",
                (true, true) => "✗",
                (true, false) => "✓",
            };
            text.push_str(&format!(" {mark} |"));
        }
        text.push('\n');
    }
    text.push_str("\n## Why\n");
    for run in runs.iter().filter(|run| !run.failed.is_empty()) {
        text.push_str(&format!("\n### {}\n\n", run.target));
        for (id, reason) in &run.failed {
            text.push_str(&format!("- `{id}`: {}\n", reason.replace('\n', " ")));
        }
    }
    text.push_str("\n## Requirements\n\n");
    for (id, _, requirement) in checks {
        text.push_str(&format!("- `{id}`: {requirement}\n"));
    }
    text
}

/// What providers do differently, the check that fails because of it, and how the replicator fares there.
fn quirks_section(quirks: &[Quirk], runs: &[Recorded]) -> String {
    let mut text = String::from(
        "\n## Quirks of providers\n\n\
         The check fails on the target for a client that does nothing about the quirk; the last column is the \
         replicator's own run (`replica.*`) on the same target.\n\n\
         | provider | quirk | seen | target | fails there | what the replicator does | its own run |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for Quirk { provider, quirk, source, target, fails, answer } in quirks {
        let run = runs.iter().find(|run| run.target == *target);
        let failed = run.and_then(|run| run.failed.get(fails)).map_or("not seen", |_| "✗");
        let own = run.map_or_else(|| "not run".to_owned(), own_run);
        text.push_str(&format!(
            "| {provider} | {quirk} | {source} | {target} | {failed} `{fails}` | {answer} | {own} |\n"
        ));
    }
    text
}

/// How many of the replicator's own checks passed.
fn own_run(run: &Recorded) -> String {
    let own: Vec<_> = run.ran.iter().filter(|id| id.starts_with("replica.")).collect();
    let passed = own.iter().filter(|id| !run.failed.contains_key(**id)).count();
    format!("{passed} of {}", own.len())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{outcome, report};
    use super::*;

    #[test]
    fn a_cell_per_target_and_check() {
        let run = Recorded::of(
            &report(vec![outcome("a.a", Meaning::Required, true), outcome("b.b", Meaning::Required, false)]),
            "an example",
        );
        let checks: Vec<_> = ["a.a", "b.b", "c.c"]
            .map(|id| (id.to_owned(), Meaning::Required, format!("{id} holds")))
            .to_vec();
        let quirk = Quirk {
            provider: "P".to_owned(),
            quirk: "odd".to_owned(),
            source: "seen".to_owned(),
            target: "example".to_owned(),
            fails: "b.b".to_owned(),
            answer: "copes".to_owned(),
        };
        let page = targets_page(&checks, &[quirk], &[run]);
        assert!(page.contains("| P | odd | seen | example | ✗ `b.b` | copes | 0 of 0 |"), "{page}");
        assert!(page.contains("| example | an example | 1 of 2 | **not usable**: b.b |"), "{page}");
        assert!(
            page.contains("| a.a | required | ✓ |\n| b.b | required | ✗ |\n| c.c | required |  |"),
            "{page}"
        );
        assert!(page.contains("- `b.b`: it did <not>"), "{page}");
    }
}
