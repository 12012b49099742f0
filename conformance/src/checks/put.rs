//! PUT: sizes, what is kept beside the bytes, framings and checksums.

use bytes::Bytes;
use http::Method;
use s3s::crypto::{Checksum as _, Crc32};

use super::Need::{Optional, Required, Setting};
use super::address::absent_bucket;
use super::probe::{content_md5, pattern};
use super::{Check, Complaint, Probe, check, ensure};
use crate::client::{Call, Signing};

const PART: usize = 5 << 20;
const NO_FRAMES: Need = Setting("nothing: the client must send plain bodies (checksums only when required)");
type Need = super::Need;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "put.empty",
        Required,
        2,
        4,
        "an object of no bytes is stored and read as such",
        "some servers answer GET of an empty object with an error",
        empty
    ),
    check!(
        "put.one-byte",
        Required,
        2,
        4,
        "an object of one byte is stored exactly",
        "the smallest body that can be lost",
        one_byte
    ),
    check!(
        "put.around-64-KiB",
        Required,
        6,
        400,
        "objects of 64 KiB less one, exactly, and one more are stored exactly",
        "frame, buffer and page sizes meet here",
        around_64_kib
    ),
    check!(
        "put.around-part-size",
        Required,
        6,
        31000,
        "objects of 5 MiB less one, exactly, and one more are stored exactly",
        "clients change from one request to multipart here (litestream#948: small files fine, big ones fail for ever)",
        around_part_size
    ),
    check!(
        "put.etag",
        Required,
        1,
        4,
        "the answer to a PUT has an ETag",
        "a write of unknown outcome is resolved by ETag",
        etag
    ),
    check!(
        "put.etag-is-md5",
        Optional,
        1,
        4,
        "the ETag is the body's MD5",
        "lets a client compare without reading; not so with encryption by KMS or on some stores",
        etag_is_md5
    ),
    check!(
        "put.metadata",
        Required,
        2,
        4,
        "user metadata comes back with GET as it was sent",
        "Litestream's point-in-time restore reads the time of a transaction from litestream-timestamp",
        metadata
    ),
    check!(
        "put.metadata-large",
        Optional,
        2,
        4,
        "1.5 KB of user metadata come back",
        "S3 allows 2 KB",
        metadata_large
    ),
    check!(
        "put.content-type",
        Optional,
        2,
        4,
        "Content-Type comes back as sent",
        "only people look at it",
        content_type
    ),
    check!(
        "put.overwrite",
        Required,
        3,
        4,
        "a second PUT replaces the first at once",
        "the newest write of a key must be the one that restore reads",
        overwrite
    ),
    check!(
        "put.overwrite-shorter",
        Required,
        3,
        200,
        "a shorter second PUT leaves nothing of the first behind",
        "in-place overwrites without truncation corrupt what follows",
        overwrite_shorter
    ),
    check!(
        "put.read-after-write",
        Required,
        40,
        10,
        "each of 20 new objects can be read as soon as its PUT is answered",
        "an acknowledged transaction must be restorable now, not soon",
        read_after_write
    ),
    check!(
        "put.overwrite-read-after-write",
        Required,
        40,
        10,
        "each of 20 overwrites is what the next GET returns",
        "eventual consistency on overwrites returns an older transaction",
        overwrite_read_after_write
    ),
    check!(
        "put.repeat",
        Required,
        3,
        4,
        "the same PUT twice leaves one object with the same bytes",
        "a client that lost the answer sends the request again",
        repeat
    ),
    check!(
        "put.aws-chunked",
        NO_FRAMES,
        2,
        400,
        "a body in aws-chunked coding with signed chunks is decoded before it is stored",
        "R2, B2, Hetzner and others refuse it; SeaweedFS once stored the frames (litestream#918, seaweedfs#6517)",
        aws_chunked
    ),
    check!(
        "put.aws-chunked-trailer",
        NO_FRAMES,
        2,
        400,
        "a body in aws-chunked coding with a trailing checksum is decoded before it is stored",
        "the AWS SDKs' default since 2025; refused on R2 and B2 (litestream#912, #947)",
        aws_chunked_trailer
    ),
    check!(
        "put.checksum-header",
        NO_FRAMES,
        2,
        4,
        "a right x-amz-checksum-crc32 header is accepted",
        "SDKs add it by default; older servers refuse unknown x-amz headers",
        checksum_header
    ),
    check!(
        "put.wrong-checksum",
        Optional,
        2,
        4,
        "a wrong x-amz-checksum-crc32 is refused and nothing is stored",
        "otherwise the checksum protects nothing on its way",
        wrong_checksum
    ),
    check!(
        "put.content-md5",
        Required,
        2,
        4,
        "a right Content-MD5 is accepted",
        "the oldest integrity check, wanted by object lock",
        right_md5
    ),
    check!(
        "put.wrong-content-md5",
        Optional,
        2,
        4,
        "a wrong Content-MD5 is refused and nothing is stored",
        "otherwise it protects nothing on its way",
        wrong_md5
    ),
    check!(
        "put.no-content-length",
        Setting("nothing: the client must know a body's length before it sends"),
        2,
        4,
        "a PUT with Transfer-Encoding: chunked is accepted",
        "Scaleway answers MissingContentLength (litestream#912); streams must be buffered there",
        no_content_length
    ),
    check!(
        "put.storage-class",
        Optional,
        1,
        4,
        "x-amz-storage-class: STANDARD is accepted",
        "people copy it from AWS examples into their configuration",
        storage_class
    ),
    check!(
        "put.missing-bucket",
        Required,
        3,
        4,
        "a PUT into a bucket that does not exist is an error",
        "a deleted bucket must stop the acknowledgements",
        missing_bucket
    ),
];

async fn exact(probe: &Probe, size: usize) -> Result<(), Complaint> {
    let name = format!("size-{size}");
    let body = pattern(size, size as u64);
    probe.put(&name, body.clone()).await?;
    probe.holds(&name, &body).await
}

async fn empty(probe: &Probe) -> Result<(), Complaint> {
    exact(probe, 0).await
}

async fn one_byte(probe: &Probe) -> Result<(), Complaint> {
    exact(probe, 1).await
}

async fn around_64_kib(probe: &Probe) -> Result<(), Complaint> {
    for size in [65_535, 65_536, 65_537] {
        exact(probe, size).await?;
    }
    Ok(())
}

async fn around_part_size(probe: &Probe) -> Result<(), Complaint> {
    for size in [PART - 1, PART, PART + 1] {
        exact(probe, size).await?;
    }
    Ok(())
}

async fn etag(probe: &Probe) -> Result<(), Complaint> {
    let answer = probe.put("object", "some bytes").await?;
    ensure!(!answer.etag().is_empty(), "the answer has no ETag");
    Ok(())
}

async fn etag_is_md5(probe: &Probe) -> Result<(), Complaint> {
    let answer = probe.put("object", "some bytes").await?;
    // md5sum of `some bytes`.
    let wanted: String =
        s3s::crypto::Md5::checksum(b"some bytes").iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(answer.etag() == wanted, "the ETag is {}", answer.etag());
    Ok(())
}

async fn metadata(probe: &Probe) -> Result<(), Complaint> {
    let put = probe.call(Method::PUT, "object").body("x");
    let put = put.header("x-amz-meta-litestream-timestamp", "2026-04-01T12:00:00.123456789Z");
    probe.expect(&put.header("x-amz-meta-other", "plain text"), 200).await?;
    let answer = probe.get("object").await?;
    for (name, wanted) in
        [("litestream-timestamp", "2026-04-01T12:00:00.123456789Z"), ("other", "plain text")]
    {
        let found = answer.header(&format!("x-amz-meta-{name}"));
        ensure!(found == wanted, "x-amz-meta-{name} came back as {found:?}");
    }
    Ok(())
}

async fn metadata_large(probe: &Probe) -> Result<(), Complaint> {
    let text = "m".repeat(1500);
    probe.expect(&probe.call(Method::PUT, "object").body("x").header("x-amz-meta-large", &text), 200).await?;
    let found = probe.get("object").await?.header("x-amz-meta-large").len();
    ensure!(found == text.len(), "{found} bytes came back");
    Ok(())
}

async fn content_type(probe: &Probe) -> Result<(), Complaint> {
    let put = probe.call(Method::PUT, "object").body("x").header("content-type", "application/x-ltx");
    probe.expect(&put, 200).await?;
    let answer = probe.get("object").await?;
    ensure!(
        answer.header("content-type") == "application/x-ltx",
        "it came back as {:?}",
        answer.header("content-type")
    );
    Ok(())
}

async fn overwrite(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "first").await?;
    probe.put("object", "the second").await?;
    probe.holds("object", b"the second").await
}

async fn overwrite_shorter(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", pattern(100_000, 1)).await?;
    probe.put("object", "short").await?;
    probe.holds("object", b"short").await
}

async fn read_after_write(probe: &Probe) -> Result<(), Complaint> {
    for round in 0..20 {
        let name = format!("object-{round}");
        probe.put(&name, name.clone()).await?;
        probe.holds(&name, name.as_bytes()).await?;
    }
    Ok(())
}

async fn overwrite_read_after_write(probe: &Probe) -> Result<(), Complaint> {
    for round in 0..20 {
        let content = format!("version {round}");
        probe.put("object", content.clone()).await?;
        probe.holds("object", content.as_bytes()).await?;
    }
    Ok(())
}

async fn repeat(probe: &Probe) -> Result<(), Complaint> {
    // Their ETags may differ: with encryption by KMS each has its own.
    probe.put("object", "some bytes").await?;
    probe.put("object", "some bytes").await?;
    probe.holds("object", b"some bytes").await
}

async fn framed(probe: &Probe, signing: Signing) -> Result<(), Complaint> {
    let body: Bytes = pattern(100_000, 7);
    let answer = probe.send(&probe.call(Method::PUT, "object").body(body.clone()).signing(signing)).await?;
    ensure!(answer.status == 200, "refused: PUT was answered {}", answer.describe());
    let found = probe.get("object").await?.body;
    ensure!(
        found.len() <= body.len(),
        "the frames were stored inside the object: {} bytes became {}",
        body.len(),
        found.len()
    );
    super::probe::same("object", &found, &body)
}

async fn aws_chunked(probe: &Probe) -> Result<(), Complaint> {
    framed(probe, Signing::Chunked).await
}

async fn aws_chunked_trailer(probe: &Probe) -> Result<(), Complaint> {
    framed(probe, Signing::ChunkedTrailer).await
}

async fn checksum_header(probe: &Probe) -> Result<(), Complaint> {
    let sum = aws_smithy_types::base64::encode(Crc32::checksum(b"some bytes"));
    let put = probe.call(Method::PUT, "object").body("some bytes").header("x-amz-checksum-crc32", sum);
    probe.expect(&put, 200).await?;
    probe.holds("object", b"some bytes").await
}

async fn refused(probe: &Probe, header: &str, value: String) -> Result<(), Complaint> {
    let answer =
        probe.send(&probe.call(Method::PUT, "object").body("some bytes").header(header, value)).await?;
    ensure!(answer.status.is_client_error(), "PUT was answered {}", answer.describe());
    probe.absent("object").await
}

async fn wrong_checksum(probe: &Probe) -> Result<(), Complaint> {
    let sum = aws_smithy_types::base64::encode(Crc32::checksum(b"other bytes"));
    refused(probe, "x-amz-checksum-crc32", sum).await
}

async fn right_md5(probe: &Probe) -> Result<(), Complaint> {
    let put = probe
        .call(Method::PUT, "object")
        .body("some bytes")
        .header("content-md5", content_md5(b"some bytes"));
    probe.expect(&put, 200).await?;
    probe.holds("object", b"some bytes").await
}

async fn wrong_md5(probe: &Probe) -> Result<(), Complaint> {
    refused(probe, "content-md5", content_md5(b"other bytes")).await
}

async fn no_content_length(probe: &Probe) -> Result<(), Complaint> {
    let mut put = probe.call(Method::PUT, "object").body("some bytes").signing(Signing::UnsignedPayload);
    put.unsized_body = true;
    let answer = probe.send(&put).await?;
    ensure!(answer.status == 200, "PUT was answered {}", answer.describe());
    probe.holds("object", b"some bytes").await
}

async fn storage_class(probe: &Probe) -> Result<(), Complaint> {
    let put = probe.call(Method::PUT, "object").body("x").header("x-amz-storage-class", "STANDARD");
    probe.expect(&put, 200).await.map(drop)
}

async fn missing_bucket(probe: &Probe) -> Result<(), Complaint> {
    let bucket = absent_bucket();
    let mut put = probe.call(Method::PUT, "object").body("x");
    put.bucket = Some(bucket.clone());
    let answer = probe.send(&put).await;
    if answer.as_ref().is_ok_and(|answer| answer.status.is_client_error()) {
        return Ok(());
    }
    // An error of the server, or no answer, does not say that nothing came into being.
    if let Err(Complaint(why, _)) = remove_bucket(probe, &bucket).await {
        probe.leave(format!("the bucket {bucket}: {why}"));
    }
    Err(Complaint::new(format!("PUT was answered {}", answer?.describe())))
}

/// Removes the object and the bucket that came into being with it.
async fn remove_bucket(probe: &Probe, bucket: &str) -> Result<(), Complaint> {
    for mut call in [probe.call(Method::DELETE, "object"), Call::new(Method::DELETE, "")] {
        call.bucket = Some(bucket.to_owned());
        let answer = probe.send(&call).await?;
        let gone = answer.status.is_success() || answer.status == 404;
        ensure!(gone, "DELETE was answered {}", answer.describe());
    }
    Ok(())
}
