//! The proxy on one port, in front of a stub provider on another.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use host_caller::Account;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;
use crate::providers::Endpoint;

const TOKEN: &str = "session-token";
const OTHER: &str = "token-of-another";
const KEY: &str = "sk-the-real-key";

/// How long a test waits before it concludes that something does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// The request that reached the provider.
#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A provider with the proxy in front of it.
struct Stage {
    proxy: SocketAddr,
    provider: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    http: reqwest::Client,
    usage: Usage,
    over: CancellationToken,
    _folder: tempfile::TempDir,
    _servers: JoinSet<()>,
}

/// Knows two tokens and fails for a third. Sessions end when it is cancelled.
struct OneCaller(CancellationToken);

#[async_trait]
impl Callers for OneCaller {
    async fn identify(&self, token: &str) -> Result<Option<Caller>, Unavailable> {
        let caller = |id: &str, session: &str| {
            let account = Account {
                id: id.into(),
                email: String::new(),
                name: String::new(),
                owns_address: true,
            };
            Ok(Some(Caller { account, session: session.into(), token: token.into() }))
        };
        match token {
            TOKEN => caller("ada", "1"),
            OTHER => caller("bob", "2"),
            "unlucky" => Err(Unavailable::Failed("the database is away".into())),
            _ => Ok(None),
        }
    }

    fn ended(&self, caller: &Caller) -> Ended {
        assert_eq!(&*caller.session, "1");
        let over = self.0.clone();
        Box::pin(async move { over.cancelled().await })
    }
}

impl Stage {
    /// A provider that answers whole requests with `answer`.
    async fn new(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        let provider = Router::new().fallback(move |request: Request| async move {
            let (Parts { method, uri, headers, .. }, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("the body arrives");
            let seen = Seen { method, target: uri.to_string(), headers, body };
            let answer = answer(&seen);
            record.lock().push(seen);
            answer
        });
        Self { seen, ..Self::before(provider, Limits::default()).await }
    }

    async fn before(provider: Router, limits: Limits) -> Self {
        let mut servers = JoinSet::new();
        let provider = serve(&mut servers, provider).await;
        Self::at(provider, servers, limits).await
    }

    async fn at(provider: SocketAddr, mut servers: JoinSet<()>, limits: Limits) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let endpoint = |text: String| text.parse::<Endpoint>().expect("an endpoint");
        let endpoints = [
            endpoint(format!("prefixed=http://{provider}/api/v1")),
            endpoint(format!("keyless=http://{provider}")),
        ];
        let providers = Providers::new(&endpoints, |variable| match variable {
            "GROK_API_KEY" | "KEYLESS_API_KEY" => None,
            variable if variable.ends_with("_API_KEY") => Some(KEY.to_owned()),
            variable if variable.ends_with("_BASE_URL") => Some(format!("http://{provider}")),
            _ => None,
        });
        let folder = tempfile::tempdir().expect("a folder");
        let usage = Usage::open(&folder.path().join("ai.db")).expect("a database");
        let over = CancellationToken::new();
        let proxy = router(
            "/proxy",
            ProxyConfig {
                providers: providers.expect("the providers are well formed"),
                usage: usage.clone(),
                callers: Some(Arc::new(OneCaller(over.clone()))),
                limits,
            },
        );
        let proxy = serve(&mut servers, proxy).await;
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        let seen = Arc::default();
        Self { proxy, provider, seen, http, usage, over, _folder: folder, _servers: servers }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}/proxy/{path}", self.proxy);
        self.http.request(method, url).timeout(PATIENCE).bearer_auth(TOKEN)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.request(Method::GET, path).send().await.expect("an answer")
    }

    /// Sends raw bytes and returns everything received until the end.
    async fn raw(&self, request: &str) -> String {
        let mut socket = TcpStream::connect(self.proxy).await.expect("a connection");
        socket.write_all(request.as_bytes()).await.expect("it takes the request");
        let mut answer = Vec::new();
        within(socket.read_to_end(&mut answer)).await.expect("it answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn last(&self) -> Seen {
        self.seen.lock().last().cloned().expect("something reached the provider")
    }
}

async fn serve(servers: &mut JoinSet<()>, router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    servers.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    address
}

/// A body that the test writes piece by piece.
fn body() -> (mpsc::Sender<&'static str>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece: &'static str = receiver.recv().await?;
        Some((Ok::<_, Infallible>(piece), receiver))
    });
    (sender, Body::from_stream(stream))
}

fn ok(_: &Seen) -> Response {
    "ok".into_response()
}

async fn message(answer: reqwest::Response) -> String {
    let body: serde_json::Value = answer.json().await.expect("JSON");
    body["error"]["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_with_the_key_in_place_of_the_token() {
    let stage = Stage::new(ok).await;
    let cases = [
        // Path and headers come from the caller, target and key are the provider's.
        ("openai/v1/responses", "authorization", "Bearer session-token", "/v1/responses"),
        ("openai/responses", "authorization", "bearer session-token", "/v1/responses"),
        ("openai/v1/files?limit=2&a=%20+b", "x-api-key", TOKEN, "/v1/files?limit=2&a=%20+b"),
        ("anthropic/v1/messages?beta=true", "x-api-key", TOKEN, "/v1/messages?beta=true"),
        ("anthropic/messages", "authorization", "Bearer session-token", "/v1/messages"),
        (
            "gemini/v1beta/models/m:generateContent",
            "x-goog-api-key",
            TOKEN,
            "/v1beta/models/m:generateContent",
        ),
        (
            "gemini/models/m:stream?alt=sse",
            "x-goog-api-key",
            TOKEN,
            "/v1beta/models/m:stream?alt=sse",
        ),
        ("gemini/v1/models?alt=sse&key=session-token", "x-none", "", "/v1/models?alt=sse"),
        ("gemini/v1/models?k%65y=session-token", "x-none", "", "/v1/models"),
        (
            "gemini/upload/v1beta/files",
            "authorization",
            "Bearer session-token",
            "/upload/v1beta/files",
        ),
        (
            "gemini/openai/chat/completions",
            "authorization",
            "Bearer session-token",
            "/v1beta/openai/chat/completions",
        ),
        (
            "prefixed/v1/chat/completions",
            "authorization",
            "Bearer session-token",
            "/api/v1/chat/completions",
        ),
        (
            "keyless/chat/completions",
            "authorization",
            "Bearer session-token",
            "/v1/chat/completions",
        ),
    ];
    for (path, header, token, target) in cases {
        let url = format!("http://{}/proxy/{path}", stage.proxy);
        let answer = stage
            .http
            .post(url)
            .header(header, token)
            .header("content-type", "application/json")
            .header("anthropic-version", "2026-10-21")
            .body(r#"{"a":1}"#)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let seen = stage.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", target));
        assert_eq!(seen.body, r#"{"a":1}"#, "{path}");
        assert_eq!(seen.headers["content-length"], "7", "{path}");
        assert_eq!(seen.headers["content-type"], "application/json", "{path}");
        assert_eq!(seen.headers["anthropic-version"], "2026-10-21", "{path}");
        assert_eq!(seen.headers["host"], stage.provider.to_string(), "{path}");
        let (name, value) = match path.split('/').next() {
            Some("anthropic") if header == "authorization" => {
                ("authorization", format!("Bearer {KEY}"))
            }
            Some("anthropic") => ("x-api-key", KEY.to_owned()),
            Some("gemini") if !path.contains("openai") => ("x-goog-api-key", KEY.to_owned()),
            Some("keyless") => ("authorization", String::new()),
            _ => ("authorization", format!("Bearer {KEY}")),
        };
        for header in ["authorization", "x-api-key", "x-goog-api-key"] {
            let found = seen.headers.get(header).map_or("", |value| value.to_str().expect("text"));
            assert_eq!(found, if header == name { &value } else { "" }, "{header} of {path}");
        }
        assert!(!format!("{seen:?}").contains(TOKEN), "{path}");
    }
}

#[tokio::test]
async fn nothing_that_tells_of_the_caller_reaches_the_provider() {
    let stage = Stage::new(ok).await;
    let names = [
        "cookie",
        "forwarded",
        "origin",
        "referer",
        "x-forwarded-for",
        "x-forwarded-anything",
        "x-real-ip",
        "via",
        "cf-connecting-ip",
        "sec-fetch-mode",
        "proxy-authorization",
        "x-provider-api-key",
        "x-api-key",
        "x-goog-api-key",
        "te",
        "keep-alive",
        "x-for-one-hop",
    ];
    let mut request = stage.request(Method::GET, "openai/v1/models");
    for name in names {
        request = request.header(name, "secret");
    }
    let request = request.header("connection", "x-for-one-hop").header("x-stainless-lang", "js");
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    let seen = stage.last();
    for name in names {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    assert_eq!(seen.headers["x-stainless-lang"], "js");
    assert_eq!(seen.headers["authorization"], format!("Bearer {KEY}"));
}

#[tokio::test]
async fn who_has_no_session_is_refused() {
    let stage = Stage::new(ok).await;
    type Case<'a> = (&'a [(&'a str, &'a str)], u16, &'a str);
    let cases: &[Case] = &[
        (&[], 401, "Bearer token required"),
        (&[("authorization", "Basic session-token")], 401, "Bearer token required"),
        (&[("authorization", "Bearer ")], 401, "Bearer token required"),
        (&[("cookie", "better-auth.session_token=session-token")], 401, "Bearer token required"),
        (&[("authorization", "Bearer other")], 401, "Invalid session token"),
        (&[("x-api-key", "other")], 401, "Invalid session token"),
        (
            &[("authorization", "Bearer unlucky")],
            503,
            "sessions cannot be checked now: the database is away",
        ),
    ];
    for (headers, status, text) in cases {
        let mut request = stage.http.get(format!("http://{}/proxy/openai/v1/models", stage.proxy));
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), *status, "{headers:?}");
        assert_eq!(message(answer).await, *text, "{headers:?}");
    }
    assert!(stage.seen.lock().is_empty());
}

#[tokio::test]
async fn what_has_no_provider_is_refused_with_a_reason() {
    let stage = Stage::new(ok).await;
    let cases = [
        (Method::GET, "mistral/v1/models", 400, "Unsupported provider: mistral"),
        (
            Method::POST,
            "grok/v1/chat/completions",
            502,
            "No API key configured for grok. Set GROK_API_KEY environment variable.",
        ),
        (Method::TRACE, "openai/v1/models", 405, "the method TRACE is not passed on"),
    ];
    for (method, path, status, text) in cases {
        let answer = stage.request(method, path).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(message(answer).await, text, "{path}");
    }
    assert!(stage.seen.lock().is_empty());
}

#[tokio::test]
async fn a_path_cannot_leave_the_address_of_its_provider() {
    let stage = Stage::new(ok).await;
    let refused = [
        "/proxy/prefixed/../secret",
        "/proxy/prefixed/v1/../../secret",
        "/proxy/prefixed/%2e%2e/secret",
        "/proxy/prefixed/.%2E/secret",
        "/proxy/prefixed/v1/..%2fsecret",
        "/proxy/prefixed/v1/%2e%2e%2fsecret",
        "/proxy/prefixed/v1/%252e%252e/secret",
        "/proxy/prefixed/v1/..%5csecret",
        "/proxy/prefixed/v1/..;a=b/secret",
        "/proxy/prefixed/v1/x%00",
        "/proxy/prefixed/v1/x%0d%0ay",
        "http://elsewhere/proxy/prefixed/../secret",
    ];
    for target in refused {
        let answer = stage
            .raw(&format!(
                "GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
    }
    assert!(stage.seen.lock().is_empty());
    let passed = [
        ("/proxy/prefixed//elsewhere/x", "/api/v1/elsewhere/x"),
        ("/proxy/prefixed///v1/x", "/api/v1/x"),
        ("http://elsewhere/proxy/prefixed/v1/x", "/api/v1/x"),
        ("/proxy/prefixed/v1/models/a%2Fb", "/api/v1/models/a%2Fb"),
        ("/proxy/prefixed/v1/http://elsewhere/", "/api/v1/http://elsewhere/"),
        ("/proxy/prefixed/v1/a..b/...", "/api/v1/a..b/..."),
        ("/proxy/prefixed/@elsewhere", "/api/v1/@elsewhere"),
    ];
    for (target, expected) in passed {
        let answer = stage
            .raw(&format!(
                "GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
        assert_eq!(stage.last().target, expected);
    }
}

#[tokio::test]
async fn an_answer_is_passed_on_without_what_speaks_for_another_origin() {
    const GZIP: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3];
    let stage = Stage::new(|_| {
        Response::builder()
            .status(203)
            .header("content-encoding", "gzip")
            .header("content-type", "text/html")
            .header("x-request-id", "req_1")
            .header("set-cookie", "a=b")
            .header("access-control-allow-origin", "*")
            .header("strict-transport-security", "max-age=1")
            .header("alt-svc", "h3=\":443\"")
            .header("connection", "x-for-one-hop")
            .header("x-for-one-hop", "1")
            .header("x-echo", format!("you sent {KEY}"))
            .body(Body::from(GZIP))
            .expect("an answer")
    })
    .await;
    let answer = stage.get("openai/v1/models").await;
    assert_eq!(answer.status(), 203);
    let headers = answer.headers().clone();
    for (name, value) in [
        ("content-encoding", "gzip"),
        ("content-type", "text/html"),
        ("content-length", "13"),
        ("x-request-id", "req_1"),
        ("content-security-policy", "sandbox"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    for name in [
        "set-cookie",
        "access-control-allow-origin",
        "strict-transport-security",
        "alt-svc",
        "x-for-one-hop",
        "x-echo",
    ] {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert_eq!(answer.bytes().await.expect("the body"), GZIP);
}

#[tokio::test]
async fn an_error_that_repeats_the_key_has_it_covered() {
    let text = format!("no such key: {KEY}");
    let sent = text.clone();
    let stage = Stage::new(move |_| (StatusCode::UNAUTHORIZED, sent.clone()).into_response()).await;
    let answer = stage.get("openai/v1/models").await;
    assert_eq!(answer.headers()["content-length"], text.len().to_string());
    assert_eq!(answer.text().await.expect("the body"), "no such key: ***************");

    let pieces = ["no such key: sk-the-", "real-key", "", " or sk-the"];
    let stage = Stage::new(move |_| {
        let pieces = futures_util::stream::iter(pieces.map(Ok::<_, Infallible>));
        (StatusCode::UNAUTHORIZED, Body::from_stream(pieces)).into_response()
    })
    .await;
    let answer = within(stage.get("openai/v1/models").await.text()).await.expect("the body");
    assert_eq!(answer, "no such key: *************** or sk-the");
}

#[tokio::test]
async fn an_answer_that_repeats_the_key_has_it_covered_as_well() {
    // An event stream cut within the key, then a document with the key in base64.
    let pieces = ["data: {\"you\":\"sk-the-", "real-key\"}\n\n", "data: [DONE]\n\n"];
    let stage = Stage::new(move |_| {
        let pieces = futures_util::stream::iter(pieces.map(Ok::<_, Infallible>));
        ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
    })
    .await;
    let answer = within(stage.get("openai/v1/echo").await.text()).await.expect("the body");
    assert_eq!(answer, "data: {\"you\":\"***************\"}\n\ndata: [DONE]\n\n");

    let basic = "Basic dTpzay10aGUtcmVhbC1rZXk="; // "u:sk-the-real-key"
    let stage = Stage::new(move |_| {
        let told = [
            ("refresh", "0; url=https://elsewhere/?sk%2Dthe%2Dreal%2Dkey".to_owned()),
            ("link", format!("</v1/x?key={}>; rel=next", KEY.replace('-', "%2d"))),
            ("x-echo", basic.to_owned()),
        ];
        (axum::response::AppendHeaders(told), axum::Json(json!({ "authorization": basic })))
            .into_response()
    })
    .await;
    let answer = stage.get("openai/v1/echo").await;
    for name in ["refresh", "link", "x-echo"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    let text = answer.text().await.expect("the body");
    assert!(text.contains("*****") && !text.contains("ay10aGUtcmVhbC1rZXk"), "{text}");

    let stage = Stage::new(|_| {
        (StatusCode::FOUND, [("location", format!("https://{KEY}.elsewhere/"))]).into_response()
    })
    .await;
    let text = message(stage.get("openai/v1/echo").await).await;
    assert!(text.contains("an address with the key in it"), "{text}");
}

#[tokio::test]
async fn an_error_that_cannot_be_searched_for_the_key_is_told_in_our_words() {
    let stage = Stage::new(|_| {
        let encoding = [("content-encoding", "gzip"), ("content-type", "application/json")];
        (StatusCode::UNAUTHORIZED, encoding, [0x1f, 0x8b, 8, 0].as_slice()).into_response()
    })
    .await;
    let answer = stage.get("openai/v1/models").await;
    assert_eq!(answer.status(), 401);
    assert!(!answer.headers().contains_key("content-encoding"));
    let text = answer.text().await.expect("the body");
    assert!(text.contains("openai refused the request with 401"), "{text}");
    assert_eq!(stage.last().headers["accept-encoding"], "identity");
}

#[tokio::test]
async fn what_answers_took_is_counted_for_their_caller() {
    let stage = Stage::new(|seen| match seen.target.as_str() {
        "/v1/responses" => axum::Json(json!({
            "model": "m-1",
            "usage": { "input_tokens": 11, "output_tokens": 7 },
        }))
        .into_response(),
        "/v1/compressed" => {
            let text = br#"{"model":"m-2","usage":{"input_tokens":5,"output_tokens":6}}"#;
            let body = zstd::encode_all(text.as_slice(), 3).expect("it is compressed");
            let headers = [("content-type", "application/json"), ("content-encoding", "zstd")];
            (headers, body).into_response()
        }
        "/v1/files" => "a file".into_response(),
        path if path.contains("/models/") => {
            axum::Json(json!({ "usageMetadata": { "promptTokenCount": 3 } })).into_response()
        }
        _ => (StatusCode::NOT_FOUND, axum::Json(json!({ "usage": { "input_tokens": 1 } })))
            .into_response(),
    })
    .await;
    for path in ["responses", "compressed", "files", "nothing"].map(|it| format!("openai/v1/{it}"))
    {
        stage.get(&path).await.bytes().await.expect("the body");
    }
    let generate = "gemini/v1beta/models/g-1:generateContent";
    stage.get(generate).await.bytes().await.expect("the body");
    let spent = within(async {
        loop {
            let spent = stage.usage.report("ada", Default::default()).await.expect("a report");
            if spent.len() == 4 {
                break spent;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let spent = spent.iter().map(|it| {
        (it.provider.as_str(), it.model.as_str(), it.requests, it.input_tokens, it.output_tokens)
    });
    let expected = [
        ("gemini", "g-1", 1, 3, 0),
        ("openai", "", 1, 0, 0),
        ("openai", "m-1", 1, 11, 7),
        ("openai", "m-2", 1, 5, 6),
    ];
    assert_eq!(spent.collect::<Vec<_>>(), expected);
    let other = stage.usage.report("bob", Default::default()).await;
    assert_eq!(other.expect("a report"), []);
}

#[tokio::test]
async fn what_one_user_may_send_is_bounded_and_touches_nobody_else() {
    let limits = Limits { proxied_per_minute: 2, ..Limits::default() };
    let provider = Router::new().fallback(|| async { "here" });
    let stage = Stage::before(provider, limits).await;
    for expected in [200, 200, 429] {
        let answer = stage.get("openai/v1/models").await;
        assert_eq!(answer.status(), expected);
        assert_eq!(answer.headers().contains_key("retry-after"), expected == 429);
    }
    let url = format!("http://{}/proxy/openai/v1/models", stage.proxy);
    let other = stage.http.get(url).bearer_auth(OTHER).send().await.expect("an answer");
    assert_eq!(other.status(), 200);
}

#[tokio::test]
async fn a_tunnel_ends_with_the_session_that_opened_it() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
    let (stage, mut seen) = websocket(head).await;
    let mut socket = TcpStream::connect(stage.proxy).await.expect("a connection");
    let request = format!(
        "GET /proxy/openai/v1/realtime HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.expect("it is taken");
    within(seen.recv()).await.expect("a request");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(socket.read_u8()).await.expect("an answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    socket.write_all(b"hello").await.expect("it is taken");
    let mut echo = [0; 5];
    within(socket.read_exact(&mut echo)).await.expect("it comes back");
    stage.over.cancel();
    assert_eq!(within(socket.read(&mut echo)).await.expect("the end"), 0);
}

#[tokio::test]
async fn urls_to_continue_at_lead_through_the_proxy_or_nowhere() {
    let stage = Stage::new(|seen| {
        let (_, place) = seen.target.split_once("?to=").expect("the place");
        let place = percent_encoding::percent_decode_str(place).decode_utf8_lossy().into_owned();
        let place = place.replace("SELF", seen.headers["host"].to_str().expect("text"));
        let header = if place.contains("upload") { "x-goog-upload-url" } else { "location" };
        let status = if header == "location" { 302 } else { 200 };
        Response::builder()
            .status(status)
            .header(header, place)
            .body(Body::empty())
            .expect("an answer")
    })
    .await;
    let ours = format!("http://{}/proxy/gemini", stage.proxy);
    let there = [
        ("http://SELF/upload/v1beta/files?upload_id=1%26key=x", "/upload/v1beta/files?upload_id=1"),
        ("http://SELF/v1beta/files/1?alt=media", "/v1beta/files/1?alt=media"),
        ("/v1beta/files/2", "/v1beta/files/2"),
    ];
    for (given, expected) in there {
        let answer = stage.get(&format!("gemini/v1beta/x?to={given}")).await;
        let headers = answer.headers();
        let url = headers.get("x-goog-upload-url").or(headers.get("location")).expect("a URL");
        assert_eq!(url.to_str().expect("text"), format!("{ours}{expected}"));
    }
    let behind_tls = stage
        .request(Method::GET, "gemini/v1beta/x?to=/upload/v1beta/f")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "hub.example")
        .send()
        .await
        .expect("an answer");
    let url = "https://hub.example/proxy/gemini/upload/v1beta/f";
    assert_eq!(behind_tls.headers()["x-goog-upload-url"], url);
    for elsewhere in [
        "http://elsewhere/upload/v1beta/files",
        "http://elsewhere/x",
        "//elsewhere/x",
        "https://SELF/x",
        "/v1/%25252e%25252e/x",
        "http://SELF@elsewhere/x",
    ] {
        let answer = stage.get(&format!("gemini/v1beta/x?to={elsewhere}")).await;
        assert_eq!(answer.status(), 502, "{elsewhere}");
        assert!(!answer.headers().contains_key("location"), "{elsewhere}");
        assert!(message(answer).await.contains("gemini points to"), "{elsewhere}");
    }
    let prefixed = stage.get("prefixed/x?to=/other/x").await;
    assert_eq!(prefixed.status(), 502, "a redirect out of the base's path");
}

#[tokio::test]
async fn bodies_pass_piece_by_piece_in_both_directions() {
    // The provider echoes each piece as it arrives.
    let provider = Router::new().fallback(|request: Request| async move {
        Body::from_stream(request.into_body().into_data_stream())
    });
    let stage = Stage::before(provider, Limits::default()).await;
    let (sender, sent) = body();
    let request = stage
        .request(Method::POST, "openai/v1/echo")
        .body(reqwest::Body::wrap_stream(sent.into_data_stream()));
    sender.send("one").await.expect("it is taken");
    let mut answer = within(request.send()).await.expect("an answer").bytes_stream();
    for piece in ["one", "two", "three"] {
        if piece != "one" {
            sender.send(piece).await.expect("it is taken");
        }
        let got = within(answer.next()).await.expect("a piece").expect("of the body");
        assert_eq!(got, piece);
    }
    drop(sender);
    assert!(within(answer.next()).await.is_none());
}

#[tokio::test]
async fn the_provider_is_left_when_the_caller_leaves() {
    let (senders, mut received) = mpsc::channel(1);
    let provider = Router::new().fallback(move || async move {
        let (sender, body) = body();
        senders.send(sender).await.expect("the test waits");
        body
    });
    let stage = Stage::before(provider, Limits::default()).await;
    let request = stage.request(Method::GET, "openai/v1/stream").send();
    let (answer, sender) = tokio::join!(request, async {
        let sender = received.recv().await.expect("a request");
        sender.send("first").await.expect("it is taken");
        sender
    });
    let mut answer = answer.expect("an answer").bytes_stream();
    assert_eq!(within(answer.next()).await.expect("a piece").expect("of it"), "first");
    assert!(!sender.is_closed());
    drop(answer);
    within(sender.closed()).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_caller() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    for head in [announced, chunked] {
        let mut servers = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let provider = listener.local_addr().expect("it has an address");
        servers.spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1024];
            assert!(socket.read(&mut request).await.expect("a request") > 0);
            socket.write_all(head.as_bytes()).await.expect("it is taken");
        });
        let stage = Stage::at(provider, servers, Limits::default()).await;
        let answer = stage.get("openai/v1/stream").await;
        assert_eq!(answer.status(), 200);
        within(answer.bytes()).await.expect_err("half a body is no body");
    }
}

#[tokio::test]
async fn a_provider_that_does_not_listen_is_a_bad_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let provider = listener.local_addr().expect("it has an address");
    drop(listener);
    let stage = Stage::at(provider, JoinSet::new(), Limits::default()).await;
    let answer = stage.get("openai/v1/models?secret=1").await;
    assert_eq!(answer.status(), 502);
    let text = message(answer).await;
    assert!(text.starts_with("openai cannot be reached: "), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn silence_ends_a_request() {
    let limits = || Limits { proxy_idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let mute = Router::new().fallback(std::future::pending::<Response>);
    let answer = Stage::before(mute, limits()).await.get("openai/v1/models").await;
    assert_eq!(answer.status(), 504);

    let halting = Router::new().fallback(|| async {
        let first = futures_util::stream::once(async { Ok::<_, Infallible>("first") });
        Body::from_stream(first.chain(futures_util::stream::pending()))
    });
    let stage = Stage::before(halting, limits()).await;
    let mut answer = stage.get("openai/v1/stream").await.bytes_stream();
    assert_eq!(within(answer.next()).await.expect("a piece").expect("of it"), "first");
    within(answer.next()).await.expect("an end").expect_err("that is no proper one");
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_the_limit_says() {
    let (senders, mut received) = mpsc::channel(1);
    let provider = Router::new().fallback(move || async move {
        let (sender, body) = body();
        senders.send(sender).await.expect("the test waits");
        body
    });
    let stage = Stage::before(provider, Limits { proxied: 1, ..Limits::default() }).await;
    let first = stage.get("openai/v1/stream").await;
    let sender = received.recv().await.expect("a request");
    let second = stage.get("openai/v1/stream").await;
    assert_eq!(second.status(), 503);
    assert_eq!(second.headers()["retry-after"], "1");
    drop(sender);
    within(first.bytes()).await.expect("the whole answer");
    assert_eq!(stage.get("openai/v1/stream").await.status(), 200);
}

/// A provider that accepts one connection, sends the request to `seen`, answers with `head`, and
/// echoes what follows.
async fn websocket(head: &'static str) -> (Stage, mpsc::Receiver<String>) {
    let mut servers = JoinSet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let provider = listener.local_addr().expect("it has an address");
    let (seen, requests) = mpsc::channel(1);
    servers.spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.expect("a request"));
        }
        seen.send(String::from_utf8(request).expect("text")).await.expect("the test waits");
        socket.write_all(head.as_bytes()).await.expect("it is taken");
        let (mut from, mut to) = socket.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    (Stage::at(provider, servers, Limits::default()).await, requests)
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-accept: abc=\r\nset-cookie: a=b\r\n\r\nhello";

fn handshake(target: &str, more: &str) -> String {
    format!(
        "GET /proxy/{target} HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGVzdA==\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn a_websocket_is_a_tunnel_once_both_sides_agree() {
    let cases = [
        (
            "openai/v1/realtime?model=m",
            "authorization: Bearer session-token\r\n",
            "GET /v1/realtime?model=m ",
        ),
        (
            "openai/v1/realtime",
            "sec-websocket-protocol: realtime, openai-insecure-api-key.session-token, beta\r\n",
            "GET /v1/realtime ",
        ),
        ("gemini//ws/google.v1beta.Bidi?key=session-token", "", "GET /ws/google.v1beta.Bidi "),
    ];
    for (target, header, expected) in cases {
        let (stage, mut requests) = websocket(SWITCHING).await;
        let mut socket = TcpStream::connect(stage.proxy).await.expect("a connection");
        socket.write_all(handshake(target, header).as_bytes()).await.expect("it is taken");
        let request = within(requests.recv()).await.expect("a request").to_lowercase();
        assert!(request.starts_with(&expected.to_lowercase()), "{request}");
        assert!(!request.contains(TOKEN), "{request}");
        assert!(request.contains(KEY), "{request}");
        assert!(request.contains("sec-websocket-key: dgvzda==\r\n"), "{request}");
        assert_eq!(
            request.contains("sec-websocket-protocol: realtime, beta\r\n"),
            header.contains("realtime"),
            "{request}"
        );
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(socket.read_u8()).await.expect("an answer"));
        }
        let head = String::from_utf8(head).expect("text").to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("sec-websocket-accept: abc=\r\n"), "{head}");
        assert!(!head.contains("set-cookie"), "{head}");
        let mut greeting = [0; 5];
        within(socket.read_exact(&mut greeting)).await.expect("the greeting");
        assert_eq!(&greeting, b"hello");
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let mut received = vec![0; sent.len()];
        let (mut from, mut to) = socket.split();
        let (wrote, read) =
            within(async { tokio::join!(to.write_all(&sent), from.read_exact(&mut received)) })
                .await;
        wrote.expect("it is taken");
        read.expect("it comes back");
        assert_eq!(sent, received);
        // When one side leaves, the tunnel ends for the other.
        to.shutdown().await.expect("it is closed");
        assert_eq!(within(from.read(&mut greeting)).await.expect("an end"), 0);
    }
}

#[tokio::test]
async fn a_websocket_that_the_provider_refuses_is_an_ordinary_answer() {
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let authorization = "authorization: Bearer session-token\r\nconnection: close\r\n";
    let (stage, _requests) = websocket(refused).await;
    let answer = stage.raw(&handshake("openai/v1/realtime", authorization)).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.ends_with("no"), "{answer}");

    let other = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";
    let (stage, _requests) = websocket(other).await;
    let answer = stage.raw(&handshake("openai/v1/realtime", authorization)).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[tokio::test]
async fn no_protocol_but_websockets_is_offered_to_a_provider() {
    let stage = Stage::new(ok).await;
    let answer = stage
        .raw(&format!(
            "GET /proxy/openai/v1/models HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings, close\r\n\
             upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let headers = stage.last().headers;
    assert!(!headers.contains_key("upgrade") && !headers.contains_key("http2-settings"));
}
