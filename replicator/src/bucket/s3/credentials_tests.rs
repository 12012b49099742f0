//! Which keys are used, and how they are renewed.

use super::*;
use crate::bucket::settings::Secret;

fn pairs(pairs: &[(&str, &str)]) -> Environment {
    Environment::hermetic(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn found(settings: &S3Settings, environment: &[(&str, &str)]) -> Option<(String, String, Option<String>)> {
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

/// The `n`th answer of a provider, good until second `1000 * (n + 1)`.
fn nth(n: u64) -> Credentials {
    let expiry = UNIX_EPOCH + Duration::from_secs(1000 * (n + 1));
    Credentials::new(format!("key{n}"), "s", None, Some(expiry), "test")
}

struct At(std::sync::Mutex<i64>);

impl At {
    fn set(&self, now: i64) {
        *self.0.lock().unwrap() = now;
    }
}

impl Clock for At {
    fn now(&self) -> UnixMillis {
        UnixMillis(*self.0.lock().unwrap())
    }
}

/// A chain of providers that `make` builds, and a clock at 0.
fn cache<P>(make: impl Fn() -> P + Send + Sync + 'static) -> (CredentialCache, Arc<At>)
where
    P: ProvideCredentials + 'static,
{
    let clock = Arc::new(At(std::sync::Mutex::new(0)));
    let chain: Chain = Box::new(move || Box::pin(std::future::ready(SharedCredentialsProvider::new(make()))));
    let cache = CredentialCache {
        source: Source::Chain(chain),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        state: Mutex::default(),
        epoch: AtomicU64::new(0),
    };
    (cache, clock)
}

async fn key(cache: &CredentialCache) -> String {
    cache.credentials().await.unwrap().access_key_id().to_owned()
}

/// Says something new each time.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl ProvideCredentials for Counting {
    fn provide_credentials<'a>(&'a self) -> ProvideFuture<'a>
    where
        Self: 'a,
    {
        ProvideFuture::ready(Ok(nth(self.0.fetch_add(1, Ordering::Relaxed))))
    }
}

/// As a profile's: says for ever what it read first. `None` is silence.
#[derive(Debug)]
struct Remembering(Option<Result<Credentials, ()>>);

impl ProvideCredentials for Remembering {
    fn provide_credentials<'a>(&'a self) -> ProvideFuture<'a>
    where
        Self: 'a,
    {
        match &self.0 {
            Some(Ok(credentials)) => ProvideFuture::ready(Ok(credentials.clone())),
            Some(Err(())) => ProvideFuture::ready(Err(CredentialsError::provider_error("no"))),
            None => ProvideFuture::new(std::future::pending()),
        }
    }
}

#[tokio::test]
async fn credentials_are_kept_until_shortly_before_they_expire() {
    let (cache, clock) = cache(Counting::default);
    let mut seen = Vec::new();
    for now in [0, 699_000, 700_000, 1_699_000, 1_701_000] {
        clock.set(now);
        seen.push(key(&cache).await);
    }
    assert_eq!(seen, ["key0", "key0", "key1", "key1", "key2"]);
}

#[tokio::test]
async fn keys_that_were_rotated_are_read_again() {
    let file = Arc::new(std::sync::Mutex::new(0));
    let read = Arc::clone(&file);
    let (cache, _) = cache(move || Remembering(Some(Ok(nth(*read.lock().unwrap())))));
    assert_eq!(key(&cache).await, "key0");
    *file.lock().unwrap() = 1;
    assert_eq!(key(&cache).await, "key0", "nothing is wrong with it yet");
    let epoch = cache.epoch();
    assert!(cache.invalidate(epoch).await);
    assert_eq!(key(&cache).await, "key1");
    *file.lock().unwrap() = 2;
    assert!(cache.invalidate(epoch).await, "a request with the old key comes back late");
    assert_eq!(key(&cache).await, "key1");
}

#[tokio::test]
async fn a_provider_that_failed_is_built_anew() {
    let built = AtomicU64::new(0);
    let (cache, _) = cache(move || match built.fetch_add(1, Ordering::Relaxed) {
        0 => Remembering(Some(Err(()))),
        n => Remembering(Some(Ok(nth(n)))),
    });
    assert!(cache.credentials().await.is_err());
    assert_eq!(key(&cache).await, "key1");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_is_an_error_for_all_who_wait_and_asked_once() {
    let built = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&built);
    let (cache, _) = cache(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Remembering(None)
    });
    let start = Instant::now();
    for answer in futures::future::join_all((0..100).map(|_| cache.credentials())).await {
        assert!(matches!(answer, Err(CredentialsError::ProviderTimedOut(_))), "{answer:?}");
    }
    assert_eq!(start.elapsed(), PATIENCE);
    // What hangs is not multiplied by asking again, and not waited for until the end of days.
    while start.elapsed() < LONGEST_FETCH {
        assert!(cache.credentials().await.is_err());
    }
    assert_eq!(built.load(Ordering::Relaxed), 1);
    assert!(cache.credentials().await.is_err());
    assert_eq!(built.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn old_credentials_are_used_while_they_last() {
    let built = AtomicU64::new(0);
    let (cache, clock) = cache(move || match built.fetch_add(1, Ordering::Relaxed) {
        0 => Remembering(Some(Ok(nth(0)))),
        _ => Remembering(None),
    });
    assert_eq!(key(&cache).await, "key0");
    // In the margin the chain, which knows no more than before, is asked anew.
    cache.state.lock().await.provider = None;
    clock.set(800_000);
    for waited in [PATIENCE, Duration::ZERO, Duration::ZERO] {
        let start = Instant::now();
        assert_eq!(key(&cache).await, "key0");
        assert_eq!(start.elapsed(), waited);
    }
    tokio::time::advance(REST).await;
    let start = Instant::now();
    assert_eq!(key(&cache).await, "key0");
    assert_eq!(start.elapsed(), PATIENCE);
    clock.set(1_000_000);
    assert!(cache.credentials().await.is_err());
}
