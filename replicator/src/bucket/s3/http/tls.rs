//! TLS settings: which authorities are trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::super::super::open::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Disk, OpenMode};

/// Largest bundle of certificates read.
const MAX_BUNDLE: u64 = 16 << 20;

/// A connector that trusts `AWS_CA_BUNDLE` if set, else `SSL_CERT_FILE`, else the system's authorities. Blocking.
pub(in super::super) fn connector(
    disk: &dyn Disk,
    environment: &Environment,
    skip_verify: bool,
) -> Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions");
    let config = if skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(disk, environment)?)
    };
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

fn roots(disk: &dyn Disk, environment: &Environment) -> Result<RootCertStore> {
    for variable in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        if let Some(path) = environment.get(variable) {
            return bundle(disk, Path::new(path)).map_err(|error| error.context(variable));
        }
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "no root certificates on this system: install ca-certificates, or name a file in AWS_CA_BUNDLE",
        ));
    }
    Ok(roots)
}

fn bundle(disk: &dyn Disk, path: &Path) -> Result<RootCertStore> {
    let read = || {
        let file = disk.open(path, OpenMode::Read)?;
        let mut pem = vec![0; usize::try_from(file.metadata()?.len.min(MAX_BUNDLE)).unwrap_or(0)];
        file.read_exact_at(&mut pem, 0).map(|()| pem)
    };
    let pem = read().map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
    let bad = |what: String| Error::new(ErrorKind::Usage, format!("{}: {what}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(format!("not a PEM certificate: {error}")))?;
        roots.add(certificate).map_err(|error| bad(format!("unusable certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(bad("holds no PEM certificate".to_owned()));
    }
    Ok(roots)
}

/// `skip-verify`: the certificate is not looked at; signatures of the handshake still are.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
