//! One GET of a URL, as other programs make it: proxies of the environment, TLS, Basic authentication, redirects.
//!
//! A message names servers and never a whole URL: whoever knows it can send heartbeats.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::bucket::web::{Proxies, Target, address, reach};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Dial, Stream};

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// A URL without user and password, and what they become.
#[derive(Debug, Clone)]
struct Place {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// Fetches a URL. Success is an answer with status 2xx at the end of all redirects.
///
/// # Errors
/// `Usage` for a URL that cannot be fetched, else what went wrong on the way.
pub(super) async fn get(dial: &dyn Dial, proxies: &Proxies, url: &Uri) -> Result<()> {
    let mut place = Place::of(url)?;
    for _ in 0..=MAX_REDIRECTS {
        let answer = exchange(dial, proxies, &place).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let location = answer.headers().get(LOCATION).filter(|_| is_redirect(status));
        let Some(location) = location else {
            return Err(Error::new(ErrorKind::Transient, format!("heartbeat server answered {status}")));
        };
        let next = location.to_str().ok().and_then(|location| place.follow(location));
        place = next.ok_or_else(|| {
            Error::new(ErrorKind::Transient, format!("heartbeat server answered {status} to no URL"))
        })?;
    }
    Err(Error::new(
        ErrorKind::Transient,
        format!("heartbeat server redirects more than {MAX_REDIRECTS} times"),
    ))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("heartbeat-url {what}"))
}

impl Place {
    fn of(url: &Uri) -> Result<Self> {
        let authority = url.authority().ok_or_else(|| bad("names no host"))?.as_str();
        let Some((user, server)) = authority.rsplit_once('@') else {
            return Ok(Self { uri: url.clone(), authorization: None });
        };
        let user = if user.contains(':') { user.to_owned() } else { format!("{user}:") };
        let pair: Vec<u8> = percent_decode_str(&user).collect();
        let value = format!("Basic {}", aws_smithy_types::base64::encode(pair));
        let mut authorization =
            HeaderValue::try_from(value).map_err(|_| bad("has a user that cannot be sent"))?;
        authorization.set_sensitive(true);
        let mut parts = url.clone().into_parts();
        parts.authority = Some(server.parse().map_err(|_| bad("names no host"))?);
        let uri = Uri::from_parts(parts).map_err(|_| bad("is not a URL"))?;
        Ok(Self { uri, authorization: Some(authorization) })
    }

    /// Where a redirect leads. A location that names a server gets no password, whatever server it is.
    fn follow(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        if location.starts_with("http://") || location.starts_with("https://") {
            return Self::of(&location.parse().ok()?).ok();
        }
        let scheme = self.uri.scheme_str()?;
        if location.starts_with("//") {
            return Self::of(&format!("{scheme}:{location}").parse().ok()?).ok();
        }
        let directory = self.uri.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        let path =
            if location.starts_with('/') { location.to_owned() } else { format!("{directory}/{location}") };
        let uri = format!("{scheme}://{}{path}", self.uri.authority()?).parse().ok()?;
        Some(Self { uri, authorization: self.authorization.clone() })
    }
}

/// One request and the head of its answer.
async fn exchange(dial: &dyn Dial, proxies: &Proxies, place: &Place) -> Result<Response<Incoming>> {
    let failed = |error: hyper::Error| Error::with_source(ErrorKind::Transient, "heartbeat request", error);
    let target = Target::of(&place.uri).map_err(|_| bad("names no host"))?;
    let proxy = proxies.of(&target);
    let mut request = Request::get(place.uri.clone())
        .body(Empty::<Bytes>::new())
        .map_err(|_| bad("has a path that cannot be sent"))?;
    address(&mut request, &target, proxy).map_err(|_| bad("names a host that cannot be sent"))?;
    let agent = concat!("replicator/", env!("CARGO_PKG_VERSION"));
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(agent));
    if let Some(authorization) = &place.authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization.clone());
    }
    let plain = reach(dial, &target, proxy).await;
    let plain = plain.map_err(|error| Error::io(format!("cannot connect to {target}"), error))?;
    let stream = if target.tls { encrypt(plain, &target).await? } else { plain };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut response = std::pin::pin!(sender.send_request(request));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        response = &mut response => response.map_err(failed),
        // The server closed it, perhaps right after its answer.
        ended = &mut connection => {
            ended.map_err(failed)?;
            response.await.map_err(failed)
        }
    }
}

async fn encrypt(plain: Box<dyn Stream>, target: &Target) -> Result<Box<dyn Stream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(target.host.clone()).map_err(|error| {
        Error::with_source(ErrorKind::Usage, "heartbeat-url names a host that is no name", error)
    })?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, plain)
        .await
        .map_err(|error| Error::io(format!("no TLS connection to {target}"), error))?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::bucket::Environment;

    /// Fetches a URL from a server that gives these answers, one to each connection. `ADDRESS` in URL and answers is the
    /// server's. Returns what it was asked.
    async fn ask(
        url: &str,
        answers: &[&str],
        proxies: impl Fn(&str) -> Proxies,
    ) -> (Result<()>, Vec<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let place = |text: &str| text.replace("ADDRESS", &address);
        let answers: Vec<String> = answers.iter().map(|answer| place(answer)).collect();
        let requests = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = requests.clone();
        let server = tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                seen.lock().unwrap().push(String::from_utf8_lossy(&request[..read]).into_owned());
            }
        });
        let dial = crate::host::os::host().dial;
        let result = get(&*dial, &proxies(&address), &place(url).parse().unwrap()).await;
        server.abort();
        let requests =
            requests.lock().unwrap().iter().map(|text| text.replace(&address, "ADDRESS")).collect();
        (result, requests)
    }

    async fn beat(url: &str, answers: &[&str]) -> (Result<()>, Vec<String>) {
        ask(url, answers, |_| Proxies::default()).await
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

    fn moved(location: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
    }

    #[tokio::test]
    async fn a_beat_is_a_get_and_only_success_counts() {
        let url = "http://ADDRESS/ping/1?x=y";
        let (result, requests) = beat(url, &[OK]).await;
        result.unwrap();
        assert!(requests[0].starts_with("GET /ping/1?x=y HTTP/1.1\r\nhost: ADDRESS\r\n"), "{requests:?}");
        let endless = moved("/again");
        for answers in [
            &["HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"][..],
            &[""],
            &["garbage\r\n\r\n"],
            &["HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"],
            &[endless.as_str(); 30],
        ] {
            assert!(beat(url, answers).await.0.is_err(), "{answers:?}");
        }
    }

    #[tokio::test]
    async fn user_and_password_of_the_url_authenticate() {
        let (result, requests) = beat("http://me:p%40ss@ADDRESS/x", &[OK]).await;
        result.unwrap();
        assert!(requests[0].contains("\r\nhost: ADDRESS\r\n"), "{requests:?}");
        assert!(requests[0].contains("\r\nauthorization: Basic bWU6cEBzcw==\r\n"), "{requests:?}");
        let (_, requests) = beat("http://ADDRESS/x", &[OK]).await;
        assert!(!requests[0].contains("authorization"), "{requests:?}");
    }

    #[tokio::test]
    async fn redirects_are_followed_and_the_password_stays_where_it_belongs() {
        for (location, path, has_password) in [
            ("/b/c?d", "/b/c?d", true),
            ("c", "/a/c", true),
            ("http://ADDRESS/e", "/e", false),
            ("//ADDRESS/f", "/f", false),
        ] {
            let (result, requests) = beat("http://me:pass@ADDRESS/a/b?q", &[&moved(location), OK]).await;
            result.unwrap();
            assert!(
                requests[1].starts_with(&format!("GET {path} HTTP/1.1\r\nhost: ADDRESS\r\n")),
                "{requests:?}"
            );
            assert_eq!(requests[1].contains("authorization"), has_password, "{requests:?}");
        }
    }

    #[tokio::test]
    async fn the_proxy_of_the_environment_is_used() {
        let variable = |name: &'static str| {
            move |address: &str| {
                let pair = (name.to_owned(), format!("http://{address}"));
                Proxies::from_environment(&Environment::hermetic([pair])).unwrap()
            }
        };
        let (result, requests) = ask("http://me:pass@ping.example/x?y", &[OK], variable("HTTP_PROXY")).await;
        result.unwrap();
        assert!(
            requests[0].starts_with("GET http://ping.example/x?y HTTP/1.1\r\nhost: ping.example\r\n"),
            "{requests:?}"
        );
        // There is no TLS behind this proxy.
        let (result, requests) = ask("https://ping.example/x", &[OK], variable("HTTPS_PROXY")).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains("https://ping.example:443") && !error.contains("/x"), "{error}");
        assert!(requests[0].starts_with("CONNECT ping.example:443 HTTP/1.1\r\n"), "{requests:?}");
    }
}
