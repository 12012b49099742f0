//! What goes over the wire, per setting: the headers that providers differ about.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use conformance::server::dialect::{Addressing, AwsChunked, Integrity, Treatment};

use super::*;
use crate::host::{Clock, Entropy};

/// Everything that a client sent: one line per kind of request.
pub(super) fn record(loopback: &Loopback) -> Arc<Mutex<BTreeMap<Verb, RequestFacts>>> {
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let record = Arc::clone(&seen);
    loopback.server().set_faults(Arc::new(move |facts: &RequestFacts| {
        record.lock().unwrap().insert(facts.verb, facts.clone());
        Fault::default()
    }));
    seen
}

/// Headers whose presence or value matters, sorted.
fn shape(facts: &RequestFacts) -> String {
    let mut text = String::new();
    for (name, value) in &facts.headers {
        let name = name.as_str();
        let value = value.to_str().unwrap();
        let value = match name {
            "x-amz-content-sha256" if value.len() == 64 => "<sha256>",
            "content-md5" | "x-amz-checksum-crc32" | "x-amz-server-side-encryption-customer-key" => {
                "<digest>"
            }
            "x-amz-server-side-encryption-customer-key-md5" => "<digest>",
            "authorization" | "host" | "x-amz-date" | "user-agent" | "x-amz-user-agent" => continue,
            "amz-sdk-invocation-id" | "amz-sdk-request" | "content-length" => continue,
            _ => value,
        };
        let _ = writeln!(text, "{name}: {value}");
    }
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

pub(super) async fn exercise(bucket: &dyn Bucket) {
    put(bucket, "a", "x").await.unwrap();
    put(bucket, "b", "x").await.unwrap();
    text(bucket, "a").await;
    bucket.head("a").await.unwrap();
    bucket.list("", None).await.unwrap();
    let options = PutOptions { timestamp: Some(UnixMillis(1_700_000_000_120)) };
    let mut upload = bucket.upload("u", PutCondition::IfAbsent, options).await.unwrap();
    upload.write(behaviour::pattern((5 << 20) + 1)).await.unwrap();
    upload.finish().await.unwrap();
    bucket.delete(&["a".to_owned(), "b".to_owned()]).await.unwrap();
}

async fn seen_with(change: impl FnOnce(&mut S3Settings)) -> String {
    let loopback = serve(Dialect::default()).await;
    let mut settings = settings(&loopback);
    change(&mut settings);
    let bucket = open(settings).await;
    let seen = record(&loopback);
    exercise(&*bucket).await;
    let seen = seen.lock().unwrap();
    shapes(&seen)
}

/// Everything that was seen, without what differs from run to run.
pub(super) fn shapes(seen: &BTreeMap<Verb, RequestFacts>) -> String {
    let all: String =
        seen.iter().map(|(verb, facts)| format!("{verb:?} ?{}\n{}\n", facts.query, shape(facts))).collect();
    stable(&all)
}

/// Takes unstable parts out of the query.
fn stable(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = match line.split_once("uploadId=") {
            Some((before, after)) => {
                let after = after.split_once('&').map_or(String::new(), |(_, rest)| format!("&{rest}"));
                format!("{before}uploadId=<id>{after}")
            }
            None => line.to_owned(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[tokio::test]
async fn custom_endpoint() {
    insta::assert_snapshot!(seen_with(|_| {}).await);
}

#[tokio::test]
async fn unsigned_payload_with_storage_class_and_customer_key() {
    let seen = seen_with(|settings| {
        settings.sign_payload = Some(false);
        settings.storage_class = Some("STANDARD_IA".into());
        settings.require_content_md5 = Some(false);
        settings.sse_customer_key = Some(Secret::new(aws_smithy_types::base64::encode([7u8; 32])));
    });
    insta::assert_snapshot!(seen.await);
}

#[tokio::test]
async fn key_service_encryption() {
    let seen = seen_with(|settings| settings.sse_kms_key_id = Some("key-1".into())).await;
    for verb in ["PutObject", "CreateMultipartUpload"] {
        let part = seen.split(verb).nth(1).unwrap();
        assert!(part.contains("x-amz-server-side-encryption-aws-kms-key-id: key-1"), "{seen}");
        assert!(part.contains("x-amz-server-side-encryption: aws:kms"), "{seen}");
    }
    assert_eq!(seen.matches("aws:kms").count(), 2, "only where an object is made: {seen}");
}

#[tokio::test]
async fn a_store_that_refuses_everything_new_takes_our_requests() {
    let mut dialect = Dialect {
        aws_chunked: AwsChunked::Refused,
        trailers: Treatment::Refused,
        unsigned_payload: Treatment::Refused,
        batch_delete_needs: Integrity::Md5,
        needs_content_length: true,
        checksum_headers: Treatment::Refused,
        x_id: Treatment::Refused,
        path_prefix: "/storage/v1/s3".to_owned(),
        rewrites_accept_encoding: true,
        addressing: Addressing::Path,
        ..Dialect::default()
    };
    dialect.multipart.equal_parts = true;
    let loopback = serve(dialect).await;
    let bucket = open(settings(&loopback)).await;
    behaviour::check(&*bucket, (5 << 20) + 1).await;
}

#[tokio::test]
async fn virtual_hosts_are_used_if_asked_for() {
    let dialect = Dialect { addressing: Addressing::Virtual, ..Dialect::default() };
    let loopback = serve(dialect).await;
    let dial = Everywhere::new(&loopback);
    let host = Host { dial: dial.clone(), ..os::host() };
    let settings = S3Settings {
        endpoint: Some("http://localhost".to_owned()),
        force_path_style: Some(false),
        ..settings(&loopback)
    };
    let bucket = open_on(host, settings).await;
    put(&*bucket, "a", "x").await.unwrap();
    assert_eq!(text(&*bucket, "a").await, "x");
    assert!(dial.seen.lock().unwrap().iter().eq(["bucket.localhost"]));
}

#[tokio::test]
async fn the_same_surroundings_give_the_same_requests() {
    struct Fixed;
    impl Clock for Fixed {
        fn now(&self) -> UnixMillis {
            UnixMillis(1_700_000_000_000)
        }
    }
    struct Seeded(std::sync::atomic::AtomicU64);
    impl Entropy for Seeded {
        fn fill(&self, buffer: &mut [u8]) {
            for byte in buffer {
                *byte = self.0.fetch_add(7, std::sync::atomic::Ordering::Relaxed) as u8;
            }
        }
    }
    async fn run(seed: u64) -> Vec<String> {
        let server = Server::new(conformance::server::Settings::new(Arc::new(|| 1_700_000_000_000)));
        server.create_bucket("bucket");
        let loopback = server.start_loopback().await.unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&log);
        loopback.server().set_faults(Arc::new(move |facts: &RequestFacts| {
            seen.lock().unwrap().push(format!("{:?} {} {:?}", facts.verb, facts.query, facts.headers));
            let is_second = facts.ordinal == 2;
            Fault::from(if is_second { Outcome::Hangup } else { Outcome::Pass })
        }));
        let host = Host {
            dial: Everywhere::new(&loopback),
            clock: Arc::new(Fixed),
            entropy: Arc::new(Seeded(seed.into())),
            ..os::host()
        };
        let settings = S3Settings { endpoint: Some("http://s3.test".into()), ..settings(&loopback) };
        exercise(&*open_on(host, settings).await).await;
        std::mem::take(&mut *log.lock().unwrap())
    }
    let first = run(1).await;
    assert!(first.len() > 10 && first[0].contains("amz-sdk-invocation-id"), "{first:?}");
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await, "the seed reaches the requests");
}
