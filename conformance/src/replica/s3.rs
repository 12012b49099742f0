//! A replica in a bucket of any S3 endpoint, read through the suite's own client.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use tokio::runtime::Runtime;

use super::url::Place;
use super::{Object, Store, Unread};
use crate::Defect;
use crate::client::{Address, Answer, Budget, Call, Client, ClientError, Limits, Repeat, Style, xml};
use crate::targets::Target;

/// Before another attempt after a failure of the network, of which the client makes none itself.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// A bucket and a path in it.
pub struct S3 {
    /// Bucket, prefix and server, as they are asked.
    location: String,
    client: Client,
    /// Ends with `/`; `/` alone for an empty path, as Litestream writes it.
    prefix: String,
    runtime: Runtime,
}

impl S3 {
    /// Takes `s3://bucket/path?endpoint=…&region=…&forcePathStyle=true`. Keys come from `variable`, by the names
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; endpoint and region, too, where the URL
    /// names none.
    ///
    /// # Errors
    /// A sentence naming what is missing or wrong; never a key.
    pub fn open(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Defect> {
        let Place { bucket, path, endpoint, region, path_style } = Place::parse(url, &variable)?;
        let need = |name: &str| variable(name).ok_or_else(|| Defect::new(format!("{name} is not set")));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let path_style = path_style.unwrap_or(endpoint.is_some());
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let (access_key, secret_key) = (need("AWS_ACCESS_KEY_ID")?, need("AWS_SECRET_ACCESS_KEY")?);
        let target = Target {
            region,
            style: if path_style { Style::Path } else { Style::Virtual },
            session_token: variable("AWS_SESSION_TOKEN"),
            virtual_domain: None,
            create_bucket: false,
            ca_bundle: variable("AWS_CA_BUNDLE").map(std::path::PathBuf::from),
            bucket,
            ..Target::local("replica", &endpoint, &access_key, &secret_key)
        };
        let unlimited = Arc::new(Budget::new(u64::MAX, u64::MAX));
        let client =
            Client::new(Arc::new(target), unlimited).map_err(|error| Defect::new(error.to_string()))?;
        Self::below(&client, &path)
    }

    /// The replica under a path of the client's bucket, read within the client's budget.
    ///
    /// # Errors
    /// If no runtime can be started.
    pub fn below(client: &Client, path: &str) -> Result<Self, Defect> {
        let own = client.with_own_connections().map_err(|error| Defect::new(error.to_string()))?;
        let own = own.with_limits(Limits::OBJECT);
        let path = path.trim_matches('/');
        let prefix = format!("{path}/");
        let Target { bucket, endpoint, .. } = own.target();
        let address = Address::parse(endpoint, None).map_err(|error| Defect::new(error.to_string()))?;
        let server = address.authority_for(None);
        Ok(Self {
            location: format!("bucket {bucket:?}, prefix {prefix:?} at {server}"),
            client: own,
            prefix,
            runtime: Runtime::new().map_err(|error| Defect::new(error.to_string()))?,
        })
    }

    /// A request that must be answered 200, in the end. Raw: what the SDK adds is refused by some, and this only judges.
    fn fetch(&self, what: &str, call: &Call) -> Result<Answer, Unread> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let error = match self.runtime.block_on(self.client.send_patiently(call, Repeat::WhenFailed)) {
                Ok(answer) if answer.status == 200 => return Ok(answer),
                Ok(answer) => {
                    let failed = self.failed(what, &answer.describe());
                    return Err(if is_absent(&answer) {
                        Unread::Absent(failed)
                    } else {
                        Unread::Failed(failed)
                    });
                }
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if is_of_the_network(&error) => {
                    self.runtime.block_on(async { tokio::time::sleep(pause).await });
                }
                _ => return Err(Unread::Failed(self.failed(what, &error.to_string()))),
            }
        }
    }

    fn failed(&self, what: &str, why: &str) -> Defect {
        Defect::new(format!("cannot {what} {}: {why}", self.location()))
    }
}

fn is_absent(answer: &Answer) -> bool {
    answer.status == 404 && answer.code() != "NoSuchBucket"
}

fn is_of_the_network(error: &ClientError) -> bool {
    matches!(error, ClientError::Broken(..) | ClientError::Slow(..) | ClientError::Silent(..))
}

impl Store for S3 {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn list(&self) -> Result<Vec<Object>, Defect> {
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut call =
                Call::new(Method::GET, "").query("list-type", "2").query("prefix", self.prefix.clone());
            if let Some(token) = token {
                call = call.query("continuation-token", token);
            }
            let page = self.fetch("list", &call)?.text();
            for entry in xml::all(&page, "Contents") {
                let key = xml::first(&entry, "Key").unwrap_or_default();
                let key = key.strip_prefix(&self.prefix).ok_or_else(|| {
                    Defect::new(format!("{} lists a key outside its prefix", self.location))
                })?;
                let time = xml::first(&entry, "LastModified").and_then(|text| text.parse::<Timestamp>().ok());
                objects.push(Object {
                    key: key.to_owned(),
                    size: xml::first(&entry, "Size").and_then(|text| text.parse().ok()).unwrap_or(0),
                    time: time.map(Timestamp::as_millisecond),
                    time_is_attached: false,
                });
            }
            let is_last = xml::first(&page, "IsTruncated").is_none_or(|flag| flag != "true");
            token = xml::first(&page, "NextContinuationToken").filter(|_| !is_last);
            match (is_last, &token) {
                (true, _) => break,
                (false, Some(_)) => {}
                (false, None) => {
                    return Err(Defect::new(format!(
                        "{}: a page of the listing says there is more, and not where",
                        self.location
                    )));
                }
            }
        }
        objects.sort();
        Ok(objects)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, Unread> {
        let call = Call::new(Method::GET, &format!("{}{key}", self.prefix));
        Ok(self.fetch(&format!("read {key} of"), &call)?.body.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::replica::Replica;
    use crate::server::store::{self as server, Condition};
    use crate::server::{ErrorAnswer, Fault, Outcome, RequestFacts, Stamp, Verb};
    use crate::site::Site;

    fn open(site: &Site) -> Result<S3, Defect> {
        S3::open(&site.url, |name| {
            site.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    }

    /// Writes six states.
    fn fill(store: &S3) {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/0.5.17-4096/ltx/0");
        for txid in 1..=6 {
            let name = format!("{txid:016x}-{txid:016x}.ltx");
            let bytes = std::fs::read(format!("{golden}/{name}")).unwrap();
            let put = Call::new(Method::PUT, &format!("{}0000/{name}", store.prefix)).body(bytes);
            store.fetch("write", &put).unwrap();
        }
    }

    /// Lets the first so many GETs of each object and page go wrong.
    fn spoil(site: &Site, times: usize, outcome: Outcome) {
        let seen = Mutex::new(BTreeMap::<Option<String>, usize>::new());
        let plan = move |request: &RequestFacts| {
            let mut seen = seen.lock().unwrap();
            let count = seen.entry(request.key.clone()).or_default();
            *count += 1;
            if *count <= times { outcome.clone().into() } else { Fault::default() }
        };
        site.server().unwrap().set_faults(Arc::new(plan));
    }

    #[test]
    fn a_store_that_is_busy_for_a_moment_is_asked_again() {
        let site = Site::embedded().unwrap();
        let store = open(&site).unwrap();
        fill(&store);
        for outcome in [
            Outcome::Refuse(ErrorAnswer::new(503, "SlowDown")),
            Outcome::Refuse(ErrorAnswer::new(429, "TooManyRequests")),
            Outcome::CutBody(100),
            Outcome::Hangup,
        ] {
            spoil(&site, 1, outcome);
            let report = Replica::read(&store).unwrap().report();
            assert!(report.whole, "{report}");
        }
    }

    #[test]
    fn what_cannot_be_read_in_the_end_is_an_error_and_not_a_broken_replica() {
        let site = Site::embedded().unwrap();
        let store = open(&site).unwrap();
        fill(&store);
        let denied = |request: &RequestFacts| match request.verb {
            Verb::GetObject => Outcome::Refuse(ErrorAnswer::new(403, "AccessDenied")).into(),
            _ => Fault::default(),
        };
        site.server().unwrap().set_faults(Arc::new(denied));
        let said = Replica::read(&store).err().unwrap().to_string();
        assert!(said.contains("cannot read 0000/") && said.ends_with(": 403 AccessDenied"), "{said}");
        spoil(&site, usize::MAX, Outcome::Refuse(ErrorAnswer::new(500, "InternalError")));
        let said = Replica::read(&store).err().unwrap().to_string();
        assert!(said.contains("cannot list") && said.ends_with(": 500 InternalError"), "{said}");
    }

    #[test]
    fn an_object_may_be_larger_than_any_of_a_check() {
        let site = Site::embedded().unwrap();
        let body = vec![0; Limits::CHECK.bytes + 1].into();
        let (metadata, checksums) = (BTreeMap::new(), BTreeMap::new());
        let etag = "unknown".to_owned();
        let object =
            server::Object { body, etag, metadata, content_type: None, content_encoding: None, checksums };
        let stamp = Stamp { at: 0, request: 0 };
        let mut stored = site.server().unwrap().store();
        stored.put(stamp, "backups", "some/app/large", object, &Condition::None).unwrap();
        drop(stored);
        assert_eq!(open(&site).unwrap().get("large").unwrap().len(), Limits::CHECK.bytes + 1);
    }

    #[test]
    fn what_is_in_the_bucket_is_read_over_the_network() {
        let site = Site::embedded().unwrap();
        let store = open(&site).unwrap();
        fill(&store);
        let report = Replica::read(&store).unwrap().report();
        assert!(report.whole, "{report}");
        assert_eq!(report.restorable.len(), 6);
        assert_eq!(report.restorable, Replica::read(&*site.store).unwrap().report().restorable);
    }

    #[test]
    fn tigris_is_asked_for_consistency() {
        let store =
            S3::open("s3://b/app?endpoint=http://t3.storage.dev", |_| Some("key".to_owned())).unwrap();
        assert_eq!(store.client.target().headers["x-tigris-consistent"], "true");
    }

    #[test]
    fn a_path_in_any_spelling_leads_to_the_replica_and_an_empty_one_is_named() {
        let mut site = Site::embedded().unwrap();
        fill(&open(&site).unwrap());
        let (_, query) = site.url.split_once('?').unwrap();
        let query = query.to_owned();
        for (path, is_whole) in
            [("backups//some/./%61pp/", true), ("backups/my%20app", false), ("backups", false)]
        {
            site.url = format!("s3://{path}?{query}");
            let report = Replica::read(&open(&site).unwrap()).unwrap().report();
            assert_eq!(report.whole, is_whole, "{report}");
            let prefix = if path == "backups" { "./" } else { "my app/" };
            let said = format!("broken: bucket \"backups\", prefix {prefix:?} at 127.0.0.1:");
            assert_eq!(report.to_string().contains(&said), !is_whole, "{report}");
        }
    }

    #[test]
    fn a_wrong_key_and_a_missing_variable_are_errors_and_not_an_empty_replica() {
        let mut site = Site::embedded().unwrap();
        site.environment[1].1 = "wrong".to_owned();
        let error = open(&site).unwrap().list().unwrap_err().to_string();
        assert!(error.contains("SignatureDoesNotMatch") && !error.contains("wrong"), "{error}");
        site.environment.clear();
        assert_eq!(open(&site).err().unwrap().to_string(), "AWS_ACCESS_KEY_ID is not set");
    }
}
