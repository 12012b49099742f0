//! PUT and DELETE.

use aws_smithy_types::base64;
use bytes::Bytes;
use futures::TryStreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    Checksum, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    ETag, Error, PutObjectInput, PutObjectOutput, StreamingBlob,
};
use s3s::{S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

use super::super::dialect::Treatment;
use super::super::fault::{Lie, Outcome};
use super::super::store::{Condition, Object};
use super::{Backend, Context, checksum_map, condition, context, custom_error, refuse};

/// Largest object or part accepted in one request: the documented 5 GiB would not fit in memory.
const MAX_BODY_BYTES: usize = 1 << 30;

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// MD5 of a body.
pub(super) fn md5(body: &[u8]) -> [u8; 16] {
    Md5::checksum(body)
}

/// Reads a request body whole. `s3s` checks the payload hash and the chunk signatures while it is read.
pub(super) async fn read_body(stream: Option<StreamingBlob>, at: &Context) -> S3Result<Bytes> {
    let mut all = Vec::new();
    if let Some(mut stream) = stream {
        let broken = |error: s3s::StdError| {
            let mut refusal = s3_error!(IncompleteBody, "the body does not agree with its headers");
            refusal.set_source(error);
            refusal
        };
        while let Some(chunk) = stream.try_next().await.map_err(broken)? {
            if all.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(s3_error!(EntityTooLarge));
            }
            all.extend_from_slice(&chunk);
        }
    }
    let mut body = at.raw_body.clone().unwrap_or_else(|| all.into());
    if at.lies(Lie::StoreHalf) {
        body.truncate(body.len() / 2);
    }
    if at.lies(Lie::StoreFlippedBit) && !body.is_empty() {
        let mut bytes = body.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        body = bytes.into();
    }
    Ok(body)
}

/// Checks a body as far as this server and the fault allow.
pub(super) fn checked(
    backend: &Backend,
    at: &Context,
    body: &[u8],
    claimed: Checksum,
    content_md5: Option<&str>,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<Checksum> {
    let lie =
        matches!(at.outcome, Outcome::Lie(Lie::IgnoreChecksums | Lie::StoreHalf | Lie::StoreFlippedBit));
    // A server that stores the frames never understood the trailer either.
    if lie || at.raw_body.is_some() {
        return Ok(Checksum::default());
    }
    if backend.dialect.checksum_headers == Treatment::Ignored {
        return verify_checksums(body, Checksum::default(), content_md5, None);
    }
    verify_checksums(body, claimed, content_md5, trailers)
}

/// Compares the checksums that came with a body, trailing ones included, and returns those to keep.
fn verify_checksums(
    body: &[u8],
    mut claimed: Checksum,
    content_md5: Option<&str>,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<Checksum> {
    if let Some(trailers) = trailers.and_then(TrailingHeaders::take) {
        let take = |name: &str| trailers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        claimed.checksum_crc32 = take("x-amz-checksum-crc32").or(claimed.checksum_crc32);
        claimed.checksum_crc32c = take("x-amz-checksum-crc32c").or(claimed.checksum_crc32c);
        claimed.checksum_crc64nvme = take("x-amz-checksum-crc64nvme").or(claimed.checksum_crc64nvme);
        claimed.checksum_sha1 = take("x-amz-checksum-sha1").or(claimed.checksum_sha1);
        claimed.checksum_sha256 = take("x-amz-checksum-sha256").or(claimed.checksum_sha256);
    }
    let mut hasher = ChecksumHasher {
        crc32: claimed.checksum_crc32.as_ref().map(|_| Default::default()),
        crc32c: claimed.checksum_crc32c.as_ref().map(|_| Default::default()),
        sha1: claimed.checksum_sha1.as_ref().map(|_| Default::default()),
        sha256: claimed.checksum_sha256.as_ref().map(|_| Default::default()),
        crc64nvme: claimed.checksum_crc64nvme.as_ref().map(|_| Default::default()),
    };
    hasher.update(body);
    let actual = hasher.finalize();
    let (claimed, actual) = (checksum_map(claimed), checksum_map(actual));
    if let Some((name, value)) = claimed.iter().find(|(name, value)| actual.get(*name) != Some(value)) {
        return Err(s3_error!(BadDigest, "x-amz-checksum-{name} is not {value}"));
    }
    if content_md5.is_some_and(|claim| base64::encode(md5(body)) != claim) {
        return Err(s3_error!(BadDigest, "Content-MD5 does not match the body"));
    }
    Ok(from_map(&actual))
}

fn from_map(map: &std::collections::BTreeMap<String, String>) -> Checksum {
    Checksum {
        checksum_crc32: map.get("crc32").cloned(),
        checksum_crc32c: map.get("crc32c").cloned(),
        checksum_crc64nvme: map.get("crc64nvme").cloned(),
        checksum_sha1: map.get("sha1").cloned(),
        checksum_sha256: map.get("sha256").cloned(),
        ..Checksum::default()
    }
}

/// Checksums of a stored object as `s3s` wants them.
pub(super) fn stored_checksums(object: &Object) -> Checksum {
    from_map(&object.checksums)
}

/// `aws-chunked` is a transfer matter and not part of the object's coding.
fn object_encoding(encoding: Option<String>) -> Option<String> {
    let kept: Vec<_> = encoding?
        .split(',')
        .map(str::trim)
        .filter(|c| !c.is_empty() && *c != "aws-chunked")
        .map(str::to_owned)
        .collect();
    if kept.is_empty() { None } else { Some(kept.join(", ")) }
}

pub(super) async fn put(
    backend: &Backend,
    mut req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let at = context(&req);
    let body = read_body(req.input.body.take(), &at).await?;
    let input = req.input;
    let claimed = Checksum {
        checksum_crc32: input.checksum_crc32,
        checksum_crc32c: input.checksum_crc32c,
        checksum_crc64nvme: input.checksum_crc64nvme,
        checksum_sha1: input.checksum_sha1,
        checksum_sha256: input.checksum_sha256,
        ..Checksum::default()
    };
    let sums =
        checked(backend, &at, &body, claimed, input.content_md5.as_deref(), req.trailing_headers.as_ref())?;
    let mut condition = condition(
        input.if_none_match.as_ref(),
        input.if_match.as_ref(),
        backend.dialect.if_none_match,
        backend.dialect.if_match,
    )?;
    if at.lies(Lie::IgnoreCondition) {
        condition = Condition::None;
    }
    let etag = hex(&md5(&body));
    let object = Object {
        etag: etag.clone(),
        metadata: if at.lies(Lie::LoseMetadata) {
            Default::default()
        } else {
            input.metadata.unwrap_or_default().into_iter().collect()
        },
        content_type: input.content_type,
        content_encoding: object_encoding(input.content_encoding),
        checksums: checksum_map(sums.clone()),
        body,
    };
    if !at.lies(Lie::AckWithoutStore) {
        backend.store().put(at.stamp, &input.bucket, &input.key, object, &condition).map_err(refuse)?;
    }
    Ok(S3Response::new(PutObjectOutput {
        e_tag: Some(ETag::Strong(told_etag(&at, etag))),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..PutObjectOutput::default()
    }))
}

/// The ETag to tell, which is not always the true one.
pub(super) fn told_etag(at: &Context, etag: String) -> String {
    if at.lies(Lie::WrongEtag) { hex(&md5(etag.as_bytes())) } else { etag }
}

pub(super) fn delete(
    backend: &Backend,
    req: &S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let at = context(req);
    if !at.lies(Lie::AckWithoutStore) {
        backend.store().delete(at.stamp, &req.input.bucket, &req.input.key).map_err(refuse)?;
    }
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

/// Most keys in one batch, as documented.
const MAX_BATCH: usize = 1000;

pub(super) fn delete_batch(
    backend: &Backend,
    req: &S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let at = context(req);
    match backend.dialect.batch_delete {
        Treatment::Accepted => {}
        Treatment::Refused => return Err(custom_error(501, "NotImplemented")),
        Treatment::Ignored => return Ok(S3Response::new(DeleteObjectsOutput::default())),
    }
    let wanted = &req.input.delete;
    if wanted.objects.is_empty() || wanted.objects.len() > MAX_BATCH {
        return Err(s3_error!(MalformedXML, "a batch has 1 to {MAX_BATCH} keys"));
    }
    let quiet = wanted.quiet.unwrap_or(false);
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    let mut store = backend.store();
    for object in &wanted.objects {
        let key = &object.key;
        if let Outcome::FailKeys(part, answer) = &at.outcome
            && key.contains(part.as_str())
        {
            errors.push(Error {
                code: Some(answer.code.clone()),
                key: Some(key.clone()),
                message: Some("not deleted".to_owned()),
                version_id: None,
            });
            continue;
        }
        if !at.lies(Lie::BatchDeleteLeavesAll) && !at.lies(Lie::AckWithoutStore) {
            store.delete(at.stamp, &req.input.bucket, key).map_err(refuse)?;
        }
        if !quiet {
            deleted.push(DeletedObject { key: Some(key.clone()), ..DeletedObject::default() });
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_coding_is_not_kept() {
        assert_eq!(object_encoding(Some("aws-chunked".into())), None);
        assert_eq!(object_encoding(Some("aws-chunked,gzip".into())), Some("gzip".into()));
        assert_eq!(object_encoding(Some("gzip".into())), Some("gzip".into()));
    }
}
