//! Compiled plugins on disk, so that a second start compiles nothing.
//!
//! What is kept is machine code that will run inside this process, and wasmtime's reader of it
//! trusts every byte. So must we, before we hand it over: each file begins with an HMAC-SHA256 over
//! its name and content, made with a random key that only this server's account can read. A file that
//! is torn, stale, from another machine, or dropped into the folder by someone else, does not pass;
//! it is compiled again and written over. The name carries the hash of the plugin and the
//! engine's settings, and is part of what is authenticated, so that a file cannot pose as another.
//! The bytes that were checked are the bytes that are used: the file is read once, into memory.
//!
//! Nothing here can fail a load. The worst that a broken cache does is to cost a compilation.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha2::Sha256;
use wasmtime::component::Component;

use crate::engine::Engine;
use crate::hash::Hash;
use crate::limits::CACHE_BYTES;

const EXTENSION: &str = "compiled";
const TAG_LEN: usize = 32;

/// A folder of compiled plugins.
pub struct Cache {
    dir: PathBuf,
    key: [u8; 32],
}

impl Cache {
    /// Opens the folder, and makes it and its key where they are missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        create_private_dir(dir)?;
        let key = read_or_make_key(&dir.join("key"))?;
        Ok(Self { dir: dir.into(), key })
    }

    /// What was compiled from the plugin with this hash, if it is there and is ours.
    pub fn get(&self, engine: &Engine, plugin: Hash) -> Option<Component> {
        let name = name(engine, plugin);
        let path = self.dir.join(&name);
        let bytes = fs::read(&path).ok()?;
        let (tag, code) = bytes.split_at_checked(TAG_LEN)?;
        if self.mac(&name, code).verify_slice(tag).is_err() {
            tracing::warn!(
                "{name} in the cache is damaged or not ours; its plugin is compiled again"
            );
            return None;
        }
        // Only the order of deletion depends on it.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        deserialize(engine, code)
            .inspect_err(|error| {
                tracing::debug!("cached {name} does not fit this engine: {error:#}")
            })
            .ok()
    }

    /// Keeps the code of a compiled plugin.
    pub(crate) fn put(&self, engine: &Engine, plugin: Hash, code: &[u8]) {
        let name = name(engine, plugin);
        let tag = self.mac(&name, code).finalize().into_bytes();
        let kept = self.make_room(code.len() as u64);
        if let Err(error) = kept.and_then(|()| self.write(&name, &tag, code)) {
            tracing::warn!(
                "a compiled plugin could not be kept in {}: {error}",
                self.dir.display()
            );
        }
    }

    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        // The length keeps name and content apart.
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(code);
        mac
    }

    /// A reader sees all of it or nothing.
    fn write(&self, name: &str, tag: &[u8], code: &[u8]) -> io::Result<()> {
        let mut file = temporary(&self.dir)?;
        file.write_all(tag)?;
        file.write_all(code)?;
        file.persist(self.dir.join(name))?;
        Ok(())
    }

    fn make_room(&self, size: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(EXTENSION) => files.push((used, metadata.len(), path)),
                // What a crash left behind; nobody writes for an hour.
                Some("tmp") if used.elapsed().is_ok_and(|age| age.as_secs() > 3600) => {
                    let _ = fs::remove_file(path);
                }
                _ => {}
            }
        }
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        files.sort();
        for (_, len, path) in files {
            if total.saturating_add(size) <= CACHE_BYTES {
                break;
            }
            fs::remove_file(path)?;
            total -= len;
        }
        Ok(())
    }
}

/// A file for this account alone, which is removed unless it is put in its place.
fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().suffix(".tmp").tempfile_in(folder)
}

fn name(engine: &Engine, plugin: Hash) -> String {
    format!("{plugin}-{}.{EXTENSION}", engine.compatibility())
}

#[allow(unsafe_code)]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` requires bytes that `precompile_component` returned, unchanged. The only
    // caller has checked their HMAC, made with a key that nobody but this server can read, by `put`
    // above, over just these bytes. That they fit this engine's settings and this CPU, wasmtime
    // checks itself.
    unsafe { Component::deserialize(engine.optimising(), code) }
}

fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Reads the key. One that is not whole, or that others can read, is replaced; what was made with it
/// is compiled again.
fn read_or_make_key(path: &Path) -> io::Result<[u8; 32]> {
    if let Ok(bytes) = fs::read(path)
        && is_private(path)
        && let Ok(key) = bytes.try_into()
    {
        return Ok(key);
    }
    let key: [u8; 32] = rand::rng().random();
    let mut file = temporary(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(&key)?;
    file.persist(path)?;
    Ok(key)
}

fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0)
}
