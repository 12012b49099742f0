//! What is not about one verb: connections, regions, clocks, credentials, certificates, observers.

use conformance::server::{AccessKey, ErrorAnswer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::bucket::observer::{RequestObserver, RequestReport, Verb as Operation};
use crate::host::Clock;

/// A TCP server that does `serve` with each connection.
pub(super) async fn raw<F, R>(serve: F) -> SocketAddr
where
    F: Fn(tokio::net::TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    address
}

pub(super) async fn open_at(endpoint: String, change: impl FnOnce(&mut S3Settings)) -> Arc<dyn Bucket> {
    let loopback = serve(Dialect::default()).await;
    let mut settings = S3Settings { endpoint: Some(endpoint), ..settings(&loopback) };
    settings.retry.attempts = 2;
    change(&mut settings);
    open(settings).await
}

#[tokio::test]
async fn an_upload_that_stops_moving_is_noticed() {
    // A peer with a small buffer that never reads.
    struct Stuck;
    impl Dial for Stuck {
        fn dial<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
            Box::pin(async {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                tokio::spawn(async move {
                    let _theirs = theirs;
                    std::future::pending::<()>().await;
                });
                Ok(Box::new(ours) as Box<dyn Stream>)
            })
        }
    }
    let mut settings = impatient(&serve(Dialect::default()).await);
    settings.retry.attempts = 2;
    let bucket = open_on(Host { dial: Arc::new(Stuck), ..os::host() }, settings).await;
    let body = behaviour::pattern(1 << 20);
    let start = tokio::time::Instant::now();
    let put = bucket.put("a", body, PutCondition::Overwrite, PutOptions::default()).await;
    let error = put.unwrap_err();
    for part in ["no progress for 400ms while sending", "unknown whether the object was written"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_server_that_does_not_exist_or_answer_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let bucket = open_at(format!("http://{address}"), |_| {}).await;
    let error = bucket.list("", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.message().contains(&format!("cannot connect to http://{address}")), "{error}");

    // Accepts and says nothing, over TLS: the handshake is bounded too.
    let address = raw(|socket| async move {
        let _socket = socket;
        std::future::pending::<()>().await;
    })
    .await;
    let bucket = open_at(format!("https://{address}"), |settings| {
        settings.skip_verify = Some(true);
        settings.timeouts.connect = SHORT;
    })
    .await;
    let error = bucket.list("", None).await.unwrap_err();
    assert!(error.message().contains("no connection within 400ms"), "{error}");
}

#[tokio::test]
async fn garbage_instead_of_http_is_an_error() {
    let address = raw(|mut socket| async move {
        let mut some = [0; 1];
        let _ = socket.read(&mut some).await;
        let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await;
    })
    .await;
    let bucket = open_at(format!("http://{address}"), |_| {}).await;
    assert_eq!(bucket.head("a").await.unwrap_err().kind(), ErrorKind::Transient);
}

/// It used to look like a staged file that is gone, an empty replica, and objects that are deleted.
#[tokio::test]
async fn a_proxy_that_has_lost_the_store_is_not_believed() {
    let address = raw(|mut socket| async move {
        let mut head = vec![0; 16 * 1024];
        let n = socket.read(&mut head).await.unwrap_or(0);
        let body = if head[..n].starts_with(b"HEAD") { "" } else { "404 page not found\n" };
        let answer =
            format!("HTTP/1.1 404 Not Found\r\ncontent-length: 19\r\nconnection: close\r\n\r\n{body}");
        let _ = socket.write_all(answer.as_bytes()).await;
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    })
    .await;
    let bucket = open_at(format!("http://{address}"), |_| {}).await;
    assert_eq!(put(&*bucket, "a", "x").await.unwrap_err().kind(), ErrorKind::Transient);
    let mut upload = bucket.upload("a", PutCondition::IfAbsent, PutOptions::default()).await.unwrap();
    let begun = upload.write(behaviour::pattern((5 << 20) + 1)).await;
    assert_eq!(begun.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(bucket.list("", None).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let failures = bucket.delete(&["a".to_owned()]).await.unwrap();
    assert_eq!(
        failures.iter().map(|failure| failure.error.kind()).collect::<Vec<_>>(),
        [ErrorKind::Transient]
    );
    let both = bucket.delete(&["a", "b"].map(str::to_owned)).await;
    assert_eq!(both.unwrap_err().kind(), ErrorKind::Transient);
}

#[tokio::test]
async fn a_connection_closed_while_unused_costs_no_attempt() {
    let (loopback, _) = world().await;
    let mut settings = settings(&loopback);
    settings.retry.attempts = 1;
    let bucket = open(settings).await;
    bucket.head("a").await.unwrap();
    // The request is read, and the kept connection closed without an answer.
    script(&loopback, Verb::HeadObject, [Outcome::Hangup]);
    bucket.head("a").await.unwrap();
}

/// A store in eu-west-1 that names its region to those who sign for us-east-1, once `together` of them have asked.
async fn elsewhere(together: usize) -> (Loopback, SocketAddr) {
    let dialect = Dialect { region: Some("eu-west-1".to_owned()), ..Dialect::default() };
    let loopback = serve(dialect).await;
    // This server refuses the wrong region without naming the right one, so a proxy in front does.
    let target = loopback.address();
    let strayed = Arc::new(tokio::sync::Barrier::new(together));
    let address = raw(move |mut client| {
        let strayed = Arc::clone(&strayed);
        async move {
            let mut head = vec![0; 16 * 1024];
            let n = client.read(&mut head).await.unwrap_or(0);
            if String::from_utf8_lossy(&head[..n]).contains("/us-east-1/s3/") {
                strayed.wait().await;
                let answer = "HTTP/1.1 400 Bad Request\r\nx-amz-bucket-region: eu-west-1\r\ncontent-length: 0\r\n\
                              connection: close\r\n\r\n";
                let _ = client.write_all(answer.as_bytes()).await;
                return;
            }
            let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
            server.write_all(&head[..n]).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    })
    .await;
    (loopback, address)
}

#[tokio::test]
async fn the_region_that_the_store_names_is_followed() {
    let (_loopback, address) = elsewhere(1).await;
    let bucket = open_at(format!("http://{address}"), |_| {}).await;
    assert_eq!(bucket.list("", None).await.unwrap(), []);
    // A region that was given is not second-guessed.
    let bucket =
        open_at(format!("http://{address}"), |settings| settings.region = Some("us-east-1".into())).await;
    let error = bucket.list("", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("set region to eu-west-1"), "{error}");
}

#[tokio::test]
async fn requests_that_went_out_together_all_follow_the_region() {
    let (_loopback, address) = elsewhere(3).await;
    let bucket = open_at(format!("http://{address}"), |_| {}).await;
    let lists = futures::future::join_all((0..3).map(|_| bucket.list("", None))).await;
    for list in lists {
        assert_eq!(list.unwrap(), []);
    }
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_once_the_store_tells_the_time() {
    struct Slow(Arc<dyn Clock>);
    impl Clock for Slow {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0.now().0 - 3_600_000)
        }
    }
    let (loopback, _) = world().await;
    let host = Host { clock: Arc::new(Slow(os::host().clock)), ..os::host() };
    let opener = Opener::new(host, Environment::default());
    let bucket = opener.open(&Settings::S3(Box::new(settings(&loopback)))).await.unwrap();
    put(&*bucket, "a", "x").await.unwrap();
    assert_eq!(text(&*bucket, "a").await, "x");
}

#[tokio::test]
async fn session_tokens_are_sent_and_expiry_is_named() {
    let (loopback, _) = world().await;
    let key = AccessKey { session_token: Some("token".to_owned()), ..AccessKey::new("access", "secret") };
    loopback.server().set_keys(vec![key.clone()]);
    let from_environment = |token: &str| {
        let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        let values = ["access", "secret", token];
        Environment::hermetic(names.into_iter().zip(values).map(|(n, v)| (n.to_owned(), v.to_owned())))
    };
    let open = async |token: &str| {
        let settings = S3Settings { access_key_id: None, secret_access_key: None, ..settings(&loopback) };
        let opener = Opener::new(os::host(), from_environment(token));
        opener.open(&Settings::S3(Box::new(settings))).await.unwrap()
    };
    let bucket = open("token").await;
    put(&*bucket, "a", "x").await.unwrap();
    assert_eq!(open("other").await.list("", None).await.unwrap_err().kind(), ErrorKind::Denied);

    loopback.server().set_keys(vec![AccessKey { expires: Some(0), ..key }]);
    let error = bucket.list("", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("renew the temporary credentials"), "{error}");

    let nobody = S3Settings { access_key_id: None, secret_access_key: None, ..settings(&loopback) };
    let opener = Opener::new(os::host(), Environment::default());
    let error = opener.open(&Settings::S3(Box::new(nobody))).await.err().unwrap();
    assert!(error.message().contains("no credentials"), "{error}");
}

#[tokio::test]
async fn a_named_bundle_must_be_usable() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("ca.pem");
    let file = os::host().disk.open(&path, crate::host::OpenMode::Create).unwrap();
    file.write_all_at(b"no certificate", 0).unwrap();
    let (loopback, _) = world().await;
    for (path, needle) in
        [(path.clone(), "holds no PEM certificate"), (root.path().join("none"), "cannot read")]
    {
        let environment =
            Environment::hermetic([("AWS_CA_BUNDLE".to_owned(), path.to_str().unwrap().to_owned())]);
        let settings = S3Settings { endpoint: Some("https://127.0.0.1:1".into()), ..settings(&loopback) };
        let opener = Opener::new(os::host(), environment);
        let error = opener.open(&Settings::S3(Box::new(settings))).await.err().unwrap();
        assert!(error.message().contains("AWS_CA_BUNDLE") && error.message().contains(needle), "{error}");
    }
}

#[tokio::test]
async fn every_request_is_reported() {
    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);
    impl RequestObserver for Log {
        fn finished(&self, report: &RequestReport<'_>) {
            let code = report.error_code.unwrap_or("ok");
            self.0.lock().unwrap().push(format!("{} {} {code}", report.verb.as_str(), report.sent_bytes));
        }
        fn received(&self, verb: Operation, bytes: u64) {
            self.0.lock().unwrap().push(format!("{} received {bytes}", verb.as_str()));
        }
    }
    let (loopback, _) = world().await;
    let log = Arc::new(Log::default());
    let opener = Opener::new(os::host(), Environment::default()).observed_by(log.clone());
    let bucket = opener.open(&Settings::S3(Box::new(settings(&loopback)))).await.unwrap();
    script(&loopback, Verb::GetObject, [Outcome::Refuse(ErrorAnswer::new(503, "SlowDown")), Outcome::Hangup]);
    bucket.put("a", "xyz".into(), PutCondition::Overwrite, PutOptions::default()).await.unwrap();
    text(&*bucket, "a").await;
    bucket.list("", None).await.unwrap();
    bucket.delete(&["a".to_owned()]).await.unwrap();
    assert_eq!(
        *log.0.lock().unwrap(),
        [
            "PUT 3 ok",
            "GET 0 SlowDown",
            "GET 0 network",
            "GET 0 ok",
            "GET received 3",
            "LIST 0 ok",
            "DELETE 0 ok"
        ]
    );
}
