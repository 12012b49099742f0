//! GET and HEAD.

use std::sync::Arc;

use bytes::Bytes;
use s3s::dto::{
    ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, Range,
    StreamingBlob, Timestamp,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::super::fault::Lie;
use super::super::store::{Millis, Moment, Object};
use super::write::{stored_checksums, told_etag};
use super::{Backend, Context, context, custom_error, refuse, timestamp};

struct Found {
    object: Arc<Object>,
    at: Millis,
}

fn find(backend: &Backend, at: &Context, bucket: &str, key: &str) -> S3Result<Found> {
    let store = backend.store();
    let mut version = store.version(bucket, key, Moment::Latest).map_err(refuse)?;
    if at.lies(Lie::StaleRead)
        && let Some(newest) = version
    {
        let before = store.version(bucket, key, Moment::Seq(newest.seq - 1)).map_err(refuse)?;
        version = before.or(version);
    }
    match version.and_then(|v| Some(Found { object: v.object.clone()?, at: v.at })) {
        Some(found) => Ok(found),
        None if at.lies(Lie::EmptyForMissing) => Ok(Found { object: Arc::default(), at: at.stamp.at }),
        None => Err(s3_error!(NoSuchKey)),
    }
}

/// Conditions on reads, in the order RFC 9110 §13.2.2 gives.
fn check(
    found: &Found,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    if_unmodified_since: Option<&Timestamp>,
    if_modified_since: Option<&Timestamp>,
) -> S3Result<()> {
    let is = |wanted: &ETagCondition| {
        wanted.is_any() || wanted.as_etag().is_some_and(|tag| tag.value() == found.object.etag)
    };
    // HTTP dates have whole seconds.
    let written = timestamp(found.at / 1000 * 1000);
    match (if_match, if_unmodified_since) {
        (Some(wanted), _) if !is(wanted) => return Err(s3_error!(PreconditionFailed)),
        (None, Some(since)) if written > *since => return Err(s3_error!(PreconditionFailed)),
        _ => {}
    }
    match (if_none_match, if_modified_since) {
        (Some(wanted), _) if is(wanted) => Err(custom_error(304, "NotModified")),
        (None, Some(since)) if written <= *since => Err(custom_error(304, "NotModified")),
        _ => Ok(()),
    }
}

fn slice(body: &Bytes, range: Option<&Range>, at: &Context) -> S3Result<(Bytes, Option<String>)> {
    let Some(range) = range.filter(|_| !at.lies(Lie::IgnoreRange)) else {
        return Ok((body.clone(), None));
    };
    let total = body.len() as u64;
    let mut wanted = range.check(total)?;
    // The last bytes of an object of none: Ceph and AWS refuse, and `s3s` calls it a range.
    if wanted.is_empty() {
        return Err(s3_error!(InvalidRange));
    }
    if at.lies(Lie::ShiftRange) && wanted.end < total {
        wanted = wanted.start + 1..wanted.end + 1;
    }
    let told = format!("bytes {}-{}/{total}", wanted.start, wanted.end - 1);
    let place = |offset: u64| usize::try_from(offset).expect("an offset inside a body in memory");
    Ok((body.slice(place(wanted.start)..place(wanted.end)), Some(told)))
}

pub(super) fn get(
    backend: &Backend,
    req: &S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let at = context(req);
    let input = &req.input;
    let found = find(backend, &at, &input.bucket, &input.key)?;
    check(
        &found,
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
        input.if_unmodified_since.as_ref(),
        input.if_modified_since.as_ref(),
    )?;
    let (mut body, content_range) = slice(&found.object.body, input.range.as_ref(), &at)?;
    if at.lies(Lie::ShortBody) {
        body.truncate(body.len() / 2);
    }
    // The stored checksum is that of the whole object and would be wrong on a part of it.
    let sums = if content_range.is_none() && input.checksum_mode.is_some() {
        stored_checksums(&found.object)
    } else {
        Default::default()
    };
    Ok(S3Response::new(GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(i64::try_from(body.len()).expect("a body in memory")),
        body: Some(StreamingBlob::from(s3s::Body::from(body))),
        content_range,
        content_type: found.object.content_type.clone(),
        content_encoding: found.object.content_encoding.clone(),
        e_tag: Some(ETag::Strong(told_etag(&at, found.object.etag.clone()))),
        last_modified: Some(timestamp(found.at)),
        metadata: Some(found.object.metadata.clone().into_iter().collect()),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..GetObjectOutput::default()
    }))
}

pub(super) fn head(
    backend: &Backend,
    req: &S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let at = context(req);
    let input = &req.input;
    let found = find(backend, &at, &input.bucket, &input.key)?;
    check(
        &found,
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
        input.if_unmodified_since.as_ref(),
        input.if_modified_since.as_ref(),
    )?;
    let size = found.object.body.len() + usize::from(at.lies(Lie::WrongHeadSize));
    Ok(S3Response::new(HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(i64::try_from(size).expect("a body in memory")),
        content_type: found.object.content_type.clone(),
        content_encoding: found.object.content_encoding.clone(),
        e_tag: Some(ETag::Strong(told_etag(&at, found.object.etag.clone()))),
        last_modified: Some(timestamp(found.at)),
        metadata: Some(found.object.metadata.clone().into_iter().collect()),
        ..HeadObjectOutput::default()
    }))
}
