//! Random ids.

/// A random id: 21 characters from `[A-Za-z0-9_-]`, 126 bits.
pub fn new_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let random: [u8; 21] = rand::random();
    random.iter().map(|byte| ALPHABET[(byte & 63) as usize] as char).collect()
}
