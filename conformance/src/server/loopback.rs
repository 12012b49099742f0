//! The server on a real socket of this machine, for tests and demonstrations.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Clock, Server};

/// The system's clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a server on a real socket keeps real time")]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.ok().and_then(|d| i64::try_from(d.as_millis()).ok()).unwrap_or(0)
    })
}

/// A server listening on 127.0.0.1. Dropping it stops it and breaks its connections.
pub struct Loopback {
    server: Server,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Loopback {
    /// `http://127.0.0.1:<port>` and the dialect's path prefix.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}{}", self.address, self.server.dialect().path_prefix)
    }

    /// Address listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server behind it.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Listens on a free port of 127.0.0.1 and serves in the background. Needs a running tokio runtime.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start_loopback(self) -> io::Result<Loopback> {
        self.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Listens on the address and serves in the background.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn listen(self, address: SocketAddr) -> io::Result<Loopback> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let server = self.clone();
        let accepting = tokio::spawn(async move {
            // Connections live inside this task's set, so that aborting the task ends them too.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                let server = self.clone();
                connections.spawn(async move { server.serve_connection(socket).await });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Loopback { server, address, accepting })
    }
}
