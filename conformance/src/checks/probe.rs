//! What a check works with: requests under its own prefix, and the few answers it asks for all the time.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::work::Work;
use crate::client::{Answer, Call, Client, ClientError, Repeat, xml};

/// Why a check failed, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint(pub String, pub Reason);

/// What kind of complaint it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// What was found is wrong.
    Wrong,
    /// Something took too long, for which a busy machine may be to blame.
    Late,
}

impl Complaint {
    /// A complaint.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into(), Reason::Wrong)
    }

    /// A complaint about time alone, where waiting longer might have helped.
    pub fn late(text: impl Into<String>) -> Self {
        Self(text.into(), Reason::Late)
    }

    /// The same complaint where being late is itself the fault.
    #[must_use]
    pub fn in_earnest(self) -> Self {
        Self(self.0, Reason::Wrong)
    }
}

impl From<ClientError> for Complaint {
    fn from(error: ClientError) -> Self {
        Self::new(error.to_string())
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Keys without the check's own prefix.
    pub keys: Vec<String>,
    /// Sizes, where given.
    pub sizes: Vec<u64>,
    /// There is more.
    pub truncated: bool,
    /// Where to go on.
    pub token: Option<String>,
    /// The answer's XML.
    pub xml: String,
}

/// Access to the target for one check.
pub struct Probe {
    client: Client,
    prefix: String,
    note: Mutex<Option<String>>,
    uploads: Mutex<Vec<(String, String)>>,
    more_time: Mutex<Duration>,
    left: Mutex<Vec<String>>,
    replicator: Option<PathBuf>,
    work: Work,
}

impl Probe {
    pub(crate) fn new(client: Client, prefix: String, replicator: Option<PathBuf>) -> Self {
        Self {
            client,
            prefix,
            note: Mutex::default(),
            uploads: Mutex::default(),
            more_time: Mutex::default(),
            left: Mutex::default(),
            replicator,
            work: Work::default(),
        }
    }

    /// The same client with other keys: those outside of this check's prefix, which the check itself has to clean up.
    pub(super) fn within(&self, prefix: String) -> Self {
        Self::new(self.client.clone(), prefix, None)
    }

    /// Says what the check wrote outside of its prefix and could not remove.
    pub(super) fn leave(&self, what: impl Into<String>) {
        self.left.lock().expect("no holder of the list panics").push(what.into());
    }

    /// What is left of everything that the check wrote: `below` its prefix, and elsewhere.
    pub(super) fn left_behind(&self, below: Vec<String>) -> Option<String> {
        let outside = self.left.lock().expect("no holder of the list panics").clone();
        let left = [below, outside].concat();
        (!left.is_empty()).then(|| left.join("; "))
    }

    /// The client, for requests of an unusual form.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The binary of the replicator; there for checks that need it.
    pub fn replicator(&self) -> Option<&Path> {
        self.replicator.as_deref()
    }

    /// What this check runs on a thread of its own.
    pub(super) fn work(&self) -> &Work {
        &self.work
    }

    /// A full key under this check's prefix.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A full key without this check's prefix.
    pub(super) fn own<'a>(&self, key: &'a str) -> &'a str {
        key.strip_prefix(&self.prefix).unwrap_or(key)
    }

    /// Attaches a remark or a figure to the result.
    pub fn note(&self, text: impl Into<String>) {
        *self.note.lock().expect("no holder of the note panics") = Some(text.into());
    }

    pub(super) fn take_note(&self) -> Option<String> {
        self.note.lock().expect("no holder of the note panics").take()
    }

    /// Asks for time beyond what every check has, for one whose work is much at the pace it measured.
    pub fn take_time(&self, more: Duration) {
        *self.more_time.lock().expect("no holder of the time panics") = more;
    }

    pub(super) fn more_time(&self) -> Duration {
        *self.more_time.lock().expect("no holder of the time panics")
    }

    /// Uploads begun: key and id.
    pub(crate) fn take_uploads(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.uploads.lock().expect("no holder of the list panics"))
    }

    /// A request for a key of this check.
    pub fn call(&self, method: Method, name: &str) -> Call {
        Call::new(method, &self.key(name))
    }

    /// Sends it; again if the provider asks for that. Any other answer may be what the check is after.
    pub async fn send(&self, call: &Call) -> Result<Answer, Complaint> {
        Ok(self.client.send_patiently(call, Repeat::WhenThrottled).await?)
    }

    /// Sends it and demands a status; again if the provider asks for that or stumbles.
    pub async fn expect(&self, call: &Call, status: u16) -> Result<Answer, Complaint> {
        let answer = self.client.send_patiently(call, Repeat::WhenFailed).await?;
        self.demand(call, answer, status)
    }

    /// Sends it once and demands a status: for checks of how much is served at once.
    pub async fn expect_at_once(&self, call: &Call, status: u16) -> Result<Answer, Complaint> {
        let answer = self.client.send(call).await?;
        self.demand(call, answer, status)
    }

    fn demand(&self, call: &Call, answer: Answer, status: u16) -> Result<Answer, Complaint> {
        if answer.status.as_u16() == status {
            return Ok(answer);
        }
        let key = self.own(&call.key);
        Err(Complaint::new(format!("{} {key} was answered {}, not {status}", call.method, answer.describe())))
    }

    /// Writes an object.
    pub async fn put(&self, name: &str, body: impl Into<Bytes>) -> Result<Answer, Complaint> {
        self.expect(&self.call(Method::PUT, name).body(body), 200).await
    }

    /// Reads an object that must be there.
    pub async fn get(&self, name: &str) -> Result<Answer, Complaint> {
        self.expect(&self.call(Method::GET, name), 200).await
    }

    /// Reads a range that must be answered 206.
    pub async fn range(&self, name: &str, range: &str) -> Result<Answer, Complaint> {
        self.expect(&self.call(Method::GET, name).header("range", range), 206).await
    }

    /// Demands that the object has exactly this content.
    pub async fn holds(&self, name: &str, content: &[u8]) -> Result<(), Complaint> {
        let answer = self.get(name).await?;
        same(name, &answer.body, content)
    }

    /// Demands that there is no such object.
    pub async fn absent(&self, name: &str) -> Result<(), Complaint> {
        self.expect(&self.call(Method::GET, name), 404).await.map(drop)
    }

    /// One page of a listing under `within` (relative to this check), with more query pairs.
    pub async fn page(&self, within: &str, query: &[(&str, &str)]) -> Result<Listing, Complaint> {
        let mut call = Call::new(Method::GET, "").query("list-type", "2");
        call = call.query("prefix", self.key(within));
        for (name, value) in query {
            call = call.query(name, *value);
        }
        let answer = self.expect(&call, 200).await?;
        Ok(self.listing(&answer))
    }

    pub(crate) fn listing(&self, answer: &Answer) -> Listing {
        let text = answer.text();
        Listing {
            keys: xml::all(&text, "Key").iter().map(|key| self.own(key).to_owned()).collect(),
            sizes: xml::all(&text, "Size").iter().filter_map(|size| size.parse().ok()).collect(),
            truncated: xml::first(&text, "IsTruncated").is_some_and(|flag| flag == "true"),
            token: xml::first(&text, "NextContinuationToken"),
            xml: text,
        }
    }

    /// A whole listing under `within`, at most `pages` pages of `max_keys`.
    pub async fn list(&self, within: &str, max_keys: u32, pages: usize) -> Result<Vec<String>, Complaint> {
        let mut keys = Vec::new();
        let mut token: Option<String> = None;
        let max_keys = max_keys.to_string();
        for _ in 0..pages {
            let mut query = vec![("max-keys", max_keys.as_str())];
            if let Some(token) = &token {
                query.push(("continuation-token", token));
            }
            let page = self.page(within, &query).await?;
            keys.extend(page.keys);
            match (page.truncated, page.token) {
                (false, _) => return Ok(keys),
                (true, Some(next)) => token = Some(next),
                (true, None) => {
                    return Err(Complaint::new(
                        "a page is marked IsTruncated and has no NextContinuationToken",
                    ));
                }
            }
        }
        Err(Complaint::new(format!("the listing does not end within {pages} pages")))
    }

    /// Begins a multipart upload.
    pub async fn begin(&self, name: &str, headers: &[(&str, &str)]) -> Result<String, Complaint> {
        let mut call = self.call(Method::POST, name).query("uploads", "");
        for (header, value) in headers {
            call = call.header(header, *value);
        }
        let answer = self.expect(&call, 200).await?;
        let id = xml::first(&answer.text(), "UploadId").unwrap_or_default();
        if id.is_empty() {
            return Err(Complaint::new("CreateMultipartUpload answered without an UploadId"));
        }
        self.begun(name, &id);
        Ok(id)
    }

    /// Remembers an upload that was begun, by whatever client, so that it is aborted when the check ends early.
    pub fn begun(&self, name: &str, id: &str) {
        let mut uploads = self.uploads.lock().expect("no holder of the list panics");
        uploads.push((self.key(name), id.to_owned()));
    }

    /// A request that uploads a part.
    pub fn part_call(&self, name: &str, id: &str, number: u32, body: Bytes) -> Call {
        self.call(Method::PUT, name).query("partNumber", number.to_string()).query("uploadId", id).body(body)
    }

    /// Uploads a part; returns its ETag as sent.
    pub async fn part(&self, name: &str, id: &str, number: u32, body: Bytes) -> Result<String, Complaint> {
        let answer = self.expect(&self.part_call(name, id, number, body), 200).await?;
        let etag = answer.header("etag").to_owned();
        if etag.is_empty() { Err(Complaint::new("UploadPart answered without an ETag")) } else { Ok(etag) }
    }

    /// A request that completes an upload from numbers and ETags.
    pub fn complete_call(&self, name: &str, id: &str, parts: &[(u32, String)]) -> Call {
        let list: String = parts
            .iter()
            .map(|(number, etag)| {
                let etag = xml::escape(etag);
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
            })
            .collect();
        let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        self.call(Method::POST, name).query("uploadId", id).body(body)
    }

    /// Completes an upload, which must succeed in its body too: S3 may answer 200 and then an error.
    pub async fn complete(&self, name: &str, id: &str, parts: &[(u32, String)]) -> Result<Answer, Complaint> {
        let answer = self.expect(&self.complete_call(name, id, parts), 200).await?;
        match answer.code() {
            code if code.is_empty() => Ok(answer),
            code => {
                Err(Complaint::new(format!("the completion was answered 200 with the error {code} inside")))
            }
        }
    }

    /// A batch deletion of keys of this check with `Content-MD5`.
    pub fn delete_call(&self, names: &[String], quiet: bool) -> Call {
        with_content_md5(self.bare_delete_call(names, quiet))
    }

    /// A batch deletion without a checksum.
    pub fn bare_delete_call(&self, names: &[String], quiet: bool) -> Call {
        let objects: String = names
            .iter()
            .map(|name| format!("<Object><Key>{}</Key></Object>", xml::escape(&self.key(name))))
            .collect();
        delete_objects_call(&objects, quiet)
    }
}

/// A batch deletion of these `<Object>`s without a checksum.
pub(super) fn delete_objects_call(objects: &str, quiet: bool) -> Call {
    let body = format!("<Delete>{objects}<Quiet>{quiet}</Quiet></Delete>");
    let call = Call::new(Method::POST, "").query("delete", "").body(body);
    call.header("content-type", "application/xml")
}

/// The same request with the checksum of its body.
pub(super) fn with_content_md5(call: Call) -> Call {
    let sum = content_md5(&call.body);
    call.header("content-md5", sum)
}

/// Demands equal bytes, and says where they differ.
pub(super) fn same(name: &str, found: &[u8], wanted: &[u8]) -> Result<(), Complaint> {
    if found == wanted {
        return Ok(());
    }
    let at = found.iter().zip(wanted).position(|(a, b)| a != b).unwrap_or(found.len().min(wanted.len()));
    Err(Complaint::new(format!(
        "{name} reads back as {} bytes where {} were written; the first difference is at byte {at}",
        found.len(),
        wanted.len()
    )))
}

/// `Content-MD5` of a body.
pub(super) fn content_md5(body: &[u8]) -> String {
    use s3s::crypto::Checksum as _;
    aws_smithy_types::base64::encode(s3s::crypto::Md5::checksum(body))
}

/// Bytes that do not compress well and differ by seed.
pub(super) fn pattern(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}
