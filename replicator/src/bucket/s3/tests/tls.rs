//! TLS: whom we trust, and what AWS itself is sent; proxies in between.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::host::OpenMode;

/// Names under which the front can be reached.
const NAMES: [&str; 3] = ["127.0.0.1", "bucket.s3.eu-west-1.amazonaws.com", "localhost"];

/// A server's TLS front: where it listens, and a file with the authority to trust.
struct Front {
    address: SocketAddr,
    bundle: PathBuf,
    _directory: tempfile::TempDir,
}

impl Front {
    async fn before(loopback: &Loopback) -> Self {
        let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("ca.pem");
        let file = os::host().disk.open(&bundle, OpenMode::CreateNew).unwrap();
        file.write_all_at(made.cert.pem().as_bytes(), 0).unwrap();

        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), loopback.address());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(socket).await else { return };
                    let mut server = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, bundle, _directory: directory }
    }

    fn trusted_by(&self, variable: &str) -> Environment {
        Environment::hermetic([(variable.to_owned(), self.bundle.to_str().unwrap().to_owned())])
    }
}

#[tokio::test]
async fn only_trusted_certificates_are_accepted() {
    let loopback = serve(Dialect::default()).await;
    let front = Front::before(&loopback).await;
    let settings = S3Settings { endpoint: Some(format!("https://{}", front.address)), ..settings(&loopback) };
    for variable in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        let opener = Opener::new(os::host(), front.trusted_by(variable));
        let bucket = opener.open(&Settings::S3(Box::new(settings.clone()))).await.unwrap();
        assert_eq!(bucket.list("", None).await.unwrap(), [], "{variable}");
    }
    let skipping = S3Settings { skip_verify: Some(true), ..settings.clone() };
    assert_eq!(open(skipping).await.list("", None).await.unwrap(), []);

    // Another authority: refused at once, saying what can be done.
    let other = Front::before(&loopback).await;
    let opener = Opener::new(os::host(), other.trusted_by("AWS_CA_BUNDLE"));
    let bucket = opener.open(&Settings::S3(Box::new(settings))).await.unwrap();
    let _ = loopback.server().take_traffic();
    let error = bucket.list("", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("AWS_CA_BUNDLE, or set skip-verify"), "{error}");
    assert_eq!(loopback.server().traffic().total(), 0);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let loopback = serve(Dialect::default()).await;
    let front = Front::before(&loopback).await;
    let dial = Arc::new(Everywhere { address: front.address, seen: Mutex::default() });
    let opener = Opener::new(Host { dial, ..os::host() }, front.trusted_by("AWS_CA_BUNDLE"));
    let settings = S3Settings { endpoint: Some("https://elsewhere.example".into()), ..settings(&loopback) };
    let bucket = opener.open(&Settings::S3(Box::new(settings))).await.unwrap();
    assert_eq!(bucket.list("", None).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn aws_itself() {
    let server = Server::new(conformance::server::Settings {
        domain: "s3.eu-west-1.amazonaws.com".to_owned(),
        dialect: Dialect { region: Some("eu-west-1".to_owned()), ..Dialect::default() },
        ..conformance::server::Settings::new(system_clock())
    });
    server.create_bucket("bucket");
    let loopback = server.start_loopback().await.unwrap();
    let front = Front::before(&loopback).await;
    let dial = Arc::new(Everywhere { address: front.address, seen: Mutex::default() });
    let opener = Opener::new(Host { dial: dial.clone(), ..os::host() }, front.trusted_by("AWS_CA_BUNDLE"));
    let settings = S3Settings { endpoint: None, region: Some("eu-west-1".to_owned()), ..settings(&loopback) };
    let bucket = opener.open(&Settings::S3(Box::new(settings))).await.unwrap();
    let seen = wire::record(&loopback);
    wire::exercise(&*bucket).await;
    insta::assert_snapshot!(wire::shapes(&seen.lock().unwrap()));
    assert!(dial.seen.lock().unwrap().iter().eq(["bucket.s3.eu-west-1.amazonaws.com"]));
}

/// A proxy that notes what it is asked for and leads everything to one place.
async fn proxy(behind: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let text = String::from_utf8(head.clone()).unwrap();
            log.lock().unwrap().push(text.clone());
            let mut server = TcpStream::connect(behind).await.unwrap();
            if text.starts_with("CONNECT ") {
                client.write_all(b"HTTP/1.1 200 go on\r\n\r\n").await.unwrap();
            } else {
                // Forwards in origin form, as proxies do.
                let path = text.split(' ').nth(1).unwrap();
                let origin = path.strip_prefix("http://s3.example").unwrap();
                server.write_all(text.replacen(path, origin, 1).as_bytes()).await.unwrap();
            }
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn proxies_of_the_environment_are_used() {
    let loopback = serve(Dialect::default()).await;
    let front = Front::before(&loopback).await;
    for (scheme, variable, behind, first_line) in [
        ("https", "HTTPS_PROXY", front.address, "CONNECT s3.example:443 HTTP/1.1\r\n"),
        ("http", "HTTP_PROXY", loopback.address(), "GET http://s3.example/bucket"),
    ] {
        let (proxy, asked) = proxy(behind).await;
        let environment = Environment::hermetic([(variable.to_owned(), format!("http://u:p@{proxy}"))]);
        let settings = S3Settings {
            endpoint: Some(format!("{scheme}://s3.example")),
            skip_verify: Some(true),
            ..settings(&loopback)
        };
        let opener = Opener::new(os::host(), environment);
        let bucket = opener.open(&Settings::S3(Box::new(settings))).await.unwrap();
        assert_eq!(bucket.list("", None).await.unwrap(), [], "{scheme}");
        let asked = asked.lock().unwrap().join("");
        assert!(asked.starts_with(first_line), "{asked}");
        assert!(asked.to_ascii_lowercase().contains("proxy-authorization: basic dtpw"), "{asked}");
    }
}
