//! The listener, which runs each accepted connection as a task.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use host_http::{ClientAddress, client_address, network};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Answer;
use crate::body::Paced;
use crate::limits::{Limits, Maximum};
use crate::pace::Pace;
use crate::places::{Full, Place, Places};
use crate::stream::Stream;

/// Bytes of a request head; cookies and tokens take a few KiB of it.
const HEAD_BYTES: usize = 64 * 1024;
/// Socket send buffer for a reader on this machine, in bytes. For remote peers the system tunes it
/// by itself. For local ones it lets megabytes pile up, which fall out of the CPU cache before they
/// are read. With 128 KiB a large response costs two thirds of the time; with 32 KiB it stalls.
const LOOPBACK_BUFFER: usize = 128 * 1024;
/// Delay before the next attempt when accepting fails, for example because no file descriptor is
/// free.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Refused connections are logged at most this often.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// The `Retry-After` of a refusal. Connections that only wait for a request give way sooner than
/// that.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Handles requests. It is cloned for each connection.
pub trait App: Clone + Send + 'static {
    /// Handles a request, whose extensions hold its peer (`ConnectInfo`) and its client
    /// ([`ClientAddress`]).
    fn answer(
        &mut self,
        request: Request<Paced<Incoming>>,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<Self>;
}

/// The listening socket.
pub struct Listener {
    socket: TcpListener,
    serving: Serving,
}

/// State shared by all connections.
#[derive(Clone)]
struct Serving {
    http: http1::Builder,
    limits: Arc<Limits>,
    places: Places,
    proxies: Arc<[IpAddr]>,
}

impl Listener {
    /// Starts listening. Connections from `proxies` are on behalf of the clients that they name.
    pub async fn bind(
        address: SocketAddr,
        limits: Limits,
        maximum: Maximum,
        proxies: &[IpAddr],
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(HEAD_BYTES);
        let places = Places::new(maximum);
        let proxies = proxies.iter().map(IpAddr::to_canonical).collect();
        let serving = Serving { http, limits: Arc::new(limits), places, proxies };
        Ok(Self { socket, serving })
    }

    /// The address that it listens on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections until told to stop. Connections at work then finish their request; they
    /// are among the tasks.
    pub async fn serve(self, app: impl App, stopping: CancellationToken, tasks: TaskTracker) {
        let Self { socket, serving } = self;
        let mut said = None;
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = stopping.cancelled() => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The error may concern this one connection, or all of them.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            // A frame is a whole message and should leave at once.
            let _ = socket.set_nodelay(true);
            if peer.ip().is_loopback() {
                let _ = socket2::SockRef::from(&socket).set_send_buffer_size(LOOPBACK_BUFFER);
            }
            let proxied = serving.proxies.contains(&peer.ip().to_canonical());
            match serving.places.take((!proxied).then(|| network(peer.ip()))) {
                Ok(place) => {
                    let serving = serving.clone();
                    let (app, stopping) = (app.clone(), stopping.clone());
                    tasks.spawn(serving.connection(socket, peer, place, proxied, app, stopping));
                }
                Err(full) => {
                    refuse(&socket, full);
                    if said.is_none_or(|said: Instant| said.elapsed() >= SAY_AGAIN) {
                        said = Some(Instant::now());
                        let Full { limit, from_address } = full;
                        let from = if from_address { Some(peer.ip()) } else { None };
                        tracing::warn!(
                            limit,
                            ?from,
                            "connections are refused: all that may be open are at work"
                        );
                    }
                }
            }
        }
    }
}

/// Tells the client why its connection is closed, as far as that is possible without waiting.
fn refuse(socket: &TcpStream, full: Full) {
    let body = format!(r#"{{"error":{{"message":"{full}"}}}}"#);
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // The buffer of a newly accepted socket has room for this.
    let _ = socket2::SockRef::from(socket).send(answer.as_bytes());
}

impl Serving {
    async fn connection(
        self,
        socket: TcpStream,
        peer: SocketAddr,
        place: Place,
        proxied: bool,
        app: impl App,
        stopping: CancellationToken,
    ) {
        let Self { http, limits, places, proxies } = self;
        let place = Arc::new(place);
        let stream = Stream::new(socket, place.clone(), Pace::new(&limits));
        let app = Mutex::new(app);
        let service = hyper::service::service_fn(|request: Request<Incoming>| {
            let (working, place) = (place.work(), place.clone());
            let mut request = request.map(|body| Paced::new(body, Pace::new(&limits)));
            let client = client_address(peer.ip(), request.headers(), &proxies);
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(peer));
            extensions.insert(ClientAddress(client));
            // A proxy that names no client makes the request for itself, and is not limited.
            let named = proxied && !proxies.contains(&client);
            let answer = match named.then(|| places.ask(network(client))).transpose() {
                Ok(asked) => Ok((app.lock().answer(request), asked)),
                Err(full) => Err(full),
            };
            async move {
                let (answer, asked) = match answer {
                    Ok((answer, asked)) => (answer.await, asked),
                    Err(full) => (no_place(full), None),
                };
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    working.for_good();
                    // The client holds the connection for as long as it is open.
                    if let Some(asked) = asked {
                        place.keep(asked);
                    }
                    return Ok(answer.map(|body| Answer::new(body, None, None)));
                }
                Ok::<_, Infallible>(answer.map(|body| Answer::new(body, Some(working), asked)))
            }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut first_head = std::pin::pin!(tokio::time::sleep(limits.head));
        let mut gives_way = std::pin::pin!(place.gives_way());
        let mut stops = std::pin::pin!(stopping.cancelled());
        let (mut is_waited_for, mut stopped) = (true, false);
        loop {
            tokio::select! {
                // A peer that disconnects is not worth logging.
                _ = &mut connection => return,
                () = &mut gives_way => return,
                () = &mut first_head, if is_waited_for => {
                    if !place.has_asked() {
                        return;
                    }
                    is_waited_for = false;
                }
                () = &mut stops, if !stopped => {
                    stopped = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn no_place(full: Full) -> Response<Body> {
    let mut answer = host_http::error(StatusCode::SERVICE_UNAVAILABLE, full.to_string());
    answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    answer
}

#[cfg(test)]
mod tests;
