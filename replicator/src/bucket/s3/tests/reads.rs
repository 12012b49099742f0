//! Reading through faults: retries, resumption, silence, lies.

use conformance::server::{ErrorAnswer, Lie};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::bucket::ByteRange;

const SIZE: usize = 600_000;

/// A bucket with one object of [`SIZE`] bytes under `a`.
async fn with_object() -> (Loopback, Arc<dyn Bucket>, Bytes) {
    let loopback = serve(Dialect::default()).await;
    let bucket = open(impatient(&loopback)).await;
    let content = behaviour::pattern(SIZE);
    put(&*bucket, "a", content.clone()).await.unwrap();
    let _ = loopback.server().take_traffic();
    (loopback, bucket, content)
}

#[tokio::test]
async fn a_cut_body_is_resumed_where_it_ended() {
    let (loopback, bucket, content) = with_object().await;
    script(&loopback, Verb::GetObject, [Outcome::CutBody(100_000), Outcome::CutBody(100_000)]);
    assert!(text(&*bucket, "a").await == content);
    let traffic = loopback.server().take_traffic();
    assert_eq!(traffic.of(Verb::GetObject), 3);
    // A cut answer counts as it was meant: all, then what was left, and again.
    assert_eq!(traffic.bytes_out, 600_000 + 500_000 + 400_000);
}

#[tokio::test]
async fn progress_refills_the_budget_and_drops_do_not() {
    let (loopback, bucket, content) = with_object().await;
    // Nine cuts, more than the four attempts that may fail in a row.
    always(&loopback, Verb::GetObject, Outcome::CutBody(66_000));
    assert!(text(&*bucket, "a").await == content);
    assert_eq!(loopback.server().take_traffic().of(Verb::GetObject), 10);

    always(&loopback, Verb::GetObject, Outcome::CutBody(1));
    let error = read_all(&*bucket, "a", 1 << 30).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.message().contains("of 600000 bytes did not come"), "{error}");
    assert_eq!(loopback.server().take_traffic().of(Verb::GetObject), 4);
}

#[tokio::test]
async fn a_silent_body_is_noticed_and_resumed() {
    let (loopback, bucket, content) = with_object().await;
    script(
        &loopback,
        Verb::GetObject,
        [Outcome::StallBody(0), Outcome::StallBody(300_000), Outcome::Silence],
    );
    let start = tokio::time::Instant::now();
    assert!(text(&*bucket, "a").await == content);
    assert!(start.elapsed() >= 3 * SHORT && start.elapsed() < 10 * SHORT, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_silent_server_is_an_error_and_not_a_hang() {
    let (loopback, bucket, _) = with_object().await;
    for outcome in [Outcome::Silence, Outcome::StallBody(10)] {
        always(&loopback, Verb::GetObject, outcome);
        let error = read_all(&*bucket, "a", 1 << 30).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(error.message().contains("no progress for 400ms"), "{error}");
    }
}

#[tokio::test]
async fn a_reader_that_takes_its_time_is_no_fault() {
    let (loopback, bucket, content) = with_object().await;
    let mut body = bucket.get("a", None).await.unwrap();
    let mut read = 0;
    while let Some(chunk) = body.chunk().await.unwrap() {
        if read == 0 {
            tokio::time::sleep(2 * SHORT).await;
        }
        read += chunk.len();
    }
    assert_eq!(read, content.len());
    assert_eq!(loopback.server().take_traffic().of(Verb::GetObject), 1);
}

#[tokio::test]
async fn slow_but_moving_is_fine() {
    let (loopback, bucket, content) = with_object().await;
    script(&loopback, Verb::GetObject, [Outcome::Dribble(60_000, SHORT / 4)]);
    assert!(text(&*bucket, "a").await == content);
    assert_eq!(loopback.server().take_traffic().of(Verb::GetObject), 1);
}

#[tokio::test]
async fn throttling_is_waited_out_and_retry_after_is_honoured() {
    let (loopback, bucket, content) = with_object().await;
    let busy = |status, code: &str| Outcome::Refuse(ErrorAnswer::new(status, code));
    script(&loopback, Verb::GetObject, [busy(408, "RequestCanceled"), busy(429, ""), busy(503, "SlowDown")]);
    assert!(text(&*bucket, "a").await == content);

    let asked = ErrorAnswer { retry_after_secs: Some(1), ..ErrorAnswer::new(503, "SlowDown") };
    script(&loopback, Verb::HeadObject, [Outcome::Refuse(asked)]);
    let start = tokio::time::Instant::now();
    bucket.head("a").await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn refusals_are_not_repeated() {
    let (loopback, bucket, _) = with_object().await;
    for (status, code, kind) in [
        (403, "AccessDenied", ErrorKind::Denied),
        (403, "InvalidAccessKeyId", ErrorKind::Denied),
        (400, "InvalidRequest", ErrorKind::Unsupported),
        (501, "NotImplemented", ErrorKind::Unsupported),
    ] {
        always(&loopback, Verb::GetObject, Outcome::Refuse(ErrorAnswer::new(status, code)));
        let error = bucket.get("a", None).await.err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        for part in ["GetObject s3://bucket/some/path/a at http://127.0.0.1", code, "(request "] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(loopback.server().take_traffic().total(), 1);
    }
}

#[tokio::test]
async fn answers_that_do_not_fit_are_not_believed() {
    let (loopback, bucket, content) = with_object().await;
    let range = Some(ByteRange { start: 10, len: Some(100) });
    for lie in [Lie::IgnoreRange, Lie::ShiftRange] {
        script(&loopback, Verb::GetObject, [Outcome::Lie(lie)]);
        let mut body = bucket.get("a", range).await.unwrap();
        assert_eq!(body.chunk().await.unwrap().unwrap(), content.slice(10..110), "{lie:?}");
        assert_eq!(loopback.server().take_traffic().of(Verb::GetObject), 2, "{lie:?}");
    }
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_read_is_not_mixed() {
    let (loopback, bucket, _) = with_object().await;
    script(&loopback, Verb::GetObject, [Outcome::CutBody(100_000)]);
    let mut body = bucket.get("a", None).await.unwrap();
    body.chunk().await.unwrap();
    let other = Bytes::from(vec![7; SIZE]);
    bucket.put("a", other, PutCondition::Overwrite, PutOptions::default()).await.unwrap();
    let error = loop {
        match body.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended as if nothing had happened"),
            Err(error) => break error,
        }
    };
    assert!(error.message().contains("was replaced while it was read"), "{error}");

    // Deleted meanwhile: whoever planned to read it must plan again.
    let (loopback, bucket, _) = with_object().await;
    script(&loopback, Verb::GetObject, [Outcome::CutBody(100_000)]);
    let mut body = bucket.get("a", None).await.unwrap();
    bucket.delete(&["a".to_owned()]).await.unwrap();
    let error = loop {
        match body.chunk().await {
            Ok(chunk) => assert!(chunk.is_some()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// SeaweedFS 3.97 (seaweedfs#7274) answers so to a right ETag.
#[tokio::test]
async fn a_store_that_refuses_a_right_etag_is_read_all_the_same() {
    let refusing = |left: usize| {
        let left = Mutex::new(left);
        move |facts: &RequestFacts| {
            if facts.verb != Verb::GetObject {
                return Fault::default();
            }
            if facts.headers.contains_key("if-match") {
                return Outcome::Refuse(ErrorAnswer::new(412, "PreconditionFailed")).into();
            }
            let mut left = left.lock().unwrap();
            *left = left.saturating_sub(1);
            if *left > 0 { Outcome::CutBody(100_000).into() } else { Fault::default() }
        }
    };
    let (loopback, bucket, content) = with_object().await;
    loopback.server().set_faults(Arc::new(refusing(3)));
    assert!(text(&*bucket, "a").await == content);
    // The refusal is believed once: whole, with the condition, without it, and again without it.
    assert_eq!(loopback.server().take_traffic().of(Verb::GetObject), 4);

    // There, too, an object that was replaced is not mixed with the one before.
    loopback.server().set_faults(Arc::new(refusing(3)));
    let mut body = bucket.get("a", None).await.unwrap();
    let other = Bytes::from(vec![7; SIZE]);
    bucket.put("a", other, PutCondition::Overwrite, PutOptions::default()).await.unwrap();
    let error = loop {
        match body.chunk().await {
            Ok(chunk) => assert!(chunk.is_some()),
            Err(error) => break error,
        }
    };
    assert!(error.message().contains("was replaced while it was read"), "{error}");
}

/// A proxy that weakens ETags, in front of an object of ten bytes, cuts every first answer. No `If-Match` is fulfilled
/// by a weak tag.
#[tokio::test]
async fn a_weak_etag_is_no_condition_but_still_compared() {
    for (second, whole) in [("W/\"one\"", true), ("\"one\"", true), ("W/\"two\"", false)] {
        let address = faults::raw(move |mut socket| async move {
            let mut head = vec![0; 16 * 1024];
            let n = socket.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..n]).to_ascii_lowercase();
            let answer = if head.contains("if-match") {
                "HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\n\r\n".to_owned()
            } else if head.contains("range: bytes=4-9") {
                format!(
                    "HTTP/1.1 206 Partial Content\r\netag: {second}\r\ncontent-range: bytes 4-9/10\r\n\
                     content-length: 6\r\n\r\n456789"
                )
            } else {
                "HTTP/1.1 200 OK\r\netag: W/\"one\"\r\ncontent-length: 10\r\n\r\n0123".to_owned()
            };
            let _ = socket.write_all(answer.as_bytes()).await;
        })
        .await;
        let bucket = faults::open_at(format!("http://{address}"), |_| {}).await;
        let read = read_all(&*bucket, "a", 1 << 10).await;
        match read {
            Ok(read) => assert!(whole && read == "0123456789", "{second}: {read:?}"),
            Err(error) => assert!(!whole && error.message().contains("was replaced"), "{second}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_listing_is_complete_or_an_error() {
    let mut dialect = Dialect::default();
    dialect.list.page_size = 2;
    let loopback = serve(dialect).await;
    let bucket = open(settings(&loopback)).await;
    for key in ["a", "b", "c", "d", "e"] {
        put(&*bucket, key, "x").await.unwrap();
    }
    let denied = || Outcome::Refuse(ErrorAnswer::new(403, "AccessDenied"));
    for outcomes in [vec![denied()], vec![Outcome::Pass, denied()]] {
        script(&loopback, Verb::ListObjects, outcomes);
        assert_eq!(bucket.list("", None).await.unwrap_err().kind(), ErrorKind::Denied);
    }
    let flaky = Outcome::Refuse(ErrorAnswer::new(500, "InternalError"));
    script(&loopback, Verb::ListObjects, [flaky, Outcome::CutBody(100), Outcome::Pass, Outcome::Hangup]);
    assert_eq!(bucket.list("", None).await.unwrap().len(), 5);
    for lie in [Lie::UnorderedList, Lie::IgnorePrefix] {
        always(&loopback, Verb::ListObjects, Outcome::Lie(lie));
        let keys: Vec<_> =
            bucket.list("", None).await.unwrap().into_iter().map(|object| object.key).collect();
        assert_eq!(keys, ["a", "b", "c", "d", "e"], "{lie:?}");
    }
    always(&loopback, Verb::ListObjects, Outcome::Lie(Lie::ListStartsOver));
    let error = tokio::time::timeout(Duration::from_secs(10), bucket.list("", None)).await.unwrap();
    assert!(error.unwrap_err().message().contains("the same page again"));
}

#[tokio::test]
async fn optional_fields_of_a_listing_may_be_absent() {
    let mut dialect = Dialect::default();
    (dialect.list.omit_etag, dialect.list.omit_last_modified, dialect.list.omit_size) = (true, true, true);
    let loopback = serve(dialect).await;
    let bucket = open(settings(&loopback)).await;
    put(&*bucket, "a", "xyz").await.unwrap();
    let listed = bucket.list("", None).await.unwrap();
    assert_eq!((listed.len(), listed[0].size), (1, 3));
}

#[tokio::test]
async fn a_missing_bucket_is_not_an_empty_one() {
    let (loopback, _) = world().await;
    let bucket = open(S3Settings { bucket: "other".into(), ..settings(&loopback) }).await;
    let error = bucket.list("", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("create the bucket"), "{error}");
}
