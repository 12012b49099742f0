//! The report for people.

use super::{Outcome, Report};

/// Widest detail line.
const WIDTH: usize = 110;

/// A table of all checks, details below those that failed, and the verdict.
#[must_use]
pub fn table(report: &Report) -> String {
    let wide = report.outcomes.iter().map(|outcome| outcome.id.len()).max().unwrap_or(0);
    let mut text = format!("{}\n\n", report.target);
    for outcome in &report.outcomes {
        entry(&mut text, outcome, wide);
    }
    let passed = report.outcomes.iter().filter(|outcome| outcome.passed).count();
    text.push_str(&format!(
        "\n{passed} of {} checks passed; {} requests, {:.1} MiB\n{} is {}\n",
        report.outcomes.len(),
        report.requests,
        report.bytes as f64 / f64::from(1 << 20),
        report.target,
        report.verdict()
    ));
    warn_of_leftovers(&mut text, report);
    text
}

/// One line if every result is as the target's data say, else the results that are not, whole.
#[must_use]
pub fn as_declared(report: &Report) -> String {
    let surprises = report.surprises();
    let count = report.outcomes.len();
    let mut text = match surprises.len() {
        0 => format!("{:24}  {count} checks as declared\n", report.target),
        wrong => format!("{:24}  {wrong} of {count} checks NOT as declared:\n", report.target),
    };
    let wide = surprises.iter().map(|outcome| outcome.id.len()).max().unwrap_or(0);
    for outcome in surprises {
        entry(&mut text, outcome, wide);
    }
    for outcome in &report.outcomes {
        if let (false, Some(first)) = (outcome.is_surprise(), &outcome.first_look) {
            line(&mut text, &format!("{} only at the second look; the first found", outcome.id), first);
        }
    }
    warn_of_leftovers(&mut text, report);
    text
}

/// They are no fault of the endpoint as a place for replicas, but somebody pays for them.
fn warn_of_leftovers(text: &mut String, report: &Report) {
    let left: Vec<_> = report.outcomes.iter().filter(|outcome| outcome.left_behind.is_some()).collect();
    if left.is_empty() {
        return;
    }
    let target = &report.target;
    text.push_str(&format!("WARNING: {target}: what {} checks wrote is NOT removed:\n", left.len()));
    for outcome in left {
        line(text, &outcome.id, outcome.left_behind.as_deref().unwrap_or_default());
    }
}

fn entry(text: &mut String, outcome: &Outcome, wide: usize) {
    text.push_str(&format!(
        "{:wide$}  {:8}  {:5}  {:>6} ms",
        outcome.id,
        outcome.meaning.word(),
        outcome.word(),
        outcome.millis
    ));
    if let (true, Some(figure)) = (outcome.passed, &outcome.detail) {
        text.push_str(&format!("  {figure}"));
    }
    text.push('\n');
    if !outcome.passed {
        line(text, "wanted", &outcome.requirement);
        line(text, "found", outcome.detail.as_deref().unwrap_or("nothing"));
        if let Some(reason) = &outcome.declared {
            line(text, "known", reason);
        }
        if let Some(advice) = &outcome.advice {
            line(text, "set", advice);
        }
    } else if let Some(reason) = &outcome.declared {
        line(text, "known to fail, and did not", reason);
    }
}

fn line(text: &mut String, word: &str, what: &str) {
    let mut what = what.replace('\n', " ");
    if what.chars().count() > WIDTH {
        what = what.chars().take(WIDTH - 1).chain(['…']).collect();
    }
    text.push_str(&format!("    {word}: {what}\n"));
}

#[cfg(test)]
mod tests {
    use super::super::Meaning;
    use super::super::tests::{outcome, report};
    use super::*;

    #[test]
    fn shows_what_to_set() {
        let mut quirk = outcome("b.b", Meaning::Setting, false);
        quirk.declared = Some("they said so".to_owned());
        let text = table(&report(vec![outcome("a.long", Meaning::Required, true), quirk]));
        let wanted = "example\n\n\
            a.long  required  pass       12 ms\n\
            b.b     setting   quirk      12 ms\n    wanted: b.b holds\n    found: it did <not>\n    \
            known: they said so\n    set: a-setting: true\n\n\
            1 of 2 checks passed; 3 requests, 0.0 MiB\nexample is usable with:\n  - a-setting: true\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn what_is_left_behind_is_said_loudly() {
        let left = Outcome {
            left_behind: Some("3 objects are left".to_owned()),
            ..outcome("a.a", Meaning::Required, true)
        };
        let report = report(vec![left, outcome("b.b", Meaning::Required, true)]);
        let wanted = "WARNING: example: what 1 checks wrote is NOT removed:\n    a.a: 3 objects are left\n";
        assert!(table(&report).ends_with(wanted), "{}", table(&report));
        assert!(as_declared(&report).ends_with(wanted), "{}", as_declared(&report));
    }

    #[test]
    fn a_strict_run_shows_what_nobody_declared() {
        let known = |passed| Outcome {
            declared: Some("they said so".to_owned()),
            ..outcome("b.b", Meaning::Setting, passed)
        };
        let passed = || outcome("a.long", Meaning::Required, true);
        let calm = as_declared(&report(vec![passed(), known(false)]));
        assert_eq!(calm, "example                   2 checks as declared\n");
        let surprised =
            as_declared(&report(vec![passed(), outcome("c.c", Meaning::Required, false), known(true)]));
        let wanted = "example                   2 of 3 checks NOT as declared:\n\
            c.c  required  fail       12 ms\n    wanted: c.c holds\n    found: it did <not>\n\
            b.b  setting   pass       12 ms\n    known to fail, and did not: they said so\n";
        assert_eq!(surprised, wanted);
    }
}
