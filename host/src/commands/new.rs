//! `host new`: starts a project.

use std::path::PathBuf;

use anstream::println;
use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser};

use super::Usage;
use crate::projects::{Language, create};
use crate::style::{DIM, GOOD, PLAIN};

/// `host new`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the new project; its last part is the name of the workspace.
    folder: PathBuf,
    /// Language to write it in.
    #[arg(long, value_parser = languages())]
    lang: String,
}

/// The languages with their names for people.
fn languages() -> PossibleValuesParser {
    PossibleValuesParser::new(
        Language::offered().map(|one| PossibleValue::new(one.name).help(one.title)),
    )
}

pub(super) fn run(args: &Args) -> Result<()> {
    let name = args.folder.file_name().unwrap_or_default().to_string_lossy();
    let language = Language::named(&args.lang)
        .ok_or_else(|| Usage::error(format!("there is no language {}", args.lang)))?;
    create(&args.folder, &name, language)?;
    println!("{GOOD}created{PLAIN} {}, a workspace in {}", args.folder.display(), language.title);
    println!("\n  cd {}", args.folder.display());
    println!("  host dev       {DIM}serve it; what you save is built and live{PLAIN}");
    Ok(())
}
