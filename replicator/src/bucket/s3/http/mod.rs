//! The HTTP/1 client below the AWS SDK: sockets from [`Dial`], TLS above them, a small pool, and bounds on silence.
//!
//! One request per connection at a time. The number of connections follows the number of requests in flight, which
//! callers bound; at most [`MAX_IDLE`] unused ones are kept per server. With nothing under way there is no timer
//! and no running task, only parked connections until they are too old.

mod connection;
mod fault;
mod progress;
mod proxy;
pub(super) mod tls;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use self::connection::Connection;
pub(crate) use self::connection::{Target, address, reach};
pub(super) use self::fault::{Reached, TransportFault};
use self::progress::ResponseBody;
pub(crate) use self::proxy::Proxies;
use super::super::settings::Timeouts;
use crate::host::Dial;

/// Unused connections kept per server.
const MAX_IDLE: usize = 16;

/// The client. Clones share the pool.
#[derive(Clone)]
pub(super) struct Http {
    shared: Arc<Shared>,
    timeouts: Timeouts,
}

struct Shared {
    dial: Arc<dyn Dial>,
    tls: Option<TlsConnector>,
    proxies: Proxies,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: BTreeMap<Target, Vec<(Instant, Connection)>>,
    /// Whether a task is waiting to close what is too old. It ends when nothing is left.
    reaping: bool,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    /// A client without open connections. `tls` may be absent if only `http://` will be asked for.
    pub(super) fn new(
        dial: Arc<dyn Dial>,
        tls: Option<TlsConnector>,
        proxies: Proxies,
        timeouts: Timeouts,
    ) -> Self {
        Self { shared: Arc::new(Shared { dial, tls, proxies, idle: Mutex::default() }), timeouts }
    }

    /// Sends one request and returns the answer's head; its body is read by the caller. Never repeats anything.
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, TransportFault> {
        let mut request = request.try_into_http1x().map_err(|error| TransportFault::invalid(error.into()))?;
        let target = Target::of(request.uri()).map_err(|error| TransportFault::invalid(error.into()))?;
        address(&mut request, &target, self.shared.proxies.of(&target))
            .map_err(|error| TransportFault::invalid(error.into()))?;

        let (mut connection, reused) = match self.shared.take(&target, self.timeouts.idle_connection).await {
            Some(connection) => (connection, true),
            None => (self.connect(&target).await?, false),
        };
        let response = connection.exchange(request, &self.timeouts).await.map_err(|mut fault| {
            fault.reused_connection = reused;
            fault
        })?;
        let (parts, body) = response.into_parts();
        let lease = Lease { http: self.clone(), target, connection };
        let body = ResponseBody::new(body, lease, self.timeouts.download_progress);
        let response = http::Response::from_parts(parts, SdkBody::from_body_1_x(body));
        HttpResponse::try_from(response).map_err(|error| TransportFault::broken(error.into()))
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportFault> {
        let proxy = self.shared.proxies.of(target);
        let open = Connection::open(&*self.shared.dial, self.shared.tls.as_ref(), target, proxy);
        match tokio::time::timeout(self.timeouts.connect, open).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(TransportFault::unreached(target, error)),
            Err(_) => Err(TransportFault::unreached(
                target,
                std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("no connection within {:?}", self.timeouts.connect),
                ),
            )),
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        // The lists are consistent after every single call on them.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most recently used connection that is still usable.
    async fn take(&self, target: &Target, max_age: Duration) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle().connections.get_mut(target)?.pop()?;
            if since.elapsed() < max_age && connection.is_ready().await {
                return Some(connection);
            }
        }
    }
}

/// A connection that is busy with an answer, and the pool it came from.
struct Lease {
    http: Http,
    target: Target,
    connection: Connection,
}

impl Lease {
    /// Gives the connection back after the whole answer was read.
    fn release(self) {
        let Self { http, target, connection } = self;
        if connection.is_closed() {
            return;
        }
        let mut idle = http.shared.idle();
        let list = idle.connections.entry(target).or_default();
        if list.len() < MAX_IDLE {
            list.push((Instant::now(), connection));
        }
        if !idle.reaping {
            idle.reaping = true;
            tokio::spawn(reap(Arc::downgrade(&http.shared), http.timeouts.idle_connection));
        }
    }
}

/// Closes connections that nobody used for `max_age`; ends when none is left.
async fn reap(shared: std::sync::Weak<Shared>, max_age: Duration) {
    loop {
        tokio::time::sleep(max_age).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut idle = shared.idle();
        idle.connections.retain(|_, list| {
            list.retain(|(since, connection)| since.elapsed() < max_age && !connection.is_closed());
            !list.is_empty()
        });
        if idle.connections.is_empty() {
            idle.reaping = false;
            return;
        }
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.clone();
        HttpConnectorFuture::new(async move { http.exchange(request).await.map_err(ConnectorError::from) })
    }
}

impl HttpClient for Http {
    /// Timeouts that the caller asks for (instance metadata does) count before ours.
    fn http_connector(&self, asked: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let mut http = self.clone();
        http.timeouts.connect = asked.connect_timeout().unwrap_or(http.timeouts.connect);
        http.timeouts.answer = asked.read_timeout().unwrap_or(http.timeouts.answer);
        SharedHttpConnector::new(http)
    }
}

#[cfg(test)]
mod tests;
