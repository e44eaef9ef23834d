//! The part of the command line about accounts.

use std::env::VarError;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use host_auth::{DatabasePlace, SignUp, VerifyEmail};
use host_people::{AccountsOptions, Private, Smtp};

/// Where accounts are kept; for the server and for the commands about accounts.
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

/// Who has an account on a hub, and how they sign in. Sessions are signed with BETTER_AUTH_SECRET, or
/// else with a secret that the first start writes to `auth.secret` in the data folder.
#[derive(Debug, Args)]
pub struct AuthArgs {
    /// Where accounts are kept.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// URL of the hub, as browsers and links in mails use it. With https, cookies are for https alone.
    #[arg(long, value_name = "URL", env = "BETTER_AUTH_URL")]
    pub base_url: Option<String>,
    /// Origins of web pages that may use this server and sign people in, separated by commas; like
    /// --allow-origin.
    #[arg(
        long,
        value_name = "ORIGINS",
        env = "BETTER_AUTH_TRUSTED_ORIGINS",
        value_delimiter = ','
    )]
    pub trusted_origins: Vec<String>,
    /// Whether sign-ins and the like are limited to three in ten seconds from one address [default:
    /// on, but off when only this machine reaches the hub].
    #[arg(long, value_enum)]
    pub rate_limit: Option<Switch>,
    /// Who may create an account: anybody, those with an invitation (`host users invite`), or nobody
    /// (`host users add`).
    #[arg(long, value_enum, default_value_t = SignUpArg::Open)]
    pub sign_up: SignUpArg,
    /// Whether people verify their e-mail address, by a link in a mail.
    #[arg(long, value_enum, default_value_t = VerifyEmailArg::Off)]
    pub verify_email: VerifyEmailArg,
    /// Lets people set a new password by a link in a mail.
    #[arg(long)]
    pub password_reset: bool,
    /// Keeps people signed in who set a new password by a link, as Better Auth does by default.
    /// Without this all their sessions end, because somebody else may hold one.
    #[arg(long)]
    pub keep_sessions_on_reset: bool,
    /// Lets people change their e-mail address.
    #[arg(long)]
    pub change_email: bool,
    /// Lets people delete their account.
    #[arg(long)]
    pub delete_user: bool,
    /// Mail server, like `smtps://user:password@mail.example.com`. Without one, links are written to
    /// the log, for development. Put a URL with a password into the environment.
    #[arg(long, value_name = "URL", env = "SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<Private>,
    /// Sender of mails, like `Hub <hub@example.com>`.
    #[arg(long, value_name = "SENDER", env = "MAIL_FROM", requires = "smtp_url")]
    pub mail_from: Option<String>,
}

/// The secret that signs sessions, if the environment has one. There is no flag for it, because
/// everybody on the machine can read flags.
fn secret() -> anyhow::Result<Option<Private>> {
    match std::env::var("BETTER_AUTH_SECRET") {
        Ok(secret) => Ok(Some(Private(secret))),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => anyhow::bail!("BETTER_AUTH_SECRET is not text"),
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Always.
    On,
    /// Never.
    Off,
}

/// Who may create an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SignUpArg {
    /// Anybody.
    Open,
    /// Whoever has an invitation.
    Invite,
    /// Nobody.
    Closed,
}

/// Whether e-mail addresses are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyEmailArg {
    /// Not at all.
    Off,
    /// Whoever signs up gets a mail with a link.
    Send,
    /// Signing in takes a verified address.
    Require,
}

/// Refuses a URL with a password on the command line.
fn check_hidden(Private(url): &Private, flag: &str) -> anyhow::Result<()> {
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

impl AuthArgs {
    /// How the command line configures accounts.
    pub fn options(&self, data_dir: &Path) -> anyhow::Result<AccountsOptions> {
        let url = |text: &String| {
            text.parse()
                .map_err(|error| anyhow::anyhow!("--base-url {text:?} is not a URL: {error}"))
        };
        let smtp = self.smtp_url.as_ref().map(|url| {
            check_hidden(url, "--smtp-url")?;
            let from = self.mail_from.clone();
            let from = from.ok_or_else(|| {
                anyhow::anyhow!("--smtp-url needs --mail-from, the sender of mails")
            })?;
            anyhow::Ok(Smtp { url: url.clone(), from })
        });
        Ok(AccountsOptions {
            database: Some(self.database.place(data_dir)?),
            secret: secret()?,
            base_url: self.base_url.as_ref().map(url).transpose()?,
            trusted_origins: self.trusted_origins.clone(),
            trusted_proxies: Vec::new(),
            rate_limit: self.rate_limit.map(|switch| switch == Switch::On),
            sign_up: match self.sign_up {
                SignUpArg::Open => SignUp::Open,
                SignUpArg::Invite => SignUp::Invite,
                SignUpArg::Closed => SignUp::Closed,
            },
            verify_email: match self.verify_email {
                VerifyEmailArg::Off => VerifyEmail::Off,
                VerifyEmailArg::Send => VerifyEmail::Send,
                VerifyEmailArg::Require => VerifyEmail::Require,
            },
            password_reset: self.password_reset,
            keep_sessions_on_reset: self.keep_sessions_on_reset,
            change_email: self.change_email,
            delete_user: self.delete_user,
            smtp: smtp.transpose()?,
        })
    }
}
