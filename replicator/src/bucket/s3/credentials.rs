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

use super::super::open::Environment;
use super::super::settings::S3Settings;
use super::clock::SdkClock;
use super::http::Http;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Clock, UnixMillis};

/// Credentials are renewed this long before they expire.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// Where credentials come from.
enum Source {
    Fixed(Credentials),
    Chain { profile: Option<String>, region: Region, http: Http },
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
    provider: Option<SharedCredentialsProvider>,
    current: Option<Credentials>,
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
            None if environment.is_ambient() => Source::Chain {
                profile: settings.profile.clone(),
                region: Region::new(region.to_owned()),
                http,
            },
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
    /// with expired credentials cause one renewal together. `false` if asking again would give the same.
    pub(super) async fn invalidate(&self, epoch: u64) -> bool {
        let mut state = self.state.lock().await;
        if self.epoch() == epoch {
            state.current = None;
        }
        matches!(self.source, Source::Chain { .. })
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let (profile, region, http) = match &self.source {
            Source::Fixed(credentials) => return Ok(credentials.clone()),
            Source::Chain { profile, region, http } => (profile, region, http),
        };
        // Held while fetching, so that hundreds of requests cause one fetch.
        let mut state = self.state.lock().await;
        if let Some(current) = &state.current
            && !self.expires_within(current, MARGIN)
        {
            return Ok(current.clone());
        }
        let provider = match &state.provider {
            Some(provider) => provider.clone(),
            None => {
                let provider = chain(profile.as_deref(), region, http, &self.clock).await;
                state.provider.insert(provider).clone()
            }
        };
        match provider.provide_credentials().await {
            Ok(fresh) => {
                self.epoch.fetch_add(1, Ordering::Relaxed);
                Ok(state.current.insert(fresh).clone())
            }
            Err(error) => match &state.current {
                Some(current) if !self.expires_within(current, Duration::ZERO) => {
                    tracing::warn!(%error, "cannot renew credentials, using the old ones while they last");
                    Ok(current.clone())
                }
                _ => Err(error),
            },
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
    profile: Option<&str>,
    region: &Region,
    http: &Http,
    clock: &Arc<dyn Clock>,
) -> SharedCredentialsProvider {
    let config = ProviderConfig::without_region()
        .with_region(Some(region.clone()))
        .with_http_client(http.clone())
        .with_sleep_impl(TokioSleep::new())
        .with_time_source(SdkClock::new(Arc::clone(clock)));
    match profile {
        Some(name) => SharedCredentialsProvider::new(
            ProfileFileCredentialsProvider::builder().configure(&config).profile_name(name).build(),
        ),
        None => {
            let chain = DefaultCredentialsChain::builder().configure(config).region(region.clone());
            SharedCredentialsProvider::new(chain.build().await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::Proxies;
    use super::*;
    use crate::bucket::settings::Secret;
    use crate::host::os;

    fn pairs(pairs: &[(&str, &str)]) -> Environment {
        Environment::hermetic(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn found(
        settings: &S3Settings,
        environment: &[(&str, &str)],
    ) -> Option<(String, String, Option<String>)> {
        fixed(settings, &pairs(environment)).unwrap().map(|found| {
            let token = found.session_token().map(str::to_owned);
            (found.access_key_id().to_owned(), found.secret_access_key().to_owned(), token)
        })
    }

    #[test]
    fn precedence() {
        let settings = S3Settings::default();
        let own = |id: &str, secret: &str, token: Option<&str>| {
            Some((id.to_owned(), secret.to_owned(), token.map(str::to_owned)))
        };
        let litestream = [("LITESTREAM_ACCESS_KEY_ID", "l"), ("LITESTREAM_SECRET_ACCESS_KEY", "ls")];
        let aws = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "as"), ("AWS_SESSION_TOKEN", "t")];
        assert_eq!(found(&settings, &[]), None);
        assert_eq!(found(&settings, &litestream), own("l", "ls", None));
        let token = [("AWS_SESSION_TOKEN", "t")];
        assert_eq!(found(&settings, &[&litestream[..], &token[..]].concat()), own("l", "ls", Some("t")));
        assert_eq!(found(&settings, &aws), own("a", "as", Some("t")));
        assert_eq!(found(&settings, &[&litestream[..], &aws[..]].concat()), own("a", "as", Some("t")));
        assert_eq!(
            found(&settings, &[("AWS_ACCESS_KEY_ID", ""), litestream[0], litestream[1]]),
            own("l", "ls", None)
        );

        let explicit = S3Settings {
            access_key_id: Some("c".into()),
            secret_access_key: Some(Secret::new("cs")),
            session_token: Some(Secret::new("ct")),
            ..S3Settings::default()
        };
        assert_eq!(found(&explicit, &aws), own("c", "cs", Some("ct")));
        let profile = S3Settings { profile: Some("p".into()), ..S3Settings::default() };
        assert_eq!(found(&profile, &aws), None);
        let half = S3Settings { access_key_id: Some("c".into()), ..S3Settings::default() };
        assert!(fixed(&half, &pairs(&[])).unwrap_err().message().contains("no secret-access-key"));
    }

    #[tokio::test]
    async fn credentials_are_kept_until_shortly_before_they_expire() {
        #[derive(Debug, Default)]
        struct Counting(AtomicU64);
        impl ProvideCredentials for Counting {
            fn provide_credentials<'a>(&'a self) -> ProvideFuture<'a>
            where
                Self: 'a,
            {
                let n = self.0.fetch_add(1, Ordering::Relaxed);
                let expiry = UNIX_EPOCH + Duration::from_secs(1000 * (n + 1));
                ProvideFuture::ready(Ok(Credentials::new(format!("key{n}"), "s", None, Some(expiry), "test")))
            }
        }
        struct At(std::sync::Mutex<i64>);
        impl Clock for At {
            fn now(&self) -> UnixMillis {
                UnixMillis(*self.0.lock().unwrap())
            }
        }
        let clock = Arc::new(At(std::sync::Mutex::new(0)));
        let http = Http::new(
            os::host().dial,
            None,
            Proxies::default(),
            crate::bucket::settings::Timeouts::default(),
        );
        let region = Region::new("r");
        let cache = CredentialCache {
            source: Source::Chain { profile: None, region, http },
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            state: Mutex::new(State {
                provider: Some(SharedCredentialsProvider::new(Counting::default())),
                current: None,
            }),
            epoch: AtomicU64::new(0),
        };
        let mut seen = Vec::new();
        for now in [0, 699_000, 700_000, 1_699_000, 1_701_000] {
            *clock.0.lock().unwrap() = now;
            seen.push(cache.credentials().await.unwrap().access_key_id().to_owned());
        }
        assert_eq!(seen, ["key0", "key0", "key1", "key1", "key2"]);
        let epoch = cache.epoch();
        assert!(cache.invalidate(epoch).await);
        assert_eq!(cache.credentials().await.unwrap().access_key_id(), "key3");
        assert!(cache.invalidate(epoch).await, "a request with the old key comes back late");
        assert_eq!(cache.credentials().await.unwrap().access_key_id(), "key3");
    }
}
