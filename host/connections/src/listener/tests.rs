//! Misbehaving clients, on real sockets and with a simulated clock.

use axum::http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Responds with the request body, with as many bytes as the path says, or with a note that no body
/// came. Accepts upgrades.
#[derive(Clone)]
struct Echo;

impl App for Echo {
    fn answer(
        &mut self,
        mut request: Request<Paced<Incoming>>,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<> {
        async move {
            if request.headers().contains_key(header::UPGRADE) {
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let upgraded = upgrade.await.expect("an upgrade");
                    let mut peer = TokioIo::new(upgraded);
                    let _ = peer.read_to_end(&mut Vec::new()).await;
                });
                let mut answer = Response::new(Body::empty());
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                return answer;
            }
            let size = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
            let from = request.extensions().get::<ClientAddress>().map(|client| client.0);
            let body = request.into_body().collect().await.map(|body| body.to_bytes());
            let mut answer = match body {
                Ok(body) if size == 0 => Response::new(body.into()),
                Ok(_) => Response::new(vec![b'x'; size].into()),
                Err(error) => host_http::error(StatusCode::REQUEST_TIMEOUT, error.to_string()),
            };
            let from = from.map_or_else(String::new, |from| from.to_string());
            answer.headers_mut().insert("from", from.parse().expect("a header"));
            answer
        }
    }
}

struct Server {
    address: SocketAddr,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    async fn start(maximum: Maximum, proxies: &[IpAddr]) -> Self {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::bind(address, Limits::default(), maximum, proxies).await;
        let listener = listener.expect("a free port");
        let address = listener.address().expect("an address");
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(listener.serve(Echo, stopping.clone(), tasks.clone()));
        Self { address, stopping, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    async fn send(&self, bytes: &str) -> TcpStream {
        let mut peer = self.connect().await;
        peer.write_all(bytes.as_bytes()).await.expect("the server takes it");
        peer
    }
}

const MANY: Maximum = Maximum { connections: 100, per_address: 100 };
const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Reads to the end. Returns the seconds on the simulated clock, and the bytes.
async fn rest(peer: &mut TcpStream) -> (u64, String) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    // A reset counts as the end.
    let _ = peer.read_to_end(&mut bytes).await;
    (began.elapsed().as_secs(), String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads one response without a body.
async fn answer(peer: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(peer.read_u8().await.expect("an answer"));
    }
    String::from_utf8(bytes).expect("a head")
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_ends_the_connection() {
    let server = Server::start(MANY, &[]).await;
    let heads = ["", "P", "GET / HTTP/1.1\r\nhost: ", "PRI * HTTP/"];
    for head in heads {
        let mut peer = server.send(head).await;
        let (seconds, _) = rest(&mut peer).await;
        assert!((14..=16).contains(&seconds), "{head:?}: {seconds} s");
    }
    let mut peer = server.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(rest(&mut peer).await.0, 0, "a whole preface is no request");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_the_next_request_but_not_for_ever() {
    let server = Server::start(MANY, &[]).await;
    let mut peer = server.connect().await;
    for _ in 0..3 {
        peer.write_all(GET.as_bytes()).await.expect("the connection is kept");
        assert!(answer(&mut peer).await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    peer.write_all(b"G").await.expect("the connection is kept");
    let (seconds, _) = rest(&mut peer).await;
    assert!(seconds <= 16, "a head that has begun has no longer: {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_not_waited_for() {
    let server = Server::start(MANY, &[]).await;
    let mut peer =
        server.send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n").await;
    let (mut read, mut write) = peer.split();
    let drip = async {
        loop {
            let _ = write.write_all(b"x").await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    };
    let began = Instant::now();
    let mut bytes = Vec::new();
    tokio::select! {
        () = drip => unreachable!("it never ends"),
        _ = read.read_to_end(&mut bytes) => {}
    }
    let seconds = began.elapsed().as_secs();
    assert!((29..=31).contains(&seconds), "{seconds} s");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("too slowly"), "{text}");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let address = "127.0.0.1:0".parse().expect("an address");
    let patience = Duration::from_millis(300);
    let limits = Limits { patience, ..Limits::default() };
    let listener = Listener::bind(address, limits, MANY, &[]).await.expect("a free port");
    let address = listener.address().expect("an address");
    let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.spawn(listener.serve(Echo, stopping.clone(), tasks.clone()));
    let mut peer = TcpStream::connect(address).await.expect("the server listens");
    let request = "GET /50000000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    peer.write_all(request.as_bytes()).await.expect("the server takes it");
    // The response has started before the server is told to stop.
    peer.readable().await.expect("an answer comes");
    stopping.cancel();
    tasks.close();
    // Its task ends even though the peer reads nothing, and the peer can tell that the response is
    // incomplete.
    tokio::time::timeout(Duration::from_secs(60), tasks.wait()).await.expect("the end");
    let mut bytes = Vec::new();
    let error = peer.read_to_end(&mut bytes).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn silent_connections_give_way() {
    let server = Server::start(Maximum { connections: 8, per_address: 4 }, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(server.connect().await);
    }
    // A new connection does not give way yet. The refusal is sent without a request.
    let mut refused = server.connect().await;
    let (_, text) = rest(&mut refused).await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("4 connections are open"), "{text}");
    let served = async {
        loop {
            let mut peer = server.send(GET).await;
            let mut bytes = [0; 12];
            if peer.read_exact(&mut bytes).await.is_ok() && bytes.ends_with(b"200") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), served).await.expect("an answer");
    assert_eq!(rest(&mut silent[0]).await.1, "", "who waited longest gave way");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_is_bounded_by_its_clients() {
    let proxy = "127.0.0.1".parse().expect("an address");
    let server = Server::start(Maximum { connections: 100, per_address: 1 }, &[proxy]).await;
    let under_way = |client: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {client}\r\nexpect: 100-continue\r\n\
             content-length: 1\r\n\r\n"
        )
    };
    let mut first = server.send(&under_way("203.0.113.7")).await;
    // The request is in flight once its body is read.
    assert!(answer(&mut first).await.starts_with("HTTP/1.1 100"));
    let mut second = server.send(&under_way("203.0.113.7, 127.0.0.1")).await;
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 503"));
    let mut other = server.send(&under_way("203.0.113.8")).await;
    assert!(answer(&mut other).await.starts_with("HTTP/1.1 100"));
    first.write_all(b"x").await.expect("the server takes it");
    let head = answer(&mut first).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("from: 203.0.113.7"), "{head}");
    let mut again = server.send(&under_way("203.0.113.7")).await;
    // The response ends when its last byte is written, which its reader may notice first.
    let text = answer(&mut again).await;
    assert!(text.starts_with("HTTP/1.1 100") || text.starts_with("HTTP/1.1 503"), "{text}");
}

#[tokio::test]
async fn a_connection_that_a_proxy_passed_on_counts_for_its_client_while_it_is_open() {
    let proxy = "127.0.0.1".parse().expect("an address");
    let server = Server::start(Maximum { connections: 100, per_address: 1 }, &[proxy]).await;
    let get = |client: &str, upgrade: &str| {
        format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {client}\r\n{upgrade}\r\n")
    };
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let mut socket = server.send(&get("203.0.113.7", upgrade)).await;
    assert!(answer(&mut socket).await.starts_with("HTTP/1.1 101"));
    let mut second = server.send(&get("203.0.113.7", "")).await;
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 503"));
    let mut other = server.send(&get("203.0.113.8", "")).await;
    assert!(answer(&mut other).await.starts_with("HTTP/1.1 200"));
    drop(socket);
    let served = async {
        loop {
            let mut peer = server.send(&get("203.0.113.7", "")).await;
            if answer(&mut peer).await.starts_with("HTTP/1.1 200") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), served).await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn whoever_only_waits_ends_at_once_when_the_server_stops() {
    let server = Server::start(MANY, &[]).await;
    let mut used = server.send(GET).await;
    answer(&mut used).await;
    let mut silent = server.connect().await;
    let _half = server.send("GET / HT").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.stopping.cancel();
    assert_eq!(rest(&mut used).await, (0, String::new()));
    assert_eq!(rest(&mut silent).await, (0, String::new()));
    server.tasks.close();
    server.tasks.wait().await;
}
