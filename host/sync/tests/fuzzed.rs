//! The fuzz targets, on their seeds and on changes of them that are random but the same each time.
//!
//! libFuzzer finds more, because it sees which code an input reaches; this takes seconds, needs nothing, and runs
//! with every other test.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[path = "../fuzz/src/frame.rs"]
mod frame;
#[path = "../fuzz/src/sequence.rs"]
mod sequence;
#[path = "../fuzz/src/socket.rs"]
mod socket;
#[path = "../fuzz/src/update.rs"]
mod update;

/// Changes of each seed.
const CHANGES: usize = 300;

/// Inputs from nothing but random bytes, for targets that have few seeds or none.
const FRESH: usize = 5_000;

#[test]
fn updates() {
    fuzz("update", update::run);
}

#[test]
fn sequences() {
    fuzz("sequence", sequence::run);
}

#[test]
fn frames() {
    fuzz("frame", frame::run);
}

#[test]
fn sockets() {
    fuzz("socket", socket::run);
}

fn fuzz(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|file| std::fs::read(file.expect("a seed").path()).expect("a seed"))
        .collect();
    // A folder is listed in any order.
    seeds.sort();
    let mut random = StdRng::seed_from_u64(1);
    for seed in &seeds {
        try_one(target, run, seed);
        for _ in 0..CHANGES {
            try_one(target, run, &changed(seed, &seeds, &mut random));
        }
    }
    for _ in 0..FRESH {
        let length = random.random_range(0..200);
        let bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        try_one(target, run, &bytes);
    }
}

/// Runs one input; if it panics, prints the bytes, so that they can become a seed.
fn try_one(target: &str, run: fn(&[u8]), bytes: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| run(bytes)) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("the target {target} fails on {hex}");
        std::panic::resume_unwind(panic);
    }
}

/// A seed with a few bytes flipped, removed, repeated, or followed by a part of another seed.
fn changed(seed: &[u8], seeds: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..16)).min(bytes.len());
        match random.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => {
                bytes[at] = *[0, 1, 0x7f, 0x80, 0xff].get(end % 5).unwrap_or(&0)
            }
            2 => drop(bytes.drain(at..end)),
            3 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            _ => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}
