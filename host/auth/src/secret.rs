//! The signing secret, and what it signs: session tokens and the links in mails.
//!
//! A signed value is `value.signature`, where the signature is HMAC-SHA-256 in padded base64. In a
//! cookie it is percent-encoded. Links carry a JSON Web Token (RFC 7519) signed with HS256. These
//! formats are Better Auth's, so servers that share a secret accept each other's cookies.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::time::Time;

/// The alphabet of ids and tokens: 62 characters, so 32 of them are 190 bits.
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// The header of our tokens: `{"alg":"HS256"}`, the only algorithm that is ever accepted.
const JWT_HEADER: &str = "eyJhbGciOiJIUzI1NiJ9";

/// The secret of a server. It has no `Debug`, so it cannot be printed.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// A secret that a hub shares with its local servers. It cannot be printed.
#[derive(Clone)]
pub struct ServerSecret(HeaderValue);

impl ServerSecret {
    /// Whether a header holds this secret. Compares digests, so the time that it takes reveals
    /// nothing.
    pub(crate) fn is(&self, given: &HeaderValue) -> bool {
        let digest = |value: &HeaderValue| Sha256::digest(value.as_bytes());
        digest(given).ct_eq(&digest(&self.0)).into()
    }

    /// The header that presents it to the hub.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Parses the command-line form: the secret, or `@` and the path of its file.
impl FromStr for ServerSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let secret = read_argument(text)?;
        if secret.len() < 16 {
            return Err("the secret has fewer than 16 characters".into());
        }
        let wrong = |_| "the secret has characters that a header cannot hold".to_owned();
        let mut header = HeaderValue::from_str(&secret).map_err(wrong)?;
        header.set_sensitive(true);
        Ok(Self(header))
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret")
    }
}

/// A secret on the command line: the text itself, or `@` and the path of the file that holds it.
pub fn read_argument(text: &str) -> Result<String, String> {
    let secret = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?,
        None => text.to_owned(),
    };
    match secret.trim() {
        "" => Err("the token is empty".into()),
        secret => Ok(secret.to_owned()),
    }
}

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is too easy to guess.
    #[error("{0} has fewer than 32 characters; `openssl rand -base64 32` makes a good one")]
    Short(String),
    /// The file cannot be read or written.
    #[error("the secret in {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The system's error.
        source: io::Error,
    },
}

impl Secret {
    /// Checks a given secret; `name` says where it comes from.
    pub fn new(name: &str, secret: &str) -> Result<Self, SecretError> {
        // Better Auth recommends this length and warns below it.
        if secret.chars().count() < 32 {
            return Err(SecretError::Short(name.to_owned()));
        }
        Ok(Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length")))
    }

    /// Reads the secret from a file that only its owner may read. The first start creates it. `needed` says
    /// whether anybody may have signed in, so that an empty file has lost something.
    pub fn in_file(path: &Path, needed: bool) -> Result<Self, SecretError> {
        let failed = |source| SecretError::File { path: path.display().to_string(), source };
        let make = || STANDARD.encode(rand::rng().random::<[u8; 32]>()).into_bytes();
        let kept = host_files::keep(path, !needed, make).map_err(failed)?;
        let no_text = |error| failed(io::Error::new(io::ErrorKind::InvalidData, error));
        let text = String::from_utf8(kept.bytes).map_err(no_text)?;
        Self::new(&path.display().to_string(), text.trim())
    }

    fn mac(&self, data: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(data)
    }

    /// Signs a value as `value.signature`.
    pub fn sign(&self, value: &str) -> String {
        let signature = STANDARD.encode(self.mac(value.as_bytes()).finalize().into_bytes());
        format!("{value}.{signature}")
    }

    /// The value inside a result of [`Secret::sign`]; `None` for anything else.
    pub fn open<'a>(&self, signed: &'a str) -> Option<&'a str> {
        let (value, signature) = signed.rsplit_once('.')?;
        let signature = STANDARD.decode(signature).ok()?;
        let intact = self.mac(value.as_bytes()).verify_slice(&signature).is_ok();
        (intact && !value.is_empty()).then_some(value)
    }

    /// Signs a JSON Web Token with `claims` that is valid until `expires`.
    pub fn token(&self, claims: &impl Serialize, issued: Time, expires: Time) -> String {
        #[derive(Serialize)]
        struct Claims<'a, T> {
            #[serde(flatten)]
            claims: &'a T,
            iat: i64,
            exp: i64,
        }
        let (iat, exp) = (issued.millis() / 1000, expires.millis() / 1000);
        let claims = serde_json::to_vec(&Claims { claims, iat, exp })
            .expect("claims are plain structs of strings");
        let signed = format!("{JWT_HEADER}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.mac(signed.as_bytes()).finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    /// The claims of a token that this server signed.
    pub fn claims<T: DeserializeOwned>(&self, token: &str, now: Time) -> Result<T, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Invalid)?;
        self.mac(signed.as_bytes()).verify_slice(&signature).map_err(|_| TokenError::Invalid)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Invalid)?;
        let json = |part: &str| -> Result<serde_json::Value, TokenError> {
            let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid)?;
            serde_json::from_slice(&bytes).map_err(|_| TokenError::Invalid)
        };
        let (header, claims) = (json(header)?, json(claims)?);
        let expires = claims["exp"].as_i64().ok_or(TokenError::Invalid)?;
        if header["alg"] != "HS256" {
            return Err(TokenError::Invalid);
        }
        if now.millis() / 1000 >= expires {
            return Err(TokenError::Expired);
        }
        serde_json::from_value(claims).map_err(|_| TokenError::Invalid)
    }
}

/// Why a token is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Its signature is not ours.
    Invalid,
    /// It has expired.
    Expired,
}

/// Generates an id or token.
pub fn random(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

/// The digest that is stored for a token that only its holder may know.
pub fn digest(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new("test", "a secret for tests, long enough for it").expect("it is long enough")
    }

    #[test]
    fn only_what_was_signed_opens() {
        let secret = secret();
        let signed = secret.sign("value.with.dots");
        assert_eq!(secret.open(&signed), Some("value.with.dots"));
        let other = Secret::new("test", "another secret, also long enough").expect("long enough");
        assert_eq!(other.open(&signed), None);
        for forged in ["", ".", "value", "value.", ".AAAA", "value.AAAA", "value.with.dots.!!!!"] {
            assert_eq!(secret.open(forged), None, "{forged}");
        }
        assert_eq!(secret.open(&signed.replace("dots", "dogs")), None);
        let (_, signature) = secret
            .sign("")
            .split_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("signed");
        assert_eq!(secret.open(&format!(".{signature}")), None, "nothing is no token");
    }

    #[test]
    fn a_token_says_what_it_was_made_to_say_until_it_expires() {
        #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
        struct Claims {
            email: String,
        }
        let secret = secret();
        let now = Time::parse("2026-11-22T14:36:42.063Z").expect("a time");
        let hour = std::time::Duration::from_secs(3600);
        let claims = Claims { email: "a@example.com".into() };
        let token = secret.token(&claims, now, now + hour);
        assert_eq!(secret.claims::<Claims>(&token, now), Ok(claims));
        assert_eq!(secret.claims::<Claims>(&token, now + hour), Err(TokenError::Expired));
        let (head, signature) = token.rsplit_once('.').expect("three parts");
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let payload = head.split_once('.').expect("two parts").1;
        for forged in [
            String::new(),
            "bad".into(),
            head.into(),
            format!("{head}."),
            format!("{none}.{payload}."),
            format!("{none}.{payload}.{signature}"),
            format!("{JWT_HEADER}.{}.{signature}", URL_SAFE_NO_PAD.encode("{}")),
            secret.sign("a"),
        ] {
            assert_eq!(secret.claims::<Claims>(&forged, now), Err(TokenError::Invalid), "{forged}");
        }
    }

    #[test]
    fn the_first_start_makes_a_secret_that_nobody_else_can_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("auth.secret");
        let signed = Secret::in_file(&path, true).expect("a new secret").sign("a");
        assert_eq!(Secret::in_file(&path, true).expect("the same").open(&signed), Some("a"));
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "short").expect("written");
        assert!(matches!(Secret::in_file(&path, false), Err(SecretError::Short(_))));
        std::fs::write(&path, "").expect("written");
        assert!(matches!(Secret::in_file(&path, true), Err(SecretError::File { .. })));
        assert_eq!(Secret::in_file(&path, false).expect("a new secret").open(&signed), None);
    }

    #[test]
    fn random_tokens_differ_and_have_the_alphabet_of_better_auth() {
        let token = random(32);
        assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(token, random(32));
    }
}
