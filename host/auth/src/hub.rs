//! Sessions of a hub, as a local server verifies them.
//!
//! A local server has no accounts. It asks its hub whose a token is with `GET /auth/get-session`,
//! using the token as bearer, and caches the answer so that requests do not wait for the hub.
//!
//! **How soon a session ends here.** Our own hubs serve [`LIVE_SESSIONS`], which tells in one
//! request which of many tokens are still valid. Every 1.5 seconds ([`Verifier::refresh`]) we ask
//! about all sessions that were used within the last minute or hold something open. So a session
//! ends here within two seconds, and the load on the hub does not depend on the number of users.
//! Other Better Auth servers do not have the route. We ask them about each token again after five
//! minutes, because their rate limits allow no more, so a session may outlive its end by that long.
//! **When the hub cannot be reached,** a token that was valid stays valid for an hour after the hub
//! last confirmed it, but never longer than its session. An unknown token is neither valid nor
//! invalid, which is an error. After a failure the hub is not asked for two seconds, so that
//! requests do not each wait for a timeout. A hub that answers 429 is not down: it is left alone
//! for as long as it says, and clients get the same answer.
//!
//! **Guessing.** A hub limits requests by address, and all our clients share ours. So that nobody
//! can use up that limit, each client may try a bounded number of unknown tokens, and a secret that
//! both servers know exempts us from the hub's limit.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{NotUntil, RateLimiter};
use host_caller::{Account, Caller, Token, Unavailable};
use host_http::network;
use moka::future::Cache;
use parking_lot::Mutex;
use reqwest::{StatusCode, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, broadcast};
use url::Url;

use crate::limits::hub as limits;
use crate::secret::ServerSecret;
use crate::time::Time;
use crate::verifier::{Credential, Revoked, Source, Verifier};

/// The route of our hubs, below `/auth`, that tells which tokens are valid.
pub(crate) const LIVE_SESSIONS: &str = "/epicenter/live-sessions";
/// The header in which a local server sends the secret that it shares with its hub.
pub(crate) const SERVER_SECRET: &str = "x-epicenter-server-secret";

/// The request body of [`LIVE_SESSIONS`].
#[derive(Serialize, Deserialize)]
pub(crate) struct LiveQuestion {
    /// The tokens.
    pub tokens: Vec<String>,
}

/// The response body of [`LIVE_SESSIONS`].
#[derive(Serialize, Deserialize)]
pub(crate) struct LiveAnswer {
    /// Whether each token is valid, in the order of the request.
    pub live: Vec<bool>,
}

/// A client of a hub. Clones share the cache.
#[derive(Clone)]
pub struct HubSessions(Arc<Inner>);

struct Inner {
    get_session: Url,
    live_sessions: Url,
    secret: Option<ServerSecret>,
    client: reqwest::Client,
    /// Keyed by the digest of the token, so that no token stays in memory longer than needed.
    verdicts: Cache<Key, Verdict>,
    /// The sessions in use, by id.
    used: Mutex<HashMap<String, Used>>,
    kind: Mutex<Kind>,
    questions: Semaphore,
    /// Until when the hub is not asked, and why.
    pause: Mutex<Option<(Instant, Unavailable)>>,
    /// Limits the unknown tokens that each client may try.
    unknown: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
    revoked: broadcast::Sender<Revoked>,
}

type Key = [u8; 32];

fn key(token: &Token) -> Key {
    Sha256::digest(token.as_str().as_bytes()).into()
}

/// What kind of server the hub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Not asked yet.
    Unknown,
    /// One of ours, which serves [`LIVE_SESSIONS`].
    Ours,
    /// Another Better Auth server, as of this time.
    Other(Instant),
}

/// A session in use.
struct Used {
    token: Token,
    when: Instant,
}

#[derive(Debug, Clone)]
struct Verdict {
    session: Option<Session>,
    when: Instant,
}

/// What the hub returned for a valid token.
#[derive(Debug, Clone)]
struct Session {
    caller: Caller,
    expires_at: SystemTime,
}

impl Verdict {
    /// The caller, unless the session has expired since.
    fn caller(self) -> Option<Caller> {
        let live = self.session.filter(|session| session.expires_at > SystemTime::now());
        live.map(|session| session.caller)
    }
}

/// Why a URL cannot be used as a hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not HTTP.
    #[error("{0} is not where a hub can be; write it like https://hub.example.com")]
    Url(Url),
    /// The HTTP client cannot be built.
    #[error("the hub cannot be asked: {0}")]
    Client(#[from] reqwest::Error),
}

impl HubSessions {
    /// Creates a client of the hub at this URL, which need not be reachable yet.
    pub fn new(url: Url, secret: Option<ServerSecret>) -> Result<Self, HubError> {
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(HubError::Url(url));
        }
        let mut base = url;
        base.set_query(None);
        base.set_fragment(None);
        let route = |path: &str| {
            let mut url = base.clone();
            url.set_path(&format!("{}/auth{path}", base.path().trim_end_matches('/')));
            url
        };
        let client = reqwest::Client::builder()
            .timeout(limits::PATIENCE)
            // A redirect would send the token to another server.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let verdicts = Cache::builder();
        let verdicts = verdicts.max_capacity(limits::REMEMBERED).time_to_live(limits::GRACE);
        let (revoked, _) = broadcast::channel(1);
        let unknown = if secret.is_some() { limits::UNKNOWN_EXEMPT } else { limits::UNKNOWN };
        Ok(Self(Arc::new(Inner {
            get_session: route("/get-session"),
            live_sessions: route(LIVE_SESSIONS),
            secret,
            client,
            verdicts: verdicts.build(),
            used: Mutex::default(),
            kind: Mutex::new(Kind::Unknown),
            questions: Semaphore::new(limits::QUESTIONS),
            pause: Mutex::default(),
            unknown: RateLimiter::hashmap(unknown),
            revoked,
        })))
    }
}

impl Inner {
    fn is_fresh(&self, verdict: &Verdict) -> bool {
        let bound = match (&verdict.session, *self.kind.lock()) {
            (None, _) => limits::BAD,
            (Some(_), Kind::Ours) => limits::REFRESHED,
            (Some(_), Kind::Unknown | Kind::Other(_)) => limits::GOOD,
        };
        verdict.when.elapsed() < bound
    }

    /// Marks a session as in use.
    fn note(&self, caller: &Caller) {
        let mut used = self.used.lock();
        let when = Instant::now();
        let is_full = used.len() >= limits::USED;
        match used.get_mut(&*caller.session) {
            Some(known) => known.when = when,
            // Beyond the limit, a session is only checked when its cached answer expires.
            None if is_full => {}
            None => {
                let token = caller.token.clone();
                used.insert(caller.session.to_string(), Used { token, when });
            }
        }
    }

    fn paused(&self) -> Option<Unavailable> {
        let pause = self.pause.lock();
        let (until, error) = pause.as_ref()?;
        (*until > Instant::now()).then(|| error.clone())
    }

    /// Sends one question, unless the hub is to be left alone.
    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        if let Some(error) = self.paused() {
            return Err(error);
        }
        let _question = self.questions.acquire().await.expect("the semaphore is never closed");
        // If the hub failed while we waited for a permit, there is no point in trying again.
        if let Some(error) = self.paused() {
            return Err(error);
        }
        let answer = question.await;
        *self.pause.lock() = answer.as_ref().err().map(|error| {
            let pause = match error {
                Unavailable::Failed(_) => limits::PAUSE,
                Unavailable::TooOften(after) => *after,
            };
            (Instant::now() + pause, error.clone())
        });
        answer
    }

    /// Sends a request and returns the status and body of the response.
    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, Vec<u8>), Unavailable> {
        // The error contains the URL, which is not the caller's business.
        let broken = |error: reqwest::Error| {
            tracing::debug!(%error, "the hub cannot be asked");
            failed("cannot be reached".into())
        };
        if let Some(secret) = &self.secret {
            request = request.header(SERVER_SECRET, secret.header());
        }
        let request = request.header(header::ACCEPT, "application/json");
        let mut answer = request.send().await.map_err(broken)?;
        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let after = answer.headers().get(header::RETRY_AFTER);
            let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
            let after = after.map_or(limits::PAUSE, Duration::from_secs);
            return Err(Unavailable::TooOften(after.min(limits::LONGEST_PAUSE)));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > limits::ANSWER {
                return Err(failed("said too much".into()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }

    /// Asks for the session of a token.
    async fn session(&self, token: &Token) -> Result<Option<Session>, Unavailable> {
        let request = self.client.get(self.get_session.clone()).bearer_auth(token.as_str());
        let (status, body) = self.send(request).await?;
        if status == StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(failed(format!("answered with {}", status.as_u16())));
        }
        #[derive(Deserialize)]
        struct Answer {
            session: Shown,
            user: User,
        }
        #[derive(Deserialize)]
        struct User {
            id: String,
            email: String,
            name: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shown {
            id: String,
            expires_at: String,
        }
        let answer: Option<Answer> = serde_json::from_slice(&body)
            .map_err(|error| failed(format!("says what is not a session: {error}")))?;
        let Some(Answer { session, user }) = answer else { return Ok(None) };
        let expires_at = Time::parse(&session.expires_at)
            .ok_or_else(|| failed("says when a session ends in no known form".into()))?;
        // Only the hub needs to know whether the address is verified.
        let account =
            Account { id: user.id, email: user.email, name: user.name, owns_address: false };
        let caller = Caller { account, session: session.id.into(), token: token.clone() };
        Ok(Some(Session { caller, expires_at: expires_at.into() }))
    }

    /// Asks which of many tokens are valid. Returns `None` if the hub does not have the route.
    async fn live(&self, tokens: &[Token]) -> Result<Option<Vec<bool>>, Unavailable> {
        let tokens = tokens.iter().map(|token| token.as_str().into()).collect();
        let request = self.client.post(self.live_sessions.clone()).json(&LiveQuestion { tokens });
        let (status, body) = self.send(request).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Ok(None),
            status => return Err(failed(format!("answered with {}", status.as_u16()))),
        }
        Ok(serde_json::from_slice::<LiveAnswer>(&body).ok().map(|answer| answer.live))
    }

    /// Counts a token that a client tried and that is not cached.
    fn count_unknown(&self, client: IpAddr) -> Result<(), Unavailable> {
        if self.unknown.len() > limits::CLIENTS {
            self.unknown.retain_recent();
        }
        let refused = |until: NotUntil<_>| until.wait_time_from(DefaultClock::default().now());
        self.unknown.check_key(&client).map_err(refused).map_err(Unavailable::TooOften)
    }

    /// Returns the sessions to ask about, and drops those that have not been used for long.
    fn in_use(&self) -> Vec<(String, Token)> {
        let mut used = self.used.lock();
        used.retain(|_, used| used.when.elapsed() < limits::IN_USE);
        used.iter().map(|(id, used)| (id.clone(), used.token.clone())).collect()
    }
}

fn failed(what: String) -> Unavailable {
    Unavailable::Failed(format!("the hub {what}"))
}

#[async_trait]
impl Verifier for HubSessions {
    async fn verify(&self, credential: &Credential) -> Result<Option<Caller>, Unavailable> {
        let token = &credential.token;
        // A cookie is between a browser and the server that set it.
        if credential.source == Source::Cookie || token.as_str().len() > limits::TOKEN {
            return Ok(None);
        }
        let (inner, key) = (&*self.0, key(token));
        let known = inner.verdicts.get(&key).await;
        let verdict = match known.clone().filter(|verdict| inner.is_fresh(verdict)) {
            Some(verdict) => verdict,
            None => {
                if let (None, Some(client)) = (&known, credential.client) {
                    inner.count_unknown(network(client))?;
                }
                match inner.ask(inner.session(token)).await {
                    Ok(session) => {
                        let verdict = Verdict { session, when: Instant::now() };
                        inner.verdicts.insert(key, verdict.clone()).await;
                        verdict
                    }
                    // An invalid token stays invalid, and a valid one stays valid for a while. Then
                    // the cache evicts it.
                    Err(error) => known.ok_or(error)?,
                }
            }
        };
        let caller = verdict.caller();
        if let Some(caller) = &caller {
            inner.note(caller);
        }
        Ok(caller)
    }

    async fn live(&self, sessions: &[String]) -> Result<HashSet<String>, Unavailable> {
        let inner = &*self.0;
        let ours = *inner.kind.lock() == Kind::Ours;
        let mut live = HashSet::new();
        for session in sessions {
            // A session that holds something open is in use.
            let token = inner.used.lock().get_mut(session).map(|used| {
                used.when = Instant::now();
                used.token.clone()
            });
            // A session that is not in use has been found to have ended.
            let Some(token) = token else { continue };
            let caller = if ours {
                inner.verdicts.get(&key(&token)).await.and_then(Verdict::caller)
            } else {
                // When the grace period runs out while the hub is unreachable, the session has
                // ended as well.
                let checked = self.verify(&Credential::bearer(token.as_str())).await;
                checked.ok().flatten()
            };
            live.extend(caller.map(|_| session.clone()));
        }
        Ok(live)
    }

    /// Asks about all sessions in use, five hundred to a request.
    async fn refresh(&self) {
        let inner = &*self.0;
        if let Kind::Other(since) = *inner.kind.lock()
            && since.elapsed() < limits::GOOD
        {
            return;
        }
        for sessions in inner.in_use().chunks(limits::TOKENS_PER_QUESTION) {
            let tokens: Vec<_> = sessions.iter().map(|(_, token)| token.clone()).collect();
            match inner.ask(inner.live(&tokens)).await {
                Ok(Some(live)) if live.len() == tokens.len() => {
                    *inner.kind.lock() = Kind::Ours;
                    for ((id, token), live) in sessions.iter().zip(live) {
                        let key = key(token);
                        let known = inner.verdicts.get(&key).await;
                        let session = known.and_then(|known| known.session).filter(|_| live);
                        if session.is_none() {
                            inner.used.lock().remove(id);
                        }
                        let verdict = Verdict { session, when: Instant::now() };
                        inner.verdicts.insert(key, verdict).await;
                    }
                }
                Ok(_) => {
                    *inner.kind.lock() = Kind::Other(Instant::now());
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "the sessions of the hub cannot be refreshed");
                    return;
                }
            }
        }
    }

    /// Never yields anything: a hub does not push revocations.
    fn revocations(&self) -> broadcast::Receiver<Revoked> {
        self.0.revoked.subscribe()
    }
}
