//! Several requests at once: limits, and that no reader sees a mixture.

use futures::future::{join, join_all};
use http::Method;

use super::Need::{Required, Setting};
use super::probe::{pattern, same};
use super::{Check, Complaint, Probe, check, ensure};

pub(super) const CHECKS: &[Check] = &[
    check!(
        "parallel.puts",
        Setting("concurrency: 2"),
        32,
        200,
        "16 PUTs at once are accepted and all stored",
        "several databases replicate at once",
        puts
    ),
    check!(
        "parallel.gets",
        Setting("concurrency: 2"),
        33,
        200,
        "32 GETs at once are answered",
        "a restore reads in parallel",
        gets
    ),
    check!(
        "parallel.overwrites",
        Required,
        60,
        20000,
        "after eight overwrites at once the object is exactly one of them",
        "two replicators by mistake must not produce a third thing",
        overwrites
    ),
    check!(
        "parallel.read-while-overwritten",
        Required,
        80,
        40000,
        "a GET during overwrites returns one version whole, with the ETag of that version",
        "restore while compaction rewrites a key",
        read_while_overwritten
    ),
    check!(
        "parallel.list-while-writing",
        Required,
        33,
        40,
        "a listing begun after a PUT was answered shows it while others write",
        "two databases in one bucket",
        list_while_writing
    ),
    check!(
        "parallel.list-while-deleting",
        Required,
        40,
        40,
        "keys that are not deleted stay in the listing while others are",
        "retention runs while a restore plans",
        list_while_deleting
    ),
];

async fn puts(probe: &Probe) -> Result<(), Complaint> {
    let bodies: Vec<_> = (0..16).map(|n| pattern(5000, n)).collect();
    let names: Vec<_> = (0..16).map(|n| format!("object-{n:02}")).collect();
    let calls: Vec<_> = names
        .iter()
        .zip(&bodies)
        .map(|(name, body)| probe.call(Method::PUT, name).body(body.clone()))
        .collect();
    for answer in join_all(calls.iter().map(|call| probe.expect_at_once(call, 200))).await {
        answer?;
    }
    for (name, body) in names.iter().zip(&bodies) {
        probe.holds(name, body).await?;
    }
    Ok(())
}

async fn gets(probe: &Probe) -> Result<(), Complaint> {
    let body = pattern(5000, 1);
    probe.put("object", body.clone()).await?;
    let call = probe.call(Method::GET, "object");
    for answer in join_all((0..32).map(|_| probe.expect_at_once(&call, 200))).await {
        same("object", &answer?.body, &body)?;
    }
    Ok(())
}

/// Versions that differ everywhere and in length.
fn versions(count: u64) -> Vec<bytes::Bytes> {
    (0..count).map(|n| pattern(500_000 + usize::try_from(n).unwrap_or(0) * 1000, n + 1)).collect()
}

async fn overwrites(probe: &Probe) -> Result<(), Complaint> {
    let versions = versions(8);
    for answer in join_all(versions.iter().map(|body| probe.put("object", body.clone()))).await {
        answer?;
    }
    let found = probe.get("object").await?.body;
    ensure!(versions.contains(&found), "the object is {} bytes and none of those written", found.len());
    Ok(())
}

async fn read_while_overwritten(probe: &Probe) -> Result<(), Complaint> {
    let versions = versions(20);
    let first = probe.put("object", versions[0].clone()).await?.etag().to_owned();
    let writer = async {
        let mut etags = vec![first];
        for body in &versions[1..] {
            etags.push(probe.put("object", body.clone()).await?.etag().to_owned());
        }
        Ok::<_, Complaint>(etags)
    };
    let reader = async {
        let mut seen = Vec::new();
        for _ in 0..20 {
            seen.push(probe.get("object").await?);
        }
        Ok::<_, Complaint>(seen)
    };
    let (etags, seen) = join(writer, reader).await;
    let (etags, seen) = (etags?, seen?);
    for answer in seen {
        let Some(version) = versions.iter().position(|body| *body == answer.body) else {
            return Err(Complaint::new(format!(
                "a GET returned {} bytes that nobody wrote",
                answer.body.len()
            )));
        };
        ensure!(etags[version] == answer.etag(), "a GET returned version {version} with the ETag of another");
    }
    Ok(())
}

async fn list_while_writing(probe: &Probe) -> Result<(), Complaint> {
    let other = async {
        for n in 0..16 {
            probe.put(&format!("other/{n:02}"), "x").await?;
        }
        Ok::<_, Complaint>(())
    };
    let ours = async {
        for n in 0..8 {
            let name = format!("ours/{n:02}");
            probe.put(&name, "x").await?;
            let found = probe.list("ours/", 1000, 1).await?;
            ensure!(found.len() == n + 1, "after {} acknowledged writes {} are listed", n + 1, found.len());
        }
        Ok(())
    };
    let (other, ours) = join(other, ours).await;
    other.and(ours)
}

async fn list_while_deleting(probe: &Probe) -> Result<(), Complaint> {
    for n in 0..12 {
        probe.put(&format!("key-{n:02}"), "x").await?;
    }
    let deleter = async {
        for n in (0..12).step_by(2) {
            probe.expect(&probe.call(Method::DELETE, &format!("key-{n:02}")), 204).await?;
        }
        Ok::<_, Complaint>(())
    };
    let reader = async {
        for _ in 0..5 {
            let found = probe.list("", 4, 5).await?;
            for n in (1..12).step_by(2) {
                let name = format!("key-{n:02}");
                ensure!(found.contains(&name), "{name} was not deleted and is not listed");
            }
        }
        Ok(())
    };
    let (deleter, reader) = join(deleter, reader).await;
    deleter.and(reader)
}
