//! A file that harms its compiler must harm nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use super::guest::Guest;
use super::{act, limits, refused};
use crate::{Allocation, Compile, Engine, Plugin};

/// Damaged copies that are tried; `cargo xtask fuzz damaged` asks for more, by this variable.
const COUNT: (&str, u64) = ("DAMAGED_COUNT", 500);

/// The first seed; each further copy uses the next one.
const SEED: (&str, u64) = ("DAMAGED_SEED", 1);

/// Copies that are tried at the same time.
const AT_ONCE: u64 = 4;

/// Time limit for a copy, on a busy machine and in a test build; most take milliseconds.
const SLOW: Duration = Duration::from_secs(60);

/// Says of a package that it has another name, so that it and the contract's depend on each other.
fn circular(module: &[u8]) -> Vec<u8> {
    let name = b"epicenter:workspace/ai@";
    let at = module.windows(name.len()).rposition(|bytes| bytes == name).unwrap();
    let mut module = module.to_vec();
    module[at + 1] ^= 8;
    module
}

#[tokio::test]
async fn a_file_on_which_the_parser_recurses_without_end_is_an_error() {
    let error = refused(&circular(&Guest::default().module())).await;
    assert!(error.starts_with("a.wasm: the compiler ran out of stack on it; "), "{error}");
}

/// Types that each hold the one before twice, which is more than any memory has when they are written out.
fn swelling() -> Vec<u8> {
    let mut wat = "(component (type $t0 (tuple u8 u8))".to_owned();
    for level in 1..60 {
        wat += &format!("(type $t{level} (tuple $t{} $t{}))", level - 1, level - 1);
    }
    wat += r#"(import "f" (func (param "p" $t59))))"#;
    wat::parse_str(wat).unwrap()
}

#[tokio::test]
async fn a_type_that_swells_when_it_is_written_out_is_an_error() {
    let started = Instant::now();
    let error = refused(&swelling()).await;
    assert!(error.starts_with("a.wasm: "), "{error}");
    assert!(started.elapsed() < SLOW, "{:?}", started.elapsed());
}

/// A component with functions as long as they may be, which the optimising compiler holds many times over.
fn voluminous() -> Vec<u8> {
    // call 0, drop.
    let calls = [0x10, 0, 0x1a].repeat(2_500_000);
    let body = [&[0][..], &calls, &[0x41, 0, 0x0b]].concat();
    let functions = 2;
    let bodies = [leb(body.len()), body].concat().repeat(functions);
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 1, 0x7f]),
        section(3, &[&leb(functions)[..], &vec![0; functions]].concat()),
        section(10, &[leb(functions), bodies].concat()),
    ];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module.concat())].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], leb(content.len()), content.to_vec()].concat()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[tokio::test]
async fn a_file_that_takes_more_memory_than_there_is_for_it_is_an_error() {
    let error = refused(&voluminous()).await;
    assert!(
        error.starts_with("a.wasm: the compiler ran out of memory on it (limit 1024 MiB); "),
        "{error}"
    );
}

#[tokio::test]
async fn a_compiler_that_was_ready_is_followed_by_another() {
    let engine = Engine::new(Allocation::OnDemand, Compile::Twice).unwrap();
    engine.wasm.engine.prepare();
    for _ in 0..3 {
        let plugin =
            Plugin::from_bytes(&engine, "a.wasm", Guest::default().module(), limits()).await;
        assert!(act(&plugin.unwrap(), "echo").await.unwrap().is_ok());
    }
}

/// A copy of a plugin with damage of some sort: bits that flipped, bytes of another file, a hole, an end that is
/// missing. Half of it falls on what describes interfaces, which stands at the end and is read by
/// parsers that recurse.
fn damaged(whole: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let from = if random.random() { bytes.len().saturating_sub(8 << 10) } else { 8 };
    for _ in 0..random.random_range(1..4) {
        if bytes.len() <= from + 16 {
            break;
        }
        let at = random.random_range(from..bytes.len() - 8);
        let len = random.random_range(1..64).min(bytes.len() - at);
        let other = random.random_range(8..whole.len() - 64);
        match random.random_range(0..8) {
            0..=2 => bytes[at] ^= 1 << random.random_range(0..8),
            3 => bytes[at] = random.random(),
            4 => bytes[at..at + len].copy_from_slice(&whole[other..other + len]),
            5 => drop(bytes.splice(at..at, whole[other..other + len].iter().copied())),
            6 => drop(bytes.drain(at..at + len)),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_copies_of_plugins_are_loaded_or_refused_and_nothing_else() {
    let given = |(name, usual): (&str, u64)| {
        std::env::var(name).ok().map_or(usual, |number| number.parse().unwrap())
    };
    let (count, seed) = (given(COUNT), given(SEED));
    let guest = Guest::default();
    let whole = Arc::new([
        guest.module(),
        guest.component(),
        guest.bare_module(),
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/blog.wasm")).unwrap(),
    ]);
    let engine = Engine::new(Allocation::OnDemand, Compile::Twice).unwrap();
    engine.wasm.engine.prepare();
    let started = Instant::now();
    let mut running = JoinSet::new();
    let (mut loaded, mut crashed) = (0, 0);
    for number in 0..count + AT_ONCE {
        if number >= AT_ONCE
            && let Some(done) = running.join_next().await
        {
            let (seed, took, error): (u64, Duration, String) = done.unwrap();
            assert!(took < SLOW, "the copy with the seed {seed} took {took:?}: {error}");
            loaded += u64::from(error.is_empty());
            if error.contains("the compiler") {
                crashed += 1;
                println!("the copy with the seed {seed}: {error}");
            }
        }
        if number >= count {
            continue;
        }
        let (seed, whole, engine) = (seed + number, whole.clone(), engine.clone());
        running.spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let whole = &whole[random.random_range(0..whole.len())];
            let bytes = damaged(whole, &mut random);
            let began = Instant::now();
            let plugin = Plugin::from_bytes(&engine, "a.wasm", bytes, limits()).await;
            let error = plugin.err().map(|error| error.reason).unwrap_or_default();
            (seed, began.elapsed(), error)
        });
    }
    println!(
        "{count} damaged copies, seeds {seed} to {}: {loaded} loaded, {crashed} ended their compiler, {:.0} s",
        seed + count - 1,
        started.elapsed().as_secs_f64()
    );
    // Both kinds are among them, or the damage is not worth its name.
    assert!(loaded > 0 && loaded < count, "{loaded} of {count}");
    assert!(Plugin::from_bytes(&engine, "a.wasm", guest.module(), limits()).await.is_ok());
}
