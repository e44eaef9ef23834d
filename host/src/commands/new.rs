//! `host new`: begins a project.

use std::path::PathBuf;

use anstream::println;
use anyhow::Result;
use clap::builder::PossibleValuesParser;

use super::Usage;
use crate::projects::{Language, create};
use crate::summary::{DIM, GOOD, PLAIN};

/// `host new`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its folder; the last part of it is the name of the workspace.
    folder: PathBuf,
    /// The language to write it in.
    #[arg(long, value_parser = PossibleValuesParser::new(Language::offered()))]
    lang: String,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let name = args.folder.file_name().unwrap_or_default().to_string_lossy();
    let language = Language::named(&args.lang)
        .ok_or_else(|| Usage::error(format!("there is no language {}", args.lang)))?;
    create(&args.folder, &name, language)?;
    println!("{GOOD}made{PLAIN} {}, a workspace in {}", args.folder.display(), language.title);
    println!("\n  cd {}", args.folder.display());
    println!("  host dev       {DIM}serves it; what you save is built and live{PLAIN}");
    Ok(())
}
