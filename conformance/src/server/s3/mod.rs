//! The store spoken to in S3's terms: the `s3s` trait on top of [`Store`], with the dialect's rules that need the
//! parsed request. Signatures, framing and XML belong to `s3s`; raw header rules belong to `front`.

mod list;
mod multipart;
mod read;
mod write;

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Checksum, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, GetBucketLocationInput, GetBucketLocationOutput, GetObjectInput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput,
    ListBucketsOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutObjectInput, PutObjectOutput, Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::dialect::{Conditions, Dialect};
use super::fault::{Lie, Outcome};
use super::store::{Condition, Millis, Refusal, Stamp, Store};

/// What the front layer tells the back about the request, beside what `s3s` parses.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// When and which.
    pub stamp: Stamp,
    /// The fault plan's decision.
    pub outcome: Outcome,
    /// Body to store in place of the decoded one (a server that does not know `aws-chunked`).
    pub raw_body: Option<Bytes>,
    /// The request asks for a listing without lag.
    pub fresh: bool,
}

impl Context {
    fn lies(&self, lie: Lie) -> bool {
        self.outcome == Outcome::Lie(lie)
    }
}

/// The back end that `s3s` calls.
#[derive(Clone)]
pub(super) struct Backend {
    pub store: Arc<Mutex<Store>>,
    pub dialect: Arc<Dialect>,
}

impl Backend {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no holder of the store's lock panics")
    }
}

fn context<T>(request: &S3Request<T>) -> Context {
    request.extensions.get::<Context>().cloned().expect("the front layer gives every request a context")
}

fn refuse(refusal: Refusal) -> S3Error {
    match refusal {
        Refusal::NoSuchBucket => s3_error!(NoSuchBucket),
        Refusal::NoSuchKey => s3_error!(NoSuchKey),
        Refusal::PreconditionFailed => {
            s3_error!(PreconditionFailed, "a condition of the request does not hold")
        }
        Refusal::NoSuchUpload => s3_error!(NoSuchUpload),
        Refusal::InvalidPart => s3_error!(InvalidPart),
        Refusal::InvalidPartOrder => s3_error!(InvalidPartOrder),
        Refusal::EntityTooSmall => s3_error!(EntityTooSmall),
        Refusal::UnequalParts => s3_error!(InvalidPart, "all parts but the last must have the same length"),
        Refusal::BucketExists => s3_error!(BucketAlreadyOwnedByYou),
    }
}

fn timestamp(at: Millis) -> Timestamp {
    let millis = u64::try_from(at).unwrap_or(0);
    (std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis)).into()
}

/// The condition of a write as this dialect sees it.
fn condition(
    if_none_match: Option<&s3s::dto::ETagCondition>,
    if_match: Option<&s3s::dto::ETagCondition>,
    none_match_rule: Conditions,
    match_rule: Conditions,
) -> S3Result<Condition> {
    let (asked, rule) = match (if_none_match, if_match) {
        (None, None) => return Ok(Condition::None),
        (Some(_), Some(_)) => return Err(s3_error!(NotImplemented, "one condition at a time")),
        (Some(found), None) if found.is_any() => (Condition::Absent, none_match_rule),
        (Some(_), None) => return Err(s3_error!(NotImplemented, "If-None-Match takes only *")),
        (None, Some(wanted)) => {
            (Condition::Matches(wanted.as_etag().map(|tag| tag.value().to_owned())), match_rule)
        }
    };
    match rule {
        Conditions::Honoured => Ok(asked),
        Conditions::Ignored => Ok(Condition::None),
        Conditions::Refused => Err(s3_error!(NotImplemented, "conditional writes are not implemented")),
        Conditions::AlwaysFails => Err(s3_error!(PreconditionFailed)),
    }
}

/// Stands for a refusal that no [`S3ErrorCode`] variant names.
fn custom_error(status: u16, code: &str) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::Custom(code.to_owned().into()));
    error.set_status_code(http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_REQUEST));
    error
}

fn checksum_map(sums: Checksum) -> std::collections::BTreeMap<String, String> {
    [
        ("crc32", sums.checksum_crc32),
        ("crc32c", sums.checksum_crc32c),
        ("crc64nvme", sums.checksum_crc64nvme),
        ("sha1", sums.checksum_sha1),
        ("sha256", sums.checksum_sha256),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let stamp = context(&req).stamp;
        self.store().create_bucket(stamp, &req.input.bucket).map_err(refuse)?;
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        if !self.store().has_bucket(&req.input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: self.dialect.region.clone(),
            ..HeadBucketOutput::default()
        }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        if !self.store().has_bucket(&req.input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        let location_constraint = self.dialect.region.clone().map(Into::into);
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        Ok(S3Response::new(list::buckets(&self.store())))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        write::put(self, req).await
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        write::delete(self, &req)
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        write::delete_batch(self, &req)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        read::get(self, &req)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        read::head(self, &req)
    }

    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        list::objects_v1(self, req)
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        list::objects_v2(self, &req)
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        multipart::create(self, req)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        multipart::put_part(self, req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        multipart::complete(self, req)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        multipart::abort(self, &req)
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        list::parts(self, req)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        list::uploads(self, &req)
    }
}
