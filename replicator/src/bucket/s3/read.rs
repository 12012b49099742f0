//! Reading objects: bodies that survive broken connections, facts, comparison.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ServerSideEncryption;
use bytes::Bytes;

use super::super::observer::Verb;
use super::super::{Body, ByteRange, ObjectInfo, PutOutcome, range_of};
use super::client::{Client, Request, Tried};
use super::dialect::Encryption;
use super::failure::Failure;
use super::retry::Budget;
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;

/// Bytes since the last failure that count as progress. Less would let a store that sends one byte per connection
/// keep a reader busy for ever.
const PROGRESS: u64 = 64 * 1024;

/// Size and CRC-64 of some bytes: enough to tell an object of ours from any other that is not forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest {
    pub size: u64,
    pub crc: u64,
}

/// Computes a [`Digest`] piece by piece.
pub(super) struct Digester {
    size: u64,
    crc: crc_fast::Digest,
}

impl Digester {
    pub(super) fn new() -> Self {
        Self { size: 0, crc: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme) }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        self.size += data.len() as u64;
        self.crc.update(data);
    }

    pub(super) fn finish(&self) -> Digest {
        Digest { size: self.size, crc: self.crc.finalize() }
    }
}

/// What the first answer said about the object; later ones must agree.
struct Opened {
    stream: ByteStream,
    range: Range<u64>,
    object: Identity,
}

/// What tells an object from one that replaced it.
struct Identity {
    size: u64,
    etag: Option<String>,
}

impl Identity {
    /// For `If-Match`, which a weak tag never satisfies.
    fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/"))
    }

    /// Whether another answer was about the same object, as far as both say. Proxies weaken the tags of some answers and
    /// not of others.
    fn is_same(&self, other: &Self) -> bool {
        let is_same_tag = match (&self.etag, &other.etag) {
            (Some(one), Some(other)) => one.trim_start_matches("W/") == other.trim_start_matches("W/"),
            _ => true,
        };
        self.size == other.size && is_same_tag
    }
}

/// Starts reading.
pub(super) async fn get(client: &Arc<Client>, key: &str, range: Option<ByteRange>) -> Result<S3Body> {
    if range.is_some_and(|range| range.len == Some(0)) {
        return Err(Error::new(ErrorKind::Internal, format!("an empty range of {key} was asked for")));
    }
    let request = Request::new(Verb::Get, "GetObject", key);
    let (mut budget, mut tried) = (client.budget(), Tried::default());
    loop {
        let failure = match open(client, &request, range, None).await {
            Ok(opened) => {
                return Ok(S3Body {
                    client: Arc::clone(client),
                    request,
                    next: opened.range.start,
                    len: opened.range.end - opened.range.start,
                    end: opened.range.end,
                    conditional: opened.object.strong_etag().is_some(),
                    object: opened.object,
                    stream: Some(opened.stream),
                    budget,
                    since_failure: 0,
                });
            }
            Err(failure) => failure,
        };
        if failure.status == Some(416) {
            let size = head(client, key).await?.map_or(0, |info| info.size);
            range_of(range, size).map_err(|error| error.context(client.url(key)))?;
        }
        let recovered = client.recover(&request, failure, &mut budget, &mut tried).await;
        recovered.map_err(|failure| client.error(&request, &failure))?;
    }
}

/// One GET; `etag` is the object that an earlier answer was about.
async fn open(
    client: &Client,
    request: &Request,
    range: Option<ByteRange>,
    etag: Option<&str>,
) -> Result<Opened, Failure> {
    let header = range.map(|ByteRange { start, len }| match len {
        Some(len) => format!("bytes={start}-{}", start.saturating_add(len) - 1),
        None => format!("bytes={start}-"),
    });
    let mut send = |sdk: aws_sdk_s3::Client| {
        let mut get = sdk
            .get_object()
            .bucket(&client.bucket)
            .key(&request.key)
            .set_range(header.clone())
            .set_if_match(etag.map(str::to_owned));
        if let Encryption::Customer { key, key_md5 } = &client.dialect.encryption {
            get = get.sse_customer_algorithm("AES256").sse_customer_key(key).sse_customer_key_md5(key_md5);
        }
        get.send()
    };
    let output = client.attempt(request, &mut send).await?;
    let sent = output.content_length.and_then(|length| u64::try_from(length).ok());
    let (covered, size) = match (range, output.content_range.as_deref()) {
        (Some(range), Some(content_range)) => covered(range, content_range)?,
        (Some(_), None) => return Err(Failure::bad_answer("the store ignored the range that was asked for")),
        (None, _) => {
            let size = sent.ok_or_else(|| Failure::bad_answer("the answer does not say how long it is"))?;
            (0..size, size)
        }
    };
    if sent.is_some_and(|sent| sent != covered.end - covered.start) {
        return Err(Failure::bad_answer("Content-Length and Content-Range of the answer disagree"));
    }
    Ok(Opened { stream: output.body, range: covered, object: Identity { size, etag: output.e_tag } })
}

/// Checks `bytes START-LAST/TOTAL` against the range that was asked for; gives the range and the object's size.
fn covered(asked: ByteRange, content_range: &str) -> Result<(Range<u64>, u64), Failure> {
    let bad = || Failure::bad_answer(format!("the answer covers {content_range:?}, not what was asked for"));
    let parse = || {
        let (range, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
        let (start, last) = range.split_once('-')?;
        let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
        Some((start, last.checked_add(1)?, total.parse::<u64>().ok()?))
    };
    let (start, end, total) = parse().ok_or_else(bad)?;
    let expected = range_of(Some(asked), total).map_err(|_| bad())?;
    if (start..end) == expected { Ok((expected, total)) } else { Err(bad()) }
}

/// A body that opens the rest of the object again when its connection breaks.
pub(super) struct S3Body {
    client: Arc<Client>,
    request: Request,
    stream: Option<ByteStream>,
    /// The object that the first answer was about.
    object: Identity,
    /// Whether the store is asked to see to it that it still is.
    conditional: bool,
    /// Offsets in the object: the next byte, and the end.
    next: u64,
    end: u64,
    len: u64,
    budget: Budget,
    since_failure: u64,
}

impl S3Body {
    /// Opens the rest, which must belong to the same object.
    async fn resume(&mut self) -> Result<()> {
        let range = ByteRange { start: self.next, len: Some(self.end - self.next) };
        let mut tried = Tried::default();
        loop {
            let etag = self.object.strong_etag().filter(|_| self.conditional);
            let failure = match open(&self.client, &self.request, Some(range), etag).await {
                Ok(opened) if self.conditional || self.object.is_same(&opened.object) => {
                    self.stream = Some(opened.stream);
                    return Ok(());
                }
                Ok(_) => return Err(self.replaced()),
                Err(failure) => failure,
            };
            if self.conditional && failure.is_precondition_failed() {
                // Some stores and proxies say so of a right ETag, too: the answer without the condition tells.
                self.conditional = false;
                continue;
            }
            let recovered = self.client.recover(&self.request, failure, &mut self.budget, &mut tried).await;
            recovered.map_err(|failure| self.error(&failure))?;
        }
    }

    fn replaced(&self) -> Error {
        let what = format!("{} was replaced while it was read", self.client.url(&self.request.key));
        Error::new(ErrorKind::Transient, what)
    }

    fn error(&self, failure: &Failure) -> Error {
        let left = self.end - self.next;
        self.client
            .error(&self.request, failure)
            .context(format_args!("{left} of {} bytes did not come", self.len))
    }

    fn advance(&mut self, chunk: &Bytes) {
        let bytes = chunk.len() as u64;
        self.client.received(chunk.len());
        self.next += bytes;
        self.since_failure += bytes;
        if self.since_failure >= PROGRESS {
            self.budget.refill();
        }
    }
}

#[async_trait]
impl Body for S3Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while self.next < self.end {
            let Some(stream) = &mut self.stream else {
                self.resume().await?;
                continue;
            };
            let failure = match stream.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) if chunk.len() as u64 <= self.end - self.next => {
                    self.advance(&chunk);
                    return Ok(Some(chunk));
                }
                Some(Ok(_)) => Failure::bad_answer("the store sent more than it promised"),
                Some(Err(error)) => Failure::broken_body(&error),
                None => Failure::bad_answer("the answer ended early"),
            };
            self.stream = None;
            self.since_failure = 0;
            let recovered =
                self.client.recover(&self.request, failure, &mut self.budget, &mut Tried::default()).await;
            recovered.map_err(|failure| self.error(&failure))?;
        }
        if let Some(mut stream) = self.stream.take() {
            // Nothing more can come; seeing the end gives the connection back to the pool.
            let _ = stream.next().await;
        }
        Ok(None)
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// Facts about one object.
pub(super) async fn head(client: &Client, key: &str) -> Result<Option<ObjectInfo>> {
    let request = Request::new(Verb::Head, "HeadObject", key);
    let send = |sdk: aws_sdk_s3::Client| {
        let mut head = sdk.head_object().bucket(&client.bucket).key(key);
        if let Encryption::Customer { key, key_md5 } = &client.dialect.encryption {
            head = head.sse_customer_algorithm("AES256").sse_customer_key(key).sse_customer_key_md5(key_md5);
        }
        head.send()
    };
    match client.run(&request, send).await {
        Ok(output) => {
            let size =
                output.content_length.and_then(|length| u64::try_from(length).ok()).ok_or_else(|| {
                    client.error(
                        &request,
                        &Failure::bad_answer("the answer does not say how long the object is"),
                    )
                })?;
            Ok(Some(ObjectInfo { key: key.to_owned(), size, modified: output.last_modified.map(millis) }))
        }
        Err(failure) if failure.is_not_found() => Ok(None),
        Err(failure) => Err(client.error(&request, &failure)),
    }
}

/// The SDK's time as ours.
pub(super) fn millis(time: DateTime) -> UnixMillis {
    UnixMillis(time.to_millis().unwrap_or(0))
}

/// Compares an object with bytes of ours: `None` if there is no object, else `AlreadyThere` or `Conflict`.
pub(super) async fn compare(client: &Arc<Client>, key: &str, ours: &Digest) -> Result<Option<PutOutcome>> {
    let Some(info) = head(client, key).await? else { return Ok(None) };
    if info.size != ours.size {
        return Ok(Some(PutOutcome::Conflict));
    }
    match digest(client, key).await {
        Ok(theirs) if theirs == *ours => Ok(Some(PutOutcome::AlreadyThere)),
        Ok(_) => Ok(Some(PutOutcome::Conflict)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Of an object, however often the connection breaks.
async fn digest(client: &Arc<Client>, key: &str) -> Result<Digest> {
    let mut body = get(client, key, None).await?;
    let mut digester = Digester::new();
    while let Some(chunk) = body.chunk().await? {
        digester.update(&chunk);
    }
    Ok(digester.finish())
}

/// Key-service encryption as the SDK spells it.
pub(super) const KMS: ServerSideEncryption = ServerSideEncryption::AwsKms;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_must_be_what_was_asked_for() {
        let range = |start, len| ByteRange { start, len };
        assert_eq!(covered(range(0, None), "bytes 0-9/10").unwrap(), (0..10, 10));
        assert_eq!(covered(range(3, Some(4)), "bytes 3-6/10").unwrap(), (3..7, 10));
        assert_eq!(covered(range(3, Some(40)), "bytes 3-9/10").unwrap(), (3..10, 10));
        for (asked, answer) in [
            (range(3, Some(4)), "bytes 0-9/10"),
            (range(3, Some(4)), "bytes 3-5/10"),
            (range(0, None), "bytes 0-8/10"),
            (range(0, None), "bytes 0-9/*"),
            (range(0, None), "0-9/10"),
            (range(0, None), "bytes 9-18446744073709551615/10"),
        ] {
            assert!(covered(asked, answer).is_err(), "{asked:?} {answer}");
        }
    }
}
