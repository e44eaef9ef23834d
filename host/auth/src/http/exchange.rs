//! One request and its answer: what all endpoints share.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::{Map, Value};

use super::Endpoint;
use super::reply::{Refusal, location};
use crate::accounts::{Accounts, Inner};
use crate::cookies::Cookie;
use crate::database::{Session, User};
use crate::limits;
use crate::time::Time;
use crate::users::{Users, Visit};

/// A request with its body, and the answer's headers collected so far.
pub(super) struct Exchange {
    accounts: Accounts,
    parts: Parts,
    address: IpAddr,
    query: Vec<(String, String)>,
    /// The body. A form is converted to an object; `None` if there was no body.
    pub body: Option<Value>,
    reply: HeaderMap,
}

/// The prefix of a signed sign-up, so that no other signed value passes for one.
const SIGN_UP: &str = "sign-up:";

/// The body fields that may hold a redirect target, and the error if the target is not allowed.
const REDIRECTS: &[(&str, Refusal)] = &[
    ("callbackURL", Refusal::INVALID_CALLBACK_URL),
    ("redirectTo", Refusal::INVALID_REDIRECT_URL),
    ("errorCallbackURL", Refusal::INVALID_ERROR_CALLBACK_URL),
    ("newUserCallbackURL", Refusal::INVALID_NEW_USER_CALLBACK_URL),
];

impl Exchange {
    pub fn new(accounts: Accounts, parts: Parts, address: IpAddr) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let query = serde_urlencoded::from_str(query).unwrap_or_default();
        Self { accounts, parts, address, query, body: None, reply: HeaderMap::new() }
    }

    pub fn inner(&self) -> &Inner {
        self.accounts.inner()
    }

    pub fn users(&self) -> &Users {
        &self.inner().users
    }

    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// A header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// A query parameter, unless it is empty.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, value) = self.query.iter().find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// Reads the body and checks where the request comes from.
    pub async fn receive(&mut self, endpoint: Endpoint, body: Body) -> Result<(), Refusal> {
        if self.parts.method != Method::POST {
            return Ok(());
        }
        if endpoint != Endpoint::GetSession {
            let forms = matches!(endpoint, Endpoint::SignUp | Endpoint::SignIn);
            self.body = self.read(body, forms).await?;
        }
        if self.parts.headers.contains_key(header::COOKIE) {
            self.check_origin()?;
        }
        for (name, refusal) in REDIRECTS {
            let value = self.body.as_ref().and_then(|body| body.get(name));
            let query = || self.query(name).filter(|_| *name == "callbackURL").map(Value::from);
            match value.filter(|value| !is_falsy(value)).cloned().or_else(query) {
                None => {}
                Some(Value::String(url)) => self.check_redirect(&url, refusal)?,
                Some(_) => {
                    let label = if *name == "redirectTo" { "redirectURL" } else { name };
                    let message = format!("Invalid {label}: expected a string");
                    return Err(Refusal::told(
                        StatusCode::BAD_REQUEST,
                        message,
                        "VALIDATION_ERROR",
                    ));
                }
            }
        }
        if matches!(endpoint, Endpoint::SignUp | Endpoint::SignIn) {
            self.check_login()?;
        }
        Ok(())
    }

    async fn read(&self, body: Body, forms: bool) -> Result<Option<Value>, Refusal> {
        let bytes = match Limited::new(body, limits::BODY).collect().await {
            Ok(bytes) => bytes.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(Refusal::TOO_LARGE);
            }
            // The client disconnected while sending.
            Err(_) => return Err(Refusal::INVALID_JSON),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let allowed: &[&str] = if forms {
            &["application/x-www-form-urlencoded", "application/json"]
        } else {
            &["application/json"]
        };
        let given = self.header("content-type").unwrap_or_default();
        let kind = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !allowed.contains(&kind.as_str()) {
            let allowed = allowed.join(", ");
            let message = if given.is_empty() {
                format!("Content-Type is required. Allowed types: {allowed}")
            } else {
                format!("Content-Type \"{given}\" is not allowed. Allowed types: {allowed}")
            };
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Refusal::told(status, message, "UNSUPPORTED_MEDIA_TYPE"));
        }
        if kind == "application/json" {
            return serde_json::from_slice(&bytes).map(Some).map_err(|_| Refusal::INVALID_JSON);
        }
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_bytes(&bytes).map_err(|_| Refusal::INVALID_JSON)?;
        let fields: Map<_, _> =
            pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
        Ok(Some(fields.into()))
    }

    /// Our own origin: the configured one, or the one that the client addressed.
    pub fn own_origin(&self) -> String {
        if let Some(origin) = &self.inner().origin {
            return origin.clone();
        }
        let host = self.header("host").or_else(|| Some(self.parts.uri.authority()?.as_str()));
        let origin = host.and_then(|host| crate::origins::origin_of(&format!("http://{host}")));
        origin.unwrap_or_else(|| "http://localhost".into())
    }

    /// Refuses requests from pages that are not trusted.
    fn check_origin(&self) -> Result<(), Refusal> {
        let origin = self.header("origin").filter(|origin| !origin.is_empty());
        if origin == Some("null") && self.header("sec-fetch-site") == Some("same-origin") {
            return Ok(());
        }
        let page = origin.or_else(|| self.header("referer")).unwrap_or_default();
        if page.is_empty() || page == "null" {
            return Err(Refusal::MISSING_OR_NULL_ORIGIN);
        }
        if self.inner().origins.trusts_or_own(page, &self.own_origin()) {
            Ok(())
        } else {
            Err(Refusal::INVALID_ORIGIN)
        }
    }

    /// Refuses cross-site sign-ins. A browser without a cookie yet is recognised by other headers.
    fn check_login(&self) -> Result<(), Refusal> {
        let headers = &self.parts.headers;
        if headers.contains_key(header::COOKIE) {
            return Ok(());
        }
        let said = |name: &str| self.header(name).is_some_and(|value| !value.trim().is_empty());
        if ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"].into_iter().any(said) {
            if self.header("sec-fetch-site") == Some("cross-site")
                && self.header("sec-fetch-mode") == Some("navigate")
            {
                return Err(Refusal::CROSS_SITE_NAVIGATION_LOGIN_BLOCKED);
            }
            return self.check_origin();
        }
        if said("origin") || said("referer") { self.check_origin() } else { Ok(()) }
    }

    /// Refuses redirect targets that are not allowed.
    pub fn check_redirect(&self, url: &str, refusal: &Refusal) -> Result<(), Refusal> {
        let allowed = self.inner().origins.may_redirect(url, &self.own_origin());
        if allowed { Ok(()) } else { Err(refusal.clone()) }
    }

    /// Adds a query parameter to a URL. `url` has passed the redirect check.
    pub fn with_parameter(&self, url: &str, name: &str, value: &str) -> Option<String> {
        let mut url = url::Url::parse(&self.own_origin()).ok()?.join(url).ok()?;
        let kept: Vec<_> = url
            .query_pairs()
            .filter(|(known, _)| known != name)
            .map(|(known, value)| (known.into_owned(), value.into_owned()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(kept).append_pair(name, value);
        Some(url.into())
    }

    /// The link to an endpoint, for a mail.
    pub fn link(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        let query = serde_urlencoded::to_string(parameters).unwrap_or_default();
        format!("{}/auth{path}?{query}", self.own_origin())
    }

    /// The client's address and browser, and how long its session should last.
    pub fn visit(&self, short: bool) -> Visit {
        let agent = self.header("user-agent").unwrap_or_default();
        let end = agent.floor_char_boundary(limits::USER_AGENT);
        let (ip_address, user_agent) = (self.address.to_string(), agent[..end].to_owned());
        Visit { ip_address, user_agent, short }
    }

    /// The token of the request, if it is bare or carries our signature. A bearer token takes
    /// precedence over the cookie unless its signature is forged.
    pub fn token(&self) -> Option<String> {
        let headers = &self.parts.headers;
        let bearer = host_http::bearer(headers).and_then(|token| self.inner().bearer(&token));
        bearer.or_else(|| self.inner().cookie(Cookie::SessionToken, headers))
    }

    fn forgetful(&self) -> bool {
        self.inner().cookie(Cookie::DontRemember, &self.parts.headers).is_some()
    }

    /// The session of the request, extended if that is due; `None` if there is none. If the token's
    /// session has ended, the answer also expires the cookie.
    pub async fn find_session(&mut self, extend: bool) -> Result<Option<(Session, User)>, Refusal> {
        let Some(token) = self.token() else { return Ok(None) };
        let now = Time::now();
        let (mut session, user) = match self.users().database.session(&token).await? {
            Some(found) if found.0.expires_at >= now => found,
            found => {
                if found.is_some() {
                    self.users().end_session(&token).await?;
                }
                self.expire_cookies();
                return Ok(None);
            }
        };
        let due = session.expires_at - limits::SESSION + limits::EXTEND_EVERY <= now;
        if extend && due && !self.forgetful() {
            let expires_at = now + limits::SESSION;
            if !self.users().database.extend_session(&token, now, expires_at).await? {
                self.expire_cookies();
                return Ok(None);
            }
            (session.expires_at, session.updated_at) = (expires_at, now);
            self.set_session(&session, Some(false));
        }
        Ok(Some((session, user)))
    }

    /// The session of the request; an error if there is none.
    pub async fn session(&mut self) -> Result<(Session, User), Refusal> {
        self.find_session(true).await?.ok_or(Refusal::UNAUTHORIZED)
    }

    /// The same, but the session must be less than a day old.
    pub async fn fresh_session(&mut self) -> Result<(Session, User), Refusal> {
        let found = self.session().await?;
        if is_fresh(&found.0) { Ok(found) } else { Err(Refusal::SESSION_NOT_FRESH) }
    }

    /// Sets the session cookie. If `short` is `None`, a cookie for the browser's window stays one.
    pub fn set_session(&mut self, session: &Session, short: Option<bool>) {
        let marked = self.forgetful();
        let short = short.unwrap_or(marked);
        let (secret, secure) = (self.inner().config.secret.clone(), self.inner().secure());
        let signed = secret.sign(&session.token);
        let max_age = (!short).then_some(limits::SESSION.as_secs());
        let cookie = Cookie::SessionToken.set(secure, &signed, max_age);
        self.reply.append(header::SET_COOKIE, cookie);
        if short {
            let cookie = Cookie::DontRemember.set(secure, &secret.sign("true"), None);
            self.reply.append(header::SET_COOKIE, cookie);
        } else if marked {
            self.reply.append(header::SET_COOKIE, Cookie::DontRemember.set(secure, "", Some(0)));
        }
        // For clients that keep no cookies.
        if let Ok(token) = HeaderValue::from_str(&signed) {
            self.set_header(HeaderName::from_static("set-auth-token"), token);
            let exposed = HeaderValue::from_static("set-auth-token");
            self.set_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// Sets a cookie that names the sign-up whose password this browser knows. It lasts as long as
    /// the link in the mail.
    pub fn set_sign_up(&mut self, id: &str) {
        let inner = self.inner();
        let signed = inner.config.secret.sign(&format!("{SIGN_UP}{id}"));
        let max_age = Some(limits::LINK.as_secs());
        let cookie = Cookie::SignUp.set(inner.secure(), &signed, max_age);
        self.reply.append(header::SET_COOKIE, cookie);
    }

    /// The id of the sign-up whose password this browser knows.
    pub fn sign_up(&self) -> Option<String> {
        let value = self.inner().cookie(Cookie::SignUp, &self.parts.headers)?;
        value.strip_prefix(SIGN_UP).map(str::to_owned)
    }

    /// Expires the session cookie, even one that this answer set before.
    pub fn expire_cookies(&mut self) {
        let secure = self.inner().secure();
        self.reply.remove(header::SET_COOKIE);
        self.reply.remove("set-auth-token");
        self.reply.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
        for cookie in [Cookie::SessionToken, Cookie::SessionData, Cookie::DontRemember] {
            self.reply.append(header::SET_COOKIE, cookie.set(secure, "", Some(0)));
        }
    }

    /// Sets a header of the answer.
    pub fn set_header(&mut self, name: HeaderName, value: HeaderValue) {
        self.reply.insert(name, value);
    }

    /// Redirects the client to a URL that was checked before.
    pub fn set_location(&mut self, url: &str) -> Result<(), Refusal> {
        let value = location(url).ok_or(Refusal::INVALID_CALLBACK_URL)?;
        self.set_header(header::LOCATION, value);
        Ok(())
    }

    /// Merges the collected headers into the answer.
    pub fn finish(self, headers: &mut HeaderMap) {
        headers.extend(self.reply);
    }
}

/// Whether a session began less than a day ago.
pub(super) fn is_fresh(session: &Session) -> bool {
    session.created_at + limits::FRESH > Time::now()
}

/// Whether JavaScript considers the value falsy.
fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}
