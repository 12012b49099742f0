//! The server behind TLS, under any name: as an https endpoint of this machine, and as the proxy through which a
//! client reaches it as `s3.eu-west-1.amazonaws.com`, `bucket.s3.us-west-002.backblazeb2.com` or whoever is meant.
//!
//! Certificates are made for the name that is asked for and signed by an authority of its own, so that a client is
//! to be told what to trust (`AWS_CA_BUNDLE`) and verifies names as ever. Nothing leaves the machine.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::Server;

/// Names of a client that does not say which server it means, as one that dials an address does not.
const OWN_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];
/// Longest head of a `CONNECT` request.
const MAX_HEAD: usize = 8 * 1024;

/// A server with TLS on 127.0.0.1. Dropping it stops it and breaks its connections.
pub struct Secure {
    address: SocketAddr,
    folder: tempfile::TempDir,
    accepting: JoinHandle<()>,
}

impl Secure {
    /// Starts it on a free port. Needs a running tokio runtime.
    ///
    /// # Errors
    /// If no port, no certificate or no temporary folder can be had.
    pub async fn start(server: Server) -> io::Result<Self> {
        let authority = Authority::new().map_err(io::Error::other)?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("ca.pem"), &authority.pem)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(authority));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            // As for the plain server: connections end with this task.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (server, acceptor) = (server.clone(), acceptor.clone());
                connections.spawn(async move {
                    // A client that does not trust us breaks off here, which is its business.
                    let _ = serve(server, acceptor, socket).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, folder, accepting })
    }

    /// `https://127.0.0.1:<port>`, without the dialect's path prefix.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Value for `HTTPS_PROXY`: every name leads here.
    #[must_use]
    pub fn proxy(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Value for `AWS_CA_BUNDLE`. The file goes with this value.
    #[must_use]
    pub fn bundle(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Folder of the bundle, for more files that are to go with this value.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection: TLS at once, or after a `CONNECT` to whichever server.
async fn serve(server: Server, acceptor: TlsAcceptor, mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut first = [0];
    socket.peek(&mut first).await?;
    if first == *b"C" {
        read_head(&mut socket).await?;
        socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    }
    let stream = acceptor.accept(socket).await?;
    server.serve_connection(stream).await;
    Ok(())
}

/// Reads up to the empty line and no further: what follows is TLS.
async fn read_head(socket: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD {
            return Err(io::Error::other("the head of a CONNECT request is too long"));
        }
        head.push(socket.read_u8().await?);
    }
    if head.starts_with(b"CONNECT ") {
        Ok(())
    } else {
        Err(io::Error::other("neither TLS nor a CONNECT request"))
    }
}

/// Signs a certificate for each name that is asked for.
#[derive(Debug)]
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    made: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl Authority {
    fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem, made: Mutex::default() })
    }

    fn make(&self, names: Vec<String>) -> Option<Arc<CertifiedKey>> {
        let key = KeyPair::generate().ok()?;
        let certificate = CertificateParams::new(names).ok()?.signed_by(&key, &self.issuer).ok()?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).ok()?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
        Some(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().unwrap_or_default().to_owned();
        let mut made = self.made.lock().expect("no holder of the certificates panics");
        if let Some(known) = made.get(&asked) {
            return Some(known.clone());
        }
        let names =
            if asked.is_empty() { OWN_NAMES.map(str::to_owned).to_vec() } else { vec![asked.clone()] };
        let fresh = self.make(names)?;
        made.insert(asked, fresh.clone());
        Some(fresh)
    }
}
