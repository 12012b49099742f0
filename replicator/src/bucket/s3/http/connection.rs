//! One HTTP/1 connection: how it is opened, and one exchange on it with bounds on silence.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Response, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::super::super::settings::Timeouts;
use super::fault::{Reached, TransportFault};
use super::progress::{Activity, Watched};
use super::proxy::Proxy;
use crate::host::{Dial, Stream};

/// How long a connection that ended its last answer may take to say that it is ready for the next request.
const READY: Duration = Duration::from_secs(1);

/// A server, as the pool knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// Whether over TLS.
    pub(crate) tls: bool,
    /// Name or address, without brackets.
    pub(crate) host: String,
    pub(super) port: u16,
}

impl Target {
    /// The server that an absolute URI names.
    pub(crate) fn of(uri: &Uri) -> io::Result<Self> {
        let tls = uri.scheme_str() == Some("https");
        let Some(host) = uri.host() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} names no host")));
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }

    /// `host:port`.
    pub(super) fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{open}{}{close}:{}", self.host, self.port)
    }

    fn has_default_port(&self) -> bool {
        self.port == if self.tls { 443 } else { 80 }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Adds the `Host` header that was signed, and puts the URI into the form that the other end wants: path and query
/// for a server, everything for a proxy that forwards plain requests.
pub(crate) fn address<B>(
    request: &mut Request<B>,
    target: &Target,
    proxy: Option<&Proxy>,
) -> Result<(), http::Error> {
    if !request.headers().contains_key(HOST) {
        let authority = request.uri().authority().map_or("", |authority| authority.as_str());
        let host = if target.has_default_port() {
            authority
                .rsplit_once(':')
                .filter(|(_, port)| port.parse::<u16>().is_ok())
                .map_or(authority, |h| h.0)
        } else {
            authority
        };
        let host = HeaderValue::from_str(host)?;
        request.headers_mut().insert(HOST, host);
    }
    if let Some(proxy) = proxy.filter(|_| !target.tls) {
        if let Some(authorization) = &proxy.authorization {
            let value = HeaderValue::from_str(authorization)?;
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        return Ok(());
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::builder().path_and_query(path).build()?;
    Ok(())
}

/// A plain connection to a server; for TLS through a proxy, the tunnel to it.
pub(crate) async fn reach(
    dial: &dyn Dial,
    target: &Target,
    proxy: Option<&Proxy>,
) -> io::Result<Box<dyn Stream>> {
    let (host, port) = proxy.map_or((&target.host, target.port), |proxy| (&proxy.host, proxy.port));
    let mut stream = dial.dial(host, port).await?;
    if let Some(proxy) = proxy.filter(|_| target.tls) {
        proxy.tunnel(&mut *stream, target).await?;
    }
    Ok(stream)
}

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<SdkBody>,
    activity: Arc<Activity>,
}

impl Connection {
    /// Dials, makes TLS if asked, and starts the task that drives the connection; the task ends with it.
    pub(super) async fn open(
        dial: &dyn Dial,
        tls: Option<&TlsConnector>,
        target: &Target,
        proxy: Option<&Proxy>,
    ) -> io::Result<Self> {
        let activity = Arc::new(Activity::new());
        let stream = Watched::new(reach(dial, target, proxy).await?, Arc::clone(&activity));
        if !target.tls {
            return Self::handshake(stream, activity).await;
        }
        let Some(tls) = tls else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this client was opened without TLS"));
        };
        let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
        Self::handshake(tls.connect(name, stream).await?, activity).await
    }

    async fn handshake(stream: impl Stream + 'static, activity: Arc<Activity>) -> io::Result<Self> {
        let (sender, driver) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // Whoever waits for an answer hears of the failure; an unused connection may end as it likes.
            let _ = driver.await;
        });
        Ok(Self { sender, activity })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether another request can be sent now.
    pub(super) async fn is_ready(&mut self) -> bool {
        matches!(tokio::time::timeout(READY, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Sends a request and waits for the head of the answer, as long as bytes move.
    pub(super) async fn exchange(
        &mut self,
        request: Request<SdkBody>,
        timeouts: &Timeouts,
    ) -> Result<Response<Incoming>, TransportFault> {
        let body_bytes = request.body().size_hint().exact().unwrap_or(0);
        self.activity.begin();
        let answer = self.sender.send_request(request);
        tokio::pin!(answer);
        loop {
            let sending = self.activity.written() < body_bytes;
            let patience = timeouts.answer * planted!("silence-is-waited-for", 10_000, 1);
            let limit = if sending { timeouts.upload_progress } else { patience };
            let deadline = self.activity.last() + limit;
            tokio::select! {
                biased;
                result = &mut answer => {
                    return result.map_err(|error| {
                        let unsent = error.is_canceled() || self.activity.written() == 0;
                        let mut fault = TransportFault::broken(error.into());
                        if unsent {
                            fault.reached = Reached::Nothing;
                        }
                        fault
                    });
                }
                () = tokio::time::sleep_until(deadline) => {
                    // Unless something moved meanwhile, or sending has ended and the other limit applies.
                    let still_sending = self.activity.written() < body_bytes;
                    if self.activity.last() + limit <= Instant::now() && still_sending == sending {
                        let doing = if sending { "sending the request" } else { "waiting for an answer" };
                        return Err(TransportFault::silent(doing, limit));
                    }
                }
            }
        }
    }
}
