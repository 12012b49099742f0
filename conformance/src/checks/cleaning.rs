//! Removes what a check wrote, and says what could not be removed: somebody pays for it.

use http::Method;

use super::probe::{delete_objects_call, with_content_md5};
use super::{Complaint, Probe};
use crate::client::{Call, xml};

/// Deletions at once.
const AT_ONCE: usize = 4;
/// Most keys in one batch.
const BATCH: usize = 1000;
/// Most pages of objects or versions looked at.
const PAGES: usize = 5;

/// Works on stores without batch deletion and with lagging listings, as far as it can.
///
/// # Errors
/// What is left, for a person.
pub(super) async fn clean(probe: &Probe) -> Result<(), Complaint> {
    // Versions: those that a bucket keeps of what was deleted, and of what was not.
    let left = [abort_uploads(probe).await, delete_objects(probe).await, delete_versions(probe).await];
    let left: Vec<_> = left.into_iter().filter_map(Result::err).map(|complaint| complaint.0).collect();
    if left.is_empty() { Ok(()) } else { Err(Complaint::new(left.join("; "))) }
}

/// Uploads that the check began, then those that others began for it: a replicator that was killed, an SDK.
async fn abort_uploads(probe: &Probe) -> Result<(), Complaint> {
    for upload in probe.take_uploads() {
        // Completed and aborted ones answer 404, which is as good.
        let _ = probe.send(&abort_call(&upload)).await;
    }
    let uploads = list_uploads(probe).await?;
    let refusal = one_by_one(probe, uploads.iter().map(abort_call).collect()).await?;
    let left: Vec<_> =
        uploads.into_iter().map(|(key, id)| format!("{} upload {id}", probe.own(&key))).collect();
    // An upload that is gone may still be listed, so that the answers are what counts.
    if refusal.is_none() { Ok(()) } else { nothing_left(probe, "uploads", &left, refusal) }
}

fn abort_call((key, id): &(String, String)) -> Call {
    Call::new(Method::DELETE, key).query("uploadId", id)
}

/// Key, in full, and id of each unfinished upload below the prefix. What a store does not list matters only where some
/// may be left.
async fn list_uploads(probe: &Probe) -> Result<Vec<(String, String)>, Complaint> {
    let call = Call::new(Method::GET, "").query("uploads", "").query("prefix", probe.key(""));
    let uploads = list_pages(probe, &call, &UPLOADS).await?;
    match uploads {
        Err(refusal) if probe.work().is_in_doubt() => {
            Err(Complaint::new(format!("uploads may be left, and are not listed: {refusal}")))
        }
        uploads => Ok(uploads.unwrap_or_default()),
    }
}

async fn delete_objects(probe: &Probe) -> Result<(), Complaint> {
    let names = probe.list("", 1000, PAGES).await?;
    if names.is_empty() {
        return Ok(());
    }
    for batch in names.chunks(BATCH) {
        let _ = probe.send(&probe.delete_call(batch, true)).await;
    }
    let names = probe.list("", 1000, PAGES).await?;
    if names.is_empty() {
        return Ok(());
    }
    let calls = names.iter().map(|name| probe.call(Method::DELETE, name)).collect();
    let refusal = one_by_one(probe, calls).await?;
    let mut left = Vec::new();
    for name in probe.list("", 1000, PAGES).await? {
        // A listing may lag behind the deletions.
        if probe.send(&probe.call(Method::HEAD, &name)).await?.status != 404 {
            left.push(name);
        }
    }
    nothing_left(probe, "objects", &left, refusal)
}

/// Sends deletions; gives the last refusal. What was not there is as good as deleted.
async fn one_by_one(probe: &Probe, calls: Vec<Call>) -> Result<Option<String>, Complaint> {
    let mut refusal = None;
    for some in calls.chunks(AT_ONCE) {
        for answer in futures::future::join_all(some.iter().map(|call| probe.send(call))).await {
            let answer = answer?;
            if !answer.status.is_success() && answer.status != 404 {
                refusal = Some(answer.describe());
            }
        }
    }
    Ok(refusal)
}

fn nothing_left(
    probe: &Probe,
    what: &str,
    left: &[String],
    refusal: Option<String>,
) -> Result<(), Complaint> {
    let Some(first) = left.first() else { return Ok(()) };
    let why = refusal.map_or_else(String::new, |said| format!(": DELETE was answered {said}"));
    Err(Complaint::new(format!("{} {what} are left, the first is {}{why}", left.len(), probe.key(first))))
}

/// A version or a delete marker: key, in full, and version.
type Version = (String, String);

/// Where a bucket keeps versions, a deletion hides an object and removes nothing. A store without versions refuses the
/// question, or answers with a listing that names none; one that has named versions to the client has some to list.
async fn delete_versions(probe: &Probe) -> Result<(), Complaint> {
    let versions = list_versions(probe).await?;
    if versions.is_empty() {
        return Ok(());
    }
    for batch in versions.chunks(BATCH) {
        let _ = probe.send(&batch_of_versions(batch)).await;
    }
    let versions = list_versions(probe).await?;
    let calls =
        versions.iter().map(|(key, id)| Call::new(Method::DELETE, key).query("versionId", id)).collect();
    let refusal = one_by_one(probe, calls).await?;
    if versions.is_empty() {
        return Ok(());
    }
    let left = list_versions(probe).await?;
    let left: Vec<_> =
        left.into_iter().map(|(key, id)| format!("{} version {id}", probe.own(&key))).collect();
    nothing_left(probe, "versions", &left, refusal)
}

async fn list_versions(probe: &Probe) -> Result<Vec<Version>, Complaint> {
    let call = Call::new(Method::GET, "").query("versions", "").query("prefix", probe.key(""));
    match list_pages(probe, &call, &VERSIONS).await? {
        Err(refusal) if probe.client().keeps_versions() => {
            Err(Complaint::new(format!("the bucket keeps versions, and does not list them: {refusal}")))
        }
        versions => Ok(versions.unwrap_or_default()),
    }
}

/// What a listing that is not of objects calls the second half of each entry, and the way to the next page: the query
/// and the element of each marker.
struct Listed {
    id: &'static str,
    markers: [(&'static str, &'static str); 2],
}

const VERSIONS: Listed = Listed {
    id: "VersionId",
    markers: [("key-marker", "NextKeyMarker"), ("version-id-marker", "NextVersionIdMarker")],
};
const UPLOADS: Listed = Listed {
    id: "UploadId",
    markers: [("key-marker", "NextKeyMarker"), ("upload-id-marker", "NextUploadIdMarker")],
};

/// Key, in full, and id of each entry below the prefix; the answer, if it is a refusal.
async fn list_pages(
    probe: &Probe,
    call: &Call,
    listed: &Listed,
) -> Result<Result<Vec<(String, String)>, String>, Complaint> {
    let mut entries = Vec::new();
    let mut markers: Vec<(&str, String)> = Vec::new();
    for _ in 0..PAGES {
        let page = markers.iter().fold(call.clone(), |call, (name, value)| call.query(name, value));
        let answer = probe.send(&page).await?;
        if answer.status != 200 {
            return Ok(Err(answer.describe()));
        }
        let text = answer.text();
        entries
            .extend(entries_in(&text, listed).into_iter().filter(|(key, _)| key.starts_with(&probe.key(""))));
        markers = next_markers(&text, listed);
        if markers.is_empty() {
            break;
        }
    }
    Ok(Ok(entries))
}

/// Every entry (`<Version>`, `<DeleteMarker>`, `<Upload>`) has one key and one id, and nothing else has.
fn entries_in(text: &str, listed: &Listed) -> Vec<(String, String)> {
    xml::all(text, "Key").into_iter().zip(xml::all(text, listed.id)).collect()
}

/// Where the next page begins; nothing after the last.
fn next_markers(text: &str, listed: &Listed) -> Vec<(&'static str, String)> {
    if xml::first(text, "IsTruncated").is_none_or(|flag| flag != "true") {
        return Vec::new();
    }
    let markers = listed.markers.into_iter();
    markers.filter_map(|(query, element)| Some((query, xml::first(text, element)?))).collect()
}

fn batch_of_versions(versions: &[Version]) -> Call {
    let objects: String = versions
        .iter()
        .map(|(key, id)| {
            let (key, id) = (xml::escape(key), xml::escape(id));
            format!("<Object><Key>{key}</Key><VersionId>{id}</VersionId></Object>")
        })
        .collect();
    with_content_md5(delete_objects_call(&objects, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_delete_markers_are_found_page_by_page() {
        let text = "<ListVersionsResult><Prefix>p/</Prefix><KeyMarker/><IsTruncated>true</IsTruncated>\
            <NextKeyMarker>p/b</NextKeyMarker><NextVersionIdMarker>v3</NextVersionIdMarker>\
            <Version><Key>p/a&amp;</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest></Version>\
            <DeleteMarker><Key>p/b</Key><VersionId>v3</VersionId></DeleteMarker></ListVersionsResult>";
        let versions = entries_in(text, &VERSIONS);
        assert_eq!(versions, [("p/a&", "v1"), ("p/b", "v3")].map(|(key, id)| (key.into(), id.into())));
        let markers = next_markers(text, &VERSIONS);
        assert_eq!(markers, [("key-marker", "p/b".into()), ("version-id-marker", "v3".into())]);
        assert!(
            next_markers(
                "<R><IsTruncated>false</IsTruncated><NextKeyMarker>b</NextKeyMarker></R>",
                &VERSIONS
            )
            .is_empty()
        );
        let body = batch_of_versions(&versions).body;
        let wanted = "<Object><Key>p/a&amp;</Key><VersionId>v1</VersionId></Object>";
        assert!(String::from_utf8_lossy(&body).contains(wanted));
        // What a store without versions may answer.
        let plain = "<ListBucketResult><Contents><Key>p/a</Key></Contents></ListBucketResult>";
        assert!(entries_in(plain, &VERSIONS).is_empty());
    }
}
