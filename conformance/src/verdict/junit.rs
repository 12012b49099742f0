//! The report as JUnit XML, which CI systems show.

use super::{Meaning, Outcome, Report};
use crate::client::xml::escape;

/// One test suite per target. There is a failure in it exactly when `conformance run` ends with 20 or, with `--strict`,
/// with 30: CI shows the file and acts on the exit code. What is a setting, or good to know, stands in `system-out`.
#[must_use]
pub fn junit(reports: &[Report], strict: bool) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for report in reports {
        let failures = report.outcomes.iter().filter(|outcome| is_failure(outcome, strict)).count();
        text.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\">\n",
            attribute(&report.target),
            report.outcomes.len()
        ));
        for outcome in &report.outcomes {
            text.push_str(&format!(
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{}.{:03}\"",
                attribute(&report.target),
                attribute(&outcome.id),
                outcome.millis / 1000,
                outcome.millis % 1000
            ));
            match inside(outcome, strict) {
                inside if inside.is_empty() => text.push_str("/>\n"),
                inside => text.push_str(&format!(">{inside}</testcase>\n")),
            }
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

/// What stands inside the test case's element.
fn inside(outcome: &Outcome, strict: bool) -> String {
    let detail = escape(outcome.detail.as_deref().unwrap_or(""));
    let mut text = String::new();
    if is_failure(outcome, strict) {
        let message = match &outcome.declared {
            Some(reason) if outcome.passed => format!("passed, and is declared to fail: {reason}"),
            _ => outcome.requirement.clone(),
        };
        text.push_str(&format!("<failure message=\"{}\">{detail}</failure>", attribute(&message)));
    } else if !outcome.passed {
        text.push_str(&format!("<system-out>{}: {detail}</system-out>", outcome.word()));
    }
    if let Some(left) = &outcome.left_behind {
        text.push_str(&format!("<system-err>NOT removed: {}</system-err>", escape(left)));
    }
    text
}

fn is_failure(outcome: &Outcome, strict: bool) -> bool {
    if strict { outcome.is_surprise() } else { !outcome.passed && outcome.meaning == Meaning::Required }
}

fn attribute(text: &str) -> String {
    escape(text).replace('"', "&quot;").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{outcome, report};
    use super::*;

    #[test]
    fn counts_and_escapes() {
        let one = report(vec![
            outcome("a.a", Meaning::Required, true),
            outcome("b.b", Meaning::Required, false),
            outcome("c.c", Meaning::Optional, false),
            Outcome { left_behind: Some("one & all".to_owned()), ..outcome("d.d", Meaning::Required, true) },
        ]);
        let text = junit(&[one], false);
        assert!(text.contains("tests=\"4\" failures=\"1\""), "{text}");
        assert!(text.contains("<failure message=\"b.b holds\">it did &lt;not&gt;</failure>"), "{text}");
        assert!(text.contains("name=\"a.a\" time=\"0.012\"/>"), "{text}");
        assert!(text.contains("<system-err>NOT removed: one &amp; all</system-err></testcase>"), "{text}");
    }

    /// Exit codes as `conformance run` gives them.
    #[test]
    fn a_failure_in_the_file_is_a_failure_of_the_run() {
        let declared = |passed, reason: &str, meaning| Outcome {
            declared: Some(reason.to_owned()),
            ..outcome("a.a", meaning, passed)
        };
        let cases = [
            outcome("a.a", Meaning::Required, true),
            outcome("a.a", Meaning::Required, false),
            outcome("a.a", Meaning::Setting, false),
            outcome("a.a", Meaning::Optional, false),
            outcome("a.a", Meaning::Figure, false),
            declared(false, "known", Meaning::Required),
            declared(true, "known", Meaning::Required),
            declared(false, "known", Meaning::Setting),
            declared(true, "sometimes", Meaning::Setting),
            declared(false, "sometimes", Meaning::Setting),
        ];
        for case in cases {
            let told = format!("{case:?}");
            let one = report(vec![case]);
            let (not_usable, surprising) = (one.verdict().exit_code() == 20, !one.surprises().is_empty());
            let reports = [one];
            for (strict, ends_badly) in [(false, not_usable), (true, surprising)] {
                let text = junit(&reports, strict);
                assert_eq!(text.contains("failures=\"1\""), ends_badly, "strict {strict}: {told}");
                assert_eq!(text.contains("<failure "), ends_badly, "strict {strict}: {told}");
            }
        }
    }
}
