//! Opens the accounts of a hub from the operator's configuration and the address that it listens
//! on.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use host_auth::database::DatabaseError;
use host_auth::{
    Accounts, AccountsConfig, ConfigError, DatabasePlace, LogMailer, Mailer, Secret, SecretError,
    ServerSecret, SignUp, SmtpMailer, Users, VerifyEmail,
};
use url::Url;

/// Configuration of accounts. The default suits a hub for development.
#[derive(Debug, Clone, Default)]
pub struct AccountsOptions {
    /// The database; `None` means `auth.db` in the data folder.
    pub database: Option<DatabasePlace>,
    /// Signs sessions. If `None`, the first start creates a secret in the data folder.
    pub secret: Option<Private>,
    /// The URL of the hub, as browsers know it.
    pub base_url: Option<Url>,
    /// Origins of web pages that may sign people in, in addition to the hub's own.
    pub trusted_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpAddr>,
    /// Whether requests are rate-limited. `None` limits them unless only this machine reaches the
    /// hub.
    pub rate_limit: Option<bool>,
    /// Who may create an account.
    pub sign_up: SignUp,
    /// Whether e-mail addresses are verified.
    pub verify_email: VerifyEmail,
    /// Whether users may reset their password through a link in a mail.
    pub password_reset: bool,
    /// Whether sessions survive a password reset.
    pub keep_sessions_on_reset: bool,
    /// Whether users may change their e-mail address.
    pub change_email: bool,
    /// Whether users may delete their account.
    pub delete_user: bool,
    /// The secret of local servers, whose session look-ups are not rate-limited.
    pub server_secret: Option<ServerSecret>,
    /// Sends mails. If `None`, links are written to the log.
    pub smtp: Option<Smtp>,
}

/// A mail server.
#[derive(Debug, Clone)]
pub struct Smtp {
    /// Its URL, which may hold a password.
    pub url: Private,
    /// The `From` address of mails.
    pub from: String,
}

/// Text that is never printed: a secret, or a URL with a password.
#[derive(Clone)]
pub struct Private(pub String);

impl FromStr for Private {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why accounts cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The database cannot be opened.
    #[error("the database of accounts: {0}; choose another with --auth-database")]
    Database(DatabaseError),
    /// The file in the data folder was cut.
    #[error(transparent)]
    File(#[from] host_files::OpenError),
    /// The signing secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The mail server cannot be used.
    #[error("mails cannot be sent: {0}")]
    Mails(String),
}

impl AccountsOptions {
    /// Opens the accounts of a hub that listens on `address` and keeps its data in `folder`.
    pub async fn open(
        &self,
        folder: &Path,
        address: SocketAddr,
    ) -> Result<Accounts, AccountsError> {
        let public = !address.ip().is_loopback();
        let mails =
            self.password_reset || self.change_email || self.verify_email != VerifyEmail::Off;
        let mailer: Arc<dyn Mailer> = match &self.smtp {
            Some(_) if self.base_url.is_none() => {
                return Err(AccountsError::Mails(
                    "--base-url is missing, which mails link to".into(),
                ));
            }
            Some(smtp) => {
                let mailer = SmtpMailer::new(&smtp.url.0, &smtp.from);
                Arc::new(mailer.map_err(|error| AccountsError::Mails(error.to_string()))?)
            }
            // A log has other readers than the recipient.
            None if mails && public => {
                let missing = "--verify-email, --password-reset and --change-email need --smtp-url";
                return Err(AccountsError::Mails(missing.into()));
            }
            None => Arc::new(LogMailer),
        };
        let own = folder.join("auth.db");
        let place = self.database.clone().unwrap_or_else(|| DatabasePlace::File(own.clone()));
        if matches!(&place, DatabasePlace::File(path) if *path == own) {
            check_own(&own)?;
        }
        let users = Users::open(&place).await.map_err(AccountsError::Database)?;
        let secret = match &self.secret {
            Some(secret) => Secret::new("BETTER_AUTH_SECRET", &secret.0)?,
            None => {
                let needed = users.any().await.map_err(AccountsError::Database)?;
                Secret::in_file(&folder.join("auth.secret"), needed)?
            }
        };
        let https = self.base_url.as_ref().is_some_and(|url| url.scheme() == "https");
        let config = AccountsConfig {
            secret,
            base_url: self.base_url.clone(),
            production: public || https,
            trusted_origins: self.trusted_origins.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            // An https base URL implies a proxy, even if the hub itself listens on loopback.
            rate_limit: self.rate_limit.unwrap_or(public || https),
            sign_up: self.sign_up,
            verify_email: self.verify_email,
            change_email: self.change_email,
            delete_user: self.delete_user,
            password_reset: self.password_reset,
            reset_ends_sessions: !self.keep_sessions_on_reset,
            server_secret: self.server_secret.clone(),
            mailer,
        };
        Ok(Accounts::new(users, config)?)
    }
}

/// Checks the database in the data folder, where nobody else has anything to do with it.
fn check_own(path: &Path) -> Result<(), AccountsError> {
    host_files::tighten_database(path);
    if path.exists() {
        host_files::check_database(path)?;
    }
    Ok(())
}
