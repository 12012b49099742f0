//! What a failed request means: repeat it, change something first, or give up; and how to say so. Pure.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use super::super::observer::Verb;
use super::http::{Reached, TransportFault};
use crate::error::ErrorKind;
use crate::host::UnixMillis;

/// A failed attempt at one request.
#[derive(Debug)]
pub(super) struct Failure {
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The store's error code.
    pub code: Option<Box<str>>,
    /// What to tell a person; no secrets.
    pub message: String,
    pub request_id: Option<Box<str>>,
    /// How long the store asks to wait.
    pub retry_after: Option<Duration>,
    /// Region that the store names, if it is not the one that the request was signed for.
    pub region: Option<Box<str>>,
    /// The store's time.
    pub date: Option<UnixMillis>,
    /// Which credentials signed the request: see `CredentialCache::epoch`.
    pub epoch: u64,
    cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The store answered.
    Answered,
    /// The connection failed; `stale` if it had served an earlier request.
    Transport { reached: Reached, stale: bool, permanent: bool },
    /// No credentials could be found, or fetched for now.
    Credentials { fetching_failed: bool },
    /// The request could not be built.
    Local,
}

/// What may help against a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing.
    None,
    /// The same again, after a pause.
    Wait,
    /// The same again on a fresh connection, at once.
    Reconnect,
    /// Signing for this region.
    Region(String),
    /// Signing again: the clock difference was measured from the answer.
    Clock,
    /// Fetching credentials again.
    Credentials,
}

impl Failure {
    pub(super) fn from_sdk<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let mut failure = Self {
            status: None,
            code: error.code().map(Box::from),
            message: String::new(),
            request_id: None,
            retry_after: None,
            region: None,
            date: None,
            epoch: 0,
            cause: cause(&error),
        };
        if let Some(response) = error.raw_response() {
            failure.status = Some(response.status().as_u16());
            let header = |name| response.headers().get(name);
            failure.request_id = header("x-amz-request-id").map(Box::from);
            failure.date = header("date")
                .and_then(|date| DateTime::from_str(date, Format::HttpDate).ok())
                .and_then(|date| date.to_millis().ok())
                .map(UnixMillis);
            failure.retry_after =
                header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            let body = response.body().bytes().and_then(|body| std::str::from_utf8(body).ok());
            failure.region = header("x-amz-bucket-region")
                .or_else(|| body.and_then(|body| element(body, "Region")))
                .map(Box::from);
        }
        failure.message = match error.message() {
            Some(message) => message.to_owned(),
            // The answer to a HEAD has no body to say more.
            None if failure.cause == Cause::Answered && failure.code.is_none() => {
                let status = failure.status.and_then(|status| http::StatusCode::from_u16(status).ok());
                status.and_then(|status| status.canonical_reason()).unwrap_or_default().to_owned()
            }
            None if failure.cause == Cause::Answered => String::new(),
            None => chain(&error),
        };
        failure
    }

    /// Notes which credentials signed the request, and for which region: by the time the answer is judged, another
    /// request may have changed both.
    pub(super) fn signed(self, epoch: u64, region: &str) -> Self {
        Self { epoch, region: self.region.filter(|named| **named != *region), ..self }
    }

    /// An answer whose content is not acceptable; may be asked for again.
    pub(super) fn bad_answer(message: impl Into<String>) -> Self {
        Self {
            status: None,
            code: None,
            message: message.into(),
            request_id: None,
            retry_after: None,
            region: None,
            date: None,
            epoch: 0,
            cause: Cause::Transport { reached: Reached::Perhaps, stale: false, permanent: false },
        }
    }

    /// A body that broke while it was read.
    pub(super) fn broken_body(error: &(dyn StdError + 'static)) -> Self {
        Self::bad_answer(chain(error))
    }

    /// Whether the store may have acted although no clear answer came.
    pub(super) fn is_ambiguous(&self) -> bool {
        match self.cause {
            Cause::Transport { reached, .. } => reached == Reached::Perhaps,
            // A 200 here is an answer whose body reports an error, or is cut.
            Cause::Answered => {
                self.status.is_none_or(|status| !(300..500).contains(&status) || status == 408)
            }
            Cause::Credentials { .. } | Cause::Local => false,
        }
    }

    pub(super) fn is_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Whether a condition was refused because it does not hold.
    pub(super) fn is_precondition_failed(&self) -> bool {
        self.status == Some(412) || self.is_code(&["PreconditionFailed"])
    }

    /// Whether the store says that it does not know a header or an operation.
    pub(super) fn is_not_implemented(&self) -> bool {
        matches!(self.status, Some(501 | 405)) || self.is_code(&["NotImplemented", "MethodNotAllowed"])
    }

    /// Whether the answer may be about a header that the store does not take, and not about the moment, the
    /// credentials or the body.
    pub(super) fn may_refuse_header(&self) -> bool {
        let is_about_else =
            self.is_code(&PASSING) || self.is_code(&EXPIRED) || self.is_code(&BROKEN_ON_THE_WAY);
        self.is_not_implemented() || (self.status == Some(400) && !is_about_else)
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(404) && !self.is_code(&["NoSuchBucket"])
    }

    /// Whether the store says that what was to be deleted is not there. Without its word for that it may have been a proxy
    /// that has lost the store.
    pub(super) fn is_already_gone(&self) -> bool {
        self.status == Some(404) && self.is_code(&["NoSuchKey", "NoSuchUpload", "NoSuchVersion"])
    }

    /// What may help, given our time.
    pub(super) fn cure(&self, now: UnixMillis) -> Cure {
        match self.cause {
            Cause::Transport { permanent: true, .. } | Cause::Local => return Cure::None,
            Cause::Transport { stale: true, .. } => return Cure::Reconnect,
            Cause::Transport { .. } => return Cure::Wait,
            Cause::Credentials { fetching_failed } => {
                return if fetching_failed { Cure::Wait } else { Cure::None };
            }
            Cause::Answered => {}
        }
        if matches!(self.status, Some(301 | 307 | 400 | 403))
            && let Some(named) = self.region.as_deref()
        {
            return Cure::Region(named.to_owned());
        }
        let is_nameless = self.code.is_none() && matches!(self.status, Some(400 | 401 | 403));
        let is_skewed = self.date.is_some_and(|date| (date.0 - now.0).abs() > SKEW_MS);
        if self.is_code(&["RequestTimeTooSkewed"]) || (is_nameless && is_skewed) {
            return Cure::Clock;
        }
        if self.is_code(&EXPIRED) || self.is_code(&["InvalidAccessKeyId"]) || is_nameless {
            return Cure::Credentials;
        }
        let passing =
            matches!(self.status, Some(408 | 429 | 500..=599)) && !matches!(self.status, Some(501 | 505));
        if passing || self.is_code(&PASSING) || self.status.is_some_and(|status| status < 300) {
            return Cure::Wait;
        }
        Cure::None
    }

    /// The code for metrics.
    pub(super) fn label(&self) -> &str {
        match (&self.code, self.cause) {
            (Some(code), _) => code,
            (None, Cause::Transport { .. }) => "network",
            (None, Cause::Credentials { .. }) => "credentials",
            (None, _) => "error",
        }
    }

    /// What to do about it; depends on what the request was for.
    pub(super) fn kind(&self, verb: Verb) -> ErrorKind {
        match self.cause {
            Cause::Transport { permanent: true, .. } => return ErrorKind::Unsupported,
            Cause::Transport { .. } | Cause::Credentials { fetching_failed: true } => {
                return ErrorKind::Transient;
            }
            Cause::Credentials { .. } => return ErrorKind::Denied,
            Cause::Local => return ErrorKind::Internal,
            Cause::Answered => {}
        }
        if self.is_code(&["QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"]) || self.status == Some(507)
        {
            return ErrorKind::Exhausted;
        }
        match self.status {
            Some(301 | 307 | 400) if self.region.is_some() => ErrorKind::Unsupported,
            Some(401 | 403) => ErrorKind::Denied,
            Some(400) if self.code.is_none() || self.is_code(&EXPIRED) => ErrorKind::Denied,
            Some(404) if self.is_not_found() => kind_of_absence(verb),
            Some(408 | 409 | 429) => ErrorKind::Transient,
            Some(412) => ErrorKind::Conflict,
            Some(300..=499 | 501 | 505) if !self.is_code(&PASSING) => ErrorKind::Unsupported,
            _ => ErrorKind::Transient,
        }
    }

    /// What a person can change.
    pub(super) fn advice(&self) -> Option<String> {
        match &self.region {
            Some(region) if matches!(self.status, Some(301 | 307 | 400)) => {
                Some(format!("set region to {region}"))
            }
            _ => self.general_advice().map(str::to_owned),
        }
    }

    fn general_advice(&self) -> Option<&'static str> {
        if let Cause::Credentials { fetching_failed: false } = self.cause {
            return Some(
                "set access-key-id and secret-access-key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            );
        }
        match self.code.as_deref() {
            Some("NoSuchBucket") => Some("create the bucket, or correct its name, region or endpoint"),
            Some("RequestTimeTooSkewed") => Some("correct this machine's clock"),
            Some("SignatureDoesNotMatch") => {
                Some("check the secret key, the region, and proxies that rewrite requests")
            }
            Some("InvalidAccessKeyId") => {
                Some("check the access key id, and that it belongs to this endpoint")
            }
            Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
                Some("renew the temporary credentials")
            }
            Some(
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
            ) => Some("set region to the bucket's region"),
            Some("SecondLevelDomainForbidden") => Some("set force-path-style to false"),
            Some("InvalidRequest" | "InvalidArgument" | "XAmzContentSHA256Mismatch") => {
                Some("the store may not take a setting: try sign-payload, force-path-style or part-size")
            }
            Some("AccessDenied" | "Forbidden") => {
                Some("allow ListBucket, GetObject, PutObject and DeleteObject for these keys")
            }
            _ if matches!(self.status, Some(301 | 307)) => Some("set region or endpoint to the bucket's own"),
            _ => None,
        }
    }
}

/// What it means that something is not there, a bucket excepted.
fn kind_of_absence(verb: Verb) -> ErrorKind {
    match verb {
        Verb::Get | Verb::Head => ErrorKind::NotFound,
        // It is the wrong server, or the wrong path: an empty listing is an answer too.
        Verb::List => ErrorKind::Unsupported,
        // What is written need not be there. The store has forgotten an upload in parts, which is begun anew, or a proxy has
        // lost the store.
        Verb::Put | Verb::Delete => ErrorKind::Transient,
    }
}

/// A difference between two clocks that makes stores refuse signatures; they allow 15 minutes.
const SKEW_MS: i64 = 10 * 60 * 1000;

/// Codes of credentials that were good once.
const EXPIRED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"];

/// Codes of bodies that did not arrive as they were sent.
const BROKEN_ON_THE_WAY: [&str; 4] =
    ["BadDigest", "IncompleteBody", "InvalidDigest", "XAmzContentSHA256Mismatch"];

/// Codes of failures that pass, whatever their status.
const PASSING: [&str; 14] = [
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestCanceled",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
];

fn cause<E: StdError + 'static>(error: &SdkError<E, HttpResponse>) -> Cause {
    if let Some(credentials) = find::<CredentialsError>(error) {
        let fetching_failed =
            matches!(credentials, CredentialsError::ProviderError(_) | CredentialsError::ProviderTimedOut(_));
        return Cause::Credentials { fetching_failed };
    }
    match error {
        SdkError::ServiceError(_) => Cause::Answered,
        SdkError::ConstructionFailure(_) => Cause::Local,
        // The head of an answer came, its body did not come whole or was not understood.
        SdkError::ResponseError(_) => {
            Cause::Transport { reached: Reached::Perhaps, stale: false, permanent: false }
        }
        _ => match find::<TransportFault>(error) {
            Some(fault) => Cause::Transport {
                reached: fault.reached,
                stale: fault.reused_connection,
                permanent: fault.permanent,
            },
            None => Cause::Transport { reached: Reached::Perhaps, stale: false, permanent: false },
        },
    }
}

/// An error and what caused it, outermost first.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let current = next?;
        next = current.source();
        Some(current)
    })
}

/// The first cause of type `T`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// An error and its causes in one line, without repetitions.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for error in causes(error) {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text = if text.is_empty() { part } else { format!("{text}: {part}") };
        }
    }
    text
}

/// The text of an XML element without attributes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
