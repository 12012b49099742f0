//! A plain S3 client that sends exactly what a check tells it to: the headers, the query, the way of signing.
//!
//! It hides nothing (no retries but on a stale pooled connection and where [`Repeat`] is said, no redirects, no
//! checksums of its own), counts requests and bytes, and stops at a ceiling. Signatures are made by `aws-sigv4`, so that
//! neither the embedded server nor the product grades its own homework.

mod budget;
mod dial;
mod patience;
mod sdk;
mod sign;
mod versions;
pub mod xml;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};

pub use self::budget::{Budget, Spent};
pub use self::dial::{Address, AddressError, Dialer};
pub use self::patience::Repeat;
pub use self::sdk::SdkChecksums;
pub use self::sign::Signing;
use self::versions::VersionsSeen;
use crate::targets::Target;

/// How much of an answer is read, and how long it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest body.
    pub bytes: usize,
    /// From dialling to the last byte.
    pub whole: Duration,
    /// From dialling to the head, and from each piece of the body to the next.
    pub silence: Duration,
}

impl Limits {
    /// For requests that are small, as all of a check are.
    pub const CHECK: Self = Self { bytes: 64 << 20, whole: Duration::from_secs(60), silence: Duration::MAX };
    /// For objects of any size on a line of any speed: only silence ends them.
    pub const OBJECT: Self =
        Self { bytes: usize::MAX, whole: Duration::MAX, silence: Duration::from_secs(60) };
}

/// Body type of everything sent.
pub(crate) type SendBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// How a bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// `host/bucket/key`.
    Path,
    /// `bucket.host/key`.
    Virtual,
}

/// A request to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Bucket, if not the target's; `Some("")` for none.
    pub bucket: Option<String>,
    /// Key, not encoded; empty for the bucket itself.
    pub key: String,
    /// Query pairs, not encoded, in the order sent.
    pub query: Vec<(String, String)>,
    /// Headers beside `Host` and those of the signature.
    pub headers: Vec<(String, String)>,
    /// Headers that the signature does not cover.
    pub unsigned_headers: Vec<(String, String)>,
    /// Without the headers that the target wants on every request.
    pub bare: bool,
    /// Body.
    pub body: Bytes,
    /// Sent with `Transfer-Encoding: chunked` in place of `Content-Length`.
    pub unsized_body: bool,
    /// How it is signed.
    pub signing: Signing,
    /// How the bucket is named, if not as the target says.
    pub style: Option<Style>,
}

impl Call {
    /// A signed request for a key of the target's bucket.
    #[must_use]
    pub fn new(method: Method, key: &str) -> Self {
        Self {
            method,
            bucket: None,
            key: key.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            unsigned_headers: Vec::new(),
            bare: false,
            body: Bytes::new(),
            unsized_body: false,
            signing: Signing::Payload,
            style: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a query pair.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the way of signing.
    #[must_use]
    pub fn signing(mut self, signing: Signing) -> Self {
        self.signing = signing;
        self
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, whole.
    pub body: Bytes,
}

impl Answer {
    /// A header as text; empty if absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The ETag without quotes.
    #[must_use]
    pub fn etag(&self) -> &str {
        self.header("etag").trim_matches('"')
    }

    /// The `<Code>` of an error answer; empty if there is none.
    #[must_use]
    pub fn code(&self) -> String {
        xml::first(&self.text(), "Code").unwrap_or_default()
    }

    /// Body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and error code for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let code = if self.status.is_success() { String::new() } else { self.code() };
        if code.is_empty() {
            self.status.as_u16().to_string()
        } else {
            format!("{} {code}", self.status.as_u16())
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke.
    #[error("no answer from {0}: {1}")]
    Broken(String, String),
    /// The answer took longer than allowed.
    #[error("no complete answer from {0} within {1:?}")]
    Slow(String, Duration),
    /// Nothing came for longer than allowed.
    #[error("nothing more from {0} for {1:?}")]
    Silent(String, Duration),
    /// The ceiling on requests or bytes is reached.
    #[error("stopped: the ceiling of {0} is reached")]
    Ceiling(String),
    /// The request cannot be expressed.
    #[error("request cannot be made: {0}")]
    Unsendable(String),
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    target: Arc<Target>,
    dialer: Dialer,
    budget: Arc<Budget>,
    versions: VersionsSeen,
    limits: Limits,
}

impl Client {
    /// A client for a target.
    ///
    /// # Errors
    /// If the endpoint is not a URL, or needs TLS and no root certificates can be found.
    pub fn new(target: Arc<Target>, budget: Arc<Budget>) -> Result<Self, AddressError> {
        let dialer = Dialer::new(&target)?;
        Ok(Self { target, dialer, budget, versions: VersionsSeen::default(), limits: Limits::CHECK })
    }

    /// The same client with connections of its own, for another runtime: they belong to the one that made them.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_own_connections(&self) -> Result<Self, AddressError> {
        Ok(Self { dialer: Dialer::new(&self.target)?, ..self.clone() })
    }

    /// The same client with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The target spoken to.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The budget it draws on, for another client that is to share it.
    #[must_use]
    pub fn budget(&self) -> Arc<Budget> {
        self.budget.clone()
    }

    /// Whether the bucket is known to keep versions: an answer to this client or one made from it has named one.
    #[must_use]
    pub fn keeps_versions(&self) -> bool {
        self.versions.any()
    }

    /// What was spent so far.
    #[must_use]
    pub fn spent(&self) -> Spent {
        self.budget.spent()
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`ClientError`]; an error status is an [`Answer`].
    pub async fn send(&self, call: &Call) -> Result<Answer, ClientError> {
        let mut call = call.clone();
        if !call.bare {
            call.headers.extend(self.target.headers.clone());
        }
        self.send_as_is(&call).await
    }

    async fn send_as_is(&self, call: &Call) -> Result<Answer, ClientError> {
        self.budget.charge(call.body.len() as u64)?;
        let place = self.place(call);
        let signed = sign::sign(&self.target, call, &place).map_err(ClientError::Unsendable)?;
        let exchange = async {
            let request = request(call, &place, &signed).map_err(ClientError::Unsendable)?;
            let again = request_parts(&request);
            let head = self.dialer.exchange(&place.authority, request, || rebuild(call, &again, &signed));
            let (parts, body) = self.unless_silent(&place, head).await??.into_parts();
            self.versions.look_at(&parts.headers);
            let body = self.read(&place, body).await?;
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        let slow = |_| ClientError::Slow(place.authority.clone(), self.limits.whole);
        let answer = tokio::time::timeout(self.limits.whole, exchange).await.map_err(slow)??;
        self.budget.charge_answer(answer.body.len() as u64)?;
        Ok(answer)
    }

    async fn read(&self, place: &Place, body: Incoming) -> Result<Bytes, ClientError> {
        let mut body = Limited::new(body, self.limits.bytes);
        let mut bytes = Vec::new();
        while let Some(frame) = self.unless_silent(place, body.frame()).await? {
            let frame = frame.map_err(|error| {
                ClientError::Broken(place.authority.clone(), format!("the body broke off: {error}"))
            })?;
            // Trailers are of no interest.
            bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        }
        Ok(bytes.into())
    }

    async fn unless_silent<T>(&self, place: &Place, next: impl Future<Output = T>) -> Result<T, ClientError> {
        let silent = |_| ClientError::Silent(place.authority.clone(), self.limits.silence);
        tokio::time::timeout(self.limits.silence, next).await.map_err(silent)
    }

    fn place(&self, call: &Call) -> Place {
        let address = self.dialer.address();
        let bucket = call.bucket.as_deref().unwrap_or(&self.target.bucket);
        let style = call.style.unwrap_or(self.target.style);
        let key = sign::encode_path(&call.key);
        let (authority, path) = match style {
            Style::Virtual if !bucket.is_empty() => {
                (address.authority_for(Some(bucket)), format!("{}/{key}", address.path))
            }
            _ if bucket.is_empty() => (address.authority_for(None), format!("{}/{key}", address.path)),
            // The bucket itself is addressed without a slash behind it, as the SDKs do.
            _ if key.is_empty() => (address.authority_for(None), format!("{}/{bucket}", address.path)),
            _ => (address.authority_for(None), format!("{}/{bucket}/{key}", address.path)),
        };
        let query: Vec<_> = call
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", sign::encode(name), sign::encode(value)))
            .collect();
        Place { scheme: address.scheme.clone(), authority, path, query: query.join("&") }
    }
}

/// Where a request goes, encoded.
struct Place {
    scheme: String,
    authority: String,
    path: String,
    query: String,
}

impl Place {
    fn origin_form(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.origin_form())
    }
}

fn request(call: &Call, place: &Place, signed: &sign::Signed) -> Result<Request<SendBody>, String> {
    let mut builder = Request::builder().method(call.method.clone()).uri(place.origin_form());
    builder = builder.header("host", &place.authority);
    for (name, value) in call.headers.iter().chain(&call.unsigned_headers).chain(&signed.headers) {
        builder = builder.header(name, value);
    }
    // hyper leaves it out for an empty body, and Ceph RGW answers 411 to an empty PUT without it.
    if !call.unsized_body && matches!(call.method, Method::PUT | Method::POST) {
        builder = builder.header("content-length", signed.body.as_ref().unwrap_or(&call.body).len());
    }
    builder.body(body(call, signed)).map_err(|error| error.to_string())
}

fn request_parts(request: &Request<SendBody>) -> (Method, http::Uri, HeaderMap) {
    (request.method().clone(), request.uri().clone(), request.headers().clone())
}

fn rebuild(call: &Call, parts: &(Method, http::Uri, HeaderMap), signed: &sign::Signed) -> Request<SendBody> {
    let mut request = Request::new(body(call, signed));
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = parts.clone();
    request
}

fn body(call: &Call, signed: &sign::Signed) -> SendBody {
    let bytes = signed.body.clone().unwrap_or_else(|| call.body.clone());
    if call.unsized_body {
        let frames = futures::stream::once(async move { Ok(Frame::data(bytes)) });
        return StreamBody::new(frames).boxed_unsync();
    }
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
