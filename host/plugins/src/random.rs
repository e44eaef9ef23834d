//! Random values for plugins.

use rand::RngExt;

/// A new random id: 21 characters of 6 bits.
pub(crate) fn random_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: [u8; 21] = rand::rng().random();
    bits.iter().map(|bits| char::from(ALPHABET[usize::from(bits & 63)])).collect()
}

/// 64 random bits.
pub(crate) fn random_u64() -> u64 {
    rand::rng().random()
}
