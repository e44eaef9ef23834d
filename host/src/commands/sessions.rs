//! `host sessions`: who is signed in to a hub, whether or not it is running.

use anstream::println;
use anyhow::ensure;
use clap::{Args, Subcommand};
use host_auth::Time;

use super::users::{find, open};
use crate::account_database::PlaceArgs;

/// `host sessions`
#[derive(Debug, Args)]
pub struct SessionsArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the sessions of all accounts, or of one.
    List {
        /// E-mail address of the account.
        email: Option<String>,
    },
    /// Ends a session, or all sessions of an account. Its open sockets are closed within seconds.
    Revoke {
        /// Id of a session, as `host sessions list` prints it, or the e-mail address of an account.
        session: String,
    },
}

impl SessionsArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let users = open(&self.place).await?;
        match self.action {
            Action::List { email } => {
                let now = Time::now();
                let of = match email {
                    Some(email) => vec![find(&users, &email).await?],
                    None => users.database.users().await?,
                };
                for user in of {
                    for session in users.database.sessions(&user.id).await? {
                        if session.expires_at < now {
                            continue;
                        }
                        println!(
                            "{}  {}  since {}  until {}  {}  {}",
                            session.id,
                            user.email,
                            session.created_at,
                            session.expires_at,
                            session.ip_address.unwrap_or_default(),
                            printable(&session.user_agent.unwrap_or_default()),
                        );
                    }
                }
            }
            Action::Revoke { session } if session.contains('@') => {
                let user = find(&users, &session).await?;
                users.end_sessions(&user.id).await?;
                println!("{} is signed out everywhere", user.email);
            }
            Action::Revoke { session } => {
                let ended = users.end_session_by_id(&session).await?;
                ensure!(ended, "there is no session {session:?}; `host sessions list` lists them");
                println!("the session has ended");
            }
        }
        Ok(())
    }
}

/// The client's name for itself, without control characters, which a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
