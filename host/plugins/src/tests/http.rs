//! Requests that a plugin sends, against a server on this machine.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use host_workspace::{ActionError, Issue};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpHooks};

use crate::Limits;
use crate::log::Log;
use crate::reach::fetch::{Request, fetch};
use crate::reach::http::Outbound;
use crate::reach::manifest::Manifest;
use crate::wasm::Hooks;

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
    let manifest = Manifest::read("a.toml", manifest).unwrap();
    Outbound::new(&manifest.grants, &Arc::new(limits)).unwrap()
}

async fn send(
    outbound: &Outbound,
    method: &str,
    url: String,
    body: Vec<u8>,
) -> Result<(u16, Vec<u8>), Error> {
    let body: WasiBody = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let request = http::Request::builder().method(method).uri(url).body(body).unwrap();
    let (response, _) = outbound.send(request, None).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes().to_vec()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_reaches_hosts_that_are_granted_and_no_others() {
    let port = server().await;
    let granted = format!("[http]\nhosts = [\"localhost:{port}\"]\nallow-private = true");
    let some = outbound(&granted, Limits::default());
    let hello = send(&some, "GET", format!("http://localhost:{port}/hello"), vec![]).await;
    assert_eq!(hello.unwrap(), (200, b"hello".to_vec()));
    let echo = send(&some, "POST", format!("http://localhost:{port}/echo"), b"x".to_vec()).await;
    assert_eq!(echo.unwrap(), (200, b"x".to_vec()));
    // Redirects are the plugin's to follow.
    let away = send(&some, "GET", format!("http://localhost:{port}/away"), vec![]).await;
    assert_eq!(away.unwrap().0, 307);
    for url in [format!("http://127.0.0.1:{port}/hello"), "http://localhost/hello".into()] {
        let denied = send(&some, "GET", url, vec![]).await;
        assert!(matches!(denied, Err(Error::HttpRequestDenied)), "{denied:?}");
    }
    let none = outbound("", Limits::default());
    let denied = send(&none, "GET", format!("http://localhost:{port}/hello"), vec![]).await;
    assert!(matches!(denied, Err(Error::HttpRequestDenied)), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_granted_does_not_lead_into_the_hosts_own_network() {
    let port = server().await;
    let any = outbound(&format!("[http]\nhosts = [\"*:{port}\"]"), Limits::default());
    // Spellings of one address, and a name for it.
    for host in ["127.0.0.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost"] {
        let prohibited = send(&any, "GET", format!("http://{host}:{port}/hello"), vec![]).await;
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
    let bounded = outbound(&granted, limits);
    let large = send(&bounded, "GET", format!("http://localhost:{port}/large"), vec![]).await;
    assert!(matches!(large, Err(Error::HttpResponseBodySize(Some(1_000)))), "{large:?}");
    let sent = format!("http://localhost:{port}/echo");
    let large = send(&bounded, "POST", sent, vec![b'x'; 2_000]).await;
    assert!(large.is_err(), "{large:?}");
    let slow = format!("http://localhost:{port}/slow");
    let other = bounded.clone();
    let (slow, second) = tokio::join!(
        send(&bounded, "GET", slow.clone(), vec![]),
        send(&other, "GET", slow, vec![])
    );
    assert!(matches!(slow, Err(Error::HttpResponseTimeout)), "{slow:?}");
    assert!(matches!(second, Err(Error::ConnectionLimitReached)), "{second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_request_is_answered_in_words_that_name_what_would_mend_it() {
    let port = server().await;
    let granted = format!("[http]\nhosts = [\"localhost:{port}\"]\nallow-private = true");
    let granted = outbound(&granted, Limits { http_response_bytes: 1_000, ..Limits::default() });
    let public = outbound(&format!("[http]\nhosts = [\"*:{port}\"]"), Limits::default());
    let request = |method: &str, url: &str| Request {
        method: method.into(),
        url: url.replace("{port}", &port.to_string()),
        headers: vec![("x-name".into(), "value".into())],
        body: "body".into(),
    };
    let echo = fetch(&granted, request("POST", "http://localhost:{port}/echo")).await.unwrap();
    assert_eq!((echo.status, &echo.body[..]), (200, &b"body"[..]));
    assert!(echo.headers.contains(&("content-length".into(), "4".into())), "{:?}", echo.headers);

    let denied = |message: &str| ActionError::Denied(message.replace("{port}", &port.to_string()));
    let failed = |message: &str| ActionError::Failed(message.replace("{port}", &port.to_string()));
    let invalid = |at, message: &str| ActionError::Invalid(vec![Issue::at(at, message)]);
    let cases = [
        (
            fetch(&granted, request("GET", "http://example.com/")).await,
            denied(
                "this plugin may not ask example.com; `hosts` under `[http]` in its manifest says whom it may",
            ),
        ),
        (
            fetch(&public, request("GET", "http://127.0.0.1:{port}/hello")).await,
            denied(
                "127.0.0.1:{port} leads to an address that is not public; `allow-private = true` under \
                 `[http]` in the plugin's manifest allows that",
            ),
        ),
        (
            fetch(&granted, request("GET", "http://localhost:{port}/large")).await,
            failed("localhost:{port} cannot be asked: its answer has more than 1000 bytes"),
        ),
        (
            fetch(&granted, request("GET", "ftp://localhost/")).await,
            invalid("url", "\"ftp://localhost/\" is no absolute URL of https or http"),
        ),
        (
            fetch(&granted, request("A B", "http://localhost/")).await,
            invalid("method", "\"A B\" is none"),
        ),
    ];
    for (answer, expected) in cases {
        assert_eq!(answer.map(|answer| answer.status), Err(expected));
    }
}

#[tokio::test]
async fn a_refusal_by_wasi_http_stands_in_the_log() {
    let log = Arc::new(Mutex::new(Log::new("a.wasm".into(), "a".into(), 10, 1_000)));
    log.lock().begin("action x".into(), "r".into());
    let mut hooks = Hooks { outbound: outbound("", Limits::default()), log: log.clone() };
    let body: WasiBody = Full::default().map_err(|never| match never {}).boxed_unsync();
    let request = http::Request::builder().uri("http://example.com/").body(body).unwrap();
    let sent = hooks.send_request(request, None, Box::new(async { Ok(()) }));
    assert!(Box::into_pin(sent).await.is_err());
    let said = log.lock().last_words().unwrap();
    assert!(said.contains("this plugin may not ask example.com"), "{said}");
}
