//! Multipart uploads.

use bytes::BytesMut;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Checksum, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    ETag, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::super::dialect::MultipartRules;
use super::super::fault::Lie;
use super::super::store::{Condition, Object, Part, Refusal, Upload};
use super::write::{checked, hex, md5, read_body, told_etag};
use super::{Backend, Context, condition, context, refuse};

pub(super) fn create(
    backend: &Backend,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let at = context(&req);
    let input = req.input;
    let template = Object {
        metadata: if at.lies(Lie::LoseMetadata) {
            Default::default()
        } else {
            input.metadata.unwrap_or_default().into_iter().collect()
        },
        content_type: input.content_type,
        content_encoding: input.content_encoding,
        ..Object::default()
    };
    let id = backend.store().create_upload(at.stamp, &input.bucket, &input.key, template).map_err(refuse)?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..CreateMultipartUploadOutput::default()
    }))
}

pub(super) async fn put_part(
    backend: &Backend,
    mut req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let at = context(&req);
    let body = read_body(req.input.body.take(), &at).await?;
    let input = req.input;
    if !(1..=backend.dialect.multipart.max_parts).contains(&input.part_number) {
        return Err(s3_error!(
            InvalidArgument,
            "part number must be between 1 and {}",
            backend.dialect.multipart.max_parts
        ));
    }
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
    let md5 = md5(&body);
    let part = Part { body, md5, at: at.stamp.at };
    backend
        .store()
        .put_part(at.stamp, &input.bucket, &input.upload_id, input.part_number, part)
        .map_err(refuse)?;
    Ok(S3Response::new(UploadPartOutput {
        e_tag: Some(ETag::Strong(hex(&md5))),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..UploadPartOutput::default()
    }))
}

/// Builds the object from the parts the client names, or says why not.
fn assemble(
    upload: &Upload,
    named: &[CompletedPart],
    rules: &MultipartRules,
    at: &Context,
) -> Result<Object, Refusal> {
    let mut parts = Vec::with_capacity(named.len());
    let mut last = 0;
    for claim in named {
        let number = claim.part_number.ok_or(Refusal::InvalidPart)?;
        if number <= last {
            return Err(Refusal::InvalidPartOrder);
        }
        last = number;
        let part = upload.parts.get(&number).ok_or(Refusal::InvalidPart)?;
        if claim.e_tag.as_ref().is_some_and(|tag| tag.value() != hex(&part.md5)) {
            return Err(Refusal::InvalidPart);
        }
        parts.push(part);
    }
    let Some((_, all_but_last)) = parts.split_last() else { return Err(Refusal::InvalidPart) };
    if all_but_last.iter().any(|part| (part.body.len() as u64) < rules.min_part_bytes) {
        return Err(Refusal::EntityTooSmall);
    }
    if rules.equal_parts && all_but_last.windows(2).any(|pair| pair[0].body.len() != pair[1].body.len()) {
        return Err(Refusal::UnequalParts);
    }
    let sums: Vec<u8> = parts.iter().flat_map(|part| part.md5).collect();
    let etag = format!("{}-{}", hex(&md5(&sums)), parts.len());
    if at.lies(Lie::PartsReversed) {
        parts.reverse();
    }
    if at.lies(Lie::LoseLastPart) {
        parts.pop();
    }
    let mut body = BytesMut::with_capacity(parts.iter().map(|part| part.body.len()).sum());
    for part in parts {
        body.extend_from_slice(&part.body);
    }
    Ok(Object { body: body.freeze(), etag, ..upload.template.clone() })
}

pub(super) fn complete(
    backend: &Backend,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let at = context(&req);
    let input = req.input;
    let rules = &backend.dialect.multipart;
    let mut condition =
        condition(input.if_none_match.as_ref(), input.if_match.as_ref(), rules.conditions, rules.conditions)?;
    if at.lies(Lie::IgnoreCondition) {
        condition = Condition::None;
    }
    let named = input.multipart_upload.and_then(|list| list.parts).unwrap_or_default();
    let mut store = backend.store();
    let upload = store.upload(&input.bucket, &input.upload_id).map_err(refuse)?;
    if upload.key != input.key {
        return Err(refuse(Refusal::NoSuchUpload));
    }
    let object = assemble(upload, &named, rules, &at).map_err(refuse)?;
    let etag = object.etag.clone();
    if !at.lies(Lie::AckWithoutStore) {
        store
            .complete_upload(at.stamp, &input.bucket, &input.upload_id, object, &condition)
            .map_err(refuse)?;
    }
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(ETag::Strong(told_etag(&at, etag))),
        ..CompleteMultipartUploadOutput::default()
    }))
}

pub(super) fn abort(
    backend: &Backend,
    req: &S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let at = context(req);
    if !at.lies(Lie::AbortKeepsUpload) {
        backend.store().abort_upload(at.stamp, &req.input.bucket, &req.input.upload_id).map_err(refuse)?;
    }
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}
