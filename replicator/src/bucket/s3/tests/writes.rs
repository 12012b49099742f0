//! Writing through faults: conditions, unknown outcomes, multipart uploads, deletion.

use conformance::server::dialect::{Conditions, Treatment};
use conformance::server::{ErrorAnswer, Lie, Moment};

use super::*;
use crate::bucket::Upload;

const PART: usize = 5 << 20;

fn stored(loopback: &Loopback, key: &str) -> Option<Bytes> {
    let full = format!("some/path/{key}");
    let store = loopback.server().store();
    let version = store.version("bucket", &full, Moment::Latest).unwrap();
    version.and_then(|version| version.object.as_ref()).map(|object| object.body.clone())
}

/// How often the key was written.
fn writes(loopback: &Loopback, key: &str) -> usize {
    loopback.server().store().history("bucket", &format!("some/path/{key}")).len()
}

async fn upload(bucket: &dyn Bucket, key: &str, content: &Bytes) -> Result<PutOutcome> {
    let mut upload: Box<dyn Upload> =
        bucket.upload(key, PutCondition::IfAbsent, PutOptions::default()).await?;
    for chunk in content.chunks(1 << 20) {
        upload.write(content.slice_ref(chunk)).await?;
    }
    upload.finish().await
}

#[tokio::test]
async fn the_condition_is_trusted_only_after_it_refused() {
    let (loopback, bucket) = world().await;
    assert!(!bucket.capabilities().create_if_absent);
    put(&*bucket, "a", "1").await.unwrap();
    assert!(bucket.capabilities().create_if_absent);
    let traffic = loopback.server().take_traffic();
    // Looked before writing, wrote, and saw a second write refused.
    assert_eq!((traffic.of(Verb::HeadObject), traffic.of(Verb::PutObject)), (1, 2));
    assert_eq!(writes(&loopback, "a"), 1);
    put(&*bucket, "b", "1").await.unwrap();
    assert_eq!(loopback.server().take_traffic().total(), 1);
}

#[tokio::test]
async fn stores_that_ignore_or_refuse_the_condition_are_looked_at_first() {
    for conditions in [Conditions::Ignored, Conditions::Refused] {
        let mut dialect = Dialect { if_none_match: conditions, ..Dialect::default() };
        dialect.multipart.conditions = conditions;
        let loopback = serve(dialect).await;
        let bucket = open(settings(&loopback)).await;
        for (body, expected) in
            [("1", PutOutcome::Written), ("1", PutOutcome::AlreadyThere), ("2", PutOutcome::Conflict)]
        {
            assert_eq!(put(&*bucket, "a", body).await.unwrap(), expected, "{conditions:?}");
        }
        assert!(!bucket.capabilities().create_if_absent, "{conditions:?}");
        assert_eq!(stored(&loopback, "a").unwrap(), "1");
        let content = behaviour::pattern(PART + 1);
        assert_eq!(upload(&*bucket, "u", &content).await.unwrap(), PutOutcome::Written, "{conditions:?}");
        let other = behaviour::pattern(PART + 2);
        assert_eq!(upload(&*bucket, "u", &other).await.unwrap(), PutOutcome::Conflict, "{conditions:?}");
        assert!(stored(&loopback, "u").unwrap() == content);
    }
}

#[tokio::test]
async fn a_refusal_that_is_not_about_the_condition_does_not_turn_it_off() {
    // How often the store says so, and whether the object is written in spite of it.
    for (code, times, written) in [
        ("RequestTimeout", 1, true),
        ("ExpiredToken", 1, false),
        ("IncompleteBody", 1, false),
        ("BadDigest", 1, false),
        // This may be about the condition, but so it is refused without it as well.
        ("InvalidRequest", 2, false),
    ] {
        let (loopback, bucket) = world().await;
        let answer = Outcome::Refuse(ErrorAnswer::new(400, code));
        script(&loopback, Verb::PutObject, std::iter::repeat_n(answer, times));
        let result = put(&*bucket, "a", "x").await;
        assert_eq!(result.is_ok(), written, "{code}: {result:?}");
        put(&*bucket, "b", "x").await.unwrap();
        assert!(bucket.capabilities().create_if_absent, "{code}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_read_back() {
    let loopback = serve(Dialect::default()).await;
    let bucket = open(impatient(&loopback)).await;
    put(&*bucket, "first", "teaches that conditions hold").await.unwrap();
    let failed = || ErrorAnswer::new(500, "InternalError");
    for (i, outcome) in [
        Outcome::ApplyThenHangup,
        Outcome::ApplyThenSilence,
        Outcome::ApplyThenError(failed()),
        Outcome::Hangup,
        Outcome::Silence,
        Outcome::Refuse(failed()),
        Outcome::HangupThenApply(Duration::from_millis(1)),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("k{i}");
        script(&loopback, Verb::PutObject, [outcome.clone()]);
        assert_eq!(put(&*bucket, &key, "mine").await.unwrap(), PutOutcome::Written, "{outcome:?}");
        assert_eq!(writes(&loopback, &key), 1, "{outcome:?}");

        // The same, but somebody else's object is there.
        let key = format!("other{i}");
        put(&*bucket, &key, "theirs").await.unwrap();
        script(&loopback, Verb::PutObject, [outcome.clone()]);
        assert_eq!(put(&*bucket, &key, "mine").await.unwrap(), PutOutcome::Conflict, "{outcome:?}");
        assert_eq!(stored(&loopback, &key).unwrap(), "theirs");
    }
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_is_said_to_be() {
    let (loopback, bucket) = world().await;
    loopback.server().set_faults(Arc::new(|_: &RequestFacts| Fault::from(Outcome::Hangup)));
    let error = put(&*bucket, "a", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    // Every PUT breaks, and then nothing answers at all.
    let dead = std::sync::atomic::AtomicBool::new(false);
    loopback.server().set_faults(Arc::new(move |facts: &RequestFacts| {
        let was_dead = dead.fetch_or(facts.verb == Verb::PutObject, std::sync::atomic::Ordering::Relaxed);
        Fault::from(if was_dead || facts.verb == Verb::PutObject { Outcome::Hangup } else { Outcome::Pass })
    }));
    let options = PutOptions::default();
    let error = bucket.put("a", "x".into(), PutCondition::Overwrite, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.message().contains("unknown whether the object was written"), "{error}");
    // Broken PUTs on a store that can be read: it is known that nothing was written.
    always(&loopback, Verb::PutObject, Outcome::Hangup);
    let error = put(&*bucket, "a", "x").await.unwrap_err();
    assert!(!error.message().contains("unknown"), "{error}");
}

#[tokio::test]
async fn a_dead_store_costs_nothing_afterwards() {
    let (loopback, bucket) = world().await;
    let down = Outcome::Refuse(ErrorAnswer::new(503, "ServiceUnavailable"));
    loopback.server().set_faults(Arc::new(move |_: &RequestFacts| Fault::from(down.clone())));
    for _ in 0..20 {
        assert_eq!(put(&*bucket, "a", "x").await.unwrap_err().kind(), ErrorKind::Transient);
    }
    // No quota was drained: the first single error after recovery is survived.
    script(&loopback, Verb::PutObject, [Outcome::Refuse(ErrorAnswer::new(500, "InternalError"))]);
    assert_eq!(put(&*bucket, "a", "x").await.unwrap(), PutOutcome::Written);
}

#[tokio::test]
async fn large_objects_go_in_equal_parts_and_survive_failing_ones() {
    let mut dialect = Dialect::default();
    (dialect.multipart.equal_parts, dialect.multipart.concurrent_parts) = (true, 2);
    let loopback = serve(dialect).await;
    let bucket = open(S3Settings { concurrency: Some(2), ..settings(&loopback) }).await;
    script(
        &loopback,
        Verb::UploadPart,
        [
            Outcome::Pass,
            Outcome::Hangup,
            Outcome::Refuse(ErrorAnswer::new(500, "")),
            Outcome::ApplyThenHangup,
        ],
    );
    let content = behaviour::pattern(3 * PART + 17);
    assert_eq!(upload(&*bucket, "u", &content).await.unwrap(), PutOutcome::Written);
    assert!(stored(&loopback, "u").unwrap() == content);
    // Exactly one part: a single PUT.
    let _ = loopback.server().take_traffic();
    upload(&*bucket, "one", &behaviour::pattern(PART)).await.unwrap();
    let traffic = loopback.server().take_traffic();
    assert_eq!((traffic.of(Verb::UploadPart), traffic.of(Verb::CreateMultipartUpload)), (0, 0));
}

/// On a slow line a part takes longer than the patience with a store that fails.
#[tokio::test]
async fn a_part_that_took_long_before_it_failed_is_sent_again() {
    let loopback = serve(Dialect::default()).await;
    let mut settings = settings(&loopback);
    settings.retry.patience = Duration::from_millis(300);
    let bucket = open(settings).await;
    let is_first = std::sync::atomic::AtomicBool::new(true);
    loopback.server().set_faults(Arc::new(move |facts: &RequestFacts| {
        let fails =
            facts.verb == Verb::UploadPart && is_first.swap(false, std::sync::atomic::Ordering::Relaxed);
        if !fails {
            return Fault::default();
        }
        let outcome = Outcome::Refuse(ErrorAnswer::new(503, "SlowDown"));
        Fault { delay: Duration::from_millis(400), outcome }
    }));
    let content = behaviour::pattern(PART + 1);
    assert_eq!(upload(&*bucket, "u", &content).await.unwrap(), PutOutcome::Written);
    assert!(stored(&loopback, "u").unwrap() == content);
    // Of three parts sent, two were kept, and the upload was not begun anew.
    assert_eq!(loopback.server().traffic().of(Verb::CreateMultipartUpload), 1);
}

/// A comparison of large objects on a line that breaks: what has come is not read again.
#[tokio::test]
async fn an_object_that_is_compared_is_read_through_broken_connections() {
    let (loopback, bucket) = world().await;
    put(&*bucket, "a", behaviour::pattern(600_000)).await.unwrap();
    // More often than attempts may fail in a row.
    always(&loopback, Verb::GetObject, Outcome::CutBody(66_000));
    assert_eq!(put(&*bucket, "a", behaviour::pattern(600_000)).await.unwrap(), PutOutcome::AlreadyThere);
}

/// What an examination asks, without a look that would answer for the store.
#[tokio::test]
async fn whether_the_end_of_an_upload_is_refused_can_be_tried() {
    for (conditions, expected) in [
        (Conditions::Honoured, PutOutcome::Conflict),
        (Conditions::Ignored, PutOutcome::Written),
        (Conditions::Refused, PutOutcome::Written),
    ] {
        let mut dialect = Dialect::default();
        dialect.multipart.conditions = conditions;
        let loopback = serve(dialect).await;
        let bucket = open(settings(&loopback)).await;
        put(&*bucket, "a", "1").await.unwrap();
        assert_eq!(bucket.try_to_finish_over("a").await.unwrap(), expected, "{conditions:?}");
        no_uploads_left(&loopback).await;
    }
}

#[tokio::test]
async fn the_end_of_an_upload_may_fail_in_every_way() {
    let (loopback, bucket) = world().await;
    let content = behaviour::pattern(PART + 1);
    let error = || ErrorAnswer::new(500, "InternalError");
    for (i, outcome) in [
        Outcome::ErrorInOk(error()),
        Outcome::ApplyThenHangup,
        Outcome::ApplyThenError(error()),
        Outcome::Hangup,
        Outcome::Refuse(error()),
        Outcome::CutBody(30),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("u{i}");
        script(&loopback, Verb::CompleteMultipartUpload, [outcome.clone()]);
        assert_eq!(upload(&*bucket, &key, &content).await.unwrap(), PutOutcome::Written, "{outcome:?}");
        assert!(stored(&loopback, &key).unwrap() == content, "{outcome:?}");
        assert_eq!(writes(&loopback, &key), 1, "{outcome:?}");
    }
    assert!(loopback.server().store().uploads("bucket").unwrap().is_empty());
}

async fn no_uploads_left(loopback: &Loopback) {
    for _ in 0..200 {
        if loopback.server().store().uploads("bucket").unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("unfinished uploads were left");
}

#[tokio::test]
async fn failed_conflicting_and_abandoned_uploads_are_removed() {
    let (loopback, bucket) = world().await;
    let content = behaviour::pattern(2 * PART + 1);
    always(&loopback, Verb::UploadPart, Outcome::Refuse(ErrorAnswer::new(403, "AccessDenied")));
    assert_eq!(upload(&*bucket, "a", &content).await.unwrap_err().kind(), ErrorKind::Denied);
    no_uploads_left(&loopback).await;

    script(&loopback, Verb::AbortMultipartUpload, [Outcome::Hangup, Outcome::ApplyThenHangup]);
    put(&*bucket, "a", "theirs").await.unwrap();
    assert_eq!(upload(&*bucket, "a", &content).await.unwrap(), PutOutcome::Conflict);
    no_uploads_left(&loopback).await;

    let mut begun = bucket.upload("b", PutCondition::IfAbsent, PutOptions::default()).await.unwrap();
    begun.write(content.clone()).await.unwrap();
    drop(begun);
    no_uploads_left(&loopback).await;
    assert_eq!(bucket.head("b").await.unwrap(), None);
}

#[tokio::test]
async fn deletions_are_confirmed_key_by_key() {
    let (loopback, bucket) = world().await;
    let keys = ["k1", "k2", "k3"].map(str::to_owned);
    let fill = async || {
        for key in &keys {
            put(&*bucket, key, "x").await.unwrap();
        }
    };
    fill().await;
    let locked = ErrorAnswer::new(403, "AccessDenied");
    script(&loopback, Verb::DeleteObjects, [Outcome::FailKeys("k2".to_owned(), locked)]);
    let failures = bucket.delete(&keys).await.unwrap();
    assert_eq!(failures.iter().map(|failure| failure.key.as_str()).collect::<Vec<_>>(), ["k2"]);
    assert_eq!(failures[0].error.kind(), ErrorKind::Denied);
    fill().await;
    // A cut answer says nothing; the request is repeated.
    script(&loopback, Verb::DeleteObjects, [Outcome::CutBody(40), Outcome::ApplyThenHangup]);
    assert!(bucket.delete(&keys).await.unwrap().is_empty());
    assert_eq!(bucket.list("k", None).await.unwrap(), []);
    fill().await;
    always(&loopback, Verb::DeleteObjects, Outcome::Refuse(ErrorAnswer::new(403, "AccessDenied")));
    assert_eq!(bucket.delete(&keys).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn stores_without_batch_deletion_get_single_ones() {
    let loopback = serve(Dialect { batch_delete: Treatment::Refused, ..Dialect::default() }).await;
    let bucket = open(settings(&loopback)).await;
    let keys = ["k1", "k2", "k3"].map(str::to_owned);
    for expected_batches in [1, 0] {
        for key in &keys {
            put(&*bucket, key, "x").await.unwrap();
        }
        let _ = loopback.server().take_traffic();
        assert!(bucket.delete(&keys).await.unwrap().is_empty());
        let traffic = loopback.server().take_traffic();
        assert_eq!((traffic.of(Verb::DeleteObjects), traffic.of(Verb::DeleteObject)), (expected_batches, 3));
        assert_eq!(bucket.list("k", None).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_lying_etag_or_lost_metadata_does_not_mislead() {
    let (loopback, bucket) = world().await;
    script(&loopback, Verb::PutObject, [Outcome::Lie(Lie::WrongEtag)]);
    assert_eq!(put(&*bucket, "a", "x").await.unwrap(), PutOutcome::Written);
    assert_eq!(put(&*bucket, "a", "x").await.unwrap(), PutOutcome::AlreadyThere);
}
