//! What may go wrong with a request, decided by the caller and carried out by the server.
//!
//! A [`FaultPlan`] is asked once per request, in arrival order, and answers with plain data. It owns the decision
//! (a test's script, a simulator's seed); this module owns nothing but the vocabulary.

use std::time::Duration;

use http::HeaderMap;

/// The kind of a request, by S3's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the S3 API")]
pub enum Verb {
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    DeleteObjects,
    ListObjects,
    CopyObject,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
    CreateBucket,
    HeadBucket,
    Other,
}

/// What a plan is told about a request, before anything is done with it.
#[derive(Debug, Clone)]
pub struct RequestFacts {
    /// Number of the request on this server, from 1, in order of arrival.
    pub ordinal: u64,
    /// Its kind.
    pub verb: Verb,
    /// Bucket, if named.
    pub bucket: Option<String>,
    /// Key, percent-decoded, if named.
    pub key: Option<String>,
    /// Raw query string.
    pub query: String,
    /// Headers as received.
    pub headers: HeaderMap,
    /// Size of the request body in bytes.
    pub body_bytes: u64,
}

/// How a listing lags behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staleness {
    /// The listing of this long ago.
    Behind(Duration),
    /// The newest so many changes of the whole log are not seen yet.
    HideNewest(u64),
}

/// A wrong answer from a server that believes itself sound; a lie is never announced by a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// A write or delete is acknowledged and not done.
    AckWithoutStore,
    /// Half of the body is stored.
    StoreHalf,
    /// One bit of the body is stored wrong.
    StoreFlippedBit,
    /// User metadata is forgotten.
    LoseMetadata,
    /// A condition on a write is not looked at.
    IgnoreCondition,
    /// Checksums sent with a body are not looked at.
    IgnoreChecksums,
    /// The ETag that answers a write, a GET or a HEAD is not that of the object.
    WrongEtag,
    /// `Range` is ignored: all bytes with status 200.
    IgnoreRange,
    /// A range starts one byte late.
    ShiftRange,
    /// A GET delivers half of the bytes, with headers that agree with that.
    ShortBody,
    /// A GET returns the version before the newest.
    StaleRead,
    /// A key that is absent reads as an empty object.
    EmptyForMissing,
    /// HEAD reports one byte too many.
    WrongHeadSize,
    /// A listing is not in key order.
    UnorderedList,
    /// A listing is empty.
    EmptyList,
    /// Every third key is missing from a listing.
    GapsInList,
    /// A continuation token starts over at the first page.
    ListStartsOver,
    /// A page ends the listing although there is more.
    ListEndsEarly,
    /// `start-after` is ignored.
    IgnoreStartAfter,
    /// `prefix` is ignored.
    IgnorePrefix,
    /// A listing reports each size one byte too large.
    WrongListSize,
    /// A batch delete reports success for keys that it leaves.
    BatchDeleteLeavesAll,
    /// Parts are put together in reverse.
    PartsReversed,
    /// A completed upload lacks its last part.
    LoseLastPart,
    /// An aborted upload can still be completed.
    AbortKeepsUpload,
    /// Any signature will do.
    AcceptAnySignature,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outcome {
    /// Nothing special.
    #[default]
    Pass,
    /// Not applied; answered with an error.
    Refuse(ErrorAnswer),
    /// Applied; answered with an error all the same.
    ApplyThenError(ErrorAnswer),
    /// Not applied; the connection is closed without an answer.
    Hangup,
    /// Applied; the connection is closed without an answer.
    ApplyThenHangup,
    /// The connection is closed at once, and the request is applied after this long.
    HangupThenApply(Duration),
    /// Not applied, never answered; the connection stays open until the client gives up.
    Silence,
    /// Applied, never answered.
    ApplyThenSilence,
    /// The answer's body ends after so many bytes, with the connection.
    CutBody(u64),
    /// The answer's body stops after so many bytes; the connection stays open.
    StallBody(u64),
    /// The answer's body comes in pieces of so many bytes with a pause before each.
    Dribble(usize, Duration),
    /// One bit of the answer's body is wrong (counted modulo its size).
    FlipBit(u64),
    /// A listing of the past.
    StaleList(Staleness),
    /// Completion of an upload is answered 200 with this error in its body; nothing was published.
    ErrorInOk(ErrorAnswer),
    /// A batch delete reports this error for every key containing the text, and leaves those.
    FailKeys(String, ErrorAnswer),
    /// A wrong answer without a sign of it.
    Lie(Lie),
}

/// An S3 error as a server would send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// HTTP status.
    pub status: u16,
    /// S3 code, such as `SlowDown`.
    pub code: String,
    /// `Retry-After` in seconds.
    pub retry_after_secs: Option<u32>,
}

impl ErrorAnswer {
    /// An error without `Retry-After`.
    #[must_use]
    pub fn new(status: u16, code: &str) -> Self {
        Self { status, code: code.to_owned(), retry_after_secs: None }
    }
}

/// A decision about one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    /// Wait before it is looked at.
    pub delay: Duration,
    /// What becomes of it.
    pub outcome: Outcome,
}

impl From<Outcome> for Fault {
    fn from(outcome: Outcome) -> Self {
        Self { delay: Duration::ZERO, outcome }
    }
}

/// Decides about every request, and hears how it ended.
pub trait FaultPlan: Send + Sync {
    /// Called once when the request has been read completely.
    fn decide(&self, request: &RequestFacts) -> Fault;

    /// Called when an answer is about to be sent; `None` if there will be no answer.
    fn answered(&self, _request: &RequestFacts, _status: Option<u16>) {}
}

/// No faults.
pub struct NoFaults;

impl FaultPlan for NoFaults {
    fn decide(&self, _request: &RequestFacts) -> Fault {
        Fault::default()
    }
}

impl<F: Fn(&RequestFacts) -> Fault + Send + Sync> FaultPlan for F {
    fn decide(&self, request: &RequestFacts) -> Fault {
        self(request)
    }
}
