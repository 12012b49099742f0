//! The first to see a request and the last to see its answer: facts for the fault plan, raw rules, faults, counters.
//!
//! Everything behind this layer sees only requests that are to be applied.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use s3s::dto::{Timestamp, TimestampFormat};

use super::answer::{self, AnswerBody, Whole};
use super::dialect::AwsChunked;
use super::fault::{ErrorAnswer, Fault, Lie, Outcome, RequestFacts, Verb};
use super::raw_rules::{self, Raw};
use super::s3::Context;
use super::store::{Millis, Stamp};
use super::{InFlight, Inner, bucket_of_host, prefix};

/// Most bytes of a request body kept in memory.
const MAX_REQUEST_BYTES: usize = (1 << 30) + (1 << 20);

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("connection closed without an answer")]
pub(super) struct Hangup;

/// Answers one request.
pub(super) async fn handle(
    inner: Arc<Inner>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Hangup> {
    let ordinal = inner.ordinal.fetch_add(1, Ordering::Relaxed) + 1;
    let (parts, body) = request.into_parts();
    let (_slot, requests) = InFlight::enter(&inner.in_flight);
    let place = Place::of(&parts, &inner.domains, &inner.dialect.path_prefix);
    let verb = classify(&parts.method, &place, parts.uri.query().unwrap_or(""), &parts.headers);
    let part_slot = (verb == Verb::UploadPart).then(|| InFlight::enter(&inner.parts_in_flight));
    let limits = &inner.dialect;
    let crowded = (limits.concurrent_requests > 0 && requests > limits.concurrent_requests)
        || part_slot.as_ref().is_some_and(|(_, parts)| {
            limits.multipart.concurrent_parts > 0 && *parts > limits.multipart.concurrent_parts
        });
    let body = Limited::new(body, MAX_REQUEST_BYTES).collect().await.map_err(|_| Hangup)?.to_bytes();
    let facts = RequestFacts {
        ordinal,
        verb,
        bucket: place.bucket,
        key: place.key,
        query: parts.uri.query().unwrap_or("").to_owned(),
        headers: parts.headers.clone(),
        body_bytes: body.len() as u64,
    };
    count_request(&inner, &facts);
    let plan = inner.faults.lock().expect("no holder of the plan panics").clone();
    let Fault { delay, outcome } = plan.decide(&facts);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let outcome = if crowded && outcome == Outcome::Pass {
        Outcome::Refuse(ErrorAnswer::new(503, "SlowDown"))
    } else {
        outcome
    };
    let head = parts.method == Method::HEAD;
    let result = act(&inner, &facts, parts, place.virtual_host, body, outcome.clone()).await;
    plan.answered(&facts, result.as_ref().ok().map(|response| response.status().as_u16()));
    let response = result?;
    let response = answer::dress(response, head, &http_date((inner.clock)()), ordinal);
    count_answer(&inner, &response);
    Ok(answer::spoil(response, &outcome))
}

/// Carries out the decision: what is applied, and what is answered.
async fn act(
    inner: &Arc<Inner>,
    facts: &RequestFacts,
    parts: Parts,
    virtual_host: bool,
    body: Bytes,
    outcome: Outcome,
) -> Result<Whole, Hangup> {
    let head = parts.method == Method::HEAD;
    let request = Request::from_parts(parts, body);
    match outcome {
        Outcome::Refuse(error) => Ok(answer::error(&error, head)),
        Outcome::Hangup => Err(Hangup),
        Outcome::Silence => std::future::pending().await,
        Outcome::HangupThenApply(delay) => {
            let (inner, facts) = (inner.clone(), facts.clone());
            // The answer goes nowhere: the client is gone by the time this runs.
            drop(tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                drop(apply(&inner, &facts, request, virtual_host, Outcome::Pass).await);
            }));
            Err(Hangup)
        }
        Outcome::ErrorInOk(error) if facts.verb == Verb::CompleteMultipartUpload => {
            let mut response = answer::error(&error, head);
            *response.status_mut() = http::StatusCode::OK;
            Ok(response)
        }
        outcome => {
            let response = apply(inner, facts, request, virtual_host, outcome.clone()).await?;
            match outcome {
                Outcome::ApplyThenError(error) => Ok(answer::error(&error, head)),
                Outcome::ApplyThenHangup => Err(Hangup),
                Outcome::ApplyThenSilence => std::future::pending().await,
                _ => Ok(response),
            }
        }
    }
}

/// Lets the dialect and then the store have the request.
async fn apply(
    inner: &Arc<Inner>,
    facts: &RequestFacts,
    mut request: Request<Bytes>,
    virtual_host: bool,
    outcome: Outcome,
) -> Result<Whole, Hangup> {
    let head = *request.method() == Method::HEAD;
    let now = (inner.clock)();
    let raw = Raw {
        method: request.method(),
        path: request.uri().path(),
        query: &facts.query,
        headers: request.headers(),
        verb: facts.verb,
        key: facts.key.as_deref(),
        virtual_host,
        now,
    };
    let any_signature = outcome == Outcome::Lie(Lie::AcceptAnySignature);
    if let Err(refusal) = raw_rules::check(&inner.dialect, &raw)
        && !any_signature
    {
        return Ok(answer::error(&refusal, head));
    }
    let keep_frames = inner.dialect.aws_chunked == AwsChunked::Stored && raw.is_framed();
    let fresh = inner.dialect.list.fresh_header.as_ref().is_some_and(|name| {
        request.headers().get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
    });
    let context = Context {
        stamp: Stamp { at: now, request: facts.ordinal },
        outcome,
        raw_body: keep_frames.then(|| request.body().clone()),
        fresh,
    };
    if !inner.dialect.path_prefix.is_empty() {
        request = match prefix::strip(request, &inner.dialect.path_prefix, &inner.keys) {
            Ok(request) => request,
            Err(refusal) => return Ok(answer::error(&refusal, head)),
        };
    }
    request.extensions_mut().insert(context);
    if any_signature {
        request.headers_mut().remove("authorization");
    }
    let service = if any_signature { &inner.unsigned } else { &inner.signed };
    let response = service.call(request.map(s3s::Body::from)).await.map_err(|_| Hangup)?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|_| Hangup)?.to_bytes();
    Ok(Response::from_parts(parts, body))
}

/// Where a request points.
struct Place {
    bucket: Option<String>,
    key: Option<String>,
    virtual_host: bool,
}

impl Place {
    fn of(parts: &Parts, domains: &[String], prefix: &str) -> Self {
        let host = parts.headers.get("host").and_then(|value| value.to_str().ok()).unwrap_or("");
        let path = parts.uri.path();
        let path = percent_decode(path.strip_prefix(prefix).unwrap_or(path));
        let path = path.strip_prefix('/').unwrap_or(&path);
        let full = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        if let Some((bucket, _)) = bucket_of_host(host, domains) {
            return Self { bucket: full(bucket), key: full(path), virtual_host: true };
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        Self { bucket: full(bucket), key: full(key), virtual_host: false }
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn classify(method: &Method, place: &Place, query: &str, headers: &HeaderMap) -> Verb {
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match (method.as_str(), place.bucket.is_some(), place.key.is_some()) {
        ("PUT", _, true) if has("uploadId") => Verb::UploadPart,
        ("PUT", _, true) if headers.contains_key("x-amz-copy-source") => Verb::CopyObject,
        ("PUT", _, true) => Verb::PutObject,
        ("PUT", true, false) => Verb::CreateBucket,
        ("GET", _, true) if has("uploadId") => Verb::ListParts,
        ("GET", _, true) => Verb::GetObject,
        ("GET", true, false) if has("uploads") => Verb::ListMultipartUploads,
        ("GET", true, false) if has("location") || has("versions") => Verb::Other,
        ("GET", true, false) => Verb::ListObjects,
        ("HEAD", _, true) => Verb::HeadObject,
        ("HEAD", true, false) => Verb::HeadBucket,
        ("POST", _, true) if has("uploads") => Verb::CreateMultipartUpload,
        ("POST", _, true) if has("uploadId") => Verb::CompleteMultipartUpload,
        ("POST", true, false) if has("delete") => Verb::DeleteObjects,
        ("DELETE", _, true) if has("uploadId") => Verb::AbortMultipartUpload,
        ("DELETE", _, true) => Verb::DeleteObject,
        _ => Verb::Other,
    }
}

fn http_date(at: Millis) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(at).unwrap_or(0));
    let mut text = Vec::new();
    // Writing to a vector cannot fail; a date out of range leaves it empty.
    let _ = Timestamp::from(time).format(TimestampFormat::HttpDate, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

fn count_request(inner: &Inner, facts: &RequestFacts) {
    let mut traffic = inner.traffic.lock().expect("no holder of the counters panics");
    *traffic.requests.entry(facts.verb).or_default() += 1;
    traffic.bytes_in += facts.body_bytes;
}

fn count_answer(inner: &Inner, response: &Whole) {
    let mut traffic = inner.traffic.lock().expect("no holder of the counters panics");
    *traffic.answers.entry(response.status().as_u16()).or_default() += 1;
    traffic.bytes_out += response.body().len() as u64;
}
