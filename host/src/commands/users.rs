//! `host users`: the accounts of a hub, whether or not it is running.

use std::io::{BufRead, IsTerminal, Read};

use anstream::println;
use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use host_auth::{NewUser, Users, UsersError, check_length, database, is_email};

use crate::account_database::PlaceArgs;

/// Longest line that is read as a password, in bytes.
const LINE: u64 = 4096;

/// `host users`
#[derive(Debug, Args)]
pub struct UsersArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Creates an account. The password is prompted for, or read from the first line of standard input.
    Add {
        /// E-mail address of the account.
        email: String,
        /// Name of its holder; by default the e-mail address.
        #[arg(long)]
        name: Option<String>,
    },
    /// Lists the accounts.
    List,
    /// Deletes an account and ends its sessions.
    Remove {
        /// E-mail address of the account.
        email: String,
    },
    /// Sets a new password and ends all sessions. The password is prompted for, or read from the first line
    /// of standard input.
    ResetPassword {
        /// E-mail address of the account.
        email: String,
    },
    /// Prints an invitation: a token that lets the holder of an address sign up within a week.
    Invite {
        /// E-mail address of the future account.
        email: String,
    },
}

impl UsersArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let users = open(&self.place).await?;
        match self.action {
            Action::Add { email, name } => {
                ensure!(is_email(&email), "{email:?} is not an e-mail address");
                let password = password()?;
                let name = name.unwrap_or_else(|| email.clone());
                let new = NewUser { name, email, password, image: None };
                let (user, _) = users.create(new, None, None).await?;
                println!("{} can sign in now", user.email);
            }
            Action::List => {
                for user in users.database.users().await? {
                    println!("{}  {}  {}  {}", user.id, user.created_at, user.email, user.name);
                }
            }
            Action::Remove { email } => {
                let user = find(&users, &email).await?;
                users.delete(&user.id).await?;
                println!("{} no longer has an account", user.email);
            }
            Action::ResetPassword { email } => {
                let user = find(&users, &email).await?;
                users.set_password(&user.id, &password()?).await?;
                println!("{} has a new password and is signed out everywhere", user.email);
            }
            Action::Invite { email } => {
                ensure!(is_email(&email), "{email:?} is not an e-mail address");
                if users.database.user_by_email(&email).await?.is_some() {
                    return Err(UsersError::Taken.into());
                }
                println!("{}", users.invite(&email).await?);
            }
        }
        Ok(())
    }
}

/// Opens the accounts of a server.
pub(super) async fn open(place: &PlaceArgs) -> anyhow::Result<Users> {
    std::fs::create_dir_all(&place.data_dir)
        .with_context(|| format!("the data folder {}", place.data_dir.display()))?;
    Users::open(&place.place()?).await.context("the database of accounts")
}

/// The account with an address.
pub(super) async fn find(users: &Users, email: &str) -> anyhow::Result<database::User> {
    let found = users.database.user_by_email(email).await?;
    found.with_context(|| {
        format!("there is no account for {email:?}; `host users list` lists all accounts")
    })
}

/// Asks for a password, twice on a terminal. It is never an argument, because everybody on the machine can
/// read those.
fn password() -> anyhow::Result<String> {
    let password = if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ")?;
        if rpassword::prompt_password("Once more: ")? != first {
            bail!("the two passwords differ");
        }
        first
    } else {
        let mut line = String::new();
        std::io::stdin().lock().take(LINE).read_line(&mut line).context("the input")?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    check_length(&password)?;
    Ok(password)
}
