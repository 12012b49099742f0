//! DELETE: single, in batches, and honest about each key.

use http::Method;
use s3s::crypto::{Checksum as _, Crc32};

use super::Need::{Optional, Required, Setting};
use super::address::PLAIN_PATH;
use super::{Check, Complaint, Need, Probe, check, ensure};
use crate::client::xml;

const ONE_BY_ONE: Need = Setting("nothing: the client must delete one by one; more requests");

pub(super) const CHECKS: &[Check] = &[
    check!("delete.one", Required, 3, 4, "DELETE answers 204 and the object is gone", "retention", one),
    check!(
        "delete.missing",
        Required,
        1,
        4,
        "DELETE of an absent key succeeds",
        "retention is repeated after a crash",
        missing
    ),
    check!(
        "delete.recreate",
        Required,
        4,
        4,
        "a deleted key can be written again",
        "levels are rewritten",
        recreate
    ),
    check!(
        "delete.only-named",
        Required,
        5,
        4,
        "keys that begin like the deleted one stay",
        "a store that deletes by prefix destroys the replica",
        only_named
    ),
    check!(
        "delete.batch",
        ONE_BY_ONE,
        6,
        4,
        "DeleteObjects with Content-MD5 removes what it names and nothing else",
        "retention deletes hundreds of files a day",
        batch
    ),
    check!(
        "delete.batch-without-md5",
        Setting("require-content-md5: true"),
        3,
        4,
        "DeleteObjects with x-amz-checksum-crc32 in place of Content-MD5 is accepted",
        "Oracle and older MinIO demand MD5, and nothing is ever deleted (litestream#802)",
        batch_without_md5
    ),
    check!(
        "delete.batch-bare",
        Optional,
        3,
        4,
        "DeleteObjects without any checksum is accepted",
        "AWS demands one; every SDK sends one",
        batch_bare
    ),
    check!(
        "delete.batch-reports",
        ONE_BY_ONE,
        3,
        4,
        "the answer names every deleted key",
        "a 200 with an error per key inside must not be taken as success",
        batch_reports
    ),
    check!(
        "delete.batch-quiet",
        ONE_BY_ONE,
        3,
        4,
        "Quiet mode names only failures",
        "shorter answers",
        batch_quiet
    ),
    check!(
        "delete.batch-missing",
        ONE_BY_ONE,
        2,
        4,
        "absent keys in a batch count as deleted",
        "retention is repeated",
        batch_missing
    ),
    check!(
        "delete.batch-1000",
        ONE_BY_ONE,
        3,
        400,
        "a batch of 1,000 keys works",
        "the documented limit",
        batch_1000
    ),
    check!(
        "delete.batch-special-keys",
        PLAIN_PATH,
        3,
        4,
        "keys with &, < and spaces are deleted in a batch",
        "an escaping error deletes another key, or none",
        batch_special_keys
    ),
    check!(
        "delete.batch-malformed",
        Optional,
        1,
        4,
        "a batch that is not XML is refused",
        "shows that the body is read",
        batch_malformed
    ),
];

async fn gone(probe: &Probe, name: &str) -> Result<(), Complaint> {
    probe.absent(name).await
}

async fn one(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "x").await?;
    probe.expect(&probe.call(Method::DELETE, "object"), 204).await?;
    gone(probe, "object").await
}

async fn missing(probe: &Probe) -> Result<(), Complaint> {
    let answer = probe.send(&probe.call(Method::DELETE, "absent")).await?;
    ensure!(answer.status.is_success(), "DELETE was answered {}", answer.describe());
    Ok(())
}

async fn recreate(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "first").await?;
    probe.expect(&probe.call(Method::DELETE, "object"), 204).await?;
    probe.put("object", "second").await?;
    probe.holds("object", b"second").await
}

async fn only_named(probe: &Probe) -> Result<(), Complaint> {
    probe.put("key", "x").await?;
    probe.put("key-2", "y").await?;
    probe.expect(&probe.call(Method::DELETE, "key"), 204).await?;
    gone(probe, "key").await?;
    probe.holds("key-2", b"y").await
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn batch(probe: &Probe) -> Result<(), Complaint> {
    for name in ["a", "b", "c"] {
        probe.put(name, "x").await?;
    }
    let answer = probe.expect(&probe.delete_call(&names(&["a", "c"]), false), 200).await?;
    ensure!(xml::all(&answer.text(), "Error").is_empty(), "it reports errors: {}", answer.text());
    let left = probe.list("", 1000, 1).await?;
    ensure!(left == ["b"], "afterwards {left:?} are listed");
    gone(probe, "a").await
}

async fn batch_without_md5(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "x").await?;
    let call = probe.bare_delete_call(&names(&["a"]), false);
    let sum = aws_smithy_types::base64::encode(Crc32::checksum(&call.body));
    probe.expect(&call.header("x-amz-checksum-crc32", sum), 200).await?;
    gone(probe, "a").await
}

async fn batch_bare(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "x").await?;
    probe.expect(&probe.bare_delete_call(&names(&["a"]), false), 200).await?;
    gone(probe, "a").await
}

async fn batch_reports(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "x").await?;
    probe.put("b", "x").await?;
    let answer = probe.expect(&probe.delete_call(&names(&["a", "b"]), false), 200).await?;
    let mut reported = xml::all(&answer.text(), "Key");
    reported.sort_unstable();
    ensure!(reported == [probe.key("a"), probe.key("b")], "it names {reported:?}");
    Ok(())
}

async fn batch_quiet(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "x").await?;
    let answer = probe.expect(&probe.delete_call(&names(&["a"]), true), 200).await?;
    ensure!(xml::all(&answer.text(), "Key").is_empty(), "it names keys: {}", answer.text());
    gone(probe, "a").await
}

async fn batch_missing(probe: &Probe) -> Result<(), Complaint> {
    let answer = probe.expect(&probe.delete_call(&names(&["absent"]), false), 200).await?;
    ensure!(xml::all(&answer.text(), "Error").is_empty(), "it reports an error: {}", answer.text());
    Ok(())
}

async fn batch_1000(probe: &Probe) -> Result<(), Complaint> {
    // One object is enough to see that the batch did something; the other keys are absent.
    probe.put("0999", "x").await?;
    let all: Vec<_> = (0..1000).map(|n| format!("{n:04}")).collect();
    let answer = probe.expect(&probe.delete_call(&all, true), 200).await?;
    ensure!(xml::all(&answer.text(), "Error").is_empty(), "it reports errors");
    gone(probe, "0999").await
}

async fn batch_special_keys(probe: &Probe) -> Result<(), Complaint> {
    let name = "a&b <c> d";
    probe.put(name, "x").await?;
    probe.expect(&probe.delete_call(&names(&[name]), false), 200).await?;
    gone(probe, name).await
}

async fn batch_malformed(probe: &Probe) -> Result<(), Complaint> {
    let body = "this is not XML";
    let call = crate::client::Call::new(Method::POST, "").query("delete", "").body(body);
    let answer = probe.send(&call.header("content-md5", super::probe::content_md5(body.as_bytes()))).await?;
    ensure!(answer.status.is_client_error(), "it was answered {}", answer.describe());
    Ok(())
}
