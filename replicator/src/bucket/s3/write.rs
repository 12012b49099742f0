//! Writing objects: one request up to the part size, several parts above it.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, StorageClass};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::super::observer::Verb;
use super::super::{PutCondition, PutOptions, PutOutcome, Upload};
use super::client::{Client, Request, Tried};
use super::dialect::Encryption;
use super::failure::Failure;
use super::publish::{self, Publication, Way};
use super::read::{Digester, KMS};
use crate::error::{Error, ErrorKind, Result};

/// User metadata that carries the time an object stands for.
const TIMESTAMP: &str = "litestream-timestamp";

/// Parts of one upload that S3 accepts.
const MAX_PARTS: usize = 10_000;

/// Where parts grow, if the store lets them: after this many, twice as large for every further thousand.
const EQUAL_PARTS: usize = 5_000;

/// Sets what a dialect and options ask for on a builder of PutObject or CreateMultipartUpload.
macro_rules! with_options {
    ($builder:expr, $client:expr, $options:expr) => {{
        let dialect = &$client.dialect;
        let mut builder =
            $builder.set_storage_class(dialect.storage_class.as_deref().map(StorageClass::from));
        if let Some(timestamp) = rfc3339(&$options) {
            builder = builder.metadata(TIMESTAMP, timestamp);
        }
        match &dialect.encryption {
            Encryption::Default => builder,
            Encryption::Customer { key, key_md5 } => {
                builder.sse_customer_algorithm("AES256").sse_customer_key(key).sse_customer_key_md5(key_md5)
            }
            Encryption::Kms { key_id } => builder.server_side_encryption(KMS).ssekms_key_id(key_id),
        }
    }};
}

/// The timestamp as Litestream writes it: RFC 3339, UTC, milliseconds.
fn rfc3339(options: &PutOptions) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(options.timestamp?.0).ok()?;
    Some(format!("{time:.3}"))
}

/// Writes a whole object with one request.
pub(super) async fn put(
    client: &Arc<Client>,
    key: &str,
    body: Bytes,
    condition: PutCondition,
    options: PutOptions,
) -> Result<PutOutcome> {
    let mut digester = Digester::new();
    digester.update(&body);
    let request = publish::request("PutObject", key, body.len());
    let send = |conditional: bool| -> futures::future::BoxFuture<'_, Result<(), Failure>> {
        let (body, request) = (body.clone(), &request);
        Box::pin(async move {
            let mut send = |sdk: aws_sdk_s3::Client| {
                let put = sdk
                    .put_object()
                    .bucket(&client.bucket)
                    .key(&request.key)
                    .body(ByteStream::from(body.clone()))
                    .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
                    .set_if_none_match(conditional.then(|| "*".to_owned()));
                let put = with_options!(put, client, options).customize();
                if client.dialect.sign_payload { put } else { put.disable_payload_signing() }.send()
            };
            client.attempt(request, &mut send).await.map(drop)
        })
    };
    let publication = Publication {
        client,
        request: request.clone(),
        digest: digester.finish(),
        way: Way::Put,
        send: &send,
    };
    publish(&publication, condition).await
}

async fn publish(publication: &Publication<'_>, condition: PutCondition) -> Result<PutOutcome> {
    match condition {
        PutCondition::Overwrite => publication.overwrite().await,
        PutCondition::IfAbsent => publication.create().await,
    }
}

/// Bytes of the part after `sent` others.
fn nth_part_size(base: u64, equal: bool, sent: usize) -> u64 {
    let doublings = if equal || sent < EQUAL_PARTS { 0 } else { (sent - EQUAL_PARTS) / 1000 + 1 };
    (base << doublings).min(super::dialect::MAX_PART)
}

/// An object being written; becomes a multipart upload when it outgrows one part.
pub(super) struct S3Upload {
    client: Arc<Client>,
    key: String,
    condition: PutCondition,
    options: PutOptions,
    /// The part being filled; grows no larger than a part.
    buffer: Vec<u8>,
    digester: Digester,
    parts: Option<Parts>,
}

/// The multipart half.
struct Parts {
    id: String,
    sent: usize,
    running: JoinSet<Result<CompletedPart>>,
    done: Vec<CompletedPart>,
    /// Removes the upload unless it was finished.
    guard: AbortGuard,
}

impl S3Upload {
    pub(super) fn new(client: &Arc<Client>, key: &str, condition: PutCondition, options: PutOptions) -> Self {
        Self {
            client: Arc::clone(client),
            key: key.to_owned(),
            condition,
            options,
            buffer: Vec::new(),
            digester: Digester::new(),
            parts: None,
        }
    }

    /// Bytes of the part that is being filled.
    fn part_size(&self) -> Result<usize> {
        let sent = self.parts.as_ref().map_or(0, |parts| parts.sent);
        let dialect = &self.client.dialect;
        if sent >= MAX_PARTS {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} needs more than {MAX_PARTS} parts of {} bytes: raise part-size",
                    self.client.url(&self.key),
                    dialect.part_size
                ),
            ));
        }
        let bytes = nth_part_size(dialect.part_size, dialect.equal_parts, sent);
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Sends `data` as the next part, after waiting until few enough are under way.
    async fn send_part(&mut self, data: Bytes) -> Result<()> {
        let mut parts = match self.parts.take() {
            Some(parts) => parts,
            None => Parts::begin(&self.client, &self.key, self.options).await?,
        };
        while parts.running.len() >= self.client.dialect.concurrency {
            parts.join().await?;
        }
        parts.sent += 1;
        let number = i32::try_from(parts.sent).expect("at most 10,000 parts");
        let (client, key, id) = (Arc::clone(&self.client), self.key.clone(), parts.id.clone());
        parts.running.spawn(async move { upload_part(&client, &key, &id, number, data).await });
        self.parts = Some(parts);
        Ok(())
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn write(&mut self, mut data: Bytes) -> Result<()> {
        self.digester.update(&data);
        while !data.is_empty() {
            let size = self.part_size()?;
            if self.buffer.len() == size {
                // More is to come, so this is not the last part, and the object needs more than one.
                let full = std::mem::take(&mut self.buffer).into();
                self.send_part(full).await?;
                continue;
            }
            let take = data.len().min(size - self.buffer.len());
            let needed = self.buffer.len() + take;
            if needed > self.buffer.capacity() {
                let room = needed.max(2 * self.buffer.capacity()).min(size);
                self.buffer.reserve_exact(room - self.buffer.len());
            }
            self.buffer.extend_from_slice(&data.split_to(take));
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<PutOutcome> {
        let last = Bytes::from(std::mem::take(&mut self.buffer));
        if self.parts.is_none() {
            return put(&self.client, &self.key, last, self.condition, self.options).await;
        }
        self.send_part(last).await?;
        let mut parts = self.parts.take().expect("a part was just sent");
        while !parts.running.is_empty() {
            parts.join().await?;
        }
        parts.complete(&self.client, &self.key, self.condition, &self.digester).await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        match self.parts.take() {
            None => Ok(()),
            Some(mut parts) => {
                // Parts that arrive after the abort would stay.
                parts.running.shutdown().await;
                parts.guard.abort().await
            }
        }
    }
}

impl Parts {
    async fn begin(client: &Arc<Client>, key: &str, options: PutOptions) -> Result<Self> {
        let request = Request::new(Verb::Put, "CreateMultipartUpload", key);
        let send = |sdk: aws_sdk_s3::Client| {
            let create = sdk.create_multipart_upload().bucket(&client.bucket).key(key);
            let create = if client.dialect.checksums {
                create.checksum_algorithm(ChecksumAlgorithm::Crc32)
            } else {
                create
            };
            with_options!(create, client, options).send()
        };
        let created = client.run(&request, send).await;
        let id = created
            .and_then(|created| {
                created.upload_id.ok_or_else(|| Failure::bad_answer("no upload id was given"))
            })
            .map_err(|failure| client.error(&request, &failure))?;
        let guard = AbortGuard { client: Arc::clone(client), key: key.to_owned(), id: Some(id.clone()) };
        Ok(Self { id, sent: 0, running: JoinSet::new(), done: Vec::new(), guard })
    }

    /// Waits for one part.
    async fn join(&mut self) -> Result<()> {
        match self.running.join_next().await {
            None => Ok(()),
            Some(Ok(part)) => {
                self.done.push(part?);
                Ok(())
            }
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::new(ErrorKind::Cancelled, "the upload of a part was cancelled")),
            },
        }
    }

    /// The parts that have arrived, in order.
    fn completed(&mut self) -> CompletedMultipartUpload {
        let mut done = std::mem::take(&mut self.done);
        done.sort_unstable_by_key(|part| part.part_number);
        CompletedMultipartUpload::builder().set_parts(Some(done)).build()
    }

    async fn complete(
        mut self,
        client: &Arc<Client>,
        key: &str,
        condition: PutCondition,
        digester: &Digester,
    ) -> Result<PutOutcome> {
        let parts = self.completed();
        let request = publish::request("CompleteMultipartUpload", key, 0);
        let (id, parts) = (&self.id, &parts);
        let send = |conditional: bool| -> futures::future::BoxFuture<'_, Result<(), Failure>> {
            Box::pin(complete(client, &request, id, parts, conditional))
        };
        let publication = Publication {
            client,
            request: request.clone(),
            digest: digester.finish(),
            way: Way::Complete,
            send: &send,
        };
        let outcome = publish(&publication, condition).await;
        if matches!(outcome, Ok(PutOutcome::Written)) {
            self.guard.id = None;
        } else if let Err(error) = self.guard.abort().await {
            tracing::warn!(%error, "cannot remove an unfinished multipart upload");
        }
        outcome
    }
}

/// Sends the end of an upload once.
async fn complete(
    client: &Client,
    request: &Request,
    id: &str,
    parts: &CompletedMultipartUpload,
    conditional: bool,
) -> Result<(), Failure> {
    let mut send = |sdk: aws_sdk_s3::Client| {
        let mut complete = sdk
            .complete_multipart_upload()
            .bucket(&client.bucket)
            .key(&request.key)
            .upload_id(id)
            .multipart_upload(parts.clone())
            .set_if_none_match(conditional.then(|| "*".to_owned()));
        if let Encryption::Customer { key, key_md5 } = &client.dialect.encryption {
            complete =
                complete.sse_customer_algorithm("AES256").sse_customer_key(key).sse_customer_key_md5(key_md5);
        }
        complete.send()
    };
    let output = client.attempt(request, &mut send).await?;
    // A 200 is sent before the work is done; without an ETag its body did not report success.
    match output.e_tag {
        Some(_) => Ok(()),
        None => Err(Failure::bad_answer("the store did not confirm the object")),
    }
}

/// Finishes a small upload in parts under a taken key, with nothing but the condition to stop it.
pub(super) async fn try_to_finish_over(client: &Arc<Client>, key: &str) -> Result<PutOutcome> {
    let mut parts = Parts::begin(client, key, PutOptions::default()).await?;
    parts.done.push(upload_part(client, key, &parts.id, 1, Bytes::from_static(b"another object")).await?);
    let completed = parts.completed();
    let request = publish::request("CompleteMultipartUpload", key, 0);
    let (mut budget, mut tried) = (client.budget(), Tried::default());
    let outcome = loop {
        match complete(client, &request, &parts.id, &completed, true).await {
            Ok(()) => {
                parts.guard.id = None;
                return Ok(PutOutcome::Written);
            }
            Err(failure) if failure.is_precondition_failed() => break PutOutcome::Conflict,
            // Refused as unknown: replication goes without the condition.
            Err(failure) if failure.may_refuse_header() => break PutOutcome::Written,
            Err(failure) => {
                let recovered = client.recover(&request, failure, &mut budget, &mut tried).await;
                recovered.map_err(|failure| client.error(&request, &failure))?;
            }
        }
    };
    parts.guard.abort().await?;
    Ok(outcome)
}

async fn upload_part(
    client: &Client,
    key: &str,
    id: &str,
    number: i32,
    data: Bytes,
) -> Result<CompletedPart> {
    let request = publish::request("UploadPart", key, data.len());
    let send = |sdk: aws_sdk_s3::Client| {
        let mut part = sdk
            .upload_part()
            .bucket(&client.bucket)
            .key(key)
            .upload_id(id)
            .part_number(number)
            .body(ByteStream::from(data.clone()))
            .content_length(i64::try_from(data.len()).unwrap_or(i64::MAX));
        if let Encryption::Customer { key, key_md5 } = &client.dialect.encryption {
            part = part.sse_customer_algorithm("AES256").sse_customer_key(key).sse_customer_key_md5(key_md5);
        }
        let part = part.customize();
        if client.dialect.sign_payload { part } else { part.disable_payload_signing() }.send()
    };
    let output: UploadPartOutput =
        client.run(&request, send).await.map_err(|failure| client.error(&request, &failure))?;
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(output.e_tag)
        .set_checksum_crc32(output.checksum_crc32)
        .build())
}

/// Removes an unfinished multipart upload, which would otherwise stay and cost money.
struct AbortGuard {
    client: Arc<Client>,
    key: String,
    id: Option<String>,
}

impl AbortGuard {
    async fn abort(&mut self) -> Result<()> {
        match self.id.take() {
            Some(id) => abort(&self.client, &self.key, &id).await,
            None => Ok(()),
        }
    }
}

impl Drop for AbortGuard {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let (client, key) = (Arc::clone(&self.client), self.key.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = abort(&client, &key, &id).await {
                    tracing::warn!(%error, "cannot remove an unfinished multipart upload");
                }
            });
        }
    }
}

async fn abort(client: &Client, key: &str, id: &str) -> Result<()> {
    let request = Request::new(Verb::Delete, "AbortMultipartUpload", key);
    let send = |sdk: aws_sdk_s3::Client| {
        sdk.abort_multipart_upload().bucket(&client.bucket).key(key).upload_id(id).send()
    };
    match client.run(&request, send).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_already_gone() => Ok(()),
        Err(failure) => Err(client.error(&request, &failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::UnixMillis;

    #[test]
    fn parts_grow_late_so_that_memory_stays_small_and_huge_objects_fit() {
        const MIB: u64 = 1 << 20;
        for (sent, expected) in [(0, 5), (4999, 5), (5000, 10), (5999, 10), (6000, 20), (9999, 160)] {
            assert_eq!(nth_part_size(5 * MIB, false, sent), expected * MIB, "{sent}");
            assert_eq!(nth_part_size(5 * MIB, true, sent), 5 * MIB, "{sent}");
        }
        let total: u64 = (0..MAX_PARTS).map(|sent| nth_part_size(5 * MIB, false, sent)).sum();
        assert!(total > 300 * 1024 * MIB, "{total}");
        assert_eq!(
            nth_part_size(super::super::dialect::MAX_PART, false, 9999),
            super::super::dialect::MAX_PART
        );
    }

    #[test]
    fn timestamps_have_milliseconds() {
        let text = |ms| rfc3339(&PutOptions { timestamp: Some(UnixMillis(ms)) });
        assert_eq!(text(1_700_000_000_120).as_deref(), Some("2023-11-14T22:13:20.120Z"));
        assert_eq!(text(0).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(rfc3339(&PutOptions::default()), None);
    }
}
