//! The metrics server: `GET /metrics`, and nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::board::Board;
use super::{metrics, process};
use crate::error::{Error, Result};
use crate::host::{Host, UnixMillis};

/// Scrapes served at once; more wait.
const CONNECTIONS: usize = 32;
/// Time for a client to send its request.
const SLOWEST_REQUEST: Duration = Duration::from_secs(10);

/// A bound metrics server.
pub struct Server {
    listener: TcpListener,
    shown: Shown,
}

#[derive(Clone)]
struct Shown {
    board: Board,
    host: Host,
    started: UnixMillis,
}

impl Server {
    /// Binds `host:port`, or `:port` for all addresses.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: &str, board: Board, host: Host) -> Result<Self> {
        let bound = match address.strip_prefix(':') {
            None => TcpListener::bind(address).await,
            Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                Ok(listener) => Ok(listener),
                // No IPv6 here.
                Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
            },
        };
        let listener =
            bound.map_err(|error| Error::io(format!("cannot serve metrics on {address}"), error))?;
        let started = host.clock.now();
        Ok(Self { listener, shown: Shown { board, host, started } })
    }

    /// The address that scrapers ask.
    #[must_use]
    pub fn url(&self) -> String {
        self.listener
            .local_addr()
            .map_or_else(|_| "unknown".to_owned(), |address| format!("http://{address}/metrics"))
    }

    /// Serves for ever.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let shown = self.shown.clone();
                    tokio::spawn(async move {
                        let service = service_fn(move |request| {
                            let response = answer(&request, &shown);
                            async move { Ok::<_, Infallible>(response) }
                        });
                        // A client that breaks off is its own affair.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(SLOWEST_REQUEST)
                            .keep_alive(false)
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of descriptors, say: the next attempt would fail at once, too.
                    tracing::warn!(%error, "metrics server cannot accept a connection");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

fn answer(request: &Request<Incoming>, shown: &Shown) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let now = shown.host.clock.now();
            let mut text = metrics::render(&shown.board.shown(now), shown.started, now);
            text += &shown.board.operations().render();
            // Files in memory: no worker waits for them.
            (StatusCode::OK, text + &process::render(&*shown.host.disk))
        }
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_are_served_and_nothing_else() {
        let host = crate::host::os::host();
        let board = Board::default();
        let server = Server::bind("127.0.0.1:0", board.clone(), host.clone()).await.unwrap();
        let address = server.listener.local_addr().unwrap();
        assert_eq!(server.url(), format!("http://{address}/metrics"));
        assert!(Server::bind(&address.to_string(), board.clone(), host).await.is_err());
        let task = tokio::spawn(server.run());

        let (_status, receiver) = tokio::sync::watch::channel(crate::sync::Status::default());
        board.add("/x.db".into(), receiver, Arc::new(|_| None));
        let get = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        let shown = ask(address, get).await;
        assert!(
            shown.starts_with("HTTP/1.1 200") && shown.contains("litestream_db_size{db=\"/x.db\"} 0\n"),
            "{shown}"
        );
        assert!(shown.contains("\nprocess_open_fds "), "{shown}");
        board.remove(std::path::Path::new("/x.db"));
        assert!(!ask(address, get).await.contains("x.db"));
        assert!(ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
        assert!(ask(address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        task.abort();
    }
}
