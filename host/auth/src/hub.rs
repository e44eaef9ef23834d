//! Sessions of a hub, as a local server checks them.
//!
//! A local server has no accounts. It asks its hub whose a token is, by `GET /auth/get-session` with
//! the token as bearer, and remembers the answer: requests do not wait for the hub.
//!
//! **How soon a session that ended is over here.** Our own hubs answer [`LIVE_SESSIONS`]: which of
//! many tokens are still good, in one request. Every 1.5 seconds ([`Verifier::refresh`]) we ask that
//! about all sessions that were used within a minute or hold something open, so a session is over
//! within two seconds, and what one local server costs its hub does not depend on its users. A hub of
//! another make does not know the route. It is asked about each token again after five minutes, as its
//! limits allow no more, and so a session may last that long here after its end.
//!
//! **When the hub cannot be reached** a token that was good stays good for an hour after the hub last
//! said so, but never longer than its session; one that is unknown is neither good nor bad, which is
//! an error. A hub that failed is left alone for two seconds, so that requests do not queue up for a
//! timeout each. A hub that says *too many* is not away: it is left alone as long as it says, and
//! clients hear the same.
//!
//! **Guessing.** A hub counts requests by address, and to it all our clients have one. So nobody may
//! use that up: each client may try a bounded number of unknown tokens, and a secret that both servers
//! know exempts us from the hub's count.

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

/// The route of our hubs that says which tokens are good, below `/auth`.
pub(crate) const LIVE_SESSIONS: &str = "/epicenter/live-sessions";
/// The header in which a local server shows the secret that it shares with its hub.
pub(crate) const SERVER_SECRET: &str = "x-epicenter-server-secret";

/// A question to a hub about many tokens.
#[derive(Serialize, Deserialize)]
pub(crate) struct LiveQuestion {
    /// The tokens.
    pub tokens: Vec<String>,
}

/// The answer to it.
#[derive(Serialize, Deserialize)]
pub(crate) struct LiveAnswer {
    /// Whether each token is good, in their order.
    pub live: Vec<bool>,
}

/// A hub that is asked. Clones share what is remembered.
#[derive(Clone)]
pub struct HubSessions(Arc<Inner>);

struct Inner {
    get_session: Url,
    live_sessions: Url,
    secret: Option<ServerSecret>,
    client: reqwest::Client,
    /// By the digest of the token, so that no token stays in memory longer than needed.
    verdicts: Cache<Key, Verdict>,
    /// The sessions that are in use, by their ids.
    used: Mutex<HashMap<String, Used>>,
    kind: Mutex<Kind>,
    questions: Semaphore,
    /// Until when the hub is left alone, and why.
    pause: Mutex<Option<(Instant, Unavailable)>>,
    /// Unknown tokens that each client may try.
    unknown: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
    revoked: broadcast::Sender<Revoked>,
}

type Key = [u8; 32];

fn key(token: &Token) -> Key {
    Sha256::digest(token.as_str().as_bytes()).into()
}

/// What kind of hub it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It was not asked yet.
    Unknown,
    /// Ours: it knows [`LIVE_SESSIONS`].
    Ours,
    /// Of another make, as of then.
    Other(Instant),
}

/// A session that is in use.
struct Used {
    token: Token,
    when: Instant,
}

#[derive(Debug, Clone)]
struct Verdict {
    session: Option<Session>,
    when: Instant,
}

/// What the hub says of a token that is good.
#[derive(Debug, Clone)]
struct Session {
    caller: Caller,
    expires_at: SystemTime,
}

impl Verdict {
    /// The caller, if the session has not expired since.
    fn caller(self) -> Option<Caller> {
        let live = self.session.filter(|session| session.expires_at > SystemTime::now());
        live.map(|session| session.caller)
    }
}

/// Not the URL of a hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not HTTP.
    #[error("{0} is not where a hub can be; write it like https://hub.example.com")]
    Url(Url),
    /// The HTTP client cannot be made.
    #[error("the hub cannot be asked: {0}")]
    Client(#[from] reqwest::Error),
}

impl HubSessions {
    /// Sessions of the hub at this URL, which need not be reachable yet.
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
            // A redirect would take the token elsewhere.
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

    /// Notes that a session is in use.
    fn note(&self, caller: &Caller) {
        let mut used = self.used.lock();
        let when = Instant::now();
        let is_full = used.len() >= limits::USED;
        match used.get_mut(&*caller.session) {
            Some(known) => known.when = when,
            // One more is asked about when its answer is old.
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

    /// Asks one question, unless the hub is to be left alone.
    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        if let Some(error) = self.paused() {
            return Err(error);
        }
        let _question = self.questions.acquire().await.expect("the semaphore is never closed");
        // Those who waited for their turn need not find out the same one after the other.
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

    /// Sends a request, and gives the status and the body of the answer.
    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, Vec<u8>), Unavailable> {
        // The error would show the URL, which is not the caller's business.
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

    /// The session of a token.
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
        // Whether the address is theirs only the hub needs to know.
        let account =
            Account { id: user.id, email: user.email, name: user.name, owns_address: false };
        let caller = Caller { account, session: session.id.into(), token: token.clone() };
        Ok(Some(Session { caller, expires_at: expires_at.into() }))
    }

    /// Which of many tokens are good; `None` when the hub does not know such questions.
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

    /// Counts a token that a client tries and nobody knows.
    fn count_unknown(&self, client: IpAddr) -> Result<(), Unavailable> {
        if self.unknown.len() > limits::CLIENTS {
            self.unknown.retain_recent();
        }
        let refused = |until: NotUntil<_>| until.wait_time_from(DefaultClock::default().now());
        self.unknown.check_key(&client).map_err(refused).map_err(Unavailable::TooOften)
    }

    /// The sessions to ask about. Those that nobody has used for long are dropped.
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
                    // What was bad is bad still; what was good is, for a while. The cache forgets it
                    // then.
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
            // What holds something open is in use.
            let token = inner.used.lock().get_mut(session).map(|used| {
                used.when = Instant::now();
                used.token.clone()
            });
            // A session that is not in use was found to have ended.
            let Some(token) = token else { continue };
            let caller = if ours {
                inner.verdicts.get(&key(&token)).await.and_then(Verdict::caller)
            } else {
                // Once its grace is over while the hub is away, a session has ended, too.
                let checked = self.verify(&Credential::bearer(token.as_str())).await;
                checked.ok().flatten()
            };
            live.extend(caller.map(|_| session.clone()));
        }
        Ok(live)
    }

    /// Asks about all sessions in use with one request for five hundred of them.
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

    /// The hub does not tell.
    fn revocations(&self) -> broadcast::Receiver<Revoked> {
        self.0.revoked.subscribe()
    }
}
