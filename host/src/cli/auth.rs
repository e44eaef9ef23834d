//! The flags of accounts.

use std::env::VarError;
use std::path::Path;

use clap::{Args, ValueEnum};
use host_auth::{SignUp, VerifyEmail};
use host_people::{AccountsOptions, Private, Smtp};

use crate::account_database::{DatabaseArgs, check_hidden};

/// Who has an account on a hub, and how they sign in. Sessions are signed with BETTER_AUTH_SECRET, or
/// else with a secret that the first start writes to `auth.secret` in the data folder.
#[derive(Debug, Args)]
pub struct AuthArgs {
    /// Where accounts are kept.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Public URL of the hub, for browsers and links in mails. With https, cookies are sent over HTTPS only.
    #[arg(long, value_name = "URL", env = "BETTER_AUTH_URL")]
    pub base_url: Option<String>,
    /// Origins of web pages that may use this server and sign people in, separated by commas; like
    /// --allow-origin. `*` and `?` are wildcards, as in https://*.example.com.
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
    /// Who may sign up for an account.
    #[arg(long, value_enum, default_value_t = SignUpArg::Open)]
    pub sign_up: SignUpArg,
    /// Whether people who sign up verify their e-mail address, by a link in a mail.
    #[arg(long, value_enum, default_value_t = VerifyEmailArg::Off)]
    pub verify_email: VerifyEmailArg,
    /// Let people set a new password by a link that is mailed to them.
    #[arg(long)]
    pub password_reset: bool,
    /// Keep people signed in who set a new password by a link, as Better Auth does by default. Without this, all
    /// their sessions end, because somebody else may hold one.
    #[arg(long)]
    pub keep_sessions_on_reset: bool,
    /// Let people change their e-mail address.
    #[arg(long)]
    pub change_email: bool,
    /// Let people delete their account.
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
    /// Limited.
    On,
    /// Not limited.
    Off,
}

/// Who may create an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SignUpArg {
    /// Anybody may sign up.
    Open,
    /// Only people with an invitation, which `host users invite` prints.
    Invite,
    /// Nobody; `host users add` creates accounts.
    Closed,
}

/// Whether e-mail addresses are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyEmailArg {
    /// No mail is sent.
    Off,
    /// A mail with a link is sent; people can sign in without following it.
    Send,
    /// A mail with a link is sent, and nobody can sign in before following it.
    Require,
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
            // It belongs to the flags about who may use a server.
            server_secret: None,
            smtp: smtp.transpose()?,
        })
    }
}
