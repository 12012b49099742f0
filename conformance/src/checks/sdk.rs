//! The same store through aws-sdk-s3, as replicators use it: what its defaults send, and what its settings avoid.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};

use super::Need::Setting;
use super::probe::{pattern, same};
use super::{Check, Complaint, Need, Probe, check, ensure};
use crate::client::SdkChecksums;

const NO_ADDITIONS: Need =
    Setting("nothing: the client must take out what the SDK adds (x-id in the query, checksums)");

pub(super) const CHECKS: &[Check] = &[
    check!(
        "sdk.defaults",
        Setting("nothing: the client must set request_checksum_calculation to WhenRequired"),
        2,
        200,
        "PutObject with the SDK's default settings stores the bytes",
        "the change of these defaults in 2025 broke replication to B2, R2 and others",
        defaults
    ),
    check!(
        "sdk.put-get",
        NO_ADDITIONS,
        2,
        200,
        "PutObject and GetObject with checksums only when required work",
        "the settings a replicator uses on every endpoint that is not AWS",
        put_get
    ),
    check!(
        "sdk.multipart",
        NO_ADDITIONS,
        5,
        11000,
        "a multipart upload with the same settings works",
        "snapshots",
        multipart
    ),
    check!("sdk.range", NO_ADDITIONS, 2, 20, "GetObject with a range works", "reading pages", range),
    check!("sdk.pages", NO_ADDITIONS, 10, 6, "the SDK's paginator sees every key once", "inventory", pages),
    check!(
        "sdk.not-found",
        NO_ADDITIONS,
        2,
        4,
        "GetObject and HeadObject of an absent key give the SDK's not-found errors",
        "absent must be told apart from broken by type",
        not_found
    ),
    check!(
        "sdk.delete-batch",
        Setting("nothing: the client must delete one by one; more requests"),
        4,
        4,
        "DeleteObjects through the SDK removes the keys",
        "it chooses its own checksum for this request",
        delete_batch
    ),
];

/// The SDK's errors say little unless asked for their parts.
fn complain<E, R>(what: &str) -> impl FnOnce(aws_sdk_s3::error::SdkError<E, R>) -> Complaint
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let what = what.to_owned();
    move |error| {
        let code = error.code().map(str::to_owned);
        let text = code.unwrap_or_else(|| aws_sdk_s3::error::DisplayErrorContext(&error).to_string());
        Complaint::new(format!("{what} failed: {text}"))
    }
}

async fn round_trip(probe: &Probe, checksums: SdkChecksums) -> Result<(), Complaint> {
    let sdk = probe.client().sdk(checksums);
    let bucket = &probe.client().target().bucket;
    let body = pattern(70_000, 1);
    let put = sdk.put_object().bucket(bucket).key(probe.key("object")).body(ByteStream::from(body.clone()));
    put.metadata("litestream-timestamp", "2026-04-01T12:00:00Z")
        .send()
        .await
        .map_err(complain("PutObject"))?;
    let get = sdk
        .get_object()
        .bucket(bucket)
        .key(probe.key("object"))
        .send()
        .await
        .map_err(complain("GetObject"))?;
    let stamp = get.metadata().and_then(|all| all.get("litestream-timestamp")).cloned();
    let found = get.body.collect().await.map_err(|error| Complaint::new(error.to_string()))?.into_bytes();
    same("object", &found, &body)?;
    ensure!(stamp.as_deref() == Some("2026-04-01T12:00:00Z"), "the metadata came back as {stamp:?}");
    Ok(())
}

async fn defaults(probe: &Probe) -> Result<(), Complaint> {
    round_trip(probe, SdkChecksums::WhenSupported).await
}

async fn put_get(probe: &Probe) -> Result<(), Complaint> {
    round_trip(probe, SdkChecksums::WhenRequired).await
}

async fn multipart(probe: &Probe) -> Result<(), Complaint> {
    let sdk = probe.client().sdk(SdkChecksums::WhenRequired);
    let (bucket, key) = (&probe.client().target().bucket, probe.key("object"));
    let created = sdk.create_multipart_upload().bucket(bucket).key(&key).send().await;
    let id = created.map_err(complain("CreateMultipartUpload"))?.upload_id.unwrap_or_default();
    probe.begun("object", &id);
    let parts = [pattern(5 << 20, 1), pattern(1000, 2)];
    let mut done = CompletedMultipartUpload::builder();
    for (number, part) in (1..).zip(&parts) {
        let upload = sdk.upload_part().bucket(bucket).key(&key).upload_id(&id).part_number(number);
        let answer =
            upload.body(ByteStream::from(part.clone())).send().await.map_err(complain("UploadPart"))?;
        done = done.parts(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build());
    }
    let complete = sdk.complete_multipart_upload().bucket(bucket).key(&key).upload_id(&id);
    complete.multipart_upload(done.build()).send().await.map_err(complain("CompleteMultipartUpload"))?;
    probe.holds("object", &parts.concat()).await
}

async fn range(probe: &Probe) -> Result<(), Complaint> {
    let body = pattern(10_000, 1);
    probe.put("object", body.clone()).await?;
    let sdk = probe.client().sdk(SdkChecksums::WhenRequired);
    let get = sdk.get_object().bucket(&probe.client().target().bucket).key(probe.key("object"));
    let answer = get.range("bytes=9000-").send().await.map_err(complain("GetObject"))?;
    let found = answer.body.collect().await.map_err(|error| Complaint::new(error.to_string()))?.into_bytes();
    same("bytes=9000-", &found, &body[9000..])
}

async fn pages(probe: &Probe) -> Result<(), Complaint> {
    let names: Vec<_> = (0..5).map(|n| probe.key(&format!("key {n}"))).collect();
    for n in 0..5 {
        probe.put(&format!("key {n}"), "x").await?;
    }
    let sdk = probe.client().sdk(SdkChecksums::WhenRequired);
    let list =
        sdk.list_objects_v2().bucket(&probe.client().target().bucket).prefix(probe.key("")).max_keys(2);
    let mut pages = list.into_paginator().send();
    let mut found = Vec::new();
    for _ in 0..4 {
        let Some(page) = pages.next().await else { break };
        let page = page.map_err(complain("ListObjectsV2"))?;
        found.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
    }
    ensure!(found == names, "it lists {found:?}");
    Ok(())
}

async fn not_found(probe: &Probe) -> Result<(), Complaint> {
    let sdk = probe.client().sdk(SdkChecksums::WhenRequired);
    let bucket = &probe.client().target().bucket;
    let get = sdk.get_object().bucket(bucket).key(probe.key("absent")).send().await;
    let get_fits = get.as_ref().err().and_then(|e| e.as_service_error()).is_some_and(|e| e.is_no_such_key());
    ensure!(get_fits, "GetObject gives {:?}", get.err().map(|error| error.to_string()));
    let head = sdk.head_object().bucket(bucket).key(probe.key("absent")).send().await;
    let head_fits = head.as_ref().err().and_then(|e| e.as_service_error()).is_some_and(|e| e.is_not_found());
    ensure!(head_fits, "HeadObject gives {:?}", head.err().map(|error| error.to_string()));
    Ok(())
}

async fn delete_batch(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "x").await?;
    probe.put("b", "x").await?;
    let mut batch = Delete::builder();
    for name in ["a", "b"] {
        let object = ObjectIdentifier::builder().key(probe.key(name)).build();
        batch = batch.objects(object.map_err(|error| Complaint::new(error.to_string()))?);
    }
    let batch = batch.build().map_err(|error| Complaint::new(error.to_string()))?;
    let sdk = probe.client().sdk(SdkChecksums::WhenRequired);
    let delete = sdk.delete_objects().bucket(&probe.client().target().bucket).delete(batch);
    let answer = delete.send().await.map_err(complain("DeleteObjects"))?;
    ensure!(answer.errors().is_empty(), "it reports {:?}", answer.errors());
    probe.absent("a").await
}
