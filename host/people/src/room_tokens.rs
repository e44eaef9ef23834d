//! Room tokens: short-lived, for one room, and safe to put into a URL.
//!
//! Browsers cannot set headers on a WebSocket, so the token goes into `?token=`, where proxies log
//! it. A session token opens everything for days; a room token opens one room for minutes. It is
//! `room.CLAIM.SIGNATURE`: the claim as JSON and its HMAC-SHA256, both in base64url. It grants no
//! more than the session that requested it, and ends with that session.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::limits::TOKEN_BYTES;
use crate::members::Level;

/// Distinguishes a room token from a session token, which has no dot in its first 32 characters.
const PREFIX: &str = "room.";

/// What a room token grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The id of the account that requested it.
    pub account: String,
    /// The id of the session that requested it.
    pub session: String,
    /// The id of the account that owns the room.
    pub owner: String,
    /// The room's id.
    pub room: String,
    /// The access to the room.
    pub access: Level,
    /// When it expires, in seconds since the Unix epoch.
    pub expires: u64,
}

impl Claim {
    /// When it expires.
    pub fn expires_at(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.expires))
    }
}

/// Signs and verifies room tokens.
#[derive(Clone)]
pub struct RoomTokens {
    key: Hmac<Sha256>,
}

impl RoomTokens {
    /// Reads the key from a file, which is created if it is missing.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        // Tokens live for minutes, so hardly anything depends on an old key.
        let key = host_files::keep(path, true, || rand::random::<[u8; 32]>().into())?.bytes;
        if key.len() < 32 {
            let message = "is too short for a key; remove it, and a new one is made";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
        }
        Ok(Self { key: Hmac::new_from_slice(&key).expect("HMAC takes keys of any length") })
    }

    /// Whether a token has the form of a room token, valid or not.
    pub fn is_one(token: &str) -> bool {
        token.starts_with(PREFIX)
    }

    /// Signs a claim.
    pub fn sign(&self, claim: &Claim) -> String {
        let claim = serde_json::to_vec(claim).expect("a claim is strings and numbers");
        let mut token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(claim));
        let mac = self.key.clone().chain_update(&token).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut token);
        token
    }

    /// The claim of a token, if this server signed it and it has not expired.
    pub fn read(&self, token: &str) -> Option<Claim> {
        if token.len() > TOKEN_BYTES {
            return None;
        }
        let (signed, mac) = token.rsplit_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        self.key.clone().chain_update(signed).verify_slice(&mac).ok()?;
        let claim = URL_SAFE_NO_PAD.decode(signed.strip_prefix(PREFIX)?).ok()?;
        let claim: Claim = serde_json::from_slice(&claim).ok()?;
        (claim.expires_at()? > SystemTime::now()).then_some(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(expires: u64) -> Claim {
        Claim {
            account: "bob".into(),
            session: "s".into(),
            owner: "alice".into(),
            room: "blog/\u{1}ü".into(),
            access: Level::Read,
            expires,
        }
    }

    #[test]
    fn a_token_is_good_until_it_ends_and_only_as_it_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = RoomTokens::open(&folder.path().join("key")).unwrap();
        let good = claim(u64::from(u32::MAX));
        let token = tokens.sign(&good);
        assert!(RoomTokens::is_one(&token));
        assert_eq!(tokens.read(&token), Some(good));
        let again = RoomTokens::open(&folder.path().join("key")).unwrap();
        assert!(again.read(&token).is_some(), "the key is kept");
        let other = RoomTokens::open(&folder.path().join("other")).unwrap();
        assert_eq!(other.read(&token), None, "another server's key");

        assert_eq!(tokens.read(&tokens.sign(&claim(1))), None, "expired");
        assert_eq!(
            tokens.read(&tokens.sign(&claim(u64::MAX))),
            None,
            "a time that cannot be represented"
        );
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens.read(&changed), None, "{changed}");
        }
        let (head, _) = token.rsplit_once('.').unwrap();
        let pieces = ["", "room.", "room..", head, &format!("{head}."), &token[..token.len() - 1]];
        for piece in pieces {
            assert_eq!(tokens.read(piece), None, "{piece}");
        }
    }

    #[test]
    fn nobody_else_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        RoomTokens::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
