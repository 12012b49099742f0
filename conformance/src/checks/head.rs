//! HEAD: facts without bytes.

use http::Method;

use super::Need::{Optional, Required};
use super::{Check, Complaint, Probe, check, ensure};
use crate::client::Call;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "head.size",
        Required,
        2,
        4,
        "HEAD reports the object's size",
        "a write of unknown outcome is resolved by looking",
        size
    ),
    check!(
        "head.missing",
        Required,
        1,
        4,
        "HEAD of an absent key answers 404",
        "absent must be told apart from refused",
        missing
    ),
    check!(
        "head.metadata",
        Required,
        2,
        4,
        "HEAD reports user metadata",
        "timestamps are read without fetching the object",
        metadata
    ),
    check!(
        "head.clock",
        Optional,
        2,
        4,
        "Last-Modified is within an hour of the answer's Date",
        "ages are computed from the two",
        clock
    ),
    check!(
        "head.after-delete",
        Required,
        3,
        4,
        "HEAD answers 404 at once after a delete",
        "retention checks what it did",
        after_delete
    ),
    check!(
        "head.bucket",
        Optional,
        1,
        4,
        "HEAD of the bucket succeeds",
        "a first look that needs no right to list; some keys may not do it",
        bucket
    ),
];

async fn size(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", vec![1; 3210]).await?;
    let answer = probe.expect(&probe.call(Method::HEAD, "object"), 200).await?;
    ensure!(
        answer.header("content-length") == "3210",
        "Content-Length is {:?}",
        answer.header("content-length")
    );
    Ok(())
}

async fn missing(probe: &Probe) -> Result<(), Complaint> {
    probe.expect(&probe.call(Method::HEAD, "absent"), 404).await.map(drop)
}

async fn metadata(probe: &Probe) -> Result<(), Complaint> {
    let stamp = "2026-04-01T12:00:00Z";
    let put = probe.call(Method::PUT, "object").header("x-amz-meta-litestream-timestamp", stamp).body("x");
    probe.expect(&put, 200).await?;
    let answer = probe.expect(&probe.call(Method::HEAD, "object"), 200).await?;
    let found = answer.header("x-amz-meta-litestream-timestamp");
    ensure!(found == stamp, "it came back as {found:?}");
    Ok(())
}

async fn clock(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "x").await?;
    let answer = probe.expect(&probe.call(Method::HEAD, "object"), 200).await?;
    let seconds = |name: &str| {
        aws_smithy_types::DateTime::from_str(
            answer.header(name),
            aws_smithy_types::date_time::Format::HttpDate,
        )
        .map(|date| date.secs())
        .map_err(|_| Complaint::new(format!("{name} is {:?}", answer.header(name))))
    };
    let apart = seconds("date")? - seconds("last-modified")?;
    ensure!(apart.abs() < 3600, "they are {apart} seconds apart");
    Ok(())
}

async fn after_delete(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "x").await?;
    probe.expect(&probe.call(Method::DELETE, "object"), 204).await?;
    missing_named(probe, "object").await
}

async fn missing_named(probe: &Probe, name: &str) -> Result<(), Complaint> {
    probe.expect(&probe.call(Method::HEAD, name), 404).await.map(drop)
}

async fn bucket(probe: &Probe) -> Result<(), Complaint> {
    probe.expect(&Call::new(Method::HEAD, ""), 200).await.map(drop)
}
