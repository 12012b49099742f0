//! DELETE: single, in batches, and honest about each key.

use http::Method;

use super::Need::{Optional, Required, Setting};
use super::{Check, Complaint, Need, Probe, check, ensure};
use crate::client::xml;

const ONE_BY_ONE: Need = Setting("nothing: the client must delete one by one; more requests");

pub(super) const CHECKS: &[Check] = &[
    check!("delete.one", Required, 3, 1, "DELETE answers 204 and the object is gone", "retention", one),
    check!(
        "delete.missing",
        Required,
        1,
        1,
        "DELETE of an absent key succeeds",
        "retention is repeated after a crash",
        missing
    ),
    check!(
        "delete.recreate",
        Required,
        4,
        1,
        "a deleted key can be written again",
        "levels are rewritten",
        recreate
    ),
    check!(
        "delete.only-named",
        Required,
        5,
        1,
        "keys that begin like the deleted one stay",
        "a store that deletes by prefix destroys the replica",
        only_named
    ),
    check!(
        "delete.batch",
        ONE_BY_ONE,
        6,
        2,
        "DeleteObjects with Content-MD5 removes what it names and nothing else",
        "retention deletes hundreds of files a day",
        batch
    ),
    check!(
        "delete.batch-without-md5",
        Setting("require-content-md5: true"),
        3,
        1,
        "DeleteObjects without Content-MD5 is accepted",
        "Oracle and older MinIO demand it: nothing is ever deleted (litestream#802)",
        batch_without_md5
    ),
    check!(
        "delete.batch-reports",
        ONE_BY_ONE,
        3,
        1,
        "the answer names every deleted key",
        "a 200 with an error per key inside must not be taken as success",
        batch_reports
    ),
    check!(
        "delete.batch-quiet",
        ONE_BY_ONE,
        3,
        1,
        "Quiet mode names only failures",
        "shorter answers",
        batch_quiet
    ),
    check!(
        "delete.batch-missing",
        ONE_BY_ONE,
        2,
        1,
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
        ONE_BY_ONE,
        3,
        1,
        "keys with &, < and spaces are deleted in a batch",
        "an escaping error deletes another key, or none",
        batch_special_keys
    ),
    check!(
        "delete.batch-malformed",
        Optional,
        1,
        1,
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
    let answer = probe.expect(&probe.delete_call(&names(&["a", "c"]), false, true), 200).await?;
    ensure!(xml::all(&answer.text(), "Error").is_empty(), "it reports errors: {}", answer.text());
    let left = probe.list("", 1000, 1).await?;
    ensure!(left == ["b"], "afterwards {left:?} are listed");
    gone(probe, "a").await
}

async fn batch_without_md5(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "x").await?;
    probe.expect(&probe.delete_call(&names(&["a"]), false, false), 200).await?;
    gone(probe, "a").await
}

async fn batch_reports(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "x").await?;
    probe.put("b", "x").await?;
    let answer = probe.expect(&probe.delete_call(&names(&["a", "b"]), false, true), 200).await?;
    let mut reported = xml::all(&answer.text(), "Key");
    reported.sort_unstable();
    ensure!(reported == [probe.key("a"), probe.key("b")], "it names {reported:?}");
    Ok(())
}

async fn batch_quiet(probe: &Probe) -> Result<(), Complaint> {
    probe.put("a", "x").await?;
    let answer = probe.expect(&probe.delete_call(&names(&["a"]), true, true), 200).await?;
    ensure!(xml::all(&answer.text(), "Key").is_empty(), "it names keys: {}", answer.text());
    gone(probe, "a").await
}

async fn batch_missing(probe: &Probe) -> Result<(), Complaint> {
    let answer = probe.expect(&probe.delete_call(&names(&["absent"]), false, true), 200).await?;
    ensure!(xml::all(&answer.text(), "Error").is_empty(), "it reports an error: {}", answer.text());
    Ok(())
}

async fn batch_1000(probe: &Probe) -> Result<(), Complaint> {
    // One object is enough to see that the batch did something; the other keys are absent.
    probe.put("0999", "x").await?;
    let all: Vec<_> = (0..1000).map(|n| format!("{n:04}")).collect();
    let answer = probe.expect(&probe.delete_call(&all, true, true), 200).await?;
    ensure!(xml::all(&answer.text(), "Error").is_empty(), "it reports errors");
    gone(probe, "0999").await
}

async fn batch_special_keys(probe: &Probe) -> Result<(), Complaint> {
    let name = "a&b <c> d";
    probe.put(name, "x").await?;
    probe.expect(&probe.delete_call(&names(&[name]), false, true), 200).await?;
    gone(probe, name).await
}

async fn batch_malformed(probe: &Probe) -> Result<(), Complaint> {
    let body = "this is not XML";
    let call = crate::client::Call::new(Method::POST, "").query("delete", "").body(body);
    let answer = probe.send(&call.header("content-md5", super::probe::content_md5(body.as_bytes()))).await?;
    ensure!(answer.status.is_client_error(), "it was answered {}", answer.describe());
    Ok(())
}
