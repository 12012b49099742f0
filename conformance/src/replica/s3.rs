//! A replica in a bucket of any S3 endpoint, read through the suite's own client.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::error::DisplayErrorContext;
use percent_encoding::percent_decode_str;
use tokio::runtime::Runtime;

use super::{Object, Store};
use crate::Defect;
use crate::client::{Budget, Client, SdkChecksums, Style};
use crate::targets::Target;

/// A bucket and a path in it.
pub struct S3 {
    url: String,
    client: aws_sdk_s3::Client,
    bucket: String,
    /// Ends with `/`; `/` alone for an empty path, as Litestream writes it.
    prefix: String,
    runtime: Runtime,
}

impl S3 {
    /// Takes `s3://bucket/path?endpoint=…&region=…&forcePathStyle=true`. Keys come from `variable`, by the names
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, the region also from `AWS_REGION`.
    ///
    /// # Errors
    /// A sentence naming what is missing or wrong; never a key.
    pub fn open(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Defect> {
        let rest =
            url.strip_prefix("s3://").ok_or_else(|| Defect::new(format!("{url} is not an s3:// URL")))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, path) = place.split_once('/').unwrap_or((place, ""));
        let parameters: BTreeMap<&str, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, percent_decode_str(value).decode_utf8_lossy().into_owned()))
            .collect();
        let need = |name: &str| variable(name).ok_or_else(|| Defect::new(format!("{name} is not set")));
        let region = parameters.get("region").cloned().or_else(|| variable("AWS_REGION"));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let named = parameters.get("endpoint").cloned();
        let path_style = parameters.get("forcePathStyle").map_or(named.is_some(), |value| value == "true");
        let endpoint = named.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let (access_key, secret_key) = (need("AWS_ACCESS_KEY_ID")?, need("AWS_SECRET_ACCESS_KEY")?);
        let target = Target {
            region,
            style: if path_style { Style::Path } else { Style::Virtual },
            session_token: variable("AWS_SESSION_TOKEN"),
            virtual_domain: None,
            create_bucket: false,
            ca_bundle: variable("AWS_CA_BUNDLE").map(std::path::PathBuf::from),
            bucket: bucket.to_owned(),
            ..Target::local("replica", &endpoint, &access_key, &secret_key)
        };
        let unlimited = Arc::new(Budget::new(u64::MAX, u64::MAX));
        let client =
            Client::new(Arc::new(target), unlimited).map_err(|error| Defect::new(error.to_string()))?;
        Self::below(&client, path)
    }

    /// The replica under a path of the client's bucket, read within the client's budget.
    ///
    /// # Errors
    /// If no runtime can be started.
    pub fn below(client: &Client, path: &str) -> Result<Self, Defect> {
        let target = client.target().clone();
        // Connections belong to the runtime that made them, so it gets a client of its own.
        let own =
            Client::new(Arc::new(target), client.budget()).map_err(|error| Defect::new(error.to_string()))?;
        let path = path.trim_matches('/');
        Ok(Self {
            url: format!("s3://{}/{path}", own.target().bucket),
            client: own.sdk(SdkChecksums::WhenRequired),
            bucket: own.target().bucket.clone(),
            prefix: format!("{path}/"),
            runtime: Runtime::new().map_err(|error| Defect::new(error.to_string()))?,
        })
    }

    fn failed(&self, what: &str, error: impl std::error::Error) -> Defect {
        Defect::new(format!("cannot {what} {}: {}", self.url, DisplayErrorContext(error)))
    }
}

impl Store for S3 {
    fn location(&self) -> String {
        self.url.clone()
    }

    fn list(&self) -> Result<Vec<Object>, Defect> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
        let mut pages = request.into_paginator().send();
        let mut objects = Vec::new();
        while let Some(page) = self.runtime.block_on(pages.next()) {
            for object in page.map_err(|error| self.failed("list", error))?.contents() {
                let key = object.key().and_then(|key| key.strip_prefix(&self.prefix));
                let key =
                    key.ok_or_else(|| Defect::new(format!("{} lists a key outside its prefix", self.url)))?;
                objects.push(Object {
                    key: key.to_owned(),
                    size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    time: object.last_modified().and_then(|time| time.to_millis().ok()),
                    time_is_attached: false,
                });
            }
        }
        objects.sort();
        Ok(objects)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, Defect> {
        let request = self.client.get_object().bucket(&self.bucket).key(format!("{}{key}", self.prefix));
        self.runtime.block_on(async {
            let answer =
                request.send().await.map_err(|error| self.failed(&format!("read {key} of"), error))?;
            let body =
                answer.body.collect().await.map_err(|error| self.failed(&format!("read {key} of"), error))?;
            Ok(body.to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Replica;
    use crate::site::Site;

    fn open(site: &Site) -> Result<S3, Defect> {
        S3::open(&site.url, |name| {
            site.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn what_is_in_the_bucket_is_read_over_the_network() {
        let site = Site::embedded().unwrap();
        let store = open(&site).unwrap();
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/0.5.17-4096/ltx/0");
        for txid in 1..=6 {
            let name = format!("{txid:016x}-{txid:016x}.ltx");
            let bytes = std::fs::read(format!("{golden}/{name}")).unwrap();
            let put = store.client.put_object().bucket(&store.bucket).key(format!("some/app/0000/{name}"));
            store.runtime.block_on(put.body(bytes.into()).send()).unwrap();
        }
        let report = Replica::read(&store).unwrap().report();
        assert!(report.whole, "{report}");
        assert_eq!(report.restorable.len(), 6);
        assert_eq!(report.restorable, Replica::read(&*site.store).unwrap().report().restorable);
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
