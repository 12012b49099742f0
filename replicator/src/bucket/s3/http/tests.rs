//! The pool.

use super::*;
use crate::host::os;

async fn get(http: &Http, address: std::net::SocketAddr) -> usize {
    let request = HttpRequest::get(format!("http://{address}/")).unwrap();
    let response = http.exchange(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap().parse().unwrap()
}

/// A server that answers with the number of its connection.
async fn numbered() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 1.. {
            let Ok((socket, _)) = listener.accept().await else { return };
            let service = hyper::service::service_fn(move |_| async move {
                Ok::<_, std::convert::Infallible>(http::Response::new(number.to_string()))
            });
            let io = hyper_util::rt::TokioIo::new(socket);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    address
}

#[tokio::test]
async fn connections_are_kept_used_again_and_closed_when_old() {
    let address = numbered().await;
    let timeouts = Timeouts { idle_connection: Duration::from_millis(100), ..Timeouts::default() };
    let http = Http::new(os::host().dial, None, Proxies::default(), timeouts);
    assert_eq!((get(&http, address).await, get(&http, address).await), (1, 1));
    let (a, b) = tokio::join!(get(&http, address), get(&http, address));
    assert_eq!(a.max(b), 2, "one connection each for requests at the same time");
    assert_eq!(http.shared.idle().connections.values().map(Vec::len).sum::<usize>(), 2);
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert!(http.shared.idle().connections.is_empty());
    assert!(!http.shared.idle().reaping, "no task is left");
    assert_eq!(get(&http, address).await, 3);
}

#[tokio::test]
async fn https_without_tls_is_refused_and_not_sent_in_clear() {
    let http = Http::new(os::host().dial, None, Proxies::default(), Timeouts::default());
    let address = numbered().await;
    let request = HttpRequest::get(format!("https://{address}/")).unwrap();
    let fault = http.exchange(request).await.unwrap_err();
    assert_eq!(fault.reached, Reached::Nothing);
}
