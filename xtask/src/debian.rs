//! Debian's packages of what is needed and not here.

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

/// Installs packages where that is possible; else fails with `remedy`, which tells what to install.
pub fn install(shell: &Shell, missing: &str, packages: &[&str], remedy: &str) -> Result<()> {
    let root = cmd!(shell, "id -u").quiet().read().is_ok_and(|id| id == "0");
    let apt = cmd!(shell, "apt-get --version").quiet().read().is_ok();
    ensure!(root && apt, "no {missing} here: {remedy}");
    eprintln!("no {missing} here, installing {}", packages.join(" "));
    cmd!(shell, "apt-get update --quiet").run()?;
    cmd!(shell, "apt-get install --quiet --yes --no-install-recommends {packages...}")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()
        .with_context(|| format!("no {missing} can be installed: {remedy}"))
}

/// What the user of a Debian system would type.
pub fn command(packages: &[&str]) -> String {
    format!("on Debian `apt-get install {}`", packages.join(" "))
}
