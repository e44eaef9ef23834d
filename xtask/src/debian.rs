//! Debian packages for missing tools.

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

/// Installs packages if possible; otherwise fails with `remedy`, which says what to install.
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

/// The command that a user of Debian would type.
pub fn command(packages: &[&str]) -> String {
    format!("on Debian `apt-get install {}`", packages.join(" "))
}
