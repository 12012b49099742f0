//! One bucket's connection to its store: the SDK client, and the loop that repeats requests.
//!
//! Shared by every replica in the same bucket with the same settings.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_runtime::invocation_id::DefaultInvocationIdGenerator;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    AppName, BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::time::Instant;

use super::super::observer::{RequestObserver, RequestReport, Verb};
use super::super::settings::RetrySettings;
use super::clock::SdkClock;
use super::credentials::CredentialCache;
use super::dialect::Dialect;
use super::failure::{Cure, Failure};
use super::headers::DialectHeaders;
use super::http::Http;
use super::publish::Trust;
use super::retry::Budget;
use crate::error::Error;
use crate::host::Host;

/// A pause before the next attempt that is worth telling.
const TELLING_PAUSE: Duration = Duration::from_millis(500);

/// A bucket's client.
pub(super) struct Client {
    pub host: Host,
    pub bucket: String,
    pub dialect: Dialect,
    pub retry: RetrySettings,
    /// What is known about conditional writes here.
    pub trust: Trust,
    /// Whether deleting several keys at once has not been refused.
    pub batch_delete: AtomicBool,
    http: Http,
    credentials: Arc<CredentialCache>,
    /// Replaced when the store names another region.
    sdk: Mutex<Sdk>,
    observer: Option<Arc<dyn RequestObserver>>,
}

#[derive(Clone)]
struct Sdk {
    region: String,
    client: aws_sdk_s3::Client,
}

/// One request, for messages and metrics.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub verb: Verb,
    /// The operation, as S3 calls it.
    pub operation: &'static str,
    /// Full key or prefix.
    pub key: String,
    /// Bytes of the object in the request's body.
    pub body_bytes: u64,
}

impl Request {
    pub(super) fn new(verb: Verb, operation: &'static str, key: &str) -> Self {
        Self { verb, operation, key: key.to_owned(), body_bytes: 0 }
    }

    pub(super) fn with_body(mut self, bytes: usize) -> Self {
        self.body_bytes = bytes as u64;
        self
    }
}

/// Cures that are tried once per operation, in the order they come up.
#[derive(Default)]
pub(super) struct Tried {
    reconnect: bool,
    region: bool,
    clock: bool,
    credentials: bool,
    /// Whether the log has it at a level that people read.
    told: bool,
}

impl Client {
    pub(super) fn new(
        host: Host,
        bucket: String,
        dialect: Dialect,
        retry: RetrySettings,
        http: Http,
        credentials: Arc<CredentialCache>,
        observer: Option<Arc<dyn RequestObserver>>,
    ) -> Self {
        let client = build(&host, &dialect, &dialect.region, &http, &credentials);
        let sdk = Mutex::new(Sdk { region: dialect.region.clone(), client });
        Self {
            batch_delete: AtomicBool::new(dialect.batch_delete),
            trust: Trust::default(),
            host,
            bucket,
            dialect,
            retry,
            http,
            credentials,
            sdk,
            observer,
        }
    }

    fn sdk(&self) -> Sdk {
        self.sdk.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A budget for one operation.
    pub(super) fn budget(&self) -> Budget {
        Budget::new(self.retry)
    }

    /// Sends one request once.
    pub(super) async fn attempt<T, E, F, R>(&self, request: &Request, send: &mut F) -> Result<T, Failure>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
        F: FnMut(aws_sdk_s3::Client) -> R,
        R: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let start = Instant::now();
        let epoch = self.credentials.epoch();
        let Sdk { region, client } = self.sdk();
        let result = send(client).await.map_err(|error| Failure::from_sdk(error).signed(epoch, &region));
        tracing::debug!(
            operation = request.operation,
            bucket = self.bucket,
            key = request.key,
            millis = start.elapsed().as_millis(),
            error = result.as_ref().err().map(Failure::label),
            "request"
        );
        if let Some(observer) = &self.observer {
            observer.finished(&RequestReport {
                replica_type: "s3",
                verb: request.verb,
                duration: start.elapsed(),
                sent_bytes: request.body_bytes,
                error_code: result.as_ref().err().map(Failure::label),
            });
        }
        result
    }

    /// Counts bytes of an object that arrived.
    pub(super) fn received(&self, bytes: usize) {
        if let Some(observer) = &self.observer {
            observer.received(Verb::Get, bytes as u64);
        }
    }

    /// Sends a request that may be repeated, until it succeeds or nothing more can be done.
    pub(super) async fn run<T, E, F, R>(&self, request: &Request, mut send: F) -> Result<T, Failure>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
        F: FnMut(aws_sdk_s3::Client) -> R,
        R: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let (mut budget, mut tried) = (self.budget(), Tried::default());
        loop {
            match self.attempt(request, &mut send).await {
                Ok(output) => return Ok(output),
                Err(failure) => self.recover(request, failure, &mut budget, &mut tried).await?,
            }
        }
    }

    /// Does what may help against a failure (waits, follows a region, renews credentials), or returns it.
    pub(super) async fn recover(
        &self,
        request: &Request,
        failure: Failure,
        budget: &mut Budget,
        tried: &mut Tried,
    ) -> Result<(), Failure> {
        let once = |tried: &mut bool| !std::mem::replace(tried, true);
        let helped = match failure.cure(self.host.clock.now()) {
            Cure::None => false,
            Cure::Reconnect if once(&mut tried.reconnect) => true,
            Cure::Region(region) if self.dialect.follows_region && once(&mut tried.region) => {
                self.follow(region);
                true
            }
            Cure::Region(_) => false,
            Cure::Clock => once(&mut tried.clock),
            Cure::Credentials => {
                once(&mut tried.credentials) && self.credentials.invalidate(failure.epoch).await
            }
            Cure::Wait | Cure::Reconnect => {
                let Some(pause) = budget.fail(&*self.host.entropy, failure.retry_after) else {
                    return Err(failure);
                };
                // An outage should not stay unseen until all attempts are used up.
                if pause >= TELLING_PAUSE && once(&mut tried.told) {
                    let reason = self.error(request, &failure);
                    tracing::warn!(%reason, ?pause, "the store does not answer as it should, trying again");
                }
                tracing::debug!(
                    operation = request.operation,
                    key = request.key,
                    ?pause,
                    reason = failure.message,
                    code = failure.label(),
                    "request failed, trying again"
                );
                tokio::time::sleep(pause).await;
                true
            }
        };
        if helped { Ok(()) } else { Err(failure) }
    }

    /// Signs for `region` from now on. Requests that were on their way together are all told of it, and only the first
    /// answer finds the old region still in use.
    fn follow(&self, region: String) {
        let mut sdk = self.sdk.lock().unwrap_or_else(PoisonError::into_inner);
        if sdk.region == region {
            return;
        }
        tracing::info!(bucket = self.bucket, region, "the store names another region for this bucket");
        let client = build(&self.host, &self.dialect, &region, &self.http, &self.credentials);
        *sdk = Sdk { region, client };
    }

    /// `s3://bucket/key` for messages.
    pub(super) fn url(&self, key: &str) -> String {
        let endpoint = self.dialect.endpoint.as_deref().unwrap_or_default();
        let at = if endpoint.is_empty() { String::new() } else { format!(" at {endpoint}") };
        format!("s3://{}/{key}{at}", self.bucket)
    }

    /// The error to show for a failure.
    pub(super) fn error(&self, request: &Request, failure: &Failure) -> Error {
        let mut text = format!("{} {}:", request.operation, self.url(&request.key));
        if let Some(status) = failure.status {
            text = format!("{text} {status}");
        }
        for (before, part, after) in [
            (" ", failure.code.as_deref(), ""),
            (" ", Some(failure.message.as_str()).filter(|message| !message.is_empty()), ""),
            (" (request ", failure.request_id.as_deref(), ")"),
            ("; ", failure.advice().as_deref(), ""),
        ] {
            if let Some(part) = part {
                text = format!("{text}{before}{part}{after}");
            }
        }
        Error::new(failure.kind(request.verb), text)
    }

    /// Whether batch deletion is worth trying.
    pub(super) fn deletes_batches(&self) -> bool {
        self.batch_delete.load(Ordering::Relaxed)
    }
}

/// The SDK client. Everything it could take from its surroundings is given: time, sleep, randomness, credentials.
fn build(
    host: &Host,
    dialect: &Dialect,
    region: &str,
    http: &Http,
    credentials: &Arc<CredentialCache>,
) -> aws_sdk_s3::Client {
    let (request_checksums, response_checksums) = if dialect.checksums {
        (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
    } else {
        (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired)
    };
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .app_name(AppName::new("replicator").expect("a valid name"))
        .region(Region::new(region.to_owned()))
        .http_client(http.clone())
        .credentials_provider(SharedCredentialsProvider::from(Arc::clone(credentials) as Arc<_>))
        .identity_cache(IdentityCache::no_cache())
        .time_source(SdkClock::new(Arc::clone(&host.clock)))
        .sleep_impl(TokioSleep::new())
        .invocation_id_generator(DefaultInvocationIdGenerator::with_seed(host.entropy.u64()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(request_checksums)
        .response_checksum_validation(response_checksums)
        .force_path_style(dialect.path_style)
        .use_arn_region(true)
        .interceptor(DialectHeaders::new(dialect));
    if let Some(endpoint) = &dialect.endpoint {
        config = config.endpoint_url(endpoint);
    }
    aws_sdk_s3::Client::from_conf(config.build())
}
