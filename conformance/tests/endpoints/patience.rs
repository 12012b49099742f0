//! A provider that rations writes of a key, and stumbles, is asked again; one that serves little at once is not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use conformance::checks::{self, Options};
use conformance::server::{ErrorAnswer, Fault, Outcome, RequestFacts, Server, Settings, Verb, system_clock};
use conformance::targets::Target;
use conformance::verdict::Report;

async fn ran(faults: impl Fn(&RequestFacts) -> Fault + Send + Sync + 'static, only: &[&str]) -> Report {
    let mut settings = Settings::new(system_clock());
    settings.faults = Arc::new(faults);
    let loopback = Server::new(settings).start_loopback().await.expect("a free port");
    let target = Target::local("busy", &loopback.endpoint(), "access", "secret");
    let only = only.iter().map(|start| (*start).to_owned()).collect();
    checks::run(target, &Options { only, ..Options::default() }).await.expect("it is there")
}

fn refuse(status: u16, code: &str) -> Fault {
    Outcome::Refuse(ErrorAnswer::new(status, code)).into()
}

/// Every so many requests that change something, one is answered like this.
fn stumbling(status: u16) -> impl Fn(&RequestFacts) -> Fault {
    move |request| match request.verb {
        Verb::PutObject | Verb::UploadPart if request.ordinal % 3 == 0 => refuse(status, "SlowDown"),
        _ => Fault::default(),
    }
}

fn all_passed(report: &Report) {
    for outcome in &report.outcomes {
        assert!(outcome.passed, "{}: {:?}", outcome.id, outcome.detail);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_a_key_may_be_rationed() {
    let just_written = Mutex::new(BTreeSet::new());
    // Counted, not timed: after each write of a key the next attempt comes too early, however slow the machine is.
    let one_in_a_while = move |request: &RequestFacts| {
        if request.verb != Verb::PutObject {
            return Fault::default();
        }
        let key = request.key.clone().unwrap_or_default();
        let mut just_written = just_written.lock().unwrap();
        if just_written.remove(&key) {
            return refuse(429, "TooManyRequests");
        }
        just_written.insert(key);
        Fault::default()
    };
    let report =
        ran(one_in_a_while, &["parallel.overwrites", "condition.create-race", "put.overwrite-shorter"]).await;
    all_passed(&report);
    let said = report.outcomes[0].detail.clone().unwrap();
    assert!(said.contains("asked again 1 times after 429"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stumble_is_not_the_verdict() {
    for status in [500, 503] {
        all_passed(&ran(stumbling(status), &["put.overwrite-shorter", "sdk.put-get"]).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_much_is_served_at_once_is_asked_once() {
    let report = ran(stumbling(503), &["parallel.puts"]).await;
    let outcome = &report.outcomes[0];
    assert!(!outcome.passed);
    let said = outcome.detail.clone().unwrap();
    // Counted, not timed: a busy machine is slow.
    assert!(said.contains("503") && !said.contains("asked again"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_stays_is_the_endpoints() {
    let broken = |request: &RequestFacts| match request.verb {
        Verb::PutObject => refuse(500, "InternalError"),
        _ => Fault::default(),
    };
    let report = ran(broken, &["put.one-byte"]).await;
    let said = report.outcomes[0].detail.clone().unwrap();
    assert!(said.contains("500 InternalError") && said.contains("asked again 2 times"), "{said}");
}
