//! The S3 client against an independent server on loopback: behaviour, faults, and what goes over the wire.

mod faults;
mod layout;
mod reads;
mod tls;
mod wire;
mod writes;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use conformance::server::{Dialect, Fault, Loopback, Outcome, RequestFacts, Server, Verb, system_clock};

use super::super::open::{Environment, Opener};
use super::super::settings::{RetrySettings, S3Settings, Secret, Settings, Timeouts};
use super::super::{Bucket, PutCondition, PutOptions, PutOutcome, behaviour, read_all};
use crate::error::{ErrorKind, Result};
use crate::host::{BoxFuture, Dial, Host, Stream, UnixMillis, os};

/// A time limit that a healthy exchange on loopback keeps by far.
const SHORT: Duration = Duration::from_millis(400);

fn settings(loopback: &Loopback) -> S3Settings {
    S3Settings {
        bucket: "bucket".to_owned(),
        path: "some/path".to_owned(),
        endpoint: Some(loopback.endpoint()),
        access_key_id: Some("access".to_owned()),
        secret_access_key: Some(Secret::new("secret")),
        retry: RetrySettings {
            attempts: 4,
            first_pause: Duration::from_millis(2),
            longest_pause: Duration::from_secs(2),
            patience: Duration::from_secs(20),
        },
        ..S3Settings::default()
    }
}

/// Settings under which silence is an error soon.
fn impatient(loopback: &Loopback) -> S3Settings {
    let timeouts =
        Timeouts { answer: SHORT, upload_progress: SHORT, download_progress: SHORT, ..Timeouts::default() };
    S3Settings { timeouts, ..settings(loopback) }
}

async fn serve(dialect: Dialect) -> Loopback {
    let settings =
        conformance::server::Settings { dialect, ..conformance::server::Settings::new(system_clock()) };
    let server = Server::new(settings);
    server.create_bucket("bucket");
    server.start_loopback().await.unwrap()
}

async fn open(settings: S3Settings) -> Arc<dyn Bucket> {
    open_on(os::host(), settings).await
}

async fn open_on(host: Host, settings: S3Settings) -> Arc<dyn Bucket> {
    let opener = Opener::new(host, Environment::default());
    opener.open(&Settings::S3(Box::new(settings))).await.unwrap()
}

/// Reaches one server under every host name, so that virtual hosts and providers' names need no resolver.
struct Everywhere {
    address: SocketAddr,
    seen: Mutex<BTreeSet<String>>,
}

impl Everywhere {
    fn new(loopback: &Loopback) -> Arc<Self> {
        Arc::new(Self { address: loopback.address(), seen: Mutex::default() })
    }
}

impl Dial for Everywhere {
    fn dial<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        self.seen.lock().unwrap().insert(host.to_owned());
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// A server of documented behaviour and a bucket on it.
async fn world() -> (Loopback, Arc<dyn Bucket>) {
    let loopback = serve(Dialect::default()).await;
    let bucket = open(settings(&loopback)).await;
    (loopback, bucket)
}

async fn put(bucket: &dyn Bucket, key: &str, body: impl Into<Bytes>) -> Result<PutOutcome> {
    let options = PutOptions { timestamp: Some(UnixMillis(1_700_000_000_120)) };
    bucket.put(key, body.into(), PutCondition::IfAbsent, options).await
}

async fn text(bucket: &dyn Bucket, key: &str) -> Bytes {
    read_all(bucket, key, 1 << 30).await.unwrap()
}

/// What happens to the first requests of one kind; the rest pass.
fn script(loopback: &Loopback, verb: Verb, outcomes: impl IntoIterator<Item = Outcome>) {
    let left = Mutex::new(outcomes.into_iter().collect::<std::collections::VecDeque<_>>());
    loopback.server().set_faults(Arc::new(move |facts: &RequestFacts| {
        let next = (facts.verb == verb).then(|| left.lock().unwrap().pop_front()).flatten();
        Fault::from(next.unwrap_or_default())
    }));
}

/// The same for every request of one kind.
fn always(loopback: &Loopback, verb: Verb, outcome: Outcome) {
    loopback.server().set_faults(Arc::new(move |facts: &RequestFacts| {
        Fault::from(if facts.verb == verb { outcome.clone() } else { Outcome::Pass })
    }));
}

#[tokio::test]
async fn common_behaviour() {
    let (_loopback, bucket) = world().await;
    behaviour::check(&*bucket, (5 << 20) + 1).await;
}

#[tokio::test]
async fn common_behaviour_with_an_empty_path_and_small_pages() {
    let mut dialect = Dialect::default();
    dialect.list.page_size = 2;
    let loopback = serve(dialect).await;
    let bucket = open(S3Settings { path: String::new(), ..settings(&loopback) }).await;
    behaviour::check(&*bucket, 1 << 20).await;
    let log = loopback.server();
    assert!(log.store().log().len() > 10);
}

#[tokio::test]
async fn every_provider_is_spoken_to_in_its_way() {
    for name in Dialect::names() {
        let dialect = Dialect::named(name).unwrap();
        let loopback = serve(dialect.clone()).await;
        let is_virtual = dialect.addressing == conformance::server::dialect::Addressing::Virtual;
        // The name matters where the provider is recognised by it.
        let server = if name == "tigris" { "t3.storage.dev" } else { "localhost" };
        let settings = S3Settings {
            endpoint: Some(format!("http://{server}{}", dialect.path_prefix)),
            region: dialect.region.clone(),
            force_path_style: is_virtual.then_some(false),
            ..settings(&loopback)
        };
        let host = Host { dial: Everywhere::new(&loopback), ..os::host() };
        let bucket = open_on(host, settings).await;
        assert_eq!(put(&*bucket, "a", "1").await.unwrap(), PutOutcome::Written, "{name}");
        assert_eq!(put(&*bucket, "a", "1").await.unwrap(), PutOutcome::AlreadyThere, "{name}");
        assert_eq!(put(&*bucket, "a", "2").await.unwrap(), PutOutcome::Conflict, "{name}");
        assert_eq!(text(&*bucket, "a").await, "1", "{name}");
        put(&*bucket, "b", "1").await.unwrap();
        let keys = ["a", "b"].map(str::to_owned);
        assert_eq!(bucket.list("", None).await.unwrap().len(), 2, "{name}");
        let _ = loopback.server().take_traffic();
        assert!(bucket.delete(&keys).await.unwrap().is_empty(), "{name}");
        assert_eq!(loopback.server().take_traffic().total(), 1, "{name}");
    }
}

#[tokio::test]
async fn replicas_of_one_bucket_share_a_client_and_idle_ones_are_silent() {
    let loopback = serve(Dialect::default()).await;
    let opener = Opener::new(os::host(), Environment::default());
    let mut buckets = Vec::new();
    for i in 0..300 {
        let settings = S3Settings { path: format!("db{i}"), ..settings(&loopback) };
        buckets.push(opener.open(&Settings::S3(Box::new(settings))).await.unwrap());
    }
    assert_eq!(loopback.server().traffic().total(), 0, "opening makes no request");
    put(&*buckets[0], "a", "x").await.unwrap();
    let _ = loopback.server().take_traffic();
    // What was learned for one is known to all: one request per object.
    for bucket in &buckets[1..] {
        put(&**bucket, "a", "x").await.unwrap();
    }
    assert_eq!(loopback.server().take_traffic().total(), 299);
    tokio::time::sleep(SHORT).await;
    assert_eq!(loopback.server().traffic().total(), 0);
}

#[tokio::test]
async fn many_objects_are_listed_and_deleted_in_pages() {
    let (loopback, bucket) = world().await;
    let keys: Vec<String> = (0..2345).map(|i| format!("0000/{i:08}")).collect();
    {
        let stamp = conformance::server::Stamp { at: 0, request: 0 };
        let mut store = loopback.server().store();
        for key in &keys {
            let object = conformance::server::store::Object {
                body: Bytes::from_static(b"x"),
                ..conformance::server::store::Object::default()
            };
            let full = format!("some/path/{key}");
            store.put(stamp, "bucket", &full, object, &conformance::server::store::Condition::None).unwrap();
        }
    }
    let listed = bucket.list("0000/", None).await.unwrap();
    assert!(listed.iter().map(|object| &object.key).eq(&keys));
    assert_eq!(bucket.list("0000/", Some(&keys[2000])).await.unwrap().len(), 344);
    let _ = loopback.server().take_traffic();
    assert!(bucket.delete(&keys).await.unwrap().is_empty());
    assert_eq!(loopback.server().traffic().of(Verb::DeleteObjects), 3);
    assert_eq!(bucket.list("", None).await.unwrap(), []);
}
