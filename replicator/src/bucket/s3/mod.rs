//! Objects in a store that speaks S3, through the AWS SDK.
//!
//! | concern | module |
//! | --- | --- |
//! | what a provider needs, defaults | `dialect` (pure), `headers` |
//! | sockets, TLS, pool, silence | `http` |
//! | keys and tokens | `credentials` |
//! | what a failure means, when to repeat | `failure` (pure), `retry`, `client` |
//! | create-if-absent, unknown outcomes | `publish` |
//! | verbs | `read`, `write`, `list`, `delete` |

mod client;
mod clock;
mod credentials;
mod delete;
mod dialect;
mod failure;
mod headers;
pub(super) mod http;
mod list;
mod publish;
mod read;
mod retry;
mod write;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use md5::Digest as _;

use self::client::Client;
use self::credentials::CredentialCache;
use self::dialect::Dialect;
use self::http::{Http, Proxies};
use super::observer::RequestObserver;
use super::open::Environment;
use super::settings::{S3Settings, Timeouts};
use super::url::clean_path;
use super::{
    Body, Bucket, ByteRange, Capabilities, DeleteFailure, KeyLayout, LEGACY_PREFIX, ObjectInfo, PutCondition,
    PutOptions, PutOutcome, Upload, check_key,
};
use crate::error::{Error, Result};
use crate::host::Host;

/// Clients that are open, to be shared. They live as long as a bucket uses them.
#[derive(Default)]
pub(super) struct Registry {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// By settings without what differs between replicas of one bucket.
    clients: Vec<(S3Settings, Weak<Client>)>,
    /// By what shapes connections: TLS or not, verification, timeouts.
    https: Vec<((bool, bool, Timeouts), Http)>,
}

impl Registry {
    /// Opens a bucket, on a client that is already open if one fits.
    pub(super) async fn open(
        &self,
        host: &Host,
        environment: &Arc<Environment>,
        observer: Option<&Arc<dyn RequestObserver>>,
        settings: &S3Settings,
    ) -> Result<Arc<dyn Bucket>> {
        let shared = S3Settings { path: String::new(), ..settings.clone() };
        if let Some(client) = self.find(&shared) {
            return Ok(Arc::new(S3Bucket::new(client, settings)));
        }
        let dialect = dialect_of(host, environment, settings).await?;
        // The chain may reach an https service although the bucket is on plain http.
        let plain = dialect.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let http = self.http(host, environment, settings, !plain || environment.is_ambient()).await?;
        let clock = Arc::clone(&host.clock);
        let credentials = CredentialCache::new(settings, environment, clock, &dialect.region, http.clone())?;
        let client = Arc::new(Client::new(
            host.clone(),
            settings.bucket.clone(),
            dialect,
            settings.retry,
            http,
            Arc::new(credentials),
            observer.cloned(),
        ));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clients.retain(|(_, client)| client.strong_count() > 0);
        open.clients.push((shared, Arc::downgrade(&client)));
        drop(open);
        Ok(Arc::new(S3Bucket::new(client, settings)))
    }

    /// Whether a bucket could be opened with these settings, as far as they and a key file say.
    pub(super) async fn check(host: &Host, environment: &Environment, settings: &S3Settings) -> Result<()> {
        dialect_of(host, environment, settings).await.map(drop)
    }

    fn find(&self, settings: &S3Settings) -> Option<Arc<Client>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clients.iter().find(|(key, _)| key == settings).and_then(|(_, client)| client.upgrade())
    }

    async fn http(
        &self,
        host: &Host,
        environment: &Arc<Environment>,
        settings: &S3Settings,
        tls: bool,
    ) -> Result<Http> {
        let skip_verify = settings.skip_verify.unwrap_or(false);
        let key = (tls, skip_verify, settings.timeouts);
        let found = |open: &Open| open.https.iter().find(|(k, _)| *k == key).map(|(_, http)| http.clone());
        if let Some(http) = found(&self.open.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(http);
        }
        let connector = if tls {
            let (disk, environment) = (Arc::clone(&host.disk), Arc::clone(environment));
            Some(host.blocking(move || http::tls::connector(&*disk, &environment, skip_verify)).await?)
        } else {
            None
        };
        let http = Http::new(
            Arc::clone(&host.dial),
            connector,
            Proxies::from_environment(environment)?,
            settings.timeouts,
        );
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.https.push((key, http.clone()));
        Ok(http)
    }
}

async fn dialect_of(host: &Host, environment: &Environment, settings: &S3Settings) -> Result<Dialect> {
    let customer_key = read_customer_key(host, settings).await?;
    let region = environment.get("AWS_REGION").or_else(|| environment.get("AWS_DEFAULT_REGION"));
    dialect::resolve(settings, region, customer_key.as_deref())
}

async fn read_customer_key(host: &Host, settings: &S3Settings) -> Result<Option<String>> {
    const LIMIT: usize = 4096;
    let Some(path) = settings.sse_customer_key_path.clone() else { return Ok(None) };
    let disk = Arc::clone(&host.disk);
    let name = path.display().to_string();
    let read = host
        .blocking(move || String::from_utf8(disk.read_whole(&path, LIMIT)?).map_err(std::io::Error::other));
    read.await
        .map(Some)
        .map_err(|error| Error::io(format!("cannot read sse-customer-key-path {name}"), error))
}

/// MD5 in base64, as headers want it.
fn md5_base64(bytes: &[u8]) -> String {
    aws_smithy_types::base64::encode(md5::Md5::digest(bytes))
}

/// A path in a bucket.
struct S3Bucket {
    client: Arc<Client>,
    path: String,
    /// What keys begin with. With an empty path it is `/`, as Litestream's.
    prefix: String,
    /// What keys of 0.3.x begin with: those alone Litestream joins with the path and cleans.
    legacy_prefix: String,
}

impl S3Bucket {
    fn new(client: Arc<Client>, settings: &S3Settings) -> Self {
        let path = settings.path.clone();
        let legacy_prefix = match clean_path(&path).as_str() {
            "." => String::new(),
            cleaned => format!("{}/", cleaned.trim_end_matches('/')),
        };
        Self { client, prefix: format!("{path}/"), legacy_prefix, path }
    }

    fn prefix(&self, key: &str) -> &str {
        if key.starts_with(LEGACY_PREFIX) { &self.legacy_prefix } else { &self.prefix }
    }

    /// The key in the bucket.
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix(key))
    }

    /// What was found for `key`, a key or the start of one, with its key relative to this path.
    fn relative(&self, key: &str, mut object: ObjectInfo) -> ObjectInfo {
        object.key.drain(..self.prefix(key).len());
        object
    }
}

#[async_trait]
impl Bucket for S3Bucket {
    fn kind(&self) -> &'static str {
        "s3"
    }

    fn location(&self) -> String {
        self.client.url(&self.path)
    }

    fn layout(&self) -> KeyLayout {
        KeyLayout::HexLevel
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { create_if_absent: self.client.trust.holds() }
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<PutOutcome> {
        check_key(key)?;
        write::put(&self.client, &self.full(key), body, condition, options).await
    }

    async fn upload(
        &self,
        key: &str,
        condition: PutCondition,
        options: PutOptions,
    ) -> Result<Box<dyn Upload>> {
        check_key(key)?;
        Ok(Box::new(write::S3Upload::new(&self.client, &self.full(key), condition, options)))
    }

    async fn try_to_finish_over(&self, key: &str) -> Result<PutOutcome> {
        check_key(key)?;
        write::try_to_finish_over(&self.client, &self.full(key)).await
    }

    async fn get(&self, key: &str, range: Option<ByteRange>) -> Result<Box<dyn Body>> {
        Ok(Box::new(read::get(&self.client, &self.full(key), range).await?))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        let object = read::head(&self.client, &self.full(key)).await?;
        Ok(object.map(|object| self.relative(key, object)))
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        let start_after = start_after.map(|key| self.full(key));
        let objects = list::list(&self.client, &self.full(prefix), start_after.as_deref()).await?;
        Ok(objects.into_iter().map(|object| self.relative(prefix, object)).collect())
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<DeleteFailure>> {
        let full: Vec<String> = keys.iter().map(|key| self.full(key)).collect();
        let mut failures = delete::delete(&self.client, &full).await?;
        for failure in &mut failures {
            let index =
                full.iter().position(|key| *key == failure.key).expect("only these were to be deleted");
            failure.key.clone_from(&keys[index]);
        }
        Ok(failures)
    }
}

#[cfg(test)]
mod tests;
