//! The routes under `/auth`, as Better Auth 1.7 answers them.
//!
//! They share one handler instead of being axum routes, because clients can see the order in which
//! a request is checked: the rate limit, whether the endpoint exists, the body, the origin of the
//! page, and only then the session and the endpoint's own rules. Anything that is not an endpoint,
//! by path or by method, is an empty 404.

mod email;
mod error_page;
mod exchange;
mod fields;
mod password;
mod reply;
mod sessions;
mod sign;
mod user;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::accounts::Accounts;
use crate::hub::{LIVE_SESSIONS, SERVER_SECRET};
use crate::rate;
use exchange::Exchange;
use reply::{Answer, Refusal, Reply};

impl Accounts {
    /// The routes under `/auth`. The server must provide `ConnectInfo<SocketAddr>`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/auth", any(handle))
            .route("/auth/", any(handle))
            .route("/auth/{*path}", any(handle))
            .with_state(self.clone())
    }
}

/// The endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Ok,
    Error,
    SignUp,
    SignIn,
    SignInSocial,
    SignOut,
    GetSession,
    ListSessions,
    RevokeSession,
    RevokeSessions,
    RevokeOtherSessions,
    UpdateSession,
    LiveSessions,
    UpdateUser,
    ChangeEmail,
    DeleteUser,
    ListAccounts,
    UnlinkAccount,
    ChangePassword,
    VerifyPassword,
    RequestPasswordReset,
    ResetPassword,
    ResetPasswordLink,
    SendVerificationEmail,
    VerifyEmail,
}

/// Paths, methods, endpoints.
const ENDPOINTS: &[(&str, &[Method], Endpoint)] = &[
    ("/ok", &[Method::GET], Endpoint::Ok),
    ("/error", &[Method::GET], Endpoint::Error),
    ("/sign-up/email", &[Method::POST], Endpoint::SignUp),
    ("/sign-in/email", &[Method::POST], Endpoint::SignIn),
    ("/sign-in/social", &[Method::POST], Endpoint::SignInSocial),
    ("/sign-out", &[Method::POST], Endpoint::SignOut),
    ("/get-session", &[Method::GET, Method::POST], Endpoint::GetSession),
    ("/list-sessions", &[Method::GET], Endpoint::ListSessions),
    ("/revoke-session", &[Method::POST], Endpoint::RevokeSession),
    ("/revoke-sessions", &[Method::POST], Endpoint::RevokeSessions),
    ("/revoke-other-sessions", &[Method::POST], Endpoint::RevokeOtherSessions),
    ("/update-session", &[Method::POST], Endpoint::UpdateSession),
    (LIVE_SESSIONS, &[Method::POST], Endpoint::LiveSessions),
    ("/update-user", &[Method::POST], Endpoint::UpdateUser),
    ("/change-email", &[Method::POST], Endpoint::ChangeEmail),
    ("/delete-user", &[Method::POST], Endpoint::DeleteUser),
    ("/list-accounts", &[Method::GET], Endpoint::ListAccounts),
    ("/unlink-account", &[Method::POST], Endpoint::UnlinkAccount),
    ("/change-password", &[Method::POST], Endpoint::ChangePassword),
    ("/verify-password", &[Method::POST], Endpoint::VerifyPassword),
    ("/request-password-reset", &[Method::POST], Endpoint::RequestPasswordReset),
    ("/reset-password", &[Method::POST], Endpoint::ResetPassword),
    ("/send-verification-email", &[Method::POST], Endpoint::SendVerificationEmail),
    ("/verify-email", &[Method::GET], Endpoint::VerifyEmail),
];

/// The path of a link in a mail; the token follows it.
const RESET_LINK: &str = "/reset-password/";

/// Finds the endpoint, the name under which it is rate-limited, and the rest of the path.
fn find(path: &str) -> Option<(&'static str, &'static [Method], Endpoint, &str)> {
    if let Some(token) = path.strip_prefix(RESET_LINK) {
        let plain = !token.is_empty() && !token.contains('/');
        return plain.then_some((RESET_LINK, &[Method::GET], Endpoint::ResetPasswordLink, token));
    }
    let found = ENDPOINTS.iter().find(|(known, ..)| *known == path);
    found.map(|(name, methods, endpoint)| (*name, *methods, *endpoint, ""))
}

async fn handle(State(accounts): State<Accounts>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let proxies = &accounts.inner().config.trusted_proxies;
    let address = host_http::client_address(peer, &parts.headers, proxies);
    let path = parts.uri.path().strip_prefix("/auth").unwrap_or_default().to_owned();
    let found = find(&path);
    let name = found.map_or("", |(name, ..)| name);
    if accounts.inner().config.rate_limit
        && !is_local_server(&accounts, &parts.headers, name)
        && let Err(wait) = accounts.inner().rate.count(
            (host_http::network(address), name),
            rate::rule(name),
            Instant::now(),
        )
    {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let mut response = Refusal::TOO_MANY.into_response();
        let seconds = HeaderValue::from(seconds);
        response.headers_mut().insert("x-retry-after", seconds.clone());
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
        return guarded(response);
    }
    let Some((_, methods, endpoint, rest)) = found else {
        return guarded(StatusCode::NOT_FOUND.into_response());
    };
    if !methods.contains(&parts.method) {
        return guarded(StatusCode::NOT_FOUND.into_response());
    }
    let mut exchange = Exchange::new(accounts, parts, address);
    let answer = match exchange.receive(endpoint, body).await {
        Ok(()) => answer(&mut exchange, endpoint, rest).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = answer.into_reply();
    exchange.finish(response.headers_mut());
    guarded(response)
}

/// Whether one of our local servers asks about a session. All of its clients share its address.
fn is_local_server(accounts: &Accounts, headers: &HeaderMap, name: &str) -> bool {
    let secret = accounts.inner().config.server_secret.as_ref();
    let shown = headers.get(SERVER_SECRET);
    matches!(name, "/get-session" | LIVE_SESSIONS)
        && secret.zip(shown).is_some_and(|(secret, shown)| secret.is(shown))
}

async fn answer(exchange: &mut Exchange, endpoint: Endpoint, rest: &str) -> Answer {
    match endpoint {
        Endpoint::Ok => Reply::json(&serde_json::json!({ "ok": true })),
        Endpoint::Error => error_page::show(exchange),
        Endpoint::SignUp => sign::up(exchange).await,
        Endpoint::SignIn => sign::in_(exchange).await,
        Endpoint::SignInSocial => sign::in_social(exchange),
        Endpoint::SignOut => sign::out(exchange).await,
        Endpoint::GetSession => sessions::get(exchange).await,
        Endpoint::ListSessions => sessions::list(exchange).await,
        Endpoint::RevokeSession => sessions::revoke(exchange).await,
        Endpoint::RevokeSessions => sessions::revoke_all(exchange).await,
        Endpoint::RevokeOtherSessions => sessions::revoke_others(exchange).await,
        Endpoint::UpdateSession => sessions::update(exchange).await,
        Endpoint::LiveSessions => sessions::live(exchange).await,
        Endpoint::UpdateUser => user::update(exchange).await,
        Endpoint::ChangeEmail => email::change(exchange).await,
        Endpoint::DeleteUser => user::delete(exchange).await,
        Endpoint::ListAccounts => user::accounts(exchange).await,
        Endpoint::UnlinkAccount => user::unlink_account(exchange).await,
        Endpoint::ChangePassword => password::change(exchange).await,
        Endpoint::VerifyPassword => password::verify(exchange).await,
        Endpoint::RequestPasswordReset => password::request_reset(exchange).await,
        Endpoint::ResetPassword => password::reset(exchange).await,
        Endpoint::ResetPasswordLink => password::follow_link(exchange, rest).await,
        Endpoint::SendVerificationEmail => email::send_verification(exchange).await,
        Endpoint::VerifyEmail => email::verify(exchange).await,
    }
}

/// Turns an answer into a response.
trait IntoReply {
    fn into_reply(self) -> Response<Body>;
}

impl IntoReply for Answer {
    fn into_reply(self) -> Response<Body> {
        match self {
            Ok(reply) => reply.into_response(),
            Err(refusal) => refusal.into_response(),
        }
    }
}

/// Adds headers that keep browsers and proxies from caching, sniffing or framing an answer.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
