//! The timeline of a failing run in a headless browser: hosts are lanes, marks are where and what they should be, it can
//! be read in both colour schemes and on a narrow window. `timeline.js` judges; here it is also seen to object.
//!
//! Needs Chromium (`scripts/apt.sh chromium fonts-dejavu-core`). Without one this says so and passes, but not in CI.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use simulator::events::{Event, Mark};
use simulator::evidence::Violation;
use simulator::lite::Outcome;
use simulator::plan::Plan;
use simulator::report;

const JUDGE: &str = include_str!("timeline.js");

/// A wide window and one as narrow as a telephone's.
const WINDOWS: [&str; 2] = ["1280,900", "420,800"];

/// As Blink numbers them.
const DARK: &str = "0";
const LIGHT: &str = "1";

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        let what = "no browser: the timeline is not looked at (scripts/apt.sh chromium fonts-dejavu-core)";
        assert!(std::env::var_os("CI").is_none(), "{what}");
        eprintln!("{what}");
    }
    found
}

/// The page of a real run, in which a promise counts as broken.
fn page() -> (String, Outcome) {
    let plan = Plan::draw(7);
    let mut outcome = simulator::run(&plan, false);
    assert_eq!(outcome.violations, []);
    let violation = Violation {
        oracle: "durable",
        at_millis: 1_400,
        promised: "what was reported can be restored".into(),
        happened: "state <5> & no more".into(),
    };
    let text = format!("{}: {}", violation.oracle, violation.happened);
    outcome.events.push(Event { at_millis: 1_400, lane: "oracle", mark: Mark::Violation, text });
    outcome.violations.push(violation);
    (report::timeline(&plan, &outcome, "simulator replay --seed 7"), outcome)
}

/// What the judge objects to in `page`.
#[expect(clippy::disallowed_methods, reason = "the page is for a browser outside the simulation")]
fn complaints(browser: &Path, page: &str, outcome: &Outcome, window: &str, scheme: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("timeline.html");
    let hosts: BTreeSet<&str> = outcome.events.iter().map(|event| event.lane).collect();
    let expected = serde_json::json!({
        "events": outcome.events.len(),
        "hosts": hosts,
        "promised": outcome.violations[0].promised,
    });
    let judged = page.replace(
        "</body>",
        &format!("<script>const expected = {expected};</script><script>{JUDGE}</script></body>"),
    );
    std::fs::write(&file, judged).expect("room for a page");
    // Bounded: a browser that hangs is a failure, not a wait.
    let output = Command::new("timeout")
        .arg("120")
        .arg(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--window-size={window}"))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("coreutils");
    let dom = String::from_utf8_lossy(&output.stdout);
    let verdict = dom.split_once("<pre id=\"verdict\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let Some((verdict, _)) = verdict else {
        panic!("no verdict ({}): {}", output.status, String::from_utf8_lossy(&output.stderr))
    };
    if verdict == "none" {
        return Vec::new();
    }
    let text = percent_encoding::percent_decode_str(verdict).decode_utf8_lossy().into_owned();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_browser_shows_the_timeline_as_it_is_meant() {
    let Some(browser) = browser() else { return };
    let (page, outcome) = page();
    for window in WINDOWS {
        for scheme in [LIGHT, DARK] {
            let found = complaints(&browser, &page, &outcome, window, scheme);
            assert!(found.is_empty(), "{window}, scheme {scheme}:\n{}", found.join("\n"));
        }
    }
}

/// The judge has teeth: each of these pages is wrong in one way.
#[test]
fn a_page_that_is_wrong_is_objected_to() {
    let Some(browser) = browser() else { return };
    let (page, outcome) = page();
    let styled = |style: &str| page.replace("</style>", &format!("{style}</style>"));
    let wrong = [
        (styled("table{width:3000px}"), "wider than the window"),
        (styled("figure text{font-size:60px}"), "overlap"),
        (styled("a[href='#e1']{transform:translateY(34px)}"), "lane"),
        (styled("a[href='#e1']{display:none}"), "on no lane"),
        (styled(".Fault path{fill:var(--promise)}"), "looks like"),
        (styled("tr.Fault td:nth-child(n+2){color:#e8b0b0}"), "contrast"),
        (styled("section.broken{margin-top:3000px}"), "not on the first screen"),
        (styled(".all tr.Note{display:table-row!important}"), "not hidden"),
        (page.replace("id=\"notes\"", "id=\"nothing\""), "cannot be"),
        (page.replacen("href=\"#e2\"", "href=\"#e3\"", 1), "another event"),
    ];
    for (page, expected) in wrong {
        let found = complaints(&browser, &page, &outcome, WINDOWS[0], LIGHT);
        let objects = found.iter().any(|complaint| complaint.contains(expected));
        assert!(objects, "nothing says \"{expected}\":\n{}", found.join("\n"));
    }
}
