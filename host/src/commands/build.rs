//! `host build`: builds a project into a plugin.

use std::path::PathBuf;

use anstream::println;
use anyhow::Result;

use crate::projects::Project;
use crate::style::{DIM, GOOD, PLAIN};

/// `host build`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the project.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Folder to install the plugin into, besides the project's own `dist`.
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    plugins: PathBuf,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let project = Project::open(&args.folder)?;
    let built = project.build().await?;
    let plugin = built.install(&args.plugins)?;
    let kib = built.size().div_ceil(1024);
    println!("{GOOD}built{PLAIN} {}  {DIM}{kib} KiB{PLAIN}", plugin.display());
    Ok(())
}
