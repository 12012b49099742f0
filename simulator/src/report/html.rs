//! The timeline: hosts as lanes, faults, acknowledgements and broken promises marked. One file, without scripts and
//! without anything from elsewhere; light and dark as the reader's system is.

use std::fmt::Write as _;

use super::text::decisive;
use crate::events::{Event, Mark};
use crate::lite::Outcome;
use crate::plan::Plan;

const STYLE: &str = include_str!("timeline.css");
const LANES: [(&str, &str); 8] = [
    ("plan", "faults"),
    ("app", "application"),
    ("replicator", "replicator"),
    ("disk", "disk"),
    ("store", "store"),
    ("operator", "operator"),
    ("other", "others"),
    ("oracle", "oracles"),
];
const MARKS: [(Mark, &str, &str); 5] = [
    (Mark::Fault, "fault", "what went wrong on purpose"),
    (Mark::Promise, "promise", "what the replicator claimed"),
    (Mark::Commit, "commit", "what the application was told"),
    (Mark::Note, "note", "what else happened"),
    (Mark::Violation, "broken", "a promise not kept"),
];
const LANE_HEIGHT: u64 = 34;
const LEFT: u64 = 92;
/// Where the time of faults ends; catching up, quiet and the last stop share the rest.
const WORK_WIDTH: u64 = 900;
const WIDTH: u64 = 1_100;
const AXIS: u64 = 26;

/// The whole page.
#[must_use]
pub fn timeline(plan: &Plan, outcome: &Outcome, command: &str) -> String {
    let title = format!("seed {}", plan.seed);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light \
         dark\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
         </head><body>\n"
    );
    page.push_str(&head(plan, outcome, command));
    page.push_str(&chart(&outcome.events, plan.run_millis));
    let at_millis = outcome.violations.first().map_or(0, |violation| violation.at_millis);
    page.push_str("<h2>Decisive events</h2>");
    page.push_str(&table("few", decisive(&outcome.events, at_millis).into_iter().map(|event| (None, event))));
    let _ = write!(page, "<h2>All {} events</h2>", outcome.events.len());
    page.push_str("<label><input type=\"checkbox\" id=\"notes\"> with notes</label>");
    page.push_str(&table("all", outcome.events.iter().enumerate().map(|(n, event)| (Some(n), event))));
    page.push_str("</body></html>\n");
    page
}

fn head(plan: &Plan, outcome: &Outcome, command: &str) -> String {
    let mut text = String::new();
    let lane = if plan.full { "full lane" } else { "lane without HTTP" };
    let verdict = match outcome.violations.len() {
        0 => "every promise was kept".to_owned(),
        1 => "one promise broken".to_owned(),
        n => format!("{n} promises broken"),
    };
    let _ = write!(
        text,
        "<header><h1>Seed {}: {verdict}</h1><p>{lane} · {} commits · {} restores · {} s simulated</p></header>",
        plan.seed,
        outcome.commits,
        outcome.restores,
        outcome.sim_millis / 1000
    );
    for violation in &outcome.violations {
        let _ = write!(
            text,
            "<section class=\"broken\"><h2>{} <small>at {} ms</small></h2><dl><dt>promised</dt><dd>{}</dd>\
             <dt>happened</dt><dd>{}</dd></dl></section>",
            escape(violation.oracle),
            violation.at_millis,
            escape(&violation.promised),
            escape(&violation.happened)
        );
    }
    let _ = writeln!(text, "<p class=\"replay\">See it again: <code>{}</code></p>", escape(command));
    text
}

/// Position of a moment: the time of faults gets most of the width, however long the quiet after it is.
fn x_of(millis: u64, run_millis: u64, end: u64) -> u64 {
    let run = run_millis.max(1);
    if millis <= run {
        return LEFT + millis * WORK_WIDTH / run;
    }
    let rest = end.saturating_sub(run).max(1);
    LEFT + WORK_WIDTH + (millis - run).min(rest) * (WIDTH - WORK_WIDTH) / rest
}

/// One row per lane that has events; time runs to the right.
fn chart(events: &[Event], run_millis: u64) -> String {
    let end = events.iter().map(|event| event.at_millis).max().unwrap_or(0).max(run_millis + 1);
    let row_of =
        |lane: &str| LANES.iter().position(|(name, _)| *name == lane).unwrap_or(LANES.len() - 2) as u64;
    let height = LANES.len() as u64 * LANE_HEIGHT + AXIS;
    let (right, healed) = (LEFT + WIDTH + 12, x_of(run_millis, run_millis, end));
    let mut svg =
        format!("<figure><div><svg viewBox=\"0 0 {right} {height}\" role=\"img\" aria-label=\"timeline\">");
    let _ = write!(
        svg,
        "<rect class=\"after\" x=\"{healed}\" y=\"0\" width=\"{}\" height=\"{}\"/>",
        right - healed,
        height - AXIS
    );
    for (row, (_, name)) in LANES.iter().enumerate() {
        let y = row as u64 * LANE_HEIGHT + LANE_HEIGHT / 2;
        let _ = write!(
            svg,
            "<line class=\"lane\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\"/><text x=\"4\" y=\"{}\">{name}</text>",
            y + 4
        );
    }
    axis(&mut svg, run_millis, end, height);
    // Later marks lie on top: notes first, broken promises last.
    for (mark, ..) in MARKS.iter().rev().filter(|(mark, ..)| *mark != Mark::Violation).chain(&MARKS[4..]) {
        for (n, event) in events.iter().enumerate().filter(|(_, event)| event.mark == *mark) {
            let y = row_of(event.lane) * LANE_HEIGHT + LANE_HEIGHT / 2;
            point(&mut svg, n, event, x_of(event.at_millis, run_millis, end), y);
        }
    }
    svg.push_str("</svg></div><figcaption>");
    for (mark, name, meaning) in MARKS {
        let _ = write!(
            svg,
            "<span title=\"{meaning}\"><svg width=\"14\" height=\"14\"><g class=\"{mark:?}\">{}</g></svg> {name}</span>",
            shape(mark, 7, 7)
        );
    }
    svg.push_str("<span>shaded: all faults are over</span></figcaption></figure>\n");
    svg
}

/// Round numbers of seconds below the chart.
fn axis(svg: &mut String, run_millis: u64, end: u64, height: u64) {
    let step = [100, 500, 1_000, 5_000, 10_000, 20_000].into_iter().find(|step| run_millis / step <= 10);
    let step = step.unwrap_or(60_000);
    let ticks = (0..=run_millis / step).map(|n| n * step).chain((end > run_millis).then_some(end));
    for millis in ticks {
        let x = x_of(millis, run_millis, end);
        let (seconds, tenths) = (millis / 1000, millis % 1000 / 100);
        let label = if tenths == 0 { format!("{seconds} s") } else { format!("{seconds}.{tenths} s") };
        let anchor = if millis == end { "end" } else { "middle" };
        let _ = write!(
            svg,
            "<line class=\"tick\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"{}\"/>\
             <text class=\"at\" text-anchor=\"{anchor}\" x=\"{x}\" y=\"{}\">{label}</text>",
            height - AXIS,
            height - 8
        );
    }
}

fn point(svg: &mut String, n: usize, event: &Event, x: u64, y: u64) {
    let _ = write!(
        svg,
        "<a href=\"#e{n}\" class=\"{:?}\"><title>{} ms: {}</title>{}</a>",
        event.mark,
        event.at_millis,
        escape(&event.text),
        shape(event.mark, x, y)
    );
}

/// Marks differ by shape, not by colour alone.
fn shape(mark: Mark, x: u64, y: u64) -> String {
    match mark {
        Mark::Note => format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"2\"/>"),
        Mark::Commit => format!("<rect x=\"{}\" y=\"{}\" width=\"2\" height=\"12\"/>", x - 1, y - 6),
        Mark::Promise => format!("<path d=\"M{x} {}l5 9h-10z\"/>", y - 5),
        Mark::Fault => format!("<path d=\"M{x} {}l6 6l-6 6l-6-6z\"/>", y - 6),
        Mark::Violation => {
            format!("<path class=\"cross\" d=\"M{} {}l12 12m0-12l-12 12\"/>", x.saturating_sub(6), y - 6)
        }
    }
}

fn table<'a>(class: &str, events: impl Iterator<Item = (Option<usize>, &'a Event)>) -> String {
    let mut text = format!("<table class=\"{class}\"><thead><tr><th>ms<th>who<th>what</tr></thead><tbody>\n");
    for (anchor, event) in events {
        let id = anchor.map_or(String::new(), |n| format!(" id=\"e{n}\""));
        let _ = writeln!(
            text,
            "<tr class=\"{:?}\"{id}><td>{}</td><td>{}</td><td>{}</td></tr>",
            event.mark,
            event.at_millis,
            escape(event.lane),
            escape(&event.text)
        );
    }
    text.push_str("</tbody></table>\n");
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        let event = |at_millis, lane, mark, text: &str| Event { at_millis, lane, mark, text: text.into() };
        let events = vec![
            event(5, "disk", Mark::Fault, "a < b"),
            event(7, "replicator", Mark::Promise, "up to TXID 3"),
            event(90_000_000, "admin", Mark::Note, "long after"),
        ];
        let violation = crate::evidence::Violation {
            oracle: "durable",
            at_millis: 9,
            promised: "state 7".into(),
            happened: "state <5>".into(),
        };
        let outcome = Outcome { violations: vec![violation], events, ..Outcome::default() };
        timeline(&Plan::draw(3), &outcome, "replay \"x\"")
    }

    #[test]
    fn events_appear_on_their_lanes_and_text_is_escaped() {
        let page = page();
        assert!(page.contains("a &lt; b") && !page.contains("a < b") && page.contains("state &lt;5&gt;"));
        assert_eq!(page.matches("<a href=\"#e").count(), 3);
        for (_, name) in LANES {
            assert!(page.contains(&format!(">{name}</text>")), "{name}");
        }
        for n in 0..3 {
            assert!(page.contains(&format!("href=\"#e{n}\"")) && page.contains(&format!("id=\"e{n}\"")));
        }
    }

    #[test]
    fn every_element_is_closed_and_nothing_comes_from_elsewhere() {
        let page = page();
        for element in
            ["html", "head", "body", "style", "svg", "a", "g", "table", "tr", "section", "dl", "figure"]
        {
            let opened =
                page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
            assert!(opened > 0, "{element}");
        }
        for outside in ["http:", "https:", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_time_of_faults_is_readable_however_long_the_quiet_is() {
        assert_eq!(x_of(0, 1_000, 900_000), LEFT);
        assert_eq!(x_of(1_000, 1_000, 900_000), LEFT + WORK_WIDTH);
        assert_eq!(x_of(900_000, 1_000, 900_000), LEFT + WIDTH);
    }
}
