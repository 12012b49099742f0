//! The report as JUnit XML, which CI systems show.

use super::{Meaning, Outcome, Report};
use crate::client::xml::escape;

/// One test suite per target; a failed check that is required or undeclared is a failure.
#[must_use]
pub fn junit(reports: &[Report]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for report in reports {
        let failures = report.outcomes.iter().filter(|outcome| is_failure(outcome)).count();
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
            match inside(outcome) {
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
fn inside(outcome: &Outcome) -> String {
    let detail = escape(outcome.detail.as_deref().unwrap_or(""));
    let mut text = String::new();
    if is_failure(outcome) {
        let requirement = attribute(&outcome.requirement);
        text.push_str(&format!("<failure message=\"{requirement}\">{detail}</failure>"));
    } else if !outcome.passed {
        text.push_str(&format!("<system-out>{}: {detail}</system-out>", outcome.word()));
    }
    if let Some(left) = &outcome.left_behind {
        text.push_str(&format!("<system-err>NOT removed: {}</system-err>", escape(left)));
    }
    text
}

fn is_failure(outcome: &Outcome) -> bool {
    !outcome.passed && outcome.declared.is_none() && outcome.meaning != Meaning::Optional
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
        let text = junit(&[report(vec![
            outcome("a.a", Meaning::Required, true),
            outcome("b.b", Meaning::Required, false),
            outcome("c.c", Meaning::Optional, false),
            Outcome { left_behind: Some("one & all".to_owned()), ..outcome("d.d", Meaning::Required, true) },
        ])]);
        assert!(text.contains("tests=\"4\" failures=\"1\""), "{text}");
        assert!(text.contains("<failure message=\"b.b holds\">it did &lt;not&gt;</failure>"), "{text}");
        assert!(text.contains("name=\"a.a\" time=\"0.012\"/>"), "{text}");
        assert!(text.contains("<system-err>NOT removed: one &amp; all</system-err></testcase>"), "{text}");
    }
}
