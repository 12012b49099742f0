//! TCP connections. A name is looked up by a call of the C library that blocks its thread, for tens of seconds when name
//! servers do not answer. Only a few of them run at once, so that an outage leaves the pool's other threads to those who
//! copy commits.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{BoxFuture, Dial, Stream};

/// Names that are looked up at once.
const LOOKUPS: usize = 2;

/// Time that an address has to itself before the next one is tried beside it. An address whose packets are dropped (IPv6
/// that is half set up) would else use up the time that callers give to all of them, at each attempt.
const HEAD_START: Duration = Duration::from_millis(300);

/// Real connections.
pub(super) struct TcpDial {
    turns: Arc<Semaphore>,
    look_up: LookUp,
}

type LookUp = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

impl Default for TcpDial {
    fn default() -> Self {
        Self::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl TcpDial {
    fn new(look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { turns: Arc::new(Semaphore::new(LOOKUPS)), look_up: Arc::new(look_up) }
    }

    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        // Who gives up while waiting here leaves nothing behind; who gives up later leaves a call that keeps its turn.
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(io::Error::other)?;
        let (look_up, host) = (Arc::clone(&self.look_up), host.to_owned());
        #[expect(clippy::disallowed_methods, reason = "part of the host")]
        let call = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            look_up(&host, port)
        });
        call.await?
    }
}

impl Dial for TcpDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let addresses = self.addresses(host, port).await?;
            let stream = first_to_connect(&addresses, TcpStream::connect).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// Connects to the first of several addresses that answers, the earlier ones preferred. If none does, the error is the
/// last one.
async fn first_to_connect<T, F>(addresses: &[SocketAddr], connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no addresses");
    let (mut untried, mut attempts) = (addresses.iter(), FuturesUnordered::new());
    loop {
        attempts.extend(untried.next().map(|address| connect(*address)));
        let is_last = untried.len() == 0;
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = tokio::time::sleep(HEAD_START), if !is_last => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn hanging_lookups_take_two_threads_whoever_waits_and_whoever_gave_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let dial = TcpDial::new({
            let (calls, hang) = (Arc::clone(&calls), Mutex::new(hang));
            move |_, _| {
                calls.fetch_add(1, Ordering::SeqCst);
                // Ends when the other side is gone.
                let _ = hang.lock().unwrap().recv();
                Ok(vec![address])
            }
        });
        let impatient = |_| tokio::time::timeout(Duration::from_millis(50), dial.dial("name", 1));
        for _ in 0..2 {
            let dials = futures::future::join_all((0..20).map(impatient)).await;
            assert!(dials.iter().all(Result::is_err), "nobody has an address");
            assert!(calls.load(Ordering::SeqCst) <= LOOKUPS);
        }
        // What is no name needs no turn.
        dial.dial("127.0.0.1", address.port()).await.unwrap();

        drop(release);
        dial.dial("name", 1).await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), LOOKUPS + 1, "those who gave up left nothing behind");
    }

    #[tokio::test]
    async fn the_addresses_of_a_name_are_tried_in_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![gone.local_addr().unwrap(), listener.local_addr().unwrap()];
        drop(gone);
        let dial = TcpDial::new(move |_, _| Ok(addresses.clone()));
        dial.dial("name", 1).await.unwrap();
        let nowhere = TcpDial::new(|_, _| Ok(Vec::new()));
        assert!(nowhere.dial("name", 1).await.is_err());
    }

    /// The first address used to get all of the time.
    #[tokio::test(start_paused = true)]
    async fn an_address_that_never_answers_does_not_hold_up_the_next() {
        let address = |number: u8| SocketAddr::from(([127, 0, 0, number], 1));
        let [silent, good, refusing] = [1, 2, 3].map(address);
        let connect = async |address| {
            if address == silent {
                std::future::pending::<()>().await;
            }
            if address == refusing { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(address) }
        };
        let attempt = async |addresses: &[SocketAddr]| {
            tokio::time::timeout(Duration::from_secs(10), first_to_connect(addresses, connect)).await
        };
        let begun = tokio::time::Instant::now();
        assert_eq!(attempt(&[silent, good]).await.unwrap().unwrap(), good);
        assert_eq!(attempt(&[silent, silent, refusing, good]).await.unwrap().unwrap(), good);
        assert!(begun.elapsed() <= 3 * HEAD_START, "{:?}", begun.elapsed());
        let refused = attempt(&[refusing, refusing]).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(attempt(&[]).await.unwrap().is_err(), "there is nothing to try");
        assert!(attempt(&[silent]).await.is_err(), "how long to wait is the caller's affair");
    }
}
