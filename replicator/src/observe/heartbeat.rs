//! Tells a monitoring service that all is well, by fetching a URL, and by silence that it is not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::board::Board;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Clock, Dial, Stream, UnixMillis};
use crate::sync::Status;

/// How often it is looked at whether a beat is due.
const LOOK: Duration = Duration::from_secs(15);
/// Limit for one beat.
const SLOWEST_BEAT: Duration = Duration::from_secs(30);

/// What a heartbeat needs of its surroundings.
pub struct Heartbeat {
    /// The URL, `http://` or `https://`.
    pub url: Uri,
    /// Time between beats.
    pub interval: Duration,
    /// The databases.
    pub board: Board,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Outgoing connections.
    pub dial: Arc<dyn Dial>,
}

impl Heartbeat {
    /// Beats for ever. A beat that fails is logged, and tried again at the next look.
    pub async fn run(self) {
        let mut last_beat = None;
        loop {
            tokio::time::sleep(LOOK.min(self.interval)).await;
            let now = self.clock.now();
            if !is_due(&self.board.statuses(), last_beat, now, self.interval) {
                continue;
            }
            match tokio::time::timeout(SLOWEST_BEAT, self.beat()).await {
                Ok(Ok(())) => last_beat = Some(now),
                Ok(Err(error)) => tracing::warn!(%error, "heartbeat failed"),
                Err(_) => tracing::warn!(timeout = ?SLOWEST_BEAT, "heartbeat failed: no answer in time"),
            }
        }
    }

    async fn beat(&self) -> Result<()> {
        let bad = |what: &str| Error::new(ErrorKind::Usage, format!("heartbeat-url {what}"));
        let failed =
            |error: hyper::Error| Error::with_source(ErrorKind::Transient, "heartbeat request", error);
        let host = self.url.host().ok_or_else(|| bad("names no host"))?;
        let secure = self.url.scheme_str() == Some("https");
        let port = self.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let plain = self
            .dial
            .dial(host, port)
            .await
            .map_err(|error| Error::io(format!("cannot connect to {host}:{port}"), error))?;
        let stream = if secure { encrypt(plain, host).await? } else { plain };

        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, self.url.authority().map_or(host, |authority| authority.as_str()))
            .header(header::USER_AGENT, concat!("replicator/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|_| bad("has a path that cannot be sent"))?;
        let mut response = std::pin::pin!(sender.send_request(request));
        let mut connection = std::pin::pin!(connection);
        let response = tokio::select! {
            biased;
            response = &mut response => response.map_err(failed)?,
            // The server closed it, perhaps right after its answer.
            ended = &mut connection => {
                ended.map_err(failed)?;
                response.await.map_err(failed)?
            }
        };
        if response.status().is_success() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Transient, format!("heartbeat server answered {}", response.status())))
        }
    }
}

async fn encrypt(plain: Box<dyn Stream>, host: &str) -> Result<Box<dyn Stream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| {
        Error::with_source(ErrorKind::Usage, "heartbeat-url names a host that is no name", error)
    })?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, plain)
        .await
        .map_err(|error| Error::io(format!("no TLS connection to {host}"), error))?;
    Ok(Box::new(stream))
}

/// Whether to beat: the interval is over, and every database was in sync at a moment within the interval.
fn is_due(
    databases: &[(std::path::PathBuf, Status)],
    last_beat: Option<UnixMillis>,
    now: UnixMillis,
    interval: Duration,
) -> bool {
    let millis = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
    // A clock that was set back must not silence the beat for long.
    let waited = last_beat.is_none_or(|last| now.0 - last.0 >= millis || now < last);
    waited && !databases.is_empty() && databases.iter().all(|(_, status)| status.is_level(now, interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ltx::Txid;
    use crate::sync::{Phase, Work};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn status(phase: Phase, local: u64, remote: u64, last_sync: Option<i64>) -> (std::path::PathBuf, Status) {
        let status = Status {
            phase,
            local_txid: Some(Txid(local)),
            replicated_txid: Some(Txid(remote)),
            last_sync: last_sync.map(UnixMillis),
            ..Status::default()
        };
        ("/x.db".into(), status)
    }

    #[test]
    fn a_beat_means_that_every_database_is_in_sync() {
        let minute = Duration::from_secs(60);
        let now = UnixMillis(1_000_000);
        let due = |databases: &[_], last| is_due(databases, last, now, minute);
        let good = status(Phase::Replicating, 5, 5, Some(990_000));
        assert!(due(std::slice::from_ref(&good), None));
        assert!(due(std::slice::from_ref(&good), Some(UnixMillis(940_000))));
        assert!(!due(std::slice::from_ref(&good), Some(UnixMillis(940_001))), "too early");
        assert!(due(std::slice::from_ref(&good), Some(UnixMillis(2_000_000))), "the clock was set back");
        assert!(due(&[status(Phase::Replicating, 6, 5, Some(990_000))], None), "behind, but not for long");
        assert!(!due(&[status(Phase::Replicating, 6, 5, Some(100))], None), "behind for long");
        assert!(!due(&[status(Phase::Replicating, 5, 5, Some(100))], None), "nobody has looked for long");
        let mut failing = good.clone();
        failing.1.failures.note(Work::Upload, "away".to_owned(), &Error::new(ErrorKind::Transient, "away"));
        assert!(!due(&[good.clone(), failing], None), "one of them fails");
        assert!(!due(&[good, status(Phase::Starting, 5, 5, Some(990_000))], None));
        assert!(!due(&[], None), "nothing is replicated");
    }

    async fn beat_against(answer: &'static str) -> (Result<()>, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ping/1?x=y", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let host = crate::host::os::host();
        let heartbeat = Heartbeat {
            url: url.parse().unwrap(),
            interval: Duration::from_secs(60),
            board: Board::default(),
            clock: host.clock,
            dial: host.dial,
        };
        (heartbeat.beat().await, server.await.unwrap())
    }

    #[tokio::test]
    async fn a_beat_is_a_get_and_only_success_counts() {
        let (result, request) = beat_against("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await;
        result.unwrap();
        assert!(request.starts_with("GET /ping/1?x=y HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
        for answer in ["HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "", "garbage\r\n\r\n"] {
            assert!(beat_against(answer).await.0.is_err(), "{answer:?}");
        }
    }
}
