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
/// Right edge of the labels.
const LABELS: f64 = 204.0;
/// Left edges of the two panels of bars.
const PANELS: [f64; 2] = [LABELS + 16.0, LABELS + 376.0];
/// Length of a bar for a ratio of 1.
const UNIT: f64 = 170.0;
/// Bars end here, however much more it is.
const LONGEST: f64 = 1.12;
/// From the left edge of a panel to its ratios, and to the two figures behind them.
const COLUMNS: [f64; 2] = [UNIT * LONGEST + 8.0, UNIT * LONGEST + 46.0];
const ROW: f64 = 26.0;
const TOP: f64 = 104.0;

const STYLE: &str = "\
.card{fill:#fff;stroke:#d0d7de}text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#24292f}\
.title{font-size:19px;font-weight:600}.group{font-weight:600}.dim{fill:#6e7781;font-size:12px}\
.value,.detail{font-size:12px;font-variant-numeric:tabular-nums}.value{font-weight:600}.detail{fill:#6e7781}\
.them{fill:#e4e8ed}.good{fill:#2da44e}.over{fill:#d4a72c}.worse{fill:#cf222e}\
.target{stroke:#24292f;stroke-width:2}.rule{stroke:#d8dee4}\
@media(prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#30363d}text{fill:#e6edf3}\
.dim,.detail{fill:#8b949e}.them{fill:#2b323b}.good{fill:#3fb950}.over{fill:#d29922}.worse{fill:#f85149}\
.target{stroke:#e6edf3}.rule{stroke:#30363d}}";

/// Colours and what they say.
const LEGEND: [(&str, &str, f64); 4] = [
    ("them", "Litestream (shorter is better)", 200.0),
    ("good", "ours: target reached, or none set", 212.0),
    ("over", "target missed", 104.0),
    ("worse", "worse than Litestream", 148.0),
];

/// Draws what was measured; rows without figures are left out.
#[must_use]
pub fn svg(comparisons: &[Comparison]) -> String {
    let mut body = String::new();
    let mut y = TOP + ROW;
    for (name, rows) in &GROUPS {
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| PLACES.iter().any(|(place, _)| find(comparisons, row, place).is_some()))
            .collect();
        if rows.is_empty() {
            continue;
        }
        text(&mut body, (0.0, y), "group", "start", name);
        line(
            &mut body,
            &format!("<path class=\"rule\" d=\"M0 {at}H{end}\"/>", at = y + 7.0, end = WIDTH - 40.0),
        );
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
        y += ROW * 0.6;
    }
    y -= ROW * 0.6;
    let mut head = String::new();
    text(&mut head, (0.0, 26.0), "title", "start", "replicator beside Litestream 0.5.17");
    legend(&mut head, 52.0);
    for (x, (_, title)) in PANELS.iter().zip(PLACES) {
        text(&mut head, (*x, TOP), "group", "start", title);
        text(&mut head, (x + COLUMNS[0], TOP), "dim", "start", "ratio");
        text(&mut head, (x + COLUMNS[1], TOP), "dim", "start", "ours / Litestream");
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-20 -10 {WIDTH} {height:.0}\" role=\"img\">\n\
         <title>replicator beside Litestream 0.5.17</title>\n<style>{STYLE}</style>\n\
         <rect class=\"card\" x=\"-19.5\" y=\"-9.5\" width=\"{width}\" height=\"{inner:.0}\" rx=\"8\"/>\n{head}{body}</svg>\n",
        height = y + 10.0,
        width = WIDTH - 1.0,
        inner = y + 9.0,
    )
}

fn legend(out: &mut String, y: f64) {
    let mut x = 0.0;
    for (class, meaning, width) in LEGEND {
        let top = y - 10.0;
        line(
            out,
            &format!("<rect x=\"{x}\" y=\"{top}\" width=\"12\" height=\"12\" rx=\"2\" class=\"{class}\"/>"),
        );
        text(out, (x + 18.0, y), "dim", "start", meaning);
        x += width + 14.0;
    }
    line(
        out,
        &format!(
            "<path class=\"target\" d=\"M{at} {top}V{bottom}\"/>",
            at = x + 6.0,
            top = y - 12.0,
            bottom = y + 4.0
        ),
    );
    text(out, (x + 16.0, y), "dim", "start", "target");
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
        let top = y - 13.0;
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
        let (top, bottom) = (y - 16.0, y + 6.0);
        line(out, &format!("<path class=\"target\" d=\"M{at:.1} {top}V{bottom}\"/>"));
    }
    text(out, (x + COLUMNS[0], y), "value", "start", &format!("{ratio:.2}"));
    let both = format!("{} / {} {}", short(ours), short(theirs), row.unit);
    text(out, (x + COLUMNS[1], y), "detail", "start", &both);
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
        let tenth = format!("width=\"{:.1}\" height=\"16\" rx=\"2\" class=\"good\"", UNIT / 10.0);
        for expected in [tenth.as_str(), "height=\"16\" rx=\"2\" class=\"over\"", ">0.10<", ">0.10 / 1.00 s<"]
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
