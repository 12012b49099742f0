//! The comparison as a picture: one bar per figure, its length ours divided by Litestream's.
//!
//! Static SVG without scripts or fonts of its own, so that it can be shown in a README.

use std::fmt::Write as _;

use crate::figures::Comparison;

/// A row of the chart.
struct Row {
    label: &'static str,
    workload: &'static str,
    figure: &'static str,
    unit: &'static str,
    /// The ratio that we want to stay below.
    target: Option<f64>,
}

const fn row(
    label: &'static str,
    workload: &'static str,
    figure: &'static str,
    unit: &'static str,
    target: Option<f64>,
) -> Row {
    Row { label, workload, figure, unit, target }
}

/// Groups of rows, from top to bottom.
const GROUPS: [(&str, &[Row]); 3] = [
    (
        "Processor time",
        &[
            row("bulk insert, 100 MB", "bulk", "cpu s", "s", Some(0.25)),
            row("updates, 1000 pages/s", "updates", "cpu s", "s", Some(0.25)),
            row("first copy, 100 MB", "first-copy", "cpu s", "s", Some(0.05)),
            row("500 idle databases", "idle", "cpu s", "s", Some(0.1)),
        ],
    ),
    (
        "Peak memory",
        &[
            row("bulk insert, 100 MB", "bulk", "peak memory MB", "MB", Some(0.5)),
            row("updates, 1000 pages/s", "updates", "peak memory MB", "MB", Some(0.5)),
            row("first copy, 100 MB", "first-copy", "peak memory MB", "MB", Some(0.5)),
            row("500 idle databases", "idle", "peak memory MB", "MB", Some(0.25)),
        ],
    ),
    (
        "Waiting",
        &[
            row("restore of 400 MB", "restore", "wall s", "s", Some(0.35)),
            row("restore with default checks", "restore", "wall by default s", "s", None),
            row("commit to object, idle, p50", "after-idle", "lag p50 ms", "ms", None),
            row("commit to object, load, p50", "updates", "lag p50 ms", "ms", None),
            row("commit to object, load, p99", "updates", "lag p99 ms", "ms", None),
        ],
    ),
];

const PLACES: [(&str, &str); 2] = [("directory", "to a directory"), ("s3", "to S3")];

const WIDTH: f64 = 960.0;
const LABELS: f64 = 210.0;
/// Left edges of the two panels of bars.
const PANELS: [f64; 2] = [LABELS + 20.0, LABELS + 395.0];
/// Length of a bar for a ratio of 1.
const UNIT: f64 = 210.0;
/// Bars end here, however much more it is.
const LONGEST: f64 = 1.12;
const ROW: f64 = 24.0;
const TOP: f64 = 92.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}\
.title{font-size:18px;font-weight:600}.group{font-weight:600}.dim{fill:#6e7781;font-size:12px}\
.value{font-size:12px;font-variant-numeric:tabular-nums}.them{fill:#eaeef2}.good{fill:#2da44e}.over{fill:#bf8700}\
.worse{fill:#cf222e}.target{stroke:#24292f;stroke-width:1.5}";

/// Draws what was measured; rows without figures are left out.
#[must_use]
pub fn svg(comparisons: &[Comparison]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for (name, rows) in &GROUPS {
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| PLACES.iter().any(|(place, _)| find(comparisons, row, place).is_some()))
            .collect();
        if rows.is_empty() {
            continue;
        }
        text(&mut body, (0.0, y), "group", "start", name);
        y += ROW;
        for row in rows {
            text(&mut body, (LABELS, y), "label", "end", row.label);
            for (x, (place, _)) in PANELS.iter().zip(PLACES) {
                if let Some((ours, theirs)) = find(comparisons, row, place) {
                    bar(&mut body, (*x, y), row, ours, theirs);
                }
            }
            y += ROW;
        }
        y += ROW / 2.0;
    }
    let mut head = String::new();
    text(&mut head, (0.0, 24.0), "title", "start", "replicator beside Litestream 0.5.17");
    let legend = "Grey is Litestream, shorter is better. Line: our target. Green: reached; amber: missed; red: worse than Litestream.";
    text(&mut head, (0.0, 46.0), "dim", "start", legend);
    for (x, (_, title)) in PANELS.iter().zip(PLACES) {
        text(&mut head, (*x, TOP - 12.0), "dim", "start", title);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-20 -10 {WIDTH} {height:.0}\" role=\"img\">\n\
         <title>replicator beside Litestream 0.5.17</title>\n<style>{STYLE}</style>\n\
         <rect x=\"-20\" y=\"-10\" width=\"{WIDTH}\" height=\"{height:.0}\" rx=\"8\" fill=\"#fff\"/>\n{head}{body}</svg>\n",
        height = y + 10.0,
    )
}

/// Ours and Litestream's, if both were measured.
fn find(comparisons: &[Comparison], row: &Row, place: &str) -> Option<(f64, f64)> {
    let mut found = comparisons.iter().filter(|one| one.workload == row.workload && one.place == place);
    let comparison = found.next()?;
    let theirs = *comparison.litestream.0.get(row.figure)?;
    Some((*comparison.ours.0.get(row.figure)?, theirs)).filter(|_| theirs > 0.0)
}

fn bar(out: &mut String, (x, y): (f64, f64), row: &Row, ours: f64, theirs: f64) {
    let ratio = ours / theirs;
    let class = match row.target {
        _ if ratio > 1.0 => "worse",
        Some(target) if ratio > target => "over",
        _ => "good",
    };
    let mut rect = |width: f64, class: &str| {
        let top = y - 12.0;
        line(
            out,
            &format!(
                "<rect x=\"{x}\" y=\"{top}\" width=\"{width:.1}\" height=\"16\" rx=\"2\" class=\"{class}\"/>"
            ),
        );
    };
    rect(UNIT, "them");
    rect((ratio.min(LONGEST) * UNIT).max(1.5), class);
    if let Some(target) = row.target {
        let at = x + target * UNIT;
        let (top, bottom) = (y - 14.0, y + 6.0);
        line(out, &format!("<path class=\"target\" d=\"M{at:.1} {top}V{bottom}\"/>"));
    }
    let value = format!("{ratio:.2} · {} / {} {}", short(ours), short(theirs), row.unit);
    text(out, (x + LONGEST * UNIT + 6.0, y), "value", "start", &value);
}

/// About three digits.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn text(out: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, content: &str) {
    line(
        out,
        &format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{content}</text>"
        ),
    );
}

fn line(out: &mut String, content: &str) {
    writeln!(out, "{content}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    fn comparison(workload: &str, figure: &str, ours: f64, theirs: f64) -> Comparison {
        let figures = |value| Figures([(figure.to_owned(), value)].into());
        let place = "s3".to_owned();
        Comparison { workload: workload.to_owned(), place, ours: figures(ours), litestream: figures(theirs) }
    }

    #[test]
    fn bars_have_the_length_and_the_colour_of_the_ratio() {
        let drawn = svg(&[
            comparison("bulk", "cpu s", 0.1, 1.0),
            comparison("updates", "cpu s", 0.5, 1.0),
            comparison("idle", "cpu s", 30.0, 10.0),
            comparison("restore", "wall s", 1.0, 0.0),
        ]);
        for expected in
            ["width=\"21.0\" height=\"16\" rx=\"2\" class=\"good\"", "class=\"over\"", "0.10 · 0.10 / 1.00 s"]
        {
            assert!(drawn.contains(expected), "{expected} in {drawn}");
        }
        let longest = format!("width=\"{:.1}\" height=\"16\" rx=\"2\" class=\"worse\"", LONGEST * UNIT);
        assert!(drawn.contains(&longest), "cut at the end of the panel");
        assert!(
            !drawn.contains("Peak memory") && !drawn.contains("restore of"),
            "what was not measured is left out"
        );
        assert_eq!(drawn.matches("<text").count(), drawn.matches("</text>").count());
    }
}
