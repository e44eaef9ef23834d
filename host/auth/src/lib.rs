//! Accounts: sign-up, sign-in and sessions, compatible with Better Auth.
//!
//! Endpoints, cookies, hashes and tables are those of Better Auth 1.7, so that its official client
//! and its existing databases work unchanged. A hub holds [`Accounts`], which provides the routes
//! under `/auth` and is the [`Verifier`] for rooms, AI and the proxy. [`Users`] is the layer below
//! it, without HTTP, and all that the command line needs.

mod accounts;
mod cookies;
pub mod database;
mod http;
pub mod hub;
pub mod limits;
mod mail;
mod origins;
mod password;
mod rate;
mod secret;
mod time;
mod users;
pub mod verifier;

pub use accounts::{Accounts, AccountsConfig, ConfigError, SignUp, VerifyEmail};
pub use cookies::has_session_cookie;
pub use database::DatabasePlace;
pub use hub::{HubError, HubSessions};
pub use limits::Rule;
pub use mail::{LogMailer, Mail, MailError, Mailer, SmtpMailer};
pub use origins::{NotAnOrigin, TrustedOrigins};
pub use rate::RateLimit;
pub use secret::{Secret, SecretError, ServerSecret, read_argument};
pub use time::Time;
pub use users::{NewUser, PasswordError, Users, UsersError, Visit, check_length, is_email};
pub use verifier::{Credential, Directory, Source, Verifier};
