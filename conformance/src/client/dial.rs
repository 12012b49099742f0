//! Connections: plain or TLS, kept for reuse, dialled where the target says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{ClientError, SendBody};
use crate::targets::Target;

/// An endpoint taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `http` or `https`.
    pub scheme: String,
    /// Host without port.
    pub host: String,
    /// Port, always explicit here.
    pub port: u16,
    /// Whether the URL named the port, so that `Host` does too.
    pub port_named: bool,
    /// Path in front of every request, without a slash at the end.
    pub path: String,
    /// Domain for `bucket.<domain>`; the host if not given.
    pub domain: String,
}

/// Why an endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It does not parse.
    #[error("endpoint {0:?} is not a URL: {1}")]
    NotAUrl(String, String),
    /// TLS cannot be set up.
    #[error("https cannot be used: {0}")]
    Tls(String),
}

impl Address {
    /// Takes an endpoint apart. Without a scheme it is `https`, for a host of this machine `http`.
    ///
    /// # Errors
    /// [`AddressError::NotAUrl`].
    pub fn parse(endpoint: &str, domain: Option<&str>) -> Result<Self, AddressError> {
        let bad = |why: &str| AddressError::NotAUrl(endpoint.to_owned(), why.to_owned());
        let local = ["localhost", "127.", "[::1]"].iter().any(|start| endpoint.starts_with(start));
        let full = match endpoint.split_once("://") {
            Some(_) => endpoint.to_owned(),
            None if local => format!("http://{endpoint}"),
            None => format!("https://{endpoint}"),
        };
        let uri: Uri = full.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        let scheme = uri.scheme_str().unwrap_or("").to_owned();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(bad("the scheme must be http or https")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("it names no host"))?;
        Ok(Self {
            scheme,
            port: uri.port_u16().unwrap_or(default_port),
            port_named: uri.port_u16().is_some(),
            path: uri.path().trim_end_matches('/').to_owned(),
            domain: domain.unwrap_or(host).to_owned(),
            host: host.to_owned(),
        })
    }

    /// The `Host` header for a request, with the bucket in it if one is given.
    #[must_use]
    pub fn authority_for(&self, bucket: Option<&str>) -> String {
        let host = match bucket {
            Some(bucket) => format!("{bucket}.{}", self.domain),
            None => self.host.clone(),
        };
        if self.port_named { format!("{host}:{}", self.port) } else { host }
    }
}

type Idle = Arc<Mutex<BTreeMap<String, Vec<SendRequest<SendBody>>>>>;

/// Most idle connections kept per host.
const MAX_IDLE: usize = 16;

/// Opens and keeps connections to one endpoint.
#[derive(Clone)]
pub struct Dialer {
    address: Arc<Address>,
    tls: Option<TlsConnector>,
    idle: Idle,
}

impl Dialer {
    /// A dialer for the target's endpoint.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn new(target: &Target) -> Result<Self, AddressError> {
        let address = Address::parse(&target.endpoint, target.virtual_domain.as_deref())?;
        let tls =
            if address.scheme == "https" { Some(tls_connector(target.ca_bundle.as_deref())?) } else { None };
        Ok(Self { address: Arc::new(address), tls, idle: Idle::default() })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Sends on an idle connection or a new one. A connection that the server closed while it idled is replaced
    /// once, by sending what `again` builds.
    pub(super) async fn exchange(
        &self,
        authority: &str,
        request: Request<SendBody>,
        again: impl FnOnce() -> Request<SendBody>,
    ) -> Result<Response<Incoming>, ClientError> {
        let broken = |error: String| ClientError::Broken(authority.to_owned(), error);
        let idle =
            self.idle.lock().expect("no holder of the pool panics").get_mut(authority).and_then(Vec::pop);
        let mut request = Some(request);
        if let Some(mut sender) = idle
            && sender.ready().await.is_ok()
            && let Some(first) = request.take()
        {
            match sender.send_request(first).await {
                Ok(response) => {
                    self.keep(authority, sender);
                    return Ok(response);
                }
                Err(error) if !(error.is_canceled() || error.is_incomplete_message()) => {
                    return Err(broken(describe(&error)));
                }
                Err(_) => {}
            }
        }
        let request = request.unwrap_or_else(again);
        let mut sender = self.connect(authority).await.map_err(broken)?;
        let response = sender.send_request(request).await.map_err(|error| broken(describe(&error)))?;
        self.keep(authority, sender);
        Ok(response)
    }

    fn keep(&self, authority: &str, sender: SendRequest<SendBody>) {
        let mut idle = self.idle.lock().expect("no holder of the pool panics");
        let kept = idle.entry(authority.to_owned()).or_default();
        if kept.len() < MAX_IDLE && !sender.is_closed() {
            kept.push(sender);
        }
    }

    async fn connect(&self, authority: &str) -> Result<SendRequest<SendBody>, String> {
        let named = authority
            .rsplit_once(':')
            .filter(|_| self.address.port_named)
            .map_or(authority, |(host, _)| host);
        // Names under localhost need no resolver: they are this machine.
        let host = if named.ends_with(".localhost") { self.address.host.as_str() } else { named };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let socket =
            TcpStream::connect((host, self.address.port)).await.map_err(|error| error.to_string())?;
        let _ = socket.set_nodelay(true);
        match &self.tls {
            None => handshake(TokioIo::new(socket)).await,
            Some(tls) => {
                let name = ServerName::try_from(named.to_owned()).map_err(|error| error.to_string())?;
                let stream = tls.connect(name, socket).await.map_err(|error| error.to_string())?;
                handshake(TokioIo::new(stream)).await
            }
        }
    }
}

async fn handshake<I>(io: I) -> Result<SendRequest<SendBody>, String>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(io).await.map_err(|error| error.to_string())?;
    // The connection ends when its sender is dropped; how it ends is told to the sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn tls_connector(bundle: Option<&Path>) -> Result<TlsConnector, AddressError> {
    let mut roots = rustls::RootCertStore::empty();
    let found = match bundle {
        Some(file) => rustls_native_certs::load_certs_from_paths(Some(file), None),
        None => rustls_native_certs::load_native_certs(),
    };
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let place = bundle.map_or("on this machine (set AWS_CA_BUNDLE)".to_owned(), |file| {
            format!("in {}", file.display())
        });
        return Err(AddressError::Tls(format!("no root certificates {place}")));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AddressError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_all_forms() {
        let parse = |text| Address::parse(text, None).unwrap();
        assert_eq!(
            parse("s3.us-west-002.backblazeb2.com").authority_for(Some("b")),
            "b.s3.us-west-002.backblazeb2.com"
        );
        assert_eq!(parse("https://host:9000/").authority_for(None), "host:9000");
        assert_eq!(parse("https://x.supabase.co/storage/v1/s3/").path, "/storage/v1/s3");
        assert_eq!(parse("127.0.0.1:9000").scheme, "http");
        assert!(Address::parse("ftp://host", None).is_err());
        assert!(Address::parse("https://", None).is_err());
    }
}
