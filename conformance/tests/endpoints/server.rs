//! The embedded server itself: faults, keys, counters, memory of the past.

use std::sync::Arc;
use std::time::Duration;

use conformance::client::{Budget, Call, Client, ClientError, Limits};
use conformance::server::{
    AccessKey, ErrorAnswer, Fault, Loopback, Moment, Outcome, RequestFacts, Rights, Server, Settings, Verb,
    system_clock,
};
use conformance::targets::Target;
use http::Method;

async fn server(faults: impl Fn(&RequestFacts) -> Fault + Send + Sync + 'static) -> (Loopback, Client) {
    let mut settings = Settings::new(system_clock());
    settings.faults = Arc::new(faults);
    let loopback = Server::new(settings).start_loopback().await.expect("a free port");
    loopback.server().create_bucket("conformance");
    let target = Target::local("test", &loopback.endpoint(), "access", "secret");
    let client = Client::new(Arc::new(target), Arc::new(Budget::new(1000, 1 << 30))).expect("a URL");
    (loopback, client)
}

fn put(key: &str, body: &str) -> Call {
    Call::new(Method::PUT, key).body(body.to_owned())
}

fn get(key: &str) -> Call {
    Call::new(Method::GET, key)
}

fn on(verb: Verb, outcome: Outcome) -> impl Fn(&RequestFacts) -> Fault {
    move |request| if request.verb == verb { outcome.clone().into() } else { Fault::default() }
}

#[tokio::test]
async fn refused_is_not_applied_and_says_when_to_come_back() {
    let slow = ErrorAnswer { status: 503, code: "SlowDown".into(), retry_after_secs: Some(7) };
    let (loopback, client) = server(on(Verb::PutObject, Outcome::Refuse(slow))).await;
    let answer = client.send(&put("a", "x")).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.code(), answer.header("retry-after")),
        (503, "SlowDown".into(), "7")
    );
    assert!(loopback.server().store().history("conformance", "a").is_empty());
}

#[tokio::test]
async fn hangups_differ_in_what_is_stored() {
    for (outcome, stored) in [
        (Outcome::Hangup, 0),
        (Outcome::ApplyThenHangup, 1),
        (Outcome::HangupThenApply(Duration::from_millis(20)), 1),
    ] {
        let (loopback, client) = server(on(Verb::PutObject, outcome)).await;
        assert!(matches!(client.send(&put("a", "x")).await, Err(ClientError::Broken(..))));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(loopback.server().store().history("conformance", "a").len(), stored);
    }
}

#[tokio::test]
async fn silence_lasts() {
    let (loopback, client) = server(on(Verb::PutObject, Outcome::ApplyThenSilence)).await;
    let waited = tokio::time::timeout(Duration::from_millis(200), client.send(&put("a", "x"))).await;
    assert!(waited.is_err());
    assert_eq!(loopback.server().store().history("conformance", "a").len(), 1);
}

#[tokio::test]
async fn a_body_may_take_as_long_as_it_comes() {
    let read = async |outcome: Outcome, limits: Limits| {
        let (_loopback, client) = server(on(Verb::GetObject, outcome)).await;
        client.send(&put("a", "0123456789")).await.unwrap();
        client.with_limits(limits).send(&get("a")).await
    };
    let dribbled = Outcome::Dribble(1, Duration::from_millis(100));
    let short = Duration::from_millis(500);
    let answer = read(dribbled.clone(), Limits { silence: short, ..Limits::OBJECT }).await.unwrap();
    assert_eq!(answer.text(), "0123456789");
    let slow = read(dribbled, Limits { whole: short, ..Limits::CHECK }).await;
    assert!(matches!(slow, Err(ClientError::Slow(..))), "{slow:?}");
    for stopped in [Outcome::StallBody(3), Outcome::Silence] {
        let silent = read(stopped, Limits { silence: short, ..Limits::OBJECT }).await;
        assert!(matches!(silent, Err(ClientError::Silent(..))), "{silent:?}");
    }
}

#[tokio::test]
async fn bodies_are_cut_dribbled_and_flipped() {
    let body = "0123456789".repeat(1000);
    let (_loopback, client) = server(on(Verb::GetObject, Outcome::CutBody(100))).await;
    client.send(&put("a", &body)).await.unwrap();
    assert!(client.send(&get("a")).await.unwrap_err().to_string().contains("broke off"));

    let (_loopback, client) =
        server(on(Verb::GetObject, Outcome::Dribble(999, Duration::from_millis(1)))).await;
    client.send(&put("a", &body)).await.unwrap();
    assert_eq!(client.send(&get("a")).await.unwrap().text(), body);

    let (_loopback, client) = server(on(Verb::GetObject, Outcome::FlipBit(8 * 500))).await;
    client.send(&put("a", &body)).await.unwrap();
    let found = client.send(&get("a")).await.unwrap().body;
    let differing: Vec<_> =
        found.iter().zip(body.as_bytes()).enumerate().filter(|(_, (a, b))| a != b).collect();
    assert_eq!(differing.len(), 1);
    assert_eq!(differing[0].0, 500);
}

#[tokio::test]
async fn the_past_is_remembered() {
    let (loopback, client) = server(|_| Fault::default()).await;
    client.send(&put("a", "first")).await.unwrap();
    let before = loopback.server().store().log().len() as u64;
    client.send(&put("a", "second")).await.unwrap();
    client.send(&put("b", "x")).await.unwrap();
    client.send(&Call::new(Method::DELETE, "a")).await.unwrap();
    let store = loopback.server().store();
    let bodies: Vec<_> =
        store.history("conformance", "a").iter().map(|v| v.object.as_ref().map(|o| o.body.clone())).collect();
    assert_eq!(bodies, [Some("first".into()), Some("second".into()), None]);
    let keys = |when| {
        store.list("conformance", "", when).unwrap().map(|(key, _, _)| key.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(Moment::Latest), ["b"]);
    assert_eq!(keys(Moment::Seq(before)), ["a"]);
}

#[tokio::test]
async fn keys_expire_and_have_rights() {
    let (loopback, client) = server(|_| Fault::default()).await;
    let status = async |call: &Call| {
        let answer = client.send(call).await.unwrap();
        (answer.status.as_u16(), answer.code())
    };
    let mut key = AccessKey::new("access", "secret");
    key.rights = Rights { delete: false, ..Rights::ALL };
    loopback.server().set_keys(vec![key.clone()]);
    assert_eq!(status(&put("a", "x")).await.0, 200);
    assert_eq!(status(&Call::new(Method::DELETE, "a")).await, (403, "AccessDenied".into()));
    key.expires = Some(0);
    loopback.server().set_keys(vec![key.clone()]);
    assert_eq!(status(&put("a", "x")).await, (400, "ExpiredToken".into()));
    key.expires = None;
    key.session_token = Some("needed".into());
    loopback.server().set_keys(vec![key]);
    assert_eq!(status(&put("a", "x")).await, (403, "InvalidToken".into()));
    loopback.server().set_keys(Vec::new());
    assert_eq!(status(&put("a", "x")).await, (403, "InvalidAccessKeyId".into()));
}

#[tokio::test]
async fn traffic_is_counted() {
    let (loopback, client) = server(|_| Fault::default()).await;
    client.send(&put("a", "12345")).await.unwrap();
    client.send(&get("a")).await.unwrap();
    client.send(&get("absent")).await.unwrap();
    let traffic = loopback.server().take_traffic();
    assert_eq!((traffic.of(Verb::PutObject), traffic.of(Verb::GetObject), traffic.total()), (1, 2, 3));
    assert_eq!((traffic.bytes_in, traffic.answers[&404]), (5, 1));
    assert_eq!(loopback.server().traffic().total(), 0);
}

/// Two servers that see the same requests at the same times are in the same state and give the same bytes.
#[tokio::test]
async fn equal_requests_give_equal_logs() {
    let mut logs = Vec::new();
    for _ in 0..2 {
        let (loopback, client) = server(|_| Fault::default()).await;
        for key in ["b", "a", "c"] {
            client
                .send(&put(key, key).header("x-amz-meta-one", "1").header("x-amz-meta-two", "2"))
                .await
                .unwrap();
        }
        let names: Vec<_> =
            client.send(&get("a")).await.unwrap().headers.keys().map(ToString::to_string).collect();
        let store = loopback.server().store();
        let log: Vec<_> =
            store.log().iter().map(|e| (e.seq, e.request, e.key.clone(), e.change.clone())).collect();
        logs.push((names, log));
    }
    assert_eq!(logs[0], logs[1]);
}

/// Found by `conformance diff` on versitygw and Ceph: the server died over it, and hung up.
#[tokio::test]
async fn the_last_bytes_of_an_empty_object_are_refused() {
    let (_loopback, client) = server(|_| Fault::default()).await;
    client.send(&put("a", "")).await.unwrap();
    let answer = client.send(&get("a").header("range", "bytes=-7")).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.code()), (416, "InvalidRange".into()));
}
