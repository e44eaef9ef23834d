//! Accounts in a temporary folder, set up for tests.

#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use host_auth::{
    Accounts, AccountsConfig, DatabasePlace, Mail, MailError, Mailer, Secret, SignUp, Users,
    VerifyEmail,
};
use parking_lot::Mutex;

/// The signing secret in tests.
pub const SECRET: &str = "a secret for tests, long enough for it";

/// Collects mails instead of sending them.
#[derive(Clone, Default)]
pub struct Mailbox(pub Arc<Mutex<Vec<Mail>>>);

#[async_trait]
impl Mailer for Mailbox {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        self.0.lock().push(mail);
        Ok(())
    }
}

/// The base configuration of tests: everything optional is off.
pub fn config() -> AccountsConfig {
    AccountsConfig {
        secret: Secret::new("SECRET", SECRET).expect("it is long enough"),
        base_url: None,
        production: false,
        trusted_origins: Vec::new(),
        trusted_proxies: Vec::new(),
        rate_limit: false,
        sign_up: SignUp::Open,
        verify_email: VerifyEmail::Off,
        change_email: false,
        delete_user: false,
        password_reset: false,
        reset_ends_sessions: true,
        server_secret: None,
        mailer: Arc::new(Mailbox::default()),
    }
}

/// Opens accounts in `auth.db` of a folder.
pub async fn accounts(folder: &Path, change: impl FnOnce(&mut AccountsConfig)) -> Accounts {
    let place = DatabasePlace::File(folder.join("auth.db"));
    let mut config = config();
    change(&mut config);
    let users = Users::open(&place).await.expect("the database opens");
    Accounts::new(users, config).expect("the configuration is one")
}
