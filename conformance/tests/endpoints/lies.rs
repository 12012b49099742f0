//! The suite in reverse: a server broken on purpose is caught by the check named here, each time.

use std::sync::Arc;

use conformance::checks::{self, Options};
use conformance::server::{Fault, Lie, Outcome, RequestFacts, Server, Settings, Verb, system_clock};
use conformance::targets::Target;

/// Lie, the requests it concerns, and the check that must fail.
const LIES: &[(Lie, &[Verb], &str)] = &[
    (Lie::AckWithoutStore, &[Verb::PutObject], "put.one-byte"),
    (Lie::AckWithoutStore, &[Verb::DeleteObject], "delete.one"),
    (Lie::AckWithoutStore, &[Verb::CompleteMultipartUpload], "multipart.one-part"),
    (Lie::StoreHalf, &[Verb::PutObject], "put.around-64-KiB"),
    (Lie::StoreHalf, &[Verb::UploadPart], "multipart.one-part"),
    (Lie::StoreFlippedBit, &[Verb::PutObject], "put.one-byte"),
    (Lie::LoseMetadata, &[Verb::PutObject], "put.metadata"),
    (Lie::LoseMetadata, &[Verb::CreateMultipartUpload], "multipart.metadata"),
    (Lie::IgnoreCondition, &[Verb::PutObject], "condition.create-refused"),
    (Lie::IgnoreCondition, &[Verb::PutObject], "condition.create-race"),
    (Lie::IgnoreCondition, &[Verb::PutObject], "condition.replace-refused"),
    (Lie::IgnoreCondition, &[Verb::CompleteMultipartUpload], "condition.complete"),
    (Lie::IgnoreChecksums, &[Verb::PutObject], "put.wrong-checksum"),
    (Lie::IgnoreChecksums, &[Verb::PutObject], "put.wrong-content-md5"),
    (Lie::WrongEtag, &[Verb::GetObject], "get.etag-agrees"),
    (Lie::WrongEtag, &[Verb::PutObject], "put.etag-is-md5"),
    (Lie::IgnoreRange, &[Verb::GetObject], "get.range-middle"),
    (Lie::ShiftRange, &[Verb::GetObject], "get.range-middle"),
    (Lie::ShiftRange, &[Verb::GetObject], "get.content-range"),
    (Lie::ShortBody, &[Verb::GetObject], "get.content-length"),
    (Lie::ShortBody, &[Verb::GetObject], "get.range-open"),
    (Lie::StaleRead, &[Verb::GetObject], "put.overwrite"),
    (Lie::StaleRead, &[Verb::GetObject], "put.overwrite-read-after-write"),
    (Lie::EmptyForMissing, &[Verb::GetObject], "get.missing"),
    (Lie::EmptyForMissing, &[Verb::HeadObject], "head.missing"),
    (Lie::WrongHeadSize, &[Verb::HeadObject], "head.size"),
    (Lie::UnorderedList, &[Verb::ListObjects], "list.order"),
    (Lie::EmptyList, &[Verb::ListObjects], "list.finds-all"),
    (Lie::GapsInList, &[Verb::ListObjects], "list.finds-all"),
    (Lie::ListStartsOver, &[Verb::ListObjects], "list.pages"),
    (Lie::ListEndsEarly, &[Verb::ListObjects], "list.pages"),
    (Lie::IgnoreStartAfter, &[Verb::ListObjects], "list.start-after"),
    (Lie::IgnorePrefix, &[Verb::ListObjects], "list.prefix"),
    (Lie::WrongListSize, &[Verb::ListObjects], "list.sizes"),
    (Lie::BatchDeleteLeavesAll, &[Verb::DeleteObjects], "delete.batch"),
    (Lie::PartsReversed, &[Verb::CompleteMultipartUpload], "multipart.two-parts"),
    (Lie::LoseLastPart, &[Verb::CompleteMultipartUpload], "multipart.two-parts"),
    (Lie::AbortKeepsUpload, &[Verb::AbortMultipartUpload], "multipart.abort"),
    (Lie::AcceptAnySignature, &[Verb::PutObject], "auth.wrong-secret"),
    (Lie::AcceptAnySignature, &[Verb::PutObject], "auth.anonymous"),
    (Lie::AcceptAnySignature, &[Verb::ListObjects], "auth.list-refused-is-error"),
];

async fn passes(faults: impl Fn(&RequestFacts) -> Fault + Send + Sync + 'static, check: &str) -> bool {
    let mut settings = Settings::new(system_clock());
    settings.faults = Arc::new(faults);
    let loopback = Server::new(settings).start_loopback().await.expect("a free port");
    let target = Target::local("liar", &loopback.endpoint(), "access", "secret");
    let report = checks::run(target, &Options { only: vec![check.to_owned()], ..Options::default() })
        .await
        .expect("it is there");
    let outcome = report.outcomes.iter().find(|outcome| outcome.id == check).expect("the check exists");
    outcome.passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lie_is_caught_by_its_check() {
    for &(lie, verbs, check) in LIES {
        assert!(passes(|_| Fault::default(), check).await, "{check} fails without a lie");
        let lying = move |request: &RequestFacts| {
            if verbs.contains(&request.verb) { Outcome::Lie(lie).into() } else { Fault::default() }
        };
        assert!(!passes(lying, check).await, "{check} does not notice {lie:?} on {verbs:?}");
    }
}

/// Faults that need not be lies: what a check sees of a listing that lags and of a completion that fails inside a 200.
#[tokio::test]
async fn lagging_lists_and_hidden_errors_are_caught() {
    use conformance::server::{ErrorAnswer, Staleness};
    let stale = |request: &RequestFacts| match request.verb {
        Verb::ListObjects => Outcome::StaleList(Staleness::HideNewest(1)).into(),
        _ => Fault::default(),
    };
    assert!(!passes(stale, "list.read-after-write").await);
    assert!(!passes(stale, "list.read-after-delete").await);
    let hidden = |request: &RequestFacts| match request.verb {
        Verb::CompleteMultipartUpload => Outcome::ErrorInOk(ErrorAnswer::new(200, "InternalError")).into(),
        _ => Fault::default(),
    };
    assert!(!passes(hidden, "multipart.one-part").await);
    let failing = |request: &RequestFacts| match request.verb {
        Verb::DeleteObjects => {
            Outcome::FailKeys("/a".to_owned(), ErrorAnswer::new(200, "AccessDenied")).into()
        }
        _ => Fault::default(),
    };
    assert!(!passes(failing, "delete.batch").await);
}

/// Every lie that the server can tell is in the table.
#[test]
fn no_lie_is_left_out() {
    let told: std::collections::BTreeSet<_> = LIES.iter().map(|(lie, _, _)| *lie).collect();
    assert_eq!(told.len(), 26, "{told:?}");
}
