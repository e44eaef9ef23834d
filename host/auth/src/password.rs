//! Password hashes, as Better Auth writes them.
//!
//! A hash is `salt:key` in hexadecimal, where the key is scrypt (N = 16384, r = 16, p = 1, 64
//! bytes) of the password in Unicode normal form KC. The salt that scrypt gets is the *text* of the
//! hexadecimal, not the bytes that it stands for.
//!
//! A hash takes a tenth of a second and 32 MiB. Hashing runs on threads of its own, as many at once
//! as there are cores, and only so many more may wait: beyond that a sign-in is refused at once,
//! which is better than to be answered when nobody waits any more.

use std::sync::Arc;

use rand::RngExt;
use scrypt::Params;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

/// Hashes that may be under way or waiting: some ten seconds' worth on two cores.
const WAITING: usize = 128;
/// Hashes at once at most, however many cores there are: 32 MiB each.
const AT_ONCE: usize = 8;
/// Bytes of a key.
const KEY: usize = 64;

/// Hashes passwords, so many at once.
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
    /// The hash to keep of a password.
    pub async fn hash(&self, password: &str) -> Result<String, Busy> {
        let salt = hex::encode(rand::rng().random::<[u8; 16]>());
        let key = self.key(password, salt.clone()).await?;
        Ok(format!("{salt}:{}", hex::encode(key)))
    }

    /// Whether a hash is that of the password. It takes as long for a hash that is no hash.
    pub async fn matches(&self, password: &str, hash: &str) -> Result<bool, Busy> {
        let (salt, expected) = hash.split_once(':').unwrap_or((hash, ""));
        let key = self.key(password, salt.to_owned()).await?;
        // Of another length, it is not equal; no key has this length by chance.
        let expected = hex::decode(expected).unwrap_or_default();
        Ok(bool::from(key.ct_eq(&expected)))
    }

    async fn key(&self, password: &str, salt: String) -> Result<[u8; KEY], Busy> {
        let place = self.waiting.clone().try_acquire_owned().map_err(|_| Busy)?;
        let turn = self.running.clone().acquire_owned().await.map_err(|_| Busy)?;
        let password: String = password.nfkc().collect();
        let task = tokio::task::spawn_blocking(move || {
            // Held until the hash is done, whether or not anybody still waits for it.
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
