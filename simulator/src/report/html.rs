//! The timeline: hosts as lanes, faults red, acknowledgements green; one file without scripts from elsewhere.

use std::fmt::Write as _;

use crate::events::{Event, Mark};
use crate::lite::Outcome;
use crate::plan::Plan;

const LANES: [&str; 7] = ["app", "replicator", "store", "disk", "operator", "plan", "oracle"];
const LANE_HEIGHT: usize = 44;
const WIDTH: u64 = 1600;

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem;color:#222}
h1{font-size:1.2rem}dt{color:#666;float:left;width:6rem}dd{margin:0 0 .3rem 6rem}
svg{width:100%;height:auto;background:#fafafa;border:1px solid #ddd}
.Note{fill:#9aa0a6}.Commit{fill:#4c78a8}.Promise{fill:#2e7d32}.Fault{fill:#c62828}.Violation{fill:#000}
.lane{stroke:#ddd}.name{font-size:13px;fill:#555}table{border-collapse:collapse;margin-top:1rem;width:100%}
td{padding:.1rem .6rem;border-bottom:1px solid #eee;vertical-align:top}td:first-child{text-align:right;color:#666}
tr.Fault td{color:#c62828}tr.Promise td{color:#2e7d32}tr.Violation td{font-weight:bold}";

/// The whole page.
#[must_use]
pub fn timeline(plan: &Plan, outcome: &Outcome, command: &str) -> String {
    let title = format!("seed {}", plan.seed);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1><dl>"
    );
    for violation in &outcome.violations {
        let _ = write!(
            page,
            "<dt>{}</dt><dd><b>promised</b> {}<br><b>happened</b> {}</dd>",
            escape(violation.oracle),
            escape(&violation.promised),
            escape(&violation.happened)
        );
    }
    let _ = writeln!(page, "<dt>replay</dt><dd><code>{}</code></dd></dl>", escape(command));
    page.push_str(&chart(&outcome.events, plan.run_millis));
    page.push_str("<table>");
    for event in &outcome.events {
        let _ = writeln!(
            page,
            "<tr class=\"{:?}\"><td>{}</td><td>{}</td><td>{}</td></tr>",
            event.mark,
            event.at_millis,
            escape(event.lane),
            escape(&event.text)
        );
    }
    page.push_str("</table></html>\n");
    page
}

/// One row per lane; time runs to the right, up to a little after healing.
fn chart(events: &[Event], run_millis: u64) -> String {
    let end = (run_millis * 5 / 4).max(1);
    let height = LANES.len() * LANE_HEIGHT;
    let mut svg = format!("<svg viewBox=\"0 0 {} {height}\" role=\"img\">", WIDTH + 120);
    for (row, lane) in LANES.iter().enumerate() {
        let y = row * LANE_HEIGHT + LANE_HEIGHT / 2;
        let _ = write!(
            svg,
            "<line class=\"lane\" x1=\"100\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/><text class=\"name\" x=\"4\" y=\"{}\">{lane}</text>",
            WIDTH + 100,
            y + 4
        );
    }
    for event in events {
        let Some(row) = LANES.iter().position(|lane| *lane == event.lane) else { continue };
        let x = 100 + event.at_millis.min(end) * WIDTH / end;
        let (y, radius) = (row * LANE_HEIGHT + LANE_HEIGHT / 2, if event.mark == Mark::Note { 3 } else { 6 });
        let _ = write!(
            svg,
            "<circle class=\"{:?}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"><title>{} ms: {}</title></circle>",
            event.mark,
            event.at_millis,
            escape(&event.text)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_appear_on_their_lanes_and_text_is_escaped() {
        let event = |lane, mark, text: &str| Event { at_millis: 5, lane, mark, text: text.into() };
        let events =
            vec![event("disk", Mark::Fault, "a < b"), event("replicator", Mark::Promise, "up to TXID 3")];
        let page = timeline(&Plan::draw(3), &Outcome { events, ..Outcome::default() }, "replay \"x\"");
        assert!(page.contains("class=\"Fault\"") && page.contains("class=\"Promise\""));
        assert!(page.contains("a &lt; b") && !page.contains("a < b"));
        assert_eq!(page.matches("<circle").count(), 2);
    }
}
