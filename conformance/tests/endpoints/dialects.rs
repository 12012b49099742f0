//! Every dialect fails the checks that its file declares, and no others.

use conformance::checks::{self, Options};
use conformance::targets::{self, Start};

/// Groups that move little; the whole suite is for `conformance run ci --strict`.
fn quick() -> Options {
    let only = ["address", "auth", "put", "condition", "get", "head", "list", "delete", "multipart", "sdk"];
    let heavy = [
        "put.around-part-size",
        "list.over-1000",
        "multipart.two-parts",
        "multipart.any-order",
        "multipart.number-gap",
        "multipart.parallel-parts",
        "sdk.multipart",
    ];
    Options {
        only: only.map(str::to_owned).to_vec(),
        skip: heavy.map(str::to_owned).to_vec(),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialects_fail_what_they_declare() {
    let mut runs = tokio::task::JoinSet::new();
    for entry in targets::catalogue().unwrap() {
        if matches!(entry.start, Start::Script(_) | Start::Environment(_)) {
            continue;
        }
        runs.spawn(async move {
            let running = targets::start(&entry, std::path::Path::new("unused")).await.unwrap();
            checks::run(running.target.clone(), &quick()).await.unwrap()
        });
    }
    let mut surprises = Vec::new();
    while let Some(report) = runs.join_next().await {
        let report = report.unwrap();
        assert!(report.outcomes.len() > 140, "{} checks ran", report.outcomes.len());
        for outcome in &report.outcomes {
            let check = checks::all().into_iter().find(|check| check.id == outcome.id).unwrap();
            let cost =
                format!("{} took {} requests and {} bytes", outcome.id, outcome.requests, outcome.bytes);
            assert!(
                outcome.requests <= check.requests && outcome.bytes <= check.kib * 1024,
                "{cost}: declare them"
            );
        }
        for outcome in report.surprises() {
            surprises.push(format!(
                "{} {} {}: {:?}",
                report.target,
                outcome.id,
                outcome.word(),
                outcome.detail
            ));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

#[tokio::test]
async fn an_undeclared_difference_is_a_surprise() {
    let mut entry =
        targets::catalogue().unwrap().into_iter().find(|entry| entry.name == "dialect-ceph").unwrap();
    entry.quirks.remove("condition.replace").unwrap();
    entry.quirks.insert("head.size".to_owned(), "declared, and not so".to_owned());
    let running = targets::start(&entry, std::path::Path::new("unused")).await.unwrap();
    let options =
        Options { only: vec!["condition.replace".into(), "head.size".into()], ..Options::default() };
    let report = checks::run(running.target.clone(), &options).await.unwrap();
    let found: Vec<_> = report.surprises().iter().map(|outcome| outcome.id.as_str()).collect();
    assert_eq!(found, ["condition.replace", "head.size"]);
}
