//! What a plugin was built from: a hash over the sources, carried in the plugin itself.
//!
//! The hash is SHA-256 over the sorted paths (relative to the project, with `/`) and the contents
//! of all files, each preceded by its length as eight little-endian bytes. It is stored as
//! hexadecimal text in a custom section, which has the same framing in core modules and components:
//! a zero byte, the section's length, the name's length, the name, the data; lengths in LEB128.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The name of the custom section.
pub const SECTION: &str = "epicenter:sources";

/// Sources of every guest, in addition to its own folder. A folder includes everything in it.
const SHARED: &[&str] = &["sdk/rust/Cargo.toml", "sdk/rust/src", "wit"];

/// The same inside a guest's folder.
const OWN: &[&str] = &["Cargo.toml", "Cargo.lock", "src"];

/// A module begins with eight bytes of magic and version.
const HEADER: usize = 8;

/// Build outputs in a folder of sources.
const BUILT: &[&str] = &["node_modules", ".venv", "dist", "build", "__pycache__", "target"];

/// The hash of a Rust guest's sources.
pub fn hash(root: &Path, guest: &str) -> Result<String> {
    let own = OWN.iter().map(|name| format!("{guest}/{name}"));
    hash_of(root, own.chain(SHARED.iter().map(|&path| path.to_owned())))
}

/// The hash of files and folders, except build outputs and documentation, which does not affect the
/// build.
pub fn hash_of(root: &Path, paths: impl IntoIterator<Item = impl Into<String>>) -> Result<String> {
    let mut files = Vec::new();
    for path in paths {
        collect(root, path.into(), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let contents = read(&root.join(&path))?;
        for part in [path.as_bytes(), &contents] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hex::encode(hash.finalize()))
}

/// Adds the hash to a newly compiled module.
pub fn stamp(mut module: Vec<u8>, hash: &str) -> Vec<u8> {
    let mut body = Vec::new();
    push_length(&mut body, SECTION.len());
    body.extend_from_slice(SECTION.as_bytes());
    body.extend_from_slice(hash.as_bytes());
    module.push(0);
    push_length(&mut module, body.len());
    module.extend_from_slice(&body);
    module
}

/// The hash in a module.
pub fn read_stamp(module: &[u8]) -> Option<&str> {
    let mut rest = module.get(HEADER..)?;
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = read_length(after)?;
        let (section, after) = after.split_at_checked(length)?;
        rest = after;
        if id == 0 {
            let (length, section) = read_length(section)?;
            let (name, data) = section.split_at_checked(length)?;
            if name == SECTION.as_bytes() {
                return std::str::from_utf8(data).ok();
            }
        }
    }
    None
}

fn collect(root: &Path, path: String, files: &mut Vec<String>) -> Result<()> {
    let full = root.join(&path);
    if !full.is_dir() {
        files.push(path);
        return Ok(());
    }
    for entry in fs::read_dir(&full).with_context(|| format!("cannot read {path}"))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !BUILT.contains(&&*name) && !name.ends_with(".md") {
            collect(root, format!("{path}/{name}"), files)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0;
    // A length has 32 bits: five bytes of seven.
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn a_stamp_is_read_back_behind_other_sections() {
        let mut module = EMPTY.to_vec();
        // A custom section of 200 bytes named "x", so that a length takes two bytes.
        module.extend_from_slice(&[0, 0xc8, 0x01, 1, b'x']);
        module.extend_from_slice(&[7; 198]);
        assert_eq!(read_stamp(&module), None);
        assert_eq!(read_stamp(&stamp(module, "abc")), Some("abc"));
    }

    #[test]
    fn a_file_that_is_cut_off_or_no_module_carries_no_stamp() {
        let module = stamp(EMPTY.to_vec(), "abc");
        for length in 0..module.len() {
            assert_eq!(read_stamp(&module[..length]), None, "{length} bytes");
        }
        assert_eq!(read_stamp(&[0xff; 64]), None);
    }

    #[test]
    fn a_hash_changes_with_a_name_or_a_byte() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        for path in OWN.iter().map(|name| format!("blog/{name}")) {
            write(&path.replace("src", "src/lib.rs"), "");
        }
        for path in SHARED {
            write(&path.replace("src", "src/lib.rs").replace("wit", "wit/a.wit"), "");
        }
        let first = hash(root, "blog").expect("all is there");
        assert_eq!(hash(root, "blog").ok().as_ref(), Some(&first));
        write("blog/src/lib.rs", "fn");
        let second = hash(root, "blog").expect("all is there");
        write("blog/src/lib.rs", "");
        write("blog/src/new.rs", "");
        let third = hash(root, "blog").expect("all is there");
        assert!(first != second && first != third && second != third);
    }
}
