//! Requests that a plugin sends, against a server on this machine.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpHooks};

use crate::Limits;
use crate::http::Outbound;
use crate::manifest::Manifest;
use crate::sources::Text;

/// A server that answers; its port.
async fn server() -> u16 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let routes = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/large", get(|| async { vec![b'x'; 100_000] }))
        .route("/slow", get(|| async { std::future::pending::<()>().await }))
        .route("/away", get(|| async { axum::response::Redirect::temporary("/hello") }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    port
}

fn outbound(manifest: &str, limits: Limits) -> Outbound {
    let text = Text { path: "a.toml".into(), text: manifest.into() };
    let manifest = Manifest::read(Some(&text)).unwrap();
    Outbound::new(&manifest.grants, &Arc::new(limits)).unwrap()
}

async fn send(
    outbound: &mut Outbound,
    method: &str,
    url: String,
    body: Vec<u8>,
) -> Result<(u16, Vec<u8>), Error> {
    let body: WasiBody = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let request = http::Request::builder().method(method).uri(url).body(body).unwrap();
    let sent = outbound.send_request(request, None, Box::new(async { Ok(()) }));
    let (response, _) = Box::into_pin(sent).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes().to_vec()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_reaches_hosts_that_are_granted_and_no_others() {
    let port = server().await;
    let granted = format!("[http]\nhosts = [\"localhost:{port}\"]\nallow-private = true");
    let mut some = outbound(&granted, Limits::default());
    let hello = send(&mut some, "GET", format!("http://localhost:{port}/hello"), vec![]).await;
    assert_eq!(hello.unwrap(), (200, b"hello".to_vec()));
    let echo =
        send(&mut some, "POST", format!("http://localhost:{port}/echo"), b"x".to_vec()).await;
    assert_eq!(echo.unwrap(), (200, b"x".to_vec()));
    // Redirects are the plugin's to follow.
    let away = send(&mut some, "GET", format!("http://localhost:{port}/away"), vec![]).await;
    assert_eq!(away.unwrap().0, 307);
    for url in [format!("http://127.0.0.1:{port}/hello"), "http://localhost/hello".into()] {
        let denied = send(&mut some, "GET", url, vec![]).await;
        assert!(matches!(denied, Err(Error::HttpRequestDenied)), "{denied:?}");
    }
    let mut none = outbound("", Limits::default());
    let denied = send(&mut none, "GET", format!("http://localhost:{port}/hello"), vec![]).await;
    assert!(matches!(denied, Err(Error::HttpRequestDenied)), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_granted_does_not_lead_into_the_hosts_own_network() {
    let port = server().await;
    let mut any = outbound(&format!("[http]\nhosts = [\"*:{port}\"]"), Limits::default());
    // Spellings of one address, and a name for it.
    for host in ["127.0.0.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost"] {
        let prohibited = send(&mut any, "GET", format!("http://{host}:{port}/hello"), vec![]).await;
        assert!(
            matches!(prohibited, Err(Error::DestinationIpProhibited)),
            "{host}: {prohibited:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_bounded_in_size_time_and_number() {
    let port = server().await;
    let granted = format!("[http]\nhosts = [\"localhost:{port}\"]\nallow-private = true");
    let limits = Limits {
        http_requests: 1,
        http_time: std::time::Duration::from_millis(500),
        http_request_bytes: 1_000,
        http_response_bytes: 1_000,
        ..Limits::default()
    };
    let mut bounded = outbound(&granted, limits);
    let large = send(&mut bounded, "GET", format!("http://localhost:{port}/large"), vec![]).await;
    assert!(matches!(large, Err(Error::HttpResponseBodySize(Some(1_000)))), "{large:?}");
    let sent = format!("http://localhost:{port}/echo");
    let large = send(&mut bounded, "POST", sent, vec![b'x'; 2_000]).await;
    assert!(large.is_err(), "{large:?}");
    let slow = format!("http://localhost:{port}/slow");
    let mut other = bounded.clone();
    let (slow, second) = tokio::join!(
        send(&mut bounded, "GET", slow.clone(), vec![]),
        send(&mut other, "GET", slow, vec![])
    );
    assert!(matches!(slow, Err(Error::HttpResponseTimeout)), "{slow:?}");
    assert!(matches!(second, Err(Error::ConnectionLimitReached)), "{second:?}");
}
