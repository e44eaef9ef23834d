//! Damaged scripts, schemas and manifests: parsers of files end with an answer, on the stack that they have.
//!
//! Files are damaged like those of a disk or an editor are (bytes flipped, cut, doubled), and like those
//! of somebody who wants to break the server (one part nested or repeated many times).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::program::Program;
use crate::limits::Limits;
use crate::reach::manifest::Manifest;
use crate::sources::{Sources, Text};

const WORKSPACE: &str = include_str!("../../../../examples/notes-rhai/notes/workspace.rhai");
const SCHEMA: &str = include_str!("../../../../examples/notes-rhai/notes/tables/notes/2.json");
const ACTION: &str =
    include_str!("../../../../examples/notes-rhai/notes/actions/notes/search.rhai");
const MANIFEST: &str = "ai = true\nenv = [\"KEY\"]\n[http]\nallow = [\"*.example.com:443\"]\n[limits]\naction = \"30s\"\nmemory = \"64MiB\"\n";

/// Bytes of the largest file that is read.
const MOST: usize = 256 * 1024;

fn damage(random: &mut StdRng, text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..bytes.len());
        let end = random.random_range(at..=bytes.len().min(at + 40));
        match random.random_range(0..7) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes.truncate(at.max(1)),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                let times = random.random_range(1..1_000);
                bytes.splice(at..at, part.repeat(times));
            }
            // What nests, by the thousand.
            4 => {
                let part = [
                    &b"("[..],
                    b"[",
                    b"#{a:",
                    b"{",
                    b"-",
                    b"!",
                    b"a.",
                    b"if true {",
                    b"[[",
                    b"\"${",
                    b"/*",
                ];
                let part = part[random.random_range(0..part.len())];
                bytes.splice(at..at, part.repeat(random.random_range(1..20_000)));
            }
            5 => {
                let part = [
                    &b"\"$ref\":\"#\","[..],
                    b"{\"items\":",
                    b"{\"not\":",
                    b"a = {b=",
                    b"[a.a.a.a]\n",
                ];
                let part = part[random.random_range(0..part.len())];
                bytes.splice(at..at, part.repeat(random.random_range(1..5_000)));
            }
            _ => bytes[at] = random.random(),
        }
        if bytes.is_empty() {
            bytes.push(b' ');
        }
        bytes.truncate(MOST);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn sources(workspace: &str, schema: &str, action: &str) -> Sources {
    let text = |path: &str, text: &str| Text { path: path.into(), text: text.into() };
    let versions = BTreeMap::from([(1, text("notes/tables/notes/1.json", schema))]);
    Sources {
        stem: "notes".into(),
        workspace: Some(text("notes/workspace.rhai", workspace)),
        actions: BTreeMap::from([(
            "notes/search".into(),
            text("notes/actions/notes/search.rhai", action),
        )]),
        tables: BTreeMap::from([("notes".into(), versions)]),
        ..Sources::default()
    }
}

/// `DAMAGED_ROUNDS` makes a longer run.
#[test]
fn no_damaged_file_of_a_plugin_breaks_its_parser() {
    let rounds = std::env::var("DAMAGED_ROUNDS").ok().and_then(|text| text.parse().ok());
    let seed = std::env::var("DAMAGED_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    // As in the server: the manifest is read where requests are served, scripts on threads of their own.
    let work = move || {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut good, mut bad) = (0, 0);
        for round in 0..rounds.unwrap_or(600) {
            let [mut workspace, mut schema, mut action] =
                [WORKSPACE, SCHEMA, ACTION].map(str::to_owned);
            match round % 3 {
                0 => workspace = damage(&mut random, &workspace),
                1 => schema = damage(&mut random, &schema),
                _ => action = damage(&mut random, &action),
            }
            let began = Instant::now();
            let compiled = Program::compile(
                "notes",
                None,
                &sources(&workspace, &schema, &action),
                &Limits::default(),
            );
            let checked = compiled.map(|(_, definition)| definition.check().is_ok());
            match checked {
                Ok(true) => good += 1,
                _ => bad += 1,
            }
            let took = began.elapsed();
            assert!(took < Duration::from_secs(10), "seed {seed}, round {round}: took {took:?}");
        }
        assert!(bad > 0 && good > 0, "seed {seed}: {good} good, {bad} bad");
    };
    super::threads::with_stack(work);
    let manifests = move || {
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..2_000 {
            let manifest = Manifest::read("a.toml", &damage(&mut random, MANIFEST));
            let _ = manifest.and_then(|manifest| manifest.apply(&Default::default()).map(drop));
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(manifests).unwrap();
    thread.join().unwrap();
}
