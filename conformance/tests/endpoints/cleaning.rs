//! What a run leaves behind: nothing, or a report of it.

use std::sync::Arc;

use conformance::checks::{self, Options};
use conformance::server::{
    ErrorAnswer, Fault, Moment, Outcome, RequestFacts, Server, Settings, Verb, system_clock,
};
use conformance::targets::Target;
use conformance::verdict;

async fn ran(
    faults: impl Fn(&RequestFacts) -> Fault + Send + Sync + 'static,
    check: &str,
) -> (Server, verdict::Outcome) {
    let mut settings = Settings::new(system_clock());
    settings.faults = Arc::new(faults);
    let server = Server::new(settings);
    let loopback = server.clone().start_loopback().await.expect("a free port");
    let target = Target::local("refusing", &loopback.endpoint(), "access", "secret");
    let options = Options { only: vec![check.to_owned()], ..Options::default() };
    let report = checks::run(target, &options).await.expect("it is there");
    (server, report.outcomes.into_iter().next().expect("the check exists"))
}

fn refuse(status: u16, code: &str) -> Fault {
    Outcome::Refuse(ErrorAnswer::new(status, code)).into()
}

#[tokio::test]
async fn refused_deletions_are_reported() {
    let refusing = |request: &RequestFacts| match request.verb {
        Verb::DeleteObject | Verb::DeleteObjects => refuse(403, "AccessDenied"),
        _ => Fault::default(),
    };
    let (_, outcome) = ran(refusing, "put.one-byte").await;
    assert!(outcome.passed, "{:?}", outcome.detail);
    let left = outcome.left_behind.unwrap();
    assert!(left.contains("1 objects are left") && left.contains("403 AccessDenied"), "{left}");
    let (_, outcome) = ran(|_| Fault::default(), "put.one-byte").await;
    assert_eq!(outcome.left_behind, None);
}

#[tokio::test]
async fn an_upload_that_the_sdk_began_is_aborted() {
    let failing = |request: &RequestFacts| match request.verb {
        Verb::UploadPart => refuse(400, "InvalidRequest"),
        _ => Fault::default(),
    };
    let (server, outcome) = ran(failing, "sdk.multipart").await;
    assert!(!outcome.passed);
    assert_eq!(server.store().uploads("conformance").unwrap().len(), 0);
}

#[tokio::test]
async fn the_key_outside_of_the_prefix_goes_although_it_cannot_be_read() {
    let blind = |request: &RequestFacts| match request.verb {
        Verb::GetObject => refuse(403, "AccessDenied"),
        _ => Fault::default(),
    };
    let (server, outcome) = ran(blind, "address.leading-slash").await;
    assert!(!outcome.passed);
    let store = server.store();
    assert!(store.log().iter().any(|event| event.key.starts_with('/')), "it was written");
    let left: Vec<_> = store.list("conformance", "", Moment::Latest).unwrap().map(|(key, ..)| key).collect();
    assert_eq!(left, [""; 0]);
}
