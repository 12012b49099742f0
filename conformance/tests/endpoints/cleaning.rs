//! What a run leaves behind: nothing, or a report of it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use conformance::checks::{self, Options};
use conformance::server::{
    ErrorAnswer, Fault, Loopback, Moment, Outcome, RequestFacts, Server, Settings, Verb, system_clock,
};
use conformance::targets::Target;
use conformance::verdict;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

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

#[tokio::test]
async fn versions_of_the_key_outside_of_the_prefix_are_asked_for() {
    let queries = Arc::new(Mutex::new(Vec::new()));
    let seen = queries.clone();
    let noting = move |request: &RequestFacts| {
        seen.lock().unwrap().push(request.query.clone());
        Fault::default()
    };
    let (_, outcome) = ran(noting, "address.leading-slash").await;
    assert!(outcome.passed, "{:?}", outcome.detail);
    let queries = queries.lock().unwrap();
    let asked = |query: &&String| query.contains("versions") && query.contains("prefix=%2Fsuite%2F");
    assert!(queries.iter().any(|query| asked(&query)), "{queries:?}");
}

/// A server where a bucket comes into being with the first PUT, and the deletion of one is answered with this status.
async fn with_buckets_that_appear(deleted: u16) -> Loopback {
    let server = Server::new(Settings::new(system_clock()));
    let itself = server.clone();
    let eager = move |request: &RequestFacts| {
        let foreign = request.bucket.as_ref().filter(|name| *name != "conformance");
        match (request.verb, foreign) {
            (Verb::PutObject, Some(name)) => itself.create_bucket(name),
            (Verb::Other, Some(_)) => return refuse(deleted, "AccessDenied"),
            _ => {}
        }
        Fault::default()
    };
    server.set_faults(Arc::new(eager));
    server.start_loopback().await.expect("a free port")
}

async fn missing_buckets(loopback: &Loopback) -> Vec<verdict::Outcome> {
    let target = Target::local("eager", &loopback.endpoint(), "access", "secret");
    let only = ["address.missing-bucket", "put.missing-bucket"].map(str::to_owned).to_vec();
    let options = Options { only, ..Options::default() };
    checks::run(target, &options).await.expect("it is there").outcomes
}

/// Names of the buckets that appeared.
fn appeared(loopback: &Loopback) -> Vec<String> {
    let store = loopback.server().store();
    store.buckets().filter(|name| *name != "conformance").map(str::to_owned).collect()
}

#[tokio::test]
async fn a_bucket_that_a_check_brought_into_being_goes_with_its_object() {
    let loopback = with_buckets_that_appear(200).await;
    let outcomes = missing_buckets(&loopback).await;
    assert!(outcomes[0].passed && !outcomes[1].passed, "{outcomes:?}");
    assert_eq!(outcomes[1].left_behind, None);
    let names = appeared(&loopback);
    let store = loopback.server().store();
    assert_eq!(names.len(), 1);
    assert_eq!(store.list(&names[0], "", Moment::Latest).unwrap().count(), 0);
}

#[tokio::test]
async fn a_bucket_that_stays_is_named_and_disturbs_no_later_run() {
    let loopback = with_buckets_that_appear(403).await;
    let first = missing_buckets(&loopback).await;
    let names = appeared(&loopback);
    let left = first[1].left_behind.as_ref().unwrap();
    assert!(left.contains(&names[0]) && left.contains("403 AccessDenied"), "{left}");
    let second = missing_buckets(&loopback).await;
    assert!(second[0].passed, "{:?}", second[0].detail);
    assert_eq!(appeared(&loopback).len(), 2);
}

/// A bucket with versions and a key that may not list them. Deletions hide everything from the plain listing.
fn versioned(request: &Request<Incoming>, version: &str) -> Response<Full<Bytes>> {
    let (query, is_of_bucket) =
        (request.uri().query().unwrap_or(""), request.uri().path().ends_with("/bucket"));
    let (status, body) = match *request.method() {
        Method::GET if query.contains("versions") => (403, "<Error><Code>AccessDenied</Code></Error>"),
        Method::GET if is_of_bucket => {
            (200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        }
        _ => (200, "x"),
    };
    let answer = Response::builder().status(status).header("etag", "\"e\"");
    let answer = if is_of_bucket { answer } else { answer.header("x-amz-version-id", version) };
    answer.body(Full::from(body)).expect("these headers are legal")
}

async fn ran_on_versioned(version: &'static str) -> verdict::Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let serving = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service =
                service_fn(
                    move |request| async move { Ok::<_, std::io::Error>(versioned(&request, version)) },
                );
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    let mut target = Target::local("versioned", &endpoint, "access", "secret");
    target.bucket = "bucket".to_owned();
    let options = Options { only: vec!["put.one-byte".to_owned()], ..Options::default() };
    let report = checks::run(target, &options).await.expect("it is there");
    serving.abort();
    report.outcomes.into_iter().next().expect("the check exists")
}

#[tokio::test]
async fn versions_that_may_not_be_listed_are_named() {
    let left = ran_on_versioned("v1").await.left_behind.unwrap();
    assert!(left.contains("keeps versions") && left.contains("403 AccessDenied"), "{left}");
    // In a bucket that keeps none the same refusal says nothing.
    assert_eq!(ran_on_versioned("null").await.left_behind, None);
}
