//! Opening the accounts of a hub: what is asked for, and what follows from where the hub listens.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use host_auth::{
    Accounts, AccountsConfig, DatabasePlace, LogMailer, Mailer, Secret, SignUp, SmtpMailer, Users,
    VerifyEmail,
};
use url::Url;

use crate::cli::auth::Private;
use crate::serve::StartError;

/// What is asked of accounts. The default is what a hub for development has.
#[derive(Debug, Clone, Default)]
pub struct AccountsOptions {
    /// Where they are kept; `auth.db` in the data folder.
    pub database: Option<DatabasePlace>,
    /// What signs; made at the first start and kept in the data folder.
    pub secret: Option<Private>,
    /// Where the hub is reached.
    pub base_url: Option<Url>,
    /// Origins of web pages that may sign people in, besides the hub's own.
    pub trusted_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Whether requests are counted; they are, unless only this machine reaches the hub.
    pub rate_limit: Option<bool>,
    /// Who may make an account.
    pub sign_up: SignUp,
    /// What is done about e-mail addresses.
    pub verify_email: VerifyEmail,
    /// Whether people may set a new password by a link in a mail.
    pub password_reset: bool,
    /// Whether people may change their e-mail address.
    pub change_email: bool,
    /// Whether people may delete their account.
    pub delete_user: bool,
    /// What sends mails; without, links are shown in the log.
    pub smtp: Option<Smtp>,
}

/// A mail server.
#[derive(Debug, Clone)]
pub struct Smtp {
    /// Where it is and who we are to it.
    pub url: Private,
    /// Sender of mails.
    pub from: String,
}

impl AccountsOptions {
    /// Opens the accounts of a hub that listens on `address` and is kept in `folder`.
    pub(crate) async fn open(
        &self,
        folder: &Path,
        address: SocketAddr,
    ) -> Result<Accounts, StartError> {
        let public = !address.ip().is_loopback();
        let mails =
            self.password_reset || self.change_email || self.verify_email != VerifyEmail::Off;
        let mailer: Arc<dyn Mailer> = match &self.smtp {
            Some(_) if self.base_url.is_none() => {
                return Err(StartError::Mails("--base-url is missing, which mails link to".into()));
            }
            Some(smtp) => {
                let mailer = SmtpMailer::new(&smtp.url.0, &smtp.from);
                Arc::new(mailer.map_err(|error| StartError::Mails(error.to_string()))?)
            }
            // A log is read by others than whom the link is for.
            None if mails && public => {
                let missing = "--verify-email, --password-reset and --change-email need --smtp-url";
                return Err(StartError::Mails(missing.into()));
            }
            None => Arc::new(LogMailer),
        };
        let secret = match &self.secret {
            Some(secret) => Secret::new("BETTER_AUTH_SECRET", &secret.0)?,
            None => Secret::in_file(&folder.join("auth.secret"))?,
        };
        let https = self.base_url.as_ref().is_some_and(|url| url.scheme() == "https");
        let place = self.database.clone();
        let place = place.unwrap_or_else(|| DatabasePlace::File(folder.join("auth.db")));
        let config = AccountsConfig {
            secret,
            base_url: self.base_url.clone(),
            production: public || https,
            trusted_origins: self.trusted_origins.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            // Behind a proxy on the same machine it is the proxy that is on loopback.
            rate_limit: self.rate_limit.unwrap_or(public || https),
            sign_up: self.sign_up,
            verify_email: self.verify_email,
            change_email: self.change_email,
            delete_user: self.delete_user,
            password_reset: self.password_reset,
            mailer,
        };
        Ok(Accounts::new(Users::open(&place).await?, config)?)
    }
}
