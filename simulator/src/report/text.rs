//! What was promised, what happened, the decisive events, how to see it again. One screen.

use std::fmt::Write as _;

use crate::events::{Event, Mark};
use crate::lite::Outcome;
use crate::plan::Plan;

/// Events shown at most.
const SHOWN: usize = 16;

/// The report of a failing run; `command` replays it.
#[must_use]
pub fn one_screen(plan: &Plan, outcome: &Outcome, command: &str) -> String {
    let mut text = String::new();
    let Some(first) = outcome.violations.first() else {
        return format!("seed {}: every promise was kept\n", plan.seed);
    };
    let more = outcome.violations.len() - 1;
    let _ = writeln!(text, "PROMISE BROKEN  {}  (seed {}, {more} more)", first.oracle, plan.seed);
    let _ = writeln!(text, "  promised  {}", first.promised);
    let _ = writeln!(text, "  happened  {}", first.happened);
    let _ = writeln!(text, "  at        {} ms, after {} commits\n", first.at_millis, outcome.commits);
    let _ = writeln!(text, "{:>9}  {:<11} what", "ms", "who");
    for event in decisive(&outcome.events, first.at_millis) {
        let sign = match event.mark {
            Mark::Fault => '!',
            Mark::Promise => '+',
            Mark::Violation => '#',
            Mark::Commit | Mark::Note => ' ',
        };
        let _ = writeln!(text, "{:>9} {sign}{:<11} {}", event.at_millis, event.lane, clip(&event.text));
    }
    let _ = writeln!(text, "\nreplay    {command}");
    text
}

/// The last events of each important kind before the violation, in order.
pub(super) fn decisive(events: &[Event], at_millis: u64) -> Vec<&Event> {
    let before: Vec<&Event> = events.iter().filter(|e| e.at_millis <= at_millis || at_millis == 0).collect();
    let last = |mark: Mark, most: usize| {
        let of_kind = before.iter().enumerate().filter(move |(_, event)| event.mark == mark);
        let mut found: Vec<usize> = of_kind.map(|(at, _)| at).collect();
        found.drain(..found.len().saturating_sub(most));
        found
    };
    let mut chosen = last(Mark::Fault, 6);
    chosen.extend(last(Mark::Promise, 4));
    chosen.extend(last(Mark::Commit, 2));
    chosen.extend(last(Mark::Note, 3));
    chosen.extend(last(Mark::Violation, 1));
    chosen.sort_unstable();
    chosen.truncate(SHOWN);
    chosen.into_iter().map(|at| before[at]).collect()
}

fn clip(text: &str) -> String {
    if text.chars().count() <= 110 {
        return text.to_owned();
    }
    text.chars().take(109).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Violation;

    #[test]
    fn a_report_fits_one_screen_and_names_the_command() {
        let events: Vec<Event> = (0..500)
            .map(|n| Event {
                at_millis: n,
                lane: "store",
                mark: [Mark::Note, Mark::Commit, Mark::Promise, Mark::Fault][n as usize % 4],
                text: "x".repeat(300),
            })
            .collect();
        let violation = Violation {
            oracle: "durable",
            at_millis: 450,
            promised: "state 7 was replicated".into(),
            happened: "the restore gives state 5".into(),
        };
        let outcome = Outcome { violations: vec![violation], events, ..Outcome::default() };
        let report = one_screen(&Plan::draw(3), &outcome, "simulator replay --seed 3");
        assert!(report.lines().count() <= 25 && report.lines().all(|line| line.chars().count() <= 140));
        for part in ["durable", "state 7 was", "gives state 5", "simulator replay --seed 3", "449"] {
            assert!(report.contains(part), "{part} in {report}");
        }
        assert!(!report.contains("     451"), "nothing from after the violation");
    }
}
