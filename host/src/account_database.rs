//! Where accounts are stored, as a server and the commands about accounts are told.

use std::path::{Path, PathBuf};

use clap::Args;
use host_auth::DatabasePlace;
use host_people::Private;

/// Where accounts are stored; for the server.
#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// Database of accounts, as Better Auth makes them: the path of an SQLite file, or a `postgres://`
    /// URL [default: auth.db in the data folder]. Put a URL with a password into the environment,
    /// because everybody on the machine can read command lines.
    #[arg(long, value_name = "PATH|URL", env = "AUTH_DATABASE", hide_env_values = true)]
    pub auth_database: Option<Private>,
}

impl DatabaseArgs {
    /// The configured database, or else the file in the data folder.
    pub fn place(&self, data_dir: &Path) -> anyhow::Result<DatabasePlace> {
        place(self.auth_database.as_ref(), data_dir)
    }
}

/// Where commands find accounts. These flags may stand before and after the subcommand.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Folder of the server whose accounts these are.
    #[arg(long, value_name = "DIR", default_value = "data", global = true)]
    pub data_dir: PathBuf,
    /// Database of accounts, if it is not in the data folder; written as for the server.
    #[arg(
        long,
        value_name = "PATH|URL",
        env = "AUTH_DATABASE",
        hide_env_values = true,
        global = true
    )]
    pub auth_database: Option<Private>,
}

impl PlaceArgs {
    /// The configured database, or else the file in the data folder.
    pub fn place(&self) -> anyhow::Result<DatabasePlace> {
        place(self.auth_database.as_ref(), &self.data_dir)
    }
}

fn place(given: Option<&Private>, data_dir: &Path) -> anyhow::Result<DatabasePlace> {
    let Some(place) = given else { return Ok(DatabasePlace::File(data_dir.join("auth.db"))) };
    check_hidden(place, "--auth-database")?;
    Ok(DatabasePlace::from(place.0.as_str()))
}

/// Refuses a URL with a password on the command line.
pub(crate) fn check_hidden(Private(url): &Private, flag: &str) -> anyhow::Result<()> {
    let authority = url.split_once("://").map(|(_, rest)| rest.split('/').next());
    let login = authority.flatten().and_then(|authority| authority.rsplit_once('@'));
    let password = login.is_some_and(|(login, _)| login.contains(':'));
    let shown = |argument: std::ffi::OsString| argument.to_string_lossy().contains(url.as_str());
    anyhow::ensure!(
        !password || !std::env::args_os().any(shown),
        "the password in {flag} can be read by everybody on this machine; put it into the \
         environment, as `host --help` says"
    );
    Ok(())
}
