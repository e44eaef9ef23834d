//! Password hashes in Better Auth's format.
//!
//! A hash is `salt:key` in hexadecimal. The key is scrypt (N = 16384, r = 16, p = 1, 64 bytes) of
//! the password in Unicode normal form KC. The salt passed to scrypt is the hexadecimal *text*, not
//! the bytes that it encodes.
//!
//! A hash takes a tenth of a second and 32 MiB. Hashing runs on blocking threads, at most one for each
//! core, with a bounded queue. When the queue is full, a sign-in is refused at once: that is better than
//! an answer that comes when the client has given up.

use std::sync::Arc;

use rand::RngExt;
use scrypt::Params;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

/// Hashes running or queued: about ten seconds' worth on two cores.
const WAITING: usize = 128;
/// Hashes running at once, however many cores there are: 32 MiB each.
const AT_ONCE: usize = 8;
/// Bytes of a key.
const KEY: usize = 64;

/// Hashes passwords, a bounded number at a time.
#[derive(Clone)]
pub struct Hasher {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Too many passwords are being hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many sign-ins at once; try again in a few seconds")]
pub struct Busy;

impl Default for Hasher {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Self {
            running: Arc::new(Semaphore::new(cores.min(AT_ONCE))),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }
}

impl Hasher {
    /// Hashes a password for storage.
    pub async fn hash(&self, password: &str) -> Result<String, Busy> {
        let salt = hex::encode(rand::rng().random::<[u8; 16]>());
        let key = self.key(password, salt.clone()).await?;
        Ok(format!("{salt}:{}", hex::encode(key)))
    }

    /// Whether a password matches a hash. Takes the same time if the hash is malformed.
    pub async fn matches(&self, password: &str, hash: &str) -> Result<bool, Busy> {
        let (salt, expected) = hash.split_once(':').unwrap_or((hash, ""));
        let key = self.key(password, salt.to_owned()).await?;
        // A key of another length is never equal; ours all have this one.
        let expected = hex::decode(expected).unwrap_or_default();
        Ok(bool::from(key.ct_eq(&expected)))
    }

    async fn key(&self, password: &str, salt: String) -> Result<[u8; KEY], Busy> {
        let place = self.waiting.clone().try_acquire_owned().map_err(|_| Busy)?;
        let turn = self.running.clone().acquire_owned().await.map_err(|_| Busy)?;
        let password: String = password.nfkc().collect();
        let task = tokio::task::spawn_blocking(move || {
            // Held until the hash is done, even if the caller has gone.
            let _held = (place, turn);
            let params = Params::new(14, 16, 1).expect("these parameters are in range");
            let mut key = [0; KEY];
            scrypt::scrypt(password.as_bytes(), salt.as_bytes(), &params, &mut key)
                .expect("scrypt makes 64 bytes");
            key
        });
        task.await.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_matches_its_password_in_any_unicode_form() {
        let hasher = Hasher::default();
        let hash = hasher.hash("pässword ﬁne").await.expect("not busy");
        assert!(hasher.matches("pa\u{308}ssword fine", &hash).await.expect("not busy"));
        assert!(!hasher.matches("passwort fine", &hash).await.expect("not busy"));
        for broken in ["", ":", "salt", "salt:zz", &hash[..hash.len() - 2]] {
            assert!(!hasher.matches("pässword ﬁne", broken).await.expect("not busy"), "{broken}");
        }
    }

    #[tokio::test]
    async fn too_many_hashes_at_once_are_refused_at_once() {
        let hasher = Hasher::default();
        let _all = hasher.waiting.acquire_many(WAITING as u32).await.expect("open");
        assert_eq!(hasher.hash("password").await, Err(Busy));
    }
}
