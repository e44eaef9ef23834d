//! Sessions of a hub, as another server asks about them.
//!
//! A local server has no accounts. It asks its hub whose a token is: `GET /auth/get-session` with
//! the bearer. What the hub says is remembered, so that requests do not wait for it: that a token
//! is good for five minutes, that it is not for one. A session that the hub ends is thereby over
//! here within five minutes, and its sockets are closed then.
//!
//! When the hub cannot be reached, a token that it knew stays good for an hour after the hub last
//! said so, but never longer than its session; one that is not known is neither good nor bad, which
//! is an error. After a failure the hub is left alone for two seconds, so that requests do not
//! queue up for a timeout each.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use host_caller::{Account, Caller, Token, Unavailable};
use moka::future::Cache;
use parking_lot::Mutex;
use reqwest::header;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, broadcast};
use url::Url;

use crate::time::Time;
use crate::verifier::{Credential, Revoked, Source, Verifier};

/// How long it is believed that a token is good (from the specification's server).
const GOOD: Duration = Duration::from_secs(5 * 60);
/// How long it is believed that a token is not good (from the same).
const BAD: Duration = Duration::from_secs(60);
/// How long a token stays good while the hub cannot be reached.
const GRACE: Duration = Duration::from_secs(60 * 60);
/// Tokens that are remembered.
const REMEMBERED: u64 = 10_000;
/// Questions to the hub at once: somebody with many tokens that are not good must not flood it.
const QUESTIONS: usize = 32;
/// How long the hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a hub that failed is left alone.
const PAUSE: Duration = Duration::from_secs(2);
/// Bytes of an answer. A session and a user take one KiB; a user's picture may be a data URL.
const ANSWER: usize = 256 * 1024;
/// Bytes of a token. Ours take a hundred.
const TOKEN: usize = 4096;

/// A hub that is asked. Clones share what is remembered.
#[derive(Clone)]
pub struct HubSessions(Arc<Inner>);

struct Inner {
    url: Url,
    client: reqwest::Client,
    /// By the digest of the token, so that no token stays in memory longer than needed.
    verdicts: Cache<[u8; 32], Verdict>,
    /// The tokens of sessions that were good, to ask about them again.
    tokens: Cache<String, Token>,
    questions: Semaphore,
    failed: Mutex<Option<(Instant, Unavailable)>>,
    revoked: broadcast::Sender<Revoked>,
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
    fn is_fresh(&self) -> bool {
        self.when.elapsed() < if self.session.is_some() { GOOD } else { BAD }
    }

    /// The caller, if the session has not expired since.
    fn caller(self) -> Option<Caller> {
        let live = self.session.filter(|session| session.expires_at > SystemTime::now());
        live.map(|session| session.caller)
    }
}

/// What is no URL of a hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not HTTP.
    #[error("{0} is not where a hub can be; write it like https://hub.example.com")]
    Url(Url),
    /// HTTP cannot be spoken.
    #[error("the hub cannot be asked: {0}")]
    Client(#[from] reqwest::Error),
}

impl HubSessions {
    /// Sessions of the hub at this URL. It need not be there yet.
    pub fn new(url: Url) -> Result<Self, HubError> {
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(HubError::Url(url));
        }
        let mut base = url;
        base.set_query(None);
        base.set_fragment(None);
        let path = format!("{}/auth/get-session", base.path().trim_end_matches('/'));
        base.set_path(&path);
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            // A redirect would take the token elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let cache = || Cache::builder().max_capacity(REMEMBERED).time_to_live(GRACE);
        let (revoked, _) = broadcast::channel(1);
        Ok(Self(Arc::new(Inner {
            url: base,
            client,
            verdicts: cache().build(),
            tokens: Cache::builder().max_capacity(REMEMBERED).time_to_idle(GRACE).build(),
            questions: Semaphore::new(QUESTIONS),
            failed: Mutex::default(),
            revoked,
        })))
    }

    async fn ask(&self, token: &Token) -> Result<Option<Session>, Unavailable> {
        let inner = &self.0;
        let failed = || inner.failed.lock().clone();
        let gave_up = || failed().filter(|(when, _)| when.elapsed() < PAUSE);
        if let Some((_, error)) = gave_up() {
            return Err(error);
        }
        let _question = inner.questions.acquire().await.expect("the semaphore is never closed");
        // Those who waited for their turn need not find out the same one after the other.
        if let Some((_, error)) = gave_up() {
            return Err(error);
        }
        let answer = self.request(token).await;
        *inner.failed.lock() = answer.as_ref().err().map(|error| (Instant::now(), error.clone()));
        answer
    }

    async fn request(&self, token: &Token) -> Result<Option<Session>, Unavailable> {
        let failed = |what: String| Unavailable(format!("the hub {what}"));
        let request = self.0.client.get(self.0.url.clone()).bearer_auth(token.as_str());
        // The error would show the URL, which is not the caller's business.
        let broken = |error: reqwest::Error| {
            tracing::debug!(%error, "the hub");
            failed("cannot be reached".into())
        };
        let mut answer =
            request.header(header::ACCEPT, "application/json").send().await.map_err(broken)?;
        let status = answer.status();
        if status == reqwest::StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(failed(format!("answered with {}", status.as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > ANSWER {
                return Err(failed("said too much".into()));
            }
            body.extend_from_slice(&chunk);
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
            .map_err(|error| failed(format!("says what is no session: {error}")))?;
        let Some(Answer { session, user }) = answer else { return Ok(None) };
        let expires_at = Time::parse(&session.expires_at)
            .ok_or_else(|| failed("says a session ends at no time at all".into()))?;
        let account =
            Account { id: user.id, email: user.email, name: user.name, owns_address: false };
        let caller = Caller { account, session: session.id.into(), token: token.clone() };
        Ok(Some(Session { caller, expires_at: expires_at.into() }))
    }
}

#[async_trait]
impl Verifier for HubSessions {
    async fn verify(&self, credential: &Credential) -> Result<Option<Caller>, Unavailable> {
        let token = &credential.token;
        // A cookie is between a browser and the server that set it.
        if credential.source == Source::Cookie || token.as_str().len() > TOKEN {
            return Ok(None);
        }
        let key: [u8; 32] = Sha256::digest(token.as_str().as_bytes()).into();
        let known = self.0.verdicts.get(&key).await;
        if let Some(verdict) = known.clone().filter(Verdict::is_fresh) {
            return Ok(verdict.caller());
        }
        match self.ask(token).await {
            Ok(session) => {
                if let Some(Session { caller, .. }) = &session {
                    let session = caller.session.to_string();
                    self.0.tokens.insert(session, token.clone()).await;
                }
                let verdict = Verdict { session, when: Instant::now() };
                self.0.verdicts.insert(key, verdict.clone()).await;
                Ok(verdict.caller())
            }
            // What was bad is bad still; what was good is, for a while. The cache forgets it then.
            Err(error) => known.map(Verdict::caller).ok_or(error),
        }
    }

    async fn live(&self, sessions: &[String]) -> Result<HashSet<String>, Unavailable> {
        let mut live = HashSet::new();
        for session in sessions {
            // A session that was forgotten was not known to be good for an hour.
            let Some(token) = self.0.tokens.get(session).await else { continue };
            match self.verify(&Credential::bearer(token.as_str())).await {
                Ok(None) => {}
                Ok(Some(_)) => drop(live.insert(session.clone())),
                // Its grace is over and the hub is away still.
                Err(error) => tracing::debug!(%error, "an open socket's session"),
            }
        }
        Ok(live)
    }

    /// The hub does not tell.
    fn revocations(&self) -> broadcast::Receiver<Revoked> {
        self.0.revoked.subscribe()
    }
}
