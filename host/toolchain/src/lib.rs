//! What compiles Rust for wasm on this machine.
//!
//! A guest in Rust is compiled for `wasm32-unknown-unknown`, which gives a core module. Where rustup
//! has installed that target, that is all there is to it. Elsewhere Debian's compiler builds the
//! standard library along (`-Zbuild-std`): its package has the library's source, and takes the
//! unstable flag with `RUSTC_BOOTSTRAP`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What guests are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What Debian's way needs. `rustc-web` is the compiler that Debian keeps current.
pub const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// Where Debian keeps the source of the standard library.
pub const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust";

/// The oldest minor version of Rust 1 that builds the SDK; as `rust-version` in its manifest.
const OLDEST_RUST: u32 = 95;

/// A compiler, and how to call it.
#[derive(Debug, Clone)]
pub enum Toolchain {
    /// The one that Cargo uses anyway.
    Installed,
    /// Debian's compiler, with a linker from elsewhere: the one that its package points at is not
    /// always there.
    Debian {
        /// The linker.
        linker: PathBuf,
    },
}

/// What is not on this machine; says what to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Rust itself.
    Rust,
    /// The target, in whatever way.
    Target,
    /// Debian's compiler is there and nothing to link with.
    Linker,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rust => f.write_str("cargo and rustc are not here: install Rust from https://rustup.rs"),
            Self::Target => write!(
                f,
                "no Rust compiler for {TARGET} here: run `rustup target add {TARGET}`, or on Debian \
                 `apt-get install {}`",
                DEBIAN_PACKAGES.join(" ")
            ),
            Self::Linker => f.write_str(
                "no linker for wasm here: install rustup's toolchain, whose rust-lld serves, or the \
                 package lld",
            ),
        }
    }
}

impl std::error::Error for Missing {}

impl Toolchain {
    /// Looks for one.
    pub fn find() -> Result<Self, Missing> {
        let sysroot = output("rustc", &["--print", "sysroot"]).map(PathBuf::from);
        let linker = || find_linker(sysroot.as_deref());
        Self::choose(sysroot.as_deref(), has_debian_rust, linker)
    }

    /// Chooses among what is there: rustup's compiler with its target, else Debian's with a linker.
    fn choose(
        sysroot: Option<&Path>,
        has_debian_rust: impl FnOnce() -> bool,
        linker: impl FnOnce() -> Option<PathBuf>,
    ) -> Result<Self, Missing> {
        let installed = |sysroot: &Path| sysroot.join("lib/rustlib").join(TARGET).is_dir();
        if sysroot.is_some_and(installed) {
            return Ok(Self::Installed);
        }
        if !has_debian_rust() {
            return Err(if sysroot.is_some() { Missing::Target } else { Missing::Rust });
        }
        Ok(Self::Debian { linker: linker().ok_or(Missing::Linker)? })
    }

    /// What it is called where people read it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Installed => "the installed wasm target",
            Self::Debian { .. } => "Debian's compiler and a standard library built along",
        }
    }

    /// Its Cargo.
    pub fn cargo(&self) -> &'static str {
        match self {
            Self::Installed => "cargo",
            Self::Debian { .. } => "/usr/bin/cargo",
        }
    }

    /// What `cargo build` takes beside the target.
    pub fn build_flags(&self) -> &'static [&'static str] {
        match self {
            Self::Installed => &[],
            Self::Debian { .. } => &["-Zbuild-std=std,panic_abort"],
        }
    }

    /// The environment that its Cargo wants.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        match self {
            Self::Installed => Vec::new(),
            Self::Debian { linker } => vec![
                ("RUSTC", "/usr/bin/rustc".into()),
                ("RUSTC_BOOTSTRAP", "1".into()),
                ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker.into()),
            ],
        }
    }
}

/// Whether Debian's compiler is installed, recent enough, and has the library's source.
fn has_debian_rust() -> bool {
    let minor = output("/usr/bin/rustc", &["--version"])
        .and_then(|text| text.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok());
    minor.is_some_and(|minor: u32| minor >= OLDEST_RUST)
        && Path::new("/usr/bin/cargo").exists()
        && Path::new(DEBIAN_LIBRARY).join("library").exists()
}

/// rustup's own linker, or a `wasm-ld` on the path. The name tells rustc how to speak to it.
fn find_linker(sysroot: Option<&Path>) -> Option<PathBuf> {
    let hosts = sysroot.and_then(|sysroot| std::fs::read_dir(sysroot.join("lib/rustlib")).ok());
    let bundled =
        hosts.into_iter().flatten().flatten().map(|host| host.path().join("bin/rust-lld"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path)
        .flat_map(|folder| ["rust-lld", "wasm-ld"].map(|name| folder.join(name)))
        .collect();
    // Debian's own folders, for an lld whose commands carry a version.
    let versioned = (14..=30)
        .rev()
        .map(|version| PathBuf::from(format!("/usr/lib/llvm-{version}/bin/wasm-ld")));
    bundled.chain(on_path).chain(versioned).find(|linker| linker.is_file())
}

/// What a program that ends well says.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_what_to_install() {
        let nowhere = Path::new("/nowhere");
        let linker = || Some(PathBuf::from("/nowhere/wasm-ld"));
        let cases = [
            (None, false, "install Rust from https://rustup.rs"),
            (Some(nowhere), false, "run `rustup target add wasm32-unknown-unknown`"),
            (Some(nowhere), true, "no linker for wasm here"),
            (None, true, "no linker for wasm here"),
        ];
        for (sysroot, debian, expected) in cases {
            let missing = Toolchain::choose(sysroot, || debian, || None).unwrap_err().to_string();
            assert!(missing.contains(expected), "{missing}");
        }
        let debian = Toolchain::choose(None, || true, linker);
        assert!(matches!(debian, Ok(Toolchain::Debian { .. })));
    }
}
