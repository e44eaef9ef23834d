//! The accounts of a hub: their configuration, and the handle that other crates use.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use host_caller::{Account, Caller, Unavailable};
use tokio::sync::broadcast;
use url::Url;

use crate::cookies::Cookie;
use crate::database;
use crate::limits;
use crate::mail::{Mailer, Outgoing};
use crate::origins::{NotAnOrigin, TrustedOrigins};
use crate::rate::RateLimit;
use crate::secret::{Secret, ServerSecret};
use crate::time::Time;
use crate::users::Users;
use crate::verifier::{Credential, Directory, Revoked, Source, Verifier};

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignUp {
    /// Anybody.
    #[default]
    Open,
    /// Anybody with an invitation: a token bound to an e-mail address, sent as `invitation`.
    Invite,
    /// Nobody. The operator creates accounts on the command line.
    Closed,
}

/// Whether new users must prove that they own their e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyEmail {
    /// No verification.
    #[default]
    Off,
    /// New users get a mail with a verification link.
    Send,
    /// New users get the link and cannot sign in until they follow it.
    Require,
}

/// The configuration of [`Accounts`].
#[derive(Clone)]
pub struct AccountsConfig {
    /// Signs session tokens and links.
    pub secret: Secret,
    /// The public URL of the hub. `None` derives it from each request and sends no mail.
    pub base_url: Option<Url>,
    /// Whether the hub is in production, where errors reveal less.
    pub production: bool,
    /// Origins of web pages that may sign people in, in addition to the hub's own.
    pub trusted_origins: Vec<String>,
    /// Proxies in front of the hub whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpAddr>,
    /// Whether requests are rate-limited.
    pub rate_limit: bool,
    /// Who may create an account.
    pub sign_up: SignUp,
    /// Whether e-mail addresses are verified.
    pub verify_email: VerifyEmail,
    /// Whether users may change their e-mail address.
    pub change_email: bool,
    /// Whether users may delete their account.
    pub delete_user: bool,
    /// Whether users may request a link by mail to reset their password.
    pub password_reset: bool,
    /// Whether resetting a password ends all sessions of the account. Somebody who knew the old
    /// password may hold one.
    pub reset_ends_sessions: bool,
    /// The secret of local servers. Their session look-ups are not rate-limited.
    pub server_secret: Option<ServerSecret>,
    /// Sends mails.
    pub mailer: Arc<dyn Mailer>,
}

/// Why a configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not an origin.
    #[error(transparent)]
    Origin(#[from] NotAnOrigin),
    /// Not a valid hub URL.
    #[error("{0} is not where a hub can be; write it like https://hub.example.com, without a path")]
    BaseUrl(Url),
}

/// The accounts of a hub. Clones share all state.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

pub(crate) struct Inner {
    pub users: Users,
    pub config: AccountsConfig,
    pub origins: TrustedOrigins,
    pub rate: RateLimit<(IpAddr, &'static str)>,
    pub mails: Outgoing,
    /// The hub's configured origin, if any.
    pub origin: Option<String>,
}

impl Accounts {
    /// Accounts that are served as configured.
    pub fn new(users: Users, config: AccountsConfig) -> Result<Self, ConfigError> {
        let origins = TrustedOrigins::new(&config.trusted_origins)?;
        let origin = match &config.base_url {
            Some(url) if !matches!(url.scheme(), "http" | "https") || url.path() != "/" => {
                return Err(ConfigError::BaseUrl(url.clone()));
            }
            url => url.as_ref().map(|url| url.origin().ascii_serialization()),
        };
        let mails = Outgoing::new(config.mailer.clone());
        let rate = RateLimit::default();
        Ok(Self(Arc::new(Inner { users, config, origins, rate, mails, origin })))
    }

    /// Operations on accounts.
    pub fn users(&self) -> &Users {
        &self.0.users
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    /// Whether cookies are restricted to HTTPS, which their names then say.
    pub fn secure(&self) -> bool {
        self.config.base_url.as_ref().is_some_and(|url| url.scheme() == "https")
    }

    /// Extracts the session token from an `Authorization` header or a query parameter. Both the
    /// bare and the signed token are accepted, percent-encoded or not.
    pub fn bearer(&self, text: &str) -> Option<String> {
        if text.len() > limits::TOKEN {
            return None;
        }
        if !text.contains('.') {
            return Some(text.to_owned());
        }
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
        self.config.secret.open(&decoded).map(str::to_owned)
    }

    /// The value of a signed cookie. Other programs on the same host may set cookies of the same
    /// name, so this returns the first one that carries our signature.
    pub fn cookie(&self, cookie: Cookie, headers: &HeaderMap) -> Option<String> {
        let name = cookie.name(self.secure());
        host_http::cookies(headers, &name).find_map(|value| self.open(&value).map(str::to_owned))
    }

    fn account(&self, user: database::User) -> Account {
        let owns_address = user.email_verified || self.config.verify_email == VerifyEmail::Off;
        Account { id: user.id, email: user.email, name: user.name, owns_address }
    }

    fn open<'a>(&self, signed: &'a str) -> Option<&'a str> {
        if signed.len() > limits::TOKEN {
            return None;
        }
        self.config.secret.open(signed)
    }
}

fn failed(error: impl std::fmt::Display) -> Unavailable {
    Unavailable::Failed(error.to_string())
}

#[async_trait]
impl Verifier for Accounts {
    /// The token from the header or query if there is one, otherwise the session cookie. If no
    /// cookie carries our signature, the first one is used, so the answer is "not valid" rather
    /// than "missing".
    fn credential(&self, request: &Parts) -> Option<Credential> {
        let cookie = || {
            let name = Cookie::SessionToken.name(self.0.secure());
            let values = host_http::cookies(&request.headers, &name);
            let mut values = values.filter(|value| !value.is_empty());
            let first = values.next()?;
            let signed = |value: &String| self.0.open(value).is_some();
            let value = if signed(&first) { first } else { values.find(signed).unwrap_or(first) };
            Some(Credential { token: value.into(), source: Source::Cookie, client: None })
        };
        Credential::stated(request).or_else(cookie)
    }

    async fn verify(&self, credential: &Credential) -> Result<Option<Caller>, Unavailable> {
        let text = credential.token.as_str();
        let token = match credential.source {
            Source::Cookie => self.0.open(text).map(str::to_owned),
            Source::Bearer | Source::Query => self.0.bearer(text),
        };
        let Some(token) = token else { return Ok(None) };
        let found = self.0.users.database.session(&token).await.map_err(failed)?;
        let live = found.filter(|(session, _)| session.expires_at >= Time::now());
        Ok(live.map(|(session, user)| Caller {
            account: self.0.account(user),
            session: session.id.into(),
            token: credential.token.clone(),
        }))
    }

    async fn live(&self, sessions: &[String]) -> Result<HashSet<String>, Unavailable> {
        let live = self.0.users.database.live_sessions(sessions, Time::now()).await;
        Ok(live.map_err(failed)?.into_iter().collect())
    }

    fn revocations(&self) -> broadcast::Receiver<Revoked> {
        self.0.users.revocations()
    }
}

#[async_trait]
impl Directory for Accounts {
    async fn find(&self, id_or_email: &str) -> Result<Option<Account>, Unavailable> {
        let database = &self.0.users.database;
        let found = match database.user(id_or_email).await.map_err(failed)? {
            None if id_or_email.contains('@') => {
                database.user_by_email(id_or_email).await.map_err(failed)?
            }
            found => found,
        };
        Ok(found.map(|user| self.0.account(user)))
    }

    async fn existing(&self, accounts: &[String]) -> Result<HashSet<String>, Unavailable> {
        let existing = self.0.users.database.existing_users(accounts).await;
        Ok(existing.map_err(failed)?.into_iter().collect())
    }
}
