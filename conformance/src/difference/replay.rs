//! Carries a sequence out on one endpoint and keeps what the answers say, without what may differ: times, ids, ETags
//! of uploads in parts, words of error messages.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;

use super::step::{Etag, Step};
use crate::checks::{Complaint, Probe};
use crate::client::{Answer, Call, Client, xml};

/// Name of the fact that explains the others.
pub(super) const STATUS: &str = "status";

/// Something an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Part of the signature of a difference.
    Short(String),
    /// Too long, or too varied, for that.
    Long(String),
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short(text) => f.write_str(text),
            Self::Long(text) => f.write_str(&text.chars().take(200).collect::<String>()),
        }
    }
}

/// What an answer says, by name.
pub type Facts = BTreeMap<&'static str, Fact>;

/// One of the two endpoints.
pub(super) struct Side {
    probe: Probe,
    /// ETags as last given for a key.
    etags: BTreeMap<&'static str, String>,
    written: u64,
}

impl Side {
    pub(super) fn new(client: Client, prefix: String) -> Self {
        Self { probe: Probe::new(client, prefix, None), etags: BTreeMap::new(), written: 0 }
    }

    /// Carries out one step.
    pub(super) async fn perform(&mut self, step: &Step) -> Facts {
        let answered = match step {
            Step::Put(key, size) => self.put(key, *size, None).await,
            Step::Create(key, size) => self.put(key, *size, Some(("if-none-match", "*".to_owned()))).await,
            Step::Replace(key, size, etag) => {
                let etag = self.etag(key, *etag);
                self.put(key, *size, Some(("if-match", etag))).await
            }
            Step::Get(key) => self.read(self.probe.call(Method::GET, key)).await,
            Step::Range(key, range) => {
                self.read(self.probe.call(Method::GET, key).header("range", *range)).await
            }
            Step::GetIf(key, etag) => {
                let call = self.probe.call(Method::GET, key).header("if-match", self.etag(key, *etag));
                self.read(call).await
            }
            Step::GetUnless(key, etag) => {
                let call = self.probe.call(Method::GET, key).header("if-none-match", self.etag(key, *etag));
                self.read(call).await
            }
            Step::Head(key) => self.read(self.probe.call(Method::HEAD, key)).await,
            Step::List(prefix, after, max_keys, delimiter) => {
                self.list(prefix, *after, *max_keys, *delimiter).await
            }
            Step::Delete(key) => self.status(self.probe.call(Method::DELETE, key)).await,
            Step::DeleteBatch(keys) => self.delete_batch(keys).await,
            Step::Multipart(key, sizes, order) => self.multipart(key, sizes, order).await,
            Step::Abort(key) => self.abort(key).await,
        };
        answered.unwrap_or_else(|complaint| Facts::from([(STATUS, Fact::Short(complaint.0))]))
    }

    /// Bytes that tell who wrote them, the same on both sides.
    fn body(&mut self, size: usize) -> Bytes {
        self.written += 1;
        let seed = self.written.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (0..size as u64).map(|n| (seed.wrapping_add(n.wrapping_mul(n | 1)) >> 13) as u8).collect()
    }

    fn etag(&self, key: &str, which: Etag) -> String {
        let stale = || format!("\"{}\"", "0".repeat(32));
        match which {
            Etag::Right => self.etags.get(key).cloned().unwrap_or_else(stale),
            Etag::Stale => stale(),
        }
    }

    async fn status(&self, call: Call) -> Result<Facts, Complaint> {
        Ok(status(&self.probe.send(&call).await?, call.method == Method::HEAD))
    }

    async fn put(
        &mut self,
        key: &'static str,
        size: usize,
        condition: Option<(&str, String)>,
    ) -> Result<Facts, Complaint> {
        let mut call =
            self.probe.call(Method::PUT, key).header("x-amz-meta-number", self.written.to_string());
        call = call.body(self.body(size));
        if let Some((name, value)) = condition {
            call = call.header(name, value);
        }
        let answer = self.probe.send(&call).await?;
        let mut facts = status(&answer, false);
        if answer.status.is_success() {
            self.etags.insert(key, answer.header("etag").to_owned());
            facts.insert("etag", Fact::Long(answer.header("etag").to_owned()));
        }
        Ok(facts)
    }

    async fn read(&self, call: Call) -> Result<Facts, Complaint> {
        let answer = self.probe.send(&call).await?;
        let mut facts = status(&answer, call.method == Method::HEAD);
        if answer.status.is_success() {
            facts.insert("body", Fact::Long(format!("{} bytes {:?}", answer.body.len(), answer.body)));
            for name in ["content-range", "x-amz-meta-number"] {
                facts.insert(name, Fact::Long(answer.header(name).to_owned()));
            }
            facts.insert("content-length", Fact::Long(answer.header("content-length").to_owned()));
            facts.insert("accept-ranges", Fact::Short(answer.header("accept-ranges").to_owned()));
            // The ETag of an upload in parts is the server's own business.
            if !answer.etag().contains('-') {
                facts.insert("etag", Fact::Long(answer.header("etag").to_owned()));
            }
        }
        Ok(facts)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        max_keys: u32,
        delimiter: bool,
    ) -> Result<Facts, Complaint> {
        let mut call = Call::new(Method::GET, "").query("list-type", "2");
        call = call.query("prefix", self.probe.key(prefix)).query("max-keys", max_keys.to_string());
        if let Some(after) = after {
            call = call.query("start-after", self.probe.key(after));
        }
        if delimiter {
            call = call.query("delimiter", "/");
        }
        let answer = self.probe.send(&call).await?;
        let mut facts = status(&answer, false);
        if answer.status.is_success() {
            let page = self.probe.listing(&answer);
            facts.insert("keys", Fact::Long(format!("{:?}", page.keys)));
            facts.insert("sizes", Fact::Long(format!("{:?}", page.sizes)));
            facts.insert("truncated", Fact::Short(page.truncated.to_string()));
            facts.insert("token", Fact::Short(page.token.is_some().to_string()));
            let counted = xml::first(&page.xml, "KeyCount").unwrap_or_default();
            facts.insert("key count", Fact::Long(counted));
            let own = self.probe.key("");
            let folders: Vec<String> = xml::all(&page.xml, "CommonPrefixes")
                .iter()
                .filter_map(|found| xml::first(found, "Prefix"))
                .map(|found| found.strip_prefix(&own).map_or(found.clone(), str::to_owned))
                .collect();
            facts.insert("common prefixes", Fact::Long(format!("{folders:?}")));
        }
        Ok(facts)
    }

    async fn delete_batch(&self, keys: &[&'static str]) -> Result<Facts, Complaint> {
        let mut names: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        names.dedup();
        let answer = self.probe.send(&self.probe.delete_call(&names, false)).await?;
        let mut facts = status(&answer, false);
        if answer.status.is_success() {
            let text = answer.text();
            let mut deleted = xml::all(&text, "Key");
            deleted.sort_unstable();
            deleted.dedup();
            let own = self.probe.key("");
            let deleted: Vec<_> = deleted.iter().filter_map(|key| key.strip_prefix(&own)).collect();
            facts.insert("deleted", Fact::Long(format!("{deleted:?}")));
            facts.insert("errors", Fact::Short(xml::all(&text, "Code").join(",")));
        }
        Ok(facts)
    }

    async fn multipart(
        &mut self,
        key: &'static str,
        sizes: &[usize],
        order: &[u32],
    ) -> Result<Facts, Complaint> {
        let id = self.probe.begin(key, &[]).await?;
        let mut parts = BTreeMap::new();
        for (number, size) in (1..).zip(sizes) {
            let body = self.body(*size);
            parts.insert(number, self.probe.part(key, &id, number, body).await?);
        }
        let list: Vec<_> =
            order.iter().filter_map(|number| Some((*number, parts.get(number)?.clone()))).collect();
        let answer = self.probe.send(&self.probe.complete_call(key, &id, &list)).await?;
        let facts = status(&answer, false);
        if answer.status.is_success() && answer.code().is_empty() {
            // Its exact form differs; what the server says later must be this.
            let head = self.probe.send(&self.probe.call(Method::HEAD, key)).await?;
            self.etags.insert(key, head.header("etag").to_owned());
        }
        Ok(facts)
    }

    async fn abort(&self, key: &str) -> Result<Facts, Complaint> {
        let id = self.probe.begin(key, &[]).await?;
        self.probe.part(key, &id, 1, "part".into()).await?;
        let gone = self.status(self.probe.call(Method::DELETE, key).query("uploadId", &id)).await?;
        let part = self.probe.send(&self.probe.part_call(key, &id, 2, "part".into())).await?;
        let mut facts = gone;
        facts.insert("part after abort", Fact::Short(part.describe()));
        Ok(facts)
    }

    /// What is stored: bytes and metadata of every key.
    pub(super) async fn objects(&self) -> Result<BTreeMap<String, Facts>, Complaint> {
        let mut objects = BTreeMap::new();
        for name in self.probe.list("", 1000, 5).await? {
            let mut facts = self.read(self.probe.call(Method::GET, &name)).await?;
            facts.retain(|fact, _| ["body", "x-amz-meta-number"].contains(fact));
            objects.insert(name, facts);
        }
        Ok(objects)
    }

    /// Removes what the sequence left.
    pub(super) async fn clean(&self) -> Result<(), String> {
        for (key, id) in self.probe.take_uploads() {
            let _ = self.probe.client().send(&Call::new(Method::DELETE, &key).query("uploadId", id)).await;
        }
        let told = |complaint: Complaint| complaint.0;
        for name in self.probe.list("", 1000, 5).await.map_err(told)? {
            self.probe.send(&self.probe.call(Method::DELETE, &name)).await.map_err(told)?;
        }
        Ok(())
    }
}

/// Status and, for errors that have a body, the code.
fn status(answer: &Answer, head: bool) -> Facts {
    let code = if head { answer.status.as_u16().to_string() } else { answer.describe() };
    let hidden = if answer.status.is_success() && !head && !answer.body.is_empty() && is_error(answer) {
        format!("{code} with error {}", answer.code())
    } else {
        code
    };
    Facts::from([(STATUS, Fact::Short(hidden))])
}

fn is_error(answer: &Answer) -> bool {
    answer.body.starts_with(b"<?xml")
        && answer.text().contains("<Error>")
        && !answer.text().contains("<DeleteResult")
}
