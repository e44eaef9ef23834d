//! `host types`: TypeScript for the apps that use workspaces.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::typescript;

/// `host types`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The workspaces to write types for; all of them unless some are named.
    workspaces: Vec<String>,
    /// The folder with the plugins.
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    plugins: PathBuf,
    /// The file to write; standard output unless one is named.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let text = types(&args.plugins, &args.workspaces).await?;
    match &args.out {
        Some(file) => {
            write(file, &text)?;
            anstream::eprintln!("{} written", file.display());
        }
        None => std::io::stdout().write_all(text.as_bytes())?,
    }
    Ok(())
}

/// The module for the workspaces that are named, or for all in the folder.
pub async fn types(plugins: &Path, workspaces: &[String]) -> Result<String> {
    let found = host_plugins::inspect(plugins).await?;
    let mut definitions = Vec::new();
    for plugin in &found {
        match &plugin.definition {
            Some(definition) => definitions.push(definition.clone()),
            None if workspaces.is_empty() => {
                bail!("{} cannot be served: {}", plugin.file, plugin.faults.join("; "))
            }
            None => {}
        }
    }
    if let Some(missing) = workspaces.iter().find(|id| definitions.iter().all(|one| one.id != **id))
    {
        let known: Vec<_> = definitions.iter().map(|one| one.id.as_str()).collect();
        bail!(
            "no plugin in {} defines the workspace {missing:?}; there are {}",
            plugins.display(),
            if known.is_empty() { "none".into() } else { known.join(", ") },
        );
    }
    definitions.retain(|one| workspaces.is_empty() || workspaces.contains(&one.id));
    definitions.sort_by(|a, b| a.id.cmp(&b.id));
    if definitions.is_empty() {
        bail!("there is no plugin in {}", plugins.display());
    }
    Ok(typescript::module(definitions.iter().map(AsRef::as_ref)))
}

/// Writes a file, unless it says the same already: tools that watch it would build for nothing.
pub fn write(file: &Path, text: &str) -> Result<()> {
    if std::fs::read_to_string(file).is_ok_and(|present| present == text) {
        return Ok(());
    }
    std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}
