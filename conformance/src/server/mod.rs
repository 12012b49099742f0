//! An S3 server in memory: `s3s` for the protocol, a store that forgets nothing, a provider's dialect, and faults.
//!
//! Runs over any byte stream: [`Server::serve_connection`] for a simulated network, [`Server::start_loopback`] for
//! tests and demonstrations. Single-threaded use is deterministic: the clock is passed in, every map is ordered,
//! identifiers are counted. Nothing here knows what a replicator stores.
//!
//! A request passes through [`front`] (raw rules, faults), `s3s` (signature, framing, XML) and [`s3`] (the store).

mod answer;
pub mod dialect;
pub mod fault;
mod front;
pub mod keys;
mod loopback;
mod prefix;
mod raw_rules;
mod s3;
mod secure;
pub mod store;
mod traffic;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result};
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::dialect::Dialect;
pub use self::fault::{ErrorAnswer, Fault, FaultPlan, Lie, NoFaults, Outcome, RequestFacts, Staleness, Verb};
pub use self::keys::{AccessKey, Rights};
pub use self::loopback::{Loopback, system_clock};
pub use self::secure::Secure;
pub use self::store::{Millis, Moment, Stamp, Store};
pub use self::traffic::Traffic;

/// Server time, for `Last-Modified`, the clock-skew rule and the log.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// How to make a [`Server`].
#[derive(Clone)]
pub struct Settings {
    /// Provider to be like.
    pub dialect: Dialect,
    /// Keys that may sign.
    pub keys: Vec<AccessKey>,
    /// Host name under which `bucket.<domain>` names a bucket; the dialect's own host is another.
    pub domain: String,
    /// Server time.
    pub clock: Clock,
    /// What goes wrong.
    pub faults: Arc<dyn FaultPlan>,
}

impl Settings {
    /// Documented S3 behaviour, one key `access`/`secret`, domain `localhost`, no faults.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            dialect: Dialect { name: "default".to_owned(), title: "S3".to_owned(), ..Dialect::default() },
            keys: vec![AccessKey::new("access", "secret")],
            domain: "localhost".to_owned(),
            clock,
            faults: Arc::new(NoFaults),
        }
    }
}

struct Inner {
    dialect: Arc<Dialect>,
    domains: Vec<String>,
    clock: Clock,
    keys: keys::Keys,
    faults: Mutex<Arc<dyn FaultPlan>>,
    store: Arc<Mutex<Store>>,
    traffic: Mutex<Traffic>,
    /// `s3s` with signature checks.
    signed: S3Service,
    /// `s3s` without, for [`Lie::AcceptAnySignature`].
    unsigned: S3Service,
    ordinal: AtomicU64,
    in_flight: AtomicUsize,
    parts_in_flight: AtomicUsize,
}

/// An S3 server. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

impl Server {
    /// Makes a server without buckets.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let dialect = Arc::new(settings.dialect);
        let domains: Vec<_> = dialect.host.iter().cloned().chain([settings.domain]).collect();
        let keys: keys::Keys = Arc::new(Mutex::new(settings.keys));
        let store = Arc::new(Mutex::new(Store::default()));
        let backend = s3::Backend { store: store.clone(), dialect: dialect.clone() };
        let service = |check: bool| {
            let mut builder = S3ServiceBuilder::new(backend.clone());
            // The skew rule needs our clock, so `front` checks it and `s3s` must not.
            let mut config = S3Config::default();
            config.presigned_url_max_skew_time_secs = u32::MAX;
            builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
            builder.set_host(Domains(domains.clone()));
            if check {
                builder.set_auth(keys::Auth(keys.clone()));
                let (clock, dialect) = (settings.clock.clone(), dialect.clone());
                builder.set_access(keys::Access { keys: keys.clone(), clock, dialect });
            }
            builder.build()
        };
        let (signed, unsigned) = (service(true), service(false));
        Self {
            inner: Arc::new(Inner {
                dialect,
                domains,
                clock: settings.clock,
                keys,
                faults: Mutex::new(settings.faults),
                store,
                traffic: Mutex::default(),
                signed,
                unsigned,
                ordinal: AtomicU64::new(0),
                in_flight: AtomicUsize::new(0),
                parts_in_flight: AtomicUsize::new(0),
            }),
        }
    }

    /// Serves one HTTP/1.1 connection until either side closes it. Dropping the future closes it abruptly, as a
    /// crash would.
    pub async fn serve_connection<I>(&self, io: I)
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let service = service_fn(|request| front::handle(self.inner.clone(), request));
        // A client that goes away, and a hangup we chose, both end here; neither is news.
        let _ =
            http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(io), service).await;
    }

    /// Makes a bucket without a request. Does nothing if it exists.
    pub fn create_bucket(&self, name: &str) {
        let stamp = Stamp { at: (self.inner.clock)(), request: 0 };
        // The only refusal is that it exists, which is what is wanted.
        let _ = self.store().create_bucket(stamp, name);
    }

    /// The store with its whole past. Hold the guard briefly: requests wait for it.
    ///
    /// # Panics
    /// If another holder of the guard panicked.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.inner.store.lock().expect("no holder of the store's lock panics")
    }

    /// Replaces the keys that may sign.
    ///
    /// # Panics
    /// Never; the lock is held for moments only.
    pub fn set_keys(&self, keys: Vec<AccessKey>) {
        *self.inner.keys.lock().expect("no holder of the key list panics") = keys;
    }

    /// Replaces the fault plan, for requests that arrive from now on.
    ///
    /// # Panics
    /// Never; the lock is held for moments only.
    pub fn set_faults(&self, faults: Arc<dyn FaultPlan>) {
        *self.inner.faults.lock().expect("no holder of the plan panics") = faults;
    }

    /// Counts so far.
    ///
    /// # Panics
    /// Never; the lock is held for moments only.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.inner.traffic.lock().expect("no holder of the counters panics").clone()
    }

    /// Counts so far, and starts over from zero.
    ///
    /// # Panics
    /// Never; the lock is held for moments only.
    #[must_use]
    pub fn take_traffic(&self) -> Traffic {
        std::mem::take(&mut *self.inner.traffic.lock().expect("no holder of the counters panics"))
    }

    /// The dialect spoken.
    #[must_use]
    pub fn dialect(&self) -> &Dialect {
        &self.inner.dialect
    }
}

/// Splits `bucket.<domain>:port`; any other host means path style.
struct Domains(Vec<String>);

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        Ok(match bucket_of_host(host, &self.0) {
            Some((bucket, domain)) => VirtualHost::new(domain).with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

/// The bucket in a `Host` header, if it names one under one of the domains, and that domain.
fn bucket_of_host<'a>(host: &'a str, domains: &'a [String]) -> Option<(&'a str, &'a str)> {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |s| s.0);
    let under = |domain: &'a String| {
        let bucket = name.strip_suffix(domain.as_str())?.strip_suffix('.')?;
        Some((bucket, domain.as_str())).filter(|(bucket, _)| !bucket.is_empty())
    };
    domains.iter().find_map(under)
}

/// An S3 error whose code `s3s` has no variant for.
fn s3_error_with(status: u16, code: &str, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.to_owned().into()), message);
    error.set_status_code(http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_REQUEST));
    error
}

/// Counts a thing in flight for as long as it lives.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    /// Enters, and returns how many there are now with this one.
    fn enter(counter: &'a AtomicUsize) -> (Self, usize) {
        let before = counter.fetch_add(1, Ordering::Relaxed);
        (Self(counter), before + 1)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
