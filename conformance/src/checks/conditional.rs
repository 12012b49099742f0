//! Conditions on writes and reads: what keeps two writers apart. Accepting a condition and ignoring it is worse than
//! refusing it, so every check looks at what is stored afterwards.

use futures::future::join_all;
use http::Method;

use super::Need::{Optional, Setting};
use super::{Check, Complaint, Need, Probe, check, ensure};

const NO_FENCE: Need =
    Setting("nothing: a second writer is found only afterwards; never let two run on one replica");

pub(super) const CHECKS: &[Check] = &[
    check!(
        "condition.create",
        NO_FENCE,
        2,
        4,
        "If-None-Match: * creates an object that is absent",
        "a replicator writes each transaction once and fails if somebody else was there first",
        create
    ),
    check!(
        "condition.create-refused",
        NO_FENCE,
        3,
        4,
        "If-None-Match: * on an object that is there answers 412 and changes nothing",
        "Garage accepts the header and overwrites, which is worse than a refusal",
        create_refused
    ),
    check!(
        "condition.create-same-bytes",
        NO_FENCE,
        2,
        4,
        "If-None-Match: * is refused for equal bytes too",
        "after a lost answer the client must learn that its first attempt was applied",
        create_same_bytes
    ),
    check!(
        "condition.create-after-delete",
        NO_FENCE,
        4,
        4,
        "If-None-Match: * creates again after a delete",
        "retention removes keys, and a new lineage may reuse them",
        create_after_delete
    ),
    check!(
        "condition.create-race",
        NO_FENCE,
        9,
        4,
        "of eight creations at once exactly one succeeds, and its bytes are stored",
        "check-then-write without a lock lets two writers through",
        create_race
    ),
    check!(
        "condition.replace",
        Optional,
        3,
        4,
        "If-Match with the right ETag replaces the object",
        "leases; Ceph RGW 16 answers 412 to a right ETag",
        replace
    ),
    check!(
        "condition.replace-refused",
        Optional,
        3,
        4,
        "If-Match with a stale ETag answers 412 and changes nothing",
        "leases; Garage overwrites",
        replace_refused
    ),
    check!(
        "condition.replace-absent",
        Optional,
        2,
        4,
        "If-Match on an absent object is refused and creates nothing",
        "leases",
        replace_absent
    ),
    check!(
        "condition.complete",
        NO_FENCE,
        6,
        4,
        "CompleteMultipartUpload with If-None-Match: * on an object that is there answers 412 and changes nothing",
        "large transactions and snapshots are published this way",
        complete
    ),
    check!(
        "condition.get-if-match",
        Optional,
        3,
        4,
        "GET with If-Match answers 200 for the right ETag and 412 for another",
        "a ranged read over several requests must not mix two versions",
        get_if_match
    ),
    check!(
        "condition.get-if-none-match",
        Optional,
        2,
        4,
        "GET with If-None-Match and the right ETag answers 304",
        "following a replica without reading it again",
        get_if_none_match
    ),
];

fn creation(probe: &Probe, name: &str, body: &str) -> crate::client::Call {
    probe.call(Method::PUT, name).header("if-none-match", "*").body(body.to_owned())
}

async fn create(probe: &Probe) -> Result<(), Complaint> {
    probe.expect(&creation(probe, "object", "first"), 200).await?;
    probe.holds("object", b"first").await
}

async fn create_refused(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "first").await?;
    let answer = probe.send(&creation(probe, "object", "second")).await?;
    let found = probe.get("object").await?.text();
    ensure!(
        found == "first",
        "ignored: PUT was answered {} and the object was overwritten",
        answer.describe()
    );
    ensure!(answer.status == 412, "PUT was answered {}, not 412", answer.describe());
    Ok(())
}

async fn create_same_bytes(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "first").await?;
    probe.expect(&creation(probe, "object", "first"), 412).await.map(drop)
}

async fn create_after_delete(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "first").await?;
    probe.expect(&probe.call(Method::DELETE, "object"), 204).await?;
    probe.expect(&creation(probe, "object", "second"), 200).await?;
    probe.holds("object", b"second").await
}

async fn create_race(probe: &Probe) -> Result<(), Complaint> {
    let racers: Vec<_> = (0..8).map(|racer| creation(probe, "object", &format!("racer {racer}"))).collect();
    let answers = join_all(racers.iter().map(|call| probe.send(call))).await;
    let mut winners = Vec::new();
    for (racer, answer) in answers.into_iter().enumerate() {
        let answer = answer?;
        let status = answer.status.as_u16();
        // 409 ConditionalRequestConflict is how AWS answers the losers of a race that is still running; 429 and 503 are
        // left of those whose turn did not come, where writes of a key are rationed.
        ensure!(
            matches!(status, 200 | 409 | 412 | 429 | 503),
            "racer {racer} was answered {}",
            answer.describe()
        );
        if status == 200 {
            winners.push(racer);
        }
    }
    ensure!(winners.len() == 1, "{} of 8 were told that they created it", winners.len());
    probe.holds("object", format!("racer {}", winners[0]).as_bytes()).await
}

async fn replace(probe: &Probe) -> Result<(), Complaint> {
    let etag = probe.put("object", "first").await?.header("etag").to_owned();
    probe.expect(&probe.call(Method::PUT, "object").header("if-match", etag).body("second"), 200).await?;
    probe.holds("object", b"second").await
}

async fn replace_refused(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "first").await?;
    let stale = "\"00000000000000000000000000000000\"";
    let answer =
        probe.send(&probe.call(Method::PUT, "object").header("if-match", stale).body("second")).await?;
    let found = probe.get("object").await?.text();
    ensure!(
        found == "first",
        "ignored: PUT was answered {} and the object was overwritten",
        answer.describe()
    );
    ensure!(answer.status == 412, "PUT was answered {}, not 412", answer.describe());
    Ok(())
}

async fn replace_absent(probe: &Probe) -> Result<(), Complaint> {
    let stale = "\"00000000000000000000000000000000\"";
    let answer = probe.send(&probe.call(Method::PUT, "object").header("if-match", stale).body("x")).await?;
    ensure!(answer.status.is_client_error(), "PUT was answered {}", answer.describe());
    probe.absent("object").await
}

async fn complete(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", "first").await?;
    let id = probe.begin("object", &[]).await?;
    let etag = probe.part("object", &id, 1, "second".into()).await?;
    let call = probe.complete_call("object", &id, &[(1, etag)]).header("if-none-match", "*");
    let answer = probe.send(&call).await?;
    let found = probe.get("object").await?.text();
    ensure!(
        found == "first",
        "ignored: completion was answered {} and the object was overwritten",
        answer.describe()
    );
    ensure!(
        answer.status == 412 || answer.code() == "PreconditionFailed",
        "completion was answered {}",
        answer.describe()
    );
    Ok(())
}

async fn get_if_match(probe: &Probe) -> Result<(), Complaint> {
    let etag = probe.put("object", "first").await?.header("etag").to_owned();
    probe.expect(&probe.call(Method::GET, "object").header("if-match", etag), 200).await?;
    let stale = "\"00000000000000000000000000000000\"";
    probe.expect(&probe.call(Method::GET, "object").header("if-match", stale), 412).await.map(drop)
}

async fn get_if_none_match(probe: &Probe) -> Result<(), Complaint> {
    let etag = probe.put("object", "first").await?.header("etag").to_owned();
    probe.expect(&probe.call(Method::GET, "object").header("if-none-match", etag), 304).await.map(drop)
}
