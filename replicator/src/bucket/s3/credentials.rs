//! Who signs: keys from the settings, else from the environment, else from the usual AWS chain, kept until they
//! expire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as ProvideFuture;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_types::region::Region;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::open::Environment;
use super::super::settings::S3Settings;
use super::clock::SdkClock;
use super::http::Http;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{BoxFuture, Clock, UnixMillis};

/// Credentials are renewed this long before they expire.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// How long requests wait for credentials. A program that gives them (`credential_process`) may hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one fetch may go on, whoever waits for it. Not given up at once: the program that hangs would stay, and
/// another be started beside it with each attempt.
const LONGEST_FETCH: Duration = Duration::from_secs(10 * 60);

/// How long the old credentials, while they last, are used after a failure before new ones are asked for again.
const REST: Duration = Duration::from_secs(30);

/// Builds the chain of those who may know credentials. They remember what they read, files above all.
type Chain = Box<dyn Fn() -> BoxFuture<'static, SharedCredentialsProvider> + Send + Sync>;

/// Where credentials come from.
enum Source {
    Fixed(Credentials),
    Chain(Chain),
}

/// Credentials with a memory. The SDK asks for every request; the chain is asked when they expire.
pub(super) struct CredentialCache {
    source: Source,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    epoch: AtomicU64,
}

#[derive(Default)]
struct State {
    /// `None` when what it remembers may be out of date.
    provider: Option<SharedCredentialsProvider>,
    current: Option<Credentials>,
    /// A fetch that was not waited for to its end.
    fetch: Option<Fetch>,
    failed: Option<Failed>,
}

/// Asking the chain. Ends with the chain, if it succeeded and may be asked again.
struct Fetch {
    began: Instant,
    task: JoinHandle<Result<(SharedCredentialsProvider, Credentials), CredentialsError>>,
}

/// The last failure to fetch.
#[derive(Clone, Copy)]
struct Failed {
    at: Instant,
    timed_out: bool,
}

impl std::fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialCache")
    }
}

impl CredentialCache {
    /// Decides where credentials come from; asks nobody yet.
    pub(super) fn new(
        settings: &S3Settings,
        environment: &Environment,
        clock: Arc<dyn Clock>,
        region: &str,
        http: Http,
    ) -> Result<Self> {
        let source = match fixed(settings, environment)? {
            Some(credentials) => Source::Fixed(credentials),
            None if environment.is_ambient() => {
                let (profile, region) = (settings.profile.clone(), Region::new(region.to_owned()));
                let clock = Arc::clone(&clock);
                Source::Chain(Box::new(move || {
                    Box::pin(chain(profile.clone(), region.clone(), http.clone(), Arc::clone(&clock)))
                }))
            }
            None => {
                return Err(Error::new(
                    ErrorKind::Denied,
                    format!(
                        "no credentials for bucket {}: set access-key-id and secret-access-key, or \
                         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                        settings.bucket
                    ),
                ));
            }
        };
        Ok(Self { source, clock, state: Mutex::default(), epoch: AtomicU64::new(0) })
    }

    /// Grows with each renewal.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Forgets what was remembered in `epoch`, but not what has been fetched since: the requests that were under way
    /// with expired credentials cause one renewal together. The files that a chain has read are read again: keys are
    /// rotated in them. `false` if asking again would give the same.
    pub(super) async fn invalidate(&self, epoch: u64) -> bool {
        let mut state = self.state.lock().await;
        if self.epoch() == epoch {
            (state.current, state.provider) = (None, None);
        }
        matches!(self.source, Source::Chain(_))
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let chain = match &self.source {
            Source::Fixed(credentials) => return Ok(credentials.clone()),
            Source::Chain(chain) => chain,
        };
        let began = Instant::now();
        // Held while fetching, so that hundreds of requests cause one fetch.
        let mut state = self.state.lock().await;
        if let Some(current) = &state.current {
            let is_resting = state.failed.is_some_and(|failed| failed.at.elapsed() < REST);
            let margin = if is_resting { Duration::ZERO } else { MARGIN };
            if !self.expires_within(current, margin) {
                return Ok(current.clone());
            }
        }
        // Who waited for the same fetch has waited long enough; the waits must not add up.
        if state.failed.is_some_and(|failed| failed.timed_out && failed.at > began) {
            return Err(CredentialsError::provider_timed_out(PATIENCE));
        }
        match state.fetch(chain).await {
            Ok(fresh) => {
                self.epoch.fetch_add(1, Ordering::Relaxed);
                Ok(state.current.insert(fresh).clone())
            }
            Err(error) => {
                let timed_out = matches!(error, CredentialsError::ProviderTimedOut(_));
                state.failed = Some(Failed { at: Instant::now(), timed_out });
                match &state.current {
                    Some(current) if !self.expires_within(current, Duration::ZERO) => {
                        tracing::warn!(%error, "cannot renew credentials, using the old ones while they last");
                        Ok(current.clone())
                    }
                    _ => Err(error),
                }
            }
        }
    }

    fn expires_within(&self, credentials: &Credentials, margin: Duration) -> bool {
        let UnixMillis(now) = self.clock.now();
        credentials.expiry().is_some_and(|expiry| {
            let expiry = expiry.duration_since(UNIX_EPOCH).unwrap_or_default();
            let soon = u128::try_from(now).unwrap_or_default() + margin.as_millis();
            expiry.as_millis() <= soon
        })
    }
}

impl State {
    /// Asks the chain, or waits on for the answer to an earlier question.
    async fn fetch(&mut self, chain: &Chain) -> Result<Credentials, CredentialsError> {
        // Stays in its place: the request that waits for it may be given up.
        let provider = &mut self.provider;
        let fetch = self.fetch.get_or_insert_with(|| Fetch::begin(provider.take(), chain));
        let fetch_began = fetch.began;
        let Ok(ended) = tokio::time::timeout(PATIENCE, &mut fetch.task).await else {
            if fetch_began.elapsed() >= LONGEST_FETCH {
                fetch.task.abort();
                self.fetch = None;
            }
            tracing::warn!(
                waited = ?fetch_began.elapsed(),
                "no credentials have come yet: see what credential_process, or the service that gives them, is doing"
            );
            return Err(CredentialsError::provider_timed_out(PATIENCE));
        };
        self.fetch = None;
        let (provider, fresh) = ended.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(CredentialsError::unhandled(error)),
        })?;
        self.provider = Some(provider);
        Ok(fresh)
    }
}

impl Fetch {
    fn begin(provider: Option<SharedCredentialsProvider>, chain: &Chain) -> Self {
        let built = match provider {
            Some(provider) => Box::pin(std::future::ready(provider)),
            None => chain(),
        };
        let task = tokio::spawn(async move {
            let provider = built.await;
            let fresh = provider.provide_credentials().await?;
            Ok((provider, fresh))
        });
        Self { began: Instant::now(), task }
    }
}

impl ProvideCredentials for CredentialCache {
    fn provide_credentials<'a>(&'a self) -> ProvideFuture<'a>
    where
        Self: 'a,
    {
        ProvideFuture::new(self.credentials())
    }
}

/// Keys given by settings or environment. A profile named in the settings goes before the environment's keys.
fn fixed(settings: &S3Settings, environment: &Environment) -> Result<Option<Credentials>> {
    match (&settings.access_key_id, &settings.secret_access_key) {
        (Some(id), Some(secret)) => {
            let token = settings.session_token.as_ref().map(|token| token.expose().to_owned());
            return Ok(Some(Credentials::new(id, secret.expose(), token, None, "settings")));
        }
        (None, None) => {}
        (id, _) => {
            let (have, lack) = match id {
                Some(_) => ("access-key-id", "secret-access-key"),
                None => ("secret-access-key", "access-key-id"),
            };
            return Err(Error::new(
                ErrorKind::Usage,
                format!("bucket {} has {have} but no {lack}: set both or neither", settings.bucket),
            ));
        }
    }
    if settings.profile.is_some() {
        return Ok(None);
    }
    let either = |name: &str| {
        environment.get(&format!("AWS_{name}")).or_else(|| environment.get(&format!("LITESTREAM_{name}")))
    };
    let (Some(id), Some(secret)) = (either("ACCESS_KEY_ID"), either("SECRET_ACCESS_KEY")) else {
        return Ok(None);
    };
    let token = environment.get("AWS_SESSION_TOKEN").map(str::to_owned);
    Ok(Some(Credentials::new(id, secret, token, None, "environment")))
}

async fn chain(
    profile: Option<String>,
    region: Region,
    http: Http,
    clock: Arc<dyn Clock>,
) -> SharedCredentialsProvider {
    let config = ProviderConfig::without_region()
        .with_region(Some(region.clone()))
        .with_http_client(http)
        .with_sleep_impl(TokioSleep::new())
        .with_time_source(SdkClock::new(clock));
    match profile {
        Some(name) => SharedCredentialsProvider::new(
            ProfileFileCredentialsProvider::builder().configure(&config).profile_name(name).build(),
        ),
        None => {
            let chain = DefaultCredentialsChain::builder().configure(config).region(region);
            SharedCredentialsProvider::new(chain.build().await)
        }
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
