//! Multipart uploads: limits, order, abort, and that nothing shows before completion.

use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use http::Method;

use super::Need::{Optional, Required, Setting};
use super::probe::pattern;
use super::{Check, Complaint, Probe, check, ensure};
use crate::client::{Call, Signing, xml};

const PART: usize = 5 << 20;
const PART_KIB: u64 = 5 << 10;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "multipart.two-parts",
        Required,
        5,
        4 * PART_KIB,
        "a part of 5 MiB and a small last one become one object with exactly their bytes",
        "every snapshot above the part size goes this way",
        two_parts
    ),
    check!(
        "multipart.one-part",
        Required,
        4,
        8,
        "an upload of one small part works",
        "streams of unknown length that turn out short",
        one_part
    ),
    check!(
        "multipart.metadata",
        Required,
        4,
        4,
        "metadata given at creation comes back with GET",
        "snapshots carry their timestamp there",
        metadata
    ),
    check!(
        "multipart.unequal-parts",
        Setting("part-size: leave as it is (the client must use parts of one size)"),
        6,
        6 * PART_KIB,
        "parts of different sizes are accepted",
        "R2 demands that all but the last are equal",
        unequal_parts
    ),
    check!(
        "multipart.small-part-refused",
        Optional,
        4,
        8,
        "a part below 5 MiB that is not the last is refused at completion",
        "shows that the limit is the documented one; a part-size below it fails on AWS",
        small_part
    ),
    check!(
        "multipart.any-order",
        Required,
        5,
        4 * PART_KIB,
        "parts uploaded in reverse are put together by number",
        "parts are uploaded in parallel",
        any_order
    ),
    check!(
        "multipart.number-gap",
        Optional,
        5,
        4 * PART_KIB,
        "part numbers may have gaps",
        "documented; some stores count",
        number_gap
    ),
    check!(
        "multipart.replace-part",
        Required,
        5,
        4,
        "a part uploaded twice counts with its second content",
        "a part whose answer was lost is sent again",
        replace_part
    ),
    check!(
        "multipart.unknown-part",
        Required,
        4,
        4,
        "completion with a part that was not uploaded is refused and publishes nothing",
        "otherwise an object has a hole",
        unknown_part
    ),
    check!(
        "multipart.wrong-etag",
        Required,
        4,
        4,
        "completion with another ETag for a part is refused and publishes nothing",
        "this is how a part damaged on its way is found",
        wrong_etag
    ),
    check!(
        "multipart.wrong-order",
        Optional,
        4,
        4,
        "completion with descending part numbers is refused",
        "documented",
        wrong_order
    ),
    check!(
        "multipart.empty-completion",
        Optional,
        3,
        4,
        "completion without parts is refused",
        "documented",
        empty_completion
    ),
    check!(
        "multipart.invisible",
        Required,
        6,
        4,
        "nothing can be read or listed before completion",
        "restore must never see half a snapshot",
        invisible
    ),
    check!(
        "multipart.keeps-old",
        Required,
        5,
        4,
        "until completion the former object stays readable",
        "compaction rewrites keys while others restore",
        keeps_old
    ),
    check!(
        "multipart.abort",
        Required,
        6,
        4,
        "after an abort no part is accepted and nothing is published",
        "given-up uploads must not come back, or be paid for ever",
        abort
    ),
    check!(
        "multipart.complete-twice",
        Required,
        5,
        4,
        "a repeated completion succeeds or answers 404, and the object stays",
        "the client that lost the answer asks again",
        complete_twice
    ),
    check!(
        "multipart.unknown-upload",
        Required,
        2,
        4,
        "a part for an upload that does not exist is refused",
        "an upload aborted by lifecycle rules must be noticed",
        unknown_upload
    ),
    check!(
        "multipart.parallel-parts",
        Setting("concurrency: 2"),
        7,
        9 * PART_KIB,
        "four parts at once are accepted",
        "R2 and Filebase allow two or three (litestream#948)",
        parallel_parts
    ),
    check!(
        "multipart.trailer",
        Setting("nothing: the client must send plain parts (checksums only when required)"),
        4,
        8,
        "a part with a trailing checksum is accepted and decoded",
        "set in another place of the SDK than for PUT (litestream#948, #956)",
        trailer
    ),
    check!(
        "multipart.unsigned-part",
        Setting("sign-payload: true"),
        4,
        8,
        "a part with UNSIGNED-PAYLOAD is accepted",
        "SDKs send parts that way over https",
        unsigned_part
    ),
    check!(
        "multipart.last-number",
        Optional,
        4,
        4,
        "part number 10,000 is accepted",
        "the documented limit",
        last_number
    ),
    check!(
        "multipart.number-too-high",
        Optional,
        2,
        4,
        "part number 10,001 is refused",
        "the documented limit",
        number_too_high
    ),
    check!(
        "multipart.list-parts",
        Optional,
        3,
        4,
        "ListParts shows what was uploaded",
        "for people who clean up",
        list_parts
    ),
    check!(
        "multipart.list-uploads",
        Optional,
        2,
        4,
        "ListMultipartUploads shows an unfinished upload",
        "leftovers cost money and are found this way",
        list_uploads
    ),
];

/// Uploads parts with consecutive numbers and completes; reads back.
async fn whole(probe: &Probe, parts: Vec<Bytes>) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let mut named = Vec::new();
    let mut content = BytesMut::new();
    for (number, part) in (1..).zip(parts) {
        content.extend_from_slice(&part);
        named.push((number, probe.part("object", &id, number, part).await?));
    }
    probe.complete("object", &id, &named).await?;
    probe.holds("object", &content).await
}

async fn two_parts(probe: &Probe) -> Result<(), Complaint> {
    whole(probe, vec![pattern(PART, 1), pattern(1000, 2)]).await
}

async fn one_part(probe: &Probe) -> Result<(), Complaint> {
    whole(probe, vec![pattern(1000, 1)]).await
}

async fn metadata(probe: &Probe) -> Result<(), Complaint> {
    let stamp = "2026-04-01T12:00:00Z";
    let id = probe.begin("object", &[("x-amz-meta-litestream-timestamp", stamp)]).await?;
    let etag = probe.part("object", &id, 1, "x".into()).await?;
    probe.complete("object", &id, &[(1, etag)]).await?;
    let answer = probe.get("object").await?;
    let found = answer.header("x-amz-meta-litestream-timestamp");
    ensure!(found == stamp, "it came back as {found:?}");
    Ok(())
}

async fn unequal_parts(probe: &Probe) -> Result<(), Complaint> {
    whole(probe, vec![pattern(PART, 1), pattern(PART + 4096, 2), pattern(10, 3)]).await
}

async fn small_part(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let one = probe.part("object", &id, 1, pattern(1000, 1)).await?;
    let two = probe.part("object", &id, 2, pattern(1000, 2)).await?;
    refused(probe, "object", &id, &[(1, one), (2, two)]).await
}

/// Demands that a completion fails, by status or by an error inside a 200.
async fn refused(probe: &Probe, name: &str, id: &str, parts: &[(u32, String)]) -> Result<(), Complaint> {
    let answer = probe.send(&probe.complete_call(name, id, parts)).await?;
    let failed = !answer.status.is_success() || !answer.code().is_empty();
    ensure!(failed, "completion was answered {}", answer.describe());
    Ok(())
}

async fn any_order(probe: &Probe) -> Result<(), Complaint> {
    let (one, two) = (pattern(PART, 1), pattern(1000, 2));
    let id = probe.begin("object", &[]).await?;
    let second = probe.part("object", &id, 2, two.clone()).await?;
    let first = probe.part("object", &id, 1, one.clone()).await?;
    probe.complete("object", &id, &[(1, first), (2, second)]).await?;
    probe.holds("object", &[one, two].concat()).await
}

async fn number_gap(probe: &Probe) -> Result<(), Complaint> {
    let (one, two) = (pattern(PART, 1), pattern(1000, 2));
    let id = probe.begin("object", &[]).await?;
    let first = probe.part("object", &id, 3, one.clone()).await?;
    let second = probe.part("object", &id, 700, two.clone()).await?;
    probe.complete("object", &id, &[(3, first), (700, second)]).await?;
    probe.holds("object", &[one, two].concat()).await
}

async fn replace_part(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    probe.part("object", &id, 1, "first attempt".into()).await?;
    let etag = probe.part("object", &id, 1, "second".into()).await?;
    probe.complete("object", &id, &[(1, etag)]).await?;
    probe.holds("object", b"second").await
}

async fn unknown_part(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let etag = probe.part("object", &id, 1, "x".into()).await?;
    refused(probe, "object", &id, &[(1, etag.clone()), (2, etag)]).await?;
    probe.absent("object").await
}

async fn wrong_etag(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    probe.part("object", &id, 1, "x".into()).await?;
    refused(probe, "object", &id, &[(1, "\"00000000000000000000000000000000\"".to_owned())]).await?;
    probe.absent("object").await
}

async fn wrong_order(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let one = probe.part("object", &id, 1, "x".into()).await?;
    let two = probe.part("object", &id, 2, "y".into()).await?;
    refused(probe, "object", &id, &[(2, two), (1, one)]).await
}

async fn empty_completion(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    probe.part("object", &id, 1, "x".into()).await?;
    refused(probe, "object", &id, &[]).await
}

async fn invisible(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let etag = probe.part("object", &id, 1, "x".into()).await?;
    probe.absent("object").await?;
    let keys = probe.list("", 1000, 1).await?;
    ensure!(keys.is_empty(), "the listing shows {keys:?} before completion");
    probe.complete("object", &id, &[(1, etag)]).await?;
    probe.holds("object", b"x").await
}

async fn keeps_old(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "old").await?;
    let id = probe.begin("object", &[]).await?;
    let etag = probe.part("object", &id, 1, "new".into()).await?;
    probe.holds("object", b"old").await?;
    probe.complete("object", &id, &[(1, etag)]).await.map(drop)
}

async fn abort(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let etag = probe.part("object", &id, 1, "x".into()).await?;
    probe.expect(&probe.call(Method::DELETE, "object").query("uploadId", &id), 204).await?;
    let late = probe.send(&probe.part_call("object", &id, 2, "y".into())).await?;
    ensure!(late.status.is_client_error(), "a part after the abort was answered {}", late.describe());
    refused(probe, "object", &id, &[(1, etag)]).await?;
    probe.absent("object").await
}

async fn complete_twice(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let parts = [(1, probe.part("object", &id, 1, "x".into()).await?)];
    probe.complete("object", &id, &parts).await?;
    let again = probe.send(&probe.complete_call("object", &id, &parts)).await?;
    let status = again.status.as_u16();
    ensure!(matches!(status, 200 | 404), "the second completion was answered {}", again.describe());
    probe.holds("object", b"x").await
}

async fn unknown_upload(probe: &Probe) -> Result<(), Complaint> {
    let answer = probe.send(&probe.part_call("object", "no-such-upload", 1, "x".into())).await?;
    ensure!(answer.status.is_client_error(), "UploadPart was answered {}", answer.describe());
    probe.absent("object").await
}

async fn parallel_parts(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let parts: Vec<_> =
        (1..=4_u64).map(|number| pattern(PART / if number == 4 { 8 } else { 1 }, number)).collect();
    let calls: Vec<_> = (1..)
        .zip(&parts)
        .map(|(number, part)| probe.part_call("object", &id, number, part.clone()))
        .collect();
    let answers = join_all(calls.iter().map(|call| probe.expect_at_once(call, 200))).await;
    let mut named = Vec::new();
    for (number, answer) in (1..).zip(answers) {
        named.push((number, answer?.header("etag").to_owned()));
    }
    probe.complete("object", &id, &named).await?;
    let answer = probe.expect(&probe.call(Method::HEAD, "object"), 200).await?;
    let wanted: usize = parts.iter().map(Bytes::len).sum();
    ensure!(
        answer.header("content-length") == wanted.to_string(),
        "the object has {} bytes",
        answer.header("content-length")
    );
    Ok(())
}

async fn framed_part(probe: &Probe, signing: Signing) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let body = pattern(1000, 1);
    let answer = probe.expect(&probe.part_call("object", &id, 1, body.clone()).signing(signing), 200).await?;
    probe.complete("object", &id, &[(1, answer.header("etag").to_owned())]).await?;
    probe.holds("object", &body).await
}

async fn trailer(probe: &Probe) -> Result<(), Complaint> {
    framed_part(probe, Signing::ChunkedTrailer).await
}

async fn unsigned_part(probe: &Probe) -> Result<(), Complaint> {
    framed_part(probe, Signing::UnsignedPayload).await
}

async fn last_number(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let etag = probe.part("object", &id, 10_000, "x".into()).await?;
    probe.complete("object", &id, &[(10_000, etag)]).await?;
    probe.holds("object", b"x").await
}

async fn number_too_high(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let answer = probe.send(&probe.part_call("object", &id, 10_001, "x".into())).await?;
    ensure!(answer.status.is_client_error(), "UploadPart was answered {}", answer.describe());
    Ok(())
}

async fn list_parts(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    probe.part("object", &id, 7, "x".into()).await?;
    let answer = probe.expect(&probe.call(Method::GET, "object").query("uploadId", &id), 200).await?;
    let numbers = xml::all(&answer.text(), "PartNumber");
    ensure!(numbers == ["7"], "it shows parts {numbers:?}");
    Ok(())
}

async fn list_uploads(probe: &Probe) -> Result<(), Complaint> {
    let id = probe.begin("object", &[]).await?;
    let call = Call::new(Method::GET, "").query("uploads", "").query("prefix", probe.key(""));
    let answer = probe.expect(&call, 200).await?;
    let ids = xml::all(&answer.text(), "UploadId");
    ensure!(ids.contains(&id), "it shows {} uploads, not ours", ids.len());
    Ok(())
}
