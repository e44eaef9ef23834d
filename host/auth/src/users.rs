//! Operations on accounts, whether requested over HTTP or on the command line.

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::database::{Database, DatabaseError, DatabasePlace, Session, Statement, User};
use crate::limits;
use crate::password::{Busy, Hasher};
use crate::secret;
use crate::time::Time;
use crate::verifier::Revoked;

/// The accounts of a server. Clones share all state.
#[derive(Clone)]
pub struct Users {
    /// Where accounts are stored.
    pub database: Database,
    hasher: Hasher,
    revoked: broadcast::Sender<Revoked>,
}

/// Why an operation on an account failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UsersError {
    /// Another account has the address.
    #[error("there is an account with this e-mail address already")]
    Taken,
    /// Something required does not exist: the invitation, the link, or the account itself.
    #[error("it is not there any more")]
    Gone,
    /// Too many passwords are being hashed.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The database failed.
    #[error(transparent)]
    Database(DatabaseError),
}

impl From<DatabaseError> for UsersError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Conflict => Self::Taken,
            DatabaseError::Stale => Self::Gone,
            error => Self::Database(error),
        }
    }
}

/// A user to create.
#[derive(Clone)]
pub struct NewUser {
    /// The display name.
    pub name: String,
    /// The e-mail address, in any case.
    pub email: String,
    /// The password, 8 to 128 characters.
    pub password: String,
    /// URL of a profile picture.
    pub image: Option<String>,
}

/// Where somebody signs in from, and for how long.
#[derive(Clone, Default)]
pub struct Visit {
    /// The client's address.
    pub ip_address: String,
    /// The browser or program.
    pub user_agent: String,
    /// Whether the session lasts only a day.
    pub short: bool,
}

impl Visit {
    fn session(self, user: &str, now: Time) -> Session {
        let lasts = if self.short { limits::SHORT_SESSION } else { limits::SESSION };
        Session {
            expires_at: now + lasts,
            token: secret::random(32),
            created_at: now,
            updated_at: now,
            ip_address: Some(self.ip_address),
            user_agent: Some(self.user_agent),
            user_id: user.to_owned(),
            id: secret::random(32),
        }
    }
}

/// The identifier under which an invitation is stored.
fn invitation(token: &str, email: &str) -> String {
    // It includes the address: an invitation is of no use to anybody else.
    format!("invitation:{token}:{}", email.to_lowercase())
}

/// The identifier under which a password reset is stored.
fn reset(token: &str) -> String {
    format!("reset-password:{token}")
}

/// A sign-up for an address whose account is unverified.
#[derive(Serialize, Deserialize)]
struct Claim {
    /// The id of the account.
    user: String,
    name: String,
    image: Option<String>,
    /// The password hash.
    password: String,
}

/// The identifier under which a claim is stored.
fn claimed(id: &str) -> String {
    format!("claim:{id}")
}

/// The identifier under which an account deletion is stored.
fn deletion(token: &str) -> String {
    format!("delete-account-{token}")
}

impl Users {
    /// Opens the accounts in a database.
    pub async fn open(place: &DatabasePlace) -> Result<Self, DatabaseError> {
        let database = Database::open(place).await?;
        let (revoked, _) = broadcast::channel(limits::REVOCATIONS);
        Ok(Self { database, hasher: Hasher::default(), revoked })
    }

    /// Whether there are any accounts.
    pub async fn any(&self) -> Result<bool, DatabaseError> {
        Ok(!self.database.query(r#"SELECT "id" FROM "user" LIMIT 1"#, []).await?.is_empty())
    }

    /// Subscribes to what this process ends from now on.
    pub fn revocations(&self) -> broadcast::Receiver<Revoked> {
        self.revoked.subscribe()
    }

    fn announce(&self, revoked: Revoked) {
        // The error means that nobody is subscribed.
        let _ = self.revoked.send(revoked);
    }

    /// Creates an account. With a visit, its holder is signed in; with an invitation, the
    /// invitation is used up.
    pub async fn create(
        &self,
        new: NewUser,
        visit: Option<Visit>,
        invited: Option<&str>,
    ) -> Result<(User, Option<Session>), UsersError> {
        let hash = self.hasher.hash(&new.password).await?;
        let now = Time::now();
        let user = User {
            name: new.name,
            email: new.email.to_lowercase(),
            email_verified: false,
            image: new.image,
            created_at: now,
            updated_at: now,
            id: secret::random(32),
        };
        let session = visit.map(|visit| visit.session(&user.id, now));
        let mut statements = Vec::new();
        if let Some(token) = invited {
            let identifier = invitation(token, &user.email);
            statements.push(Database::consume_verification(&identifier, now));
        }
        statements.push(user.insert());
        statements.push(User::insert_password(&user.id, &hash, now));
        statements.extend(session.as_ref().map(Session::insert));
        self.database.execute(statements).await?;
        Ok((user, session))
    }

    /// The user with this address and password. Takes the same time if there is none.
    pub async fn check(&self, email: &str, password: &str) -> Result<Option<User>, UsersError> {
        let user = self.database.user_by_email(email).await?;
        let hash = match &user {
            Some(user) => self.password_of(&user.id).await?,
            None => None,
        };
        let matches = self.hasher.matches(password, hash.as_deref().unwrap_or_default()).await?;
        Ok(user.filter(|_| hash.is_some() && matches))
    }

    /// Whether a password is the user's; `None` if the user has no password.
    pub async fn check_password(
        &self,
        user: &str,
        password: &str,
    ) -> Result<Option<bool>, UsersError> {
        match self.password_of(user).await? {
            Some(hash) => Ok(Some(self.hasher.matches(password, &hash).await?)),
            None => Ok(None),
        }
    }

    async fn password_of(&self, user: &str) -> Result<Option<String>, UsersError> {
        let accounts = self.database.accounts(user).await?;
        let account = accounts.into_iter().find(|account| account.is_credential());
        Ok(account.and_then(|account| account.password).filter(|hash| !hash.is_empty()))
    }

    /// Signs a user in.
    pub async fn start_session(&self, user: &str, visit: Visit) -> Result<Session, UsersError> {
        let now = Time::now();
        let session = visit.session(user, now);
        let statements = vec![User::delete_expired_sessions(user, now), session.insert()];
        self.database.execute(statements).await?;
        Ok(session)
    }

    /// Changes a user's password. With a visit, all sessions end and a new one begins: the caller
    /// stays signed in, and anybody who knew the old password does not.
    pub async fn change_password(
        &self,
        user: &str,
        password: &str,
        visit: Option<Visit>,
    ) -> Result<Option<Session>, UsersError> {
        let hash = self.hasher.hash(password).await?;
        let now = Time::now();
        let session = visit.map(|visit| visit.session(user, now));
        let mut statements = vec![User::update_password(user, &hash, now).must_change()];
        if let Some(session) = &session {
            statements.insert(0, User::delete_sessions(user));
            statements.push(session.insert());
        }
        self.database.execute(statements).await?;
        if session.is_some() {
            self.announce(Revoked::User(user.to_owned()));
        }
        Ok(session)
    }

    /// Sets the password of a user, who may not have one yet, and ends all sessions.
    pub async fn set_password(&self, user: &str, password: &str) -> Result<(), UsersError> {
        self.put_password(user, password, vec![User::delete_sessions(user)]).await?;
        self.announce(Revoked::User(user.to_owned()));
        Ok(())
    }

    async fn put_password(
        &self,
        user: &str,
        password: &str,
        mut statements: Vec<Statement>,
    ) -> Result<(), UsersError> {
        let has = self.database.accounts(user).await?.iter().any(|account| account.is_credential());
        let hash = self.hasher.hash(password).await?;
        let now = Time::now();
        statements.push(if has {
            User::update_password(user, &hash, now).must_change()
        } else {
            User::insert_password(user, &hash, now)
        });
        Ok(self.database.execute(statements).await?)
    }

    /// Ends a session by its token.
    pub async fn end_session(&self, token: &str) -> Result<(), UsersError> {
        if let Some(id) = self.database.delete_session(token).await? {
            self.announce(Revoked::Session(id));
        }
        Ok(())
    }

    /// Ends a session by its id. Returns whether it existed.
    pub async fn end_session_by_id(&self, id: &str) -> Result<bool, UsersError> {
        let ended = self.database.delete_session_by_id(id).await?;
        if ended {
            self.announce(Revoked::Session(id.to_owned()));
        }
        Ok(ended)
    }

    /// Ends all sessions of a user.
    pub async fn end_sessions(&self, user: &str) -> Result<(), UsersError> {
        self.database.execute(vec![User::delete_sessions(user)]).await?;
        self.announce(Revoked::User(user.to_owned()));
        Ok(())
    }

    /// Ends all sessions of a user except one.
    pub async fn end_other_sessions(&self, user: &str, token: &str) -> Result<(), UsersError> {
        for id in self.database.delete_other_sessions(user, token).await? {
            self.announce(Revoked::Session(id));
        }
        Ok(())
    }

    /// Deletes an account and everything that belongs to it.
    pub async fn delete(&self, user: &str) -> Result<(), UsersError> {
        self.database.delete_user(user).await?;
        self.announce(Revoked::User(user.to_owned()));
        Ok(())
    }

    /// Creates an invitation for an address: the token to send with the sign-up. Only a digest is
    /// stored.
    pub async fn invite(&self, email: &str) -> Result<String, UsersError> {
        let token = secret::random(32);
        let email = email.to_lowercase();
        let now = Time::now();
        let identifier = invitation(&token, &email);
        self.database
            .create_verification(&identifier, &email, now, now + limits::INVITATION)
            .await?;
        Ok(token)
    }

    /// Whether an invitation is valid for this address.
    pub async fn is_invited(&self, token: &str, email: &str) -> Result<bool, UsersError> {
        let identifier = invitation(token, email);
        Ok(self.database.verification(&identifier, Time::now()).await?.is_some())
    }

    /// Creates a token with which a user can reset the password once.
    pub async fn start_reset(&self, user: &str) -> Result<String, UsersError> {
        let token = secret::random(24);
        let now = Time::now();
        let expires = now + limits::LINK;
        self.database.create_verification(&reset(&token), user, now, expires).await?;
        Ok(token)
    }

    /// The user to whom a reset token belongs.
    pub async fn reset_of(&self, token: &str) -> Result<Option<String>, UsersError> {
        Ok(self.database.verification(&reset(token), Time::now()).await?)
    }

    /// Sets a new password with a reset token, which is used up, and ends all sessions if asked to.
    pub async fn finish_reset(
        &self,
        token: &str,
        user: &str,
        password: &str,
        end_sessions: bool,
    ) -> Result<(), UsersError> {
        let mut statements = vec![Database::consume_verification(&reset(token), Time::now())];
        statements.extend(end_sessions.then(|| User::delete_sessions(user)));
        self.put_password(user, password, statements).await?;
        if end_sessions {
            self.announce(Revoked::User(user.to_owned()));
        }
        Ok(())
    }

    /// Stores a sign-up for an address that already has an account, and returns its id. It takes
    /// effect if the browser that made it verifies the address. For a verified `user`, this does the
    /// same work to no effect.
    pub async fn keep_claim(&self, user: &User, new: &NewUser) -> Result<String, UsersError> {
        let password = self.hasher.hash(&new.password).await?;
        let (name, image) = (new.name.clone(), new.image.clone());
        let claim = (!user.email_verified).then_some(Claim {
            user: user.id.clone(),
            name,
            image,
            password,
        });
        let claim = serde_json::to_string(&claim).expect("a claim is strings");
        let id = secret::random(32);
        let now = Time::now();
        self.database.create_verification(&claimed(&id), &claim, now, now + limits::LINK).await?;
        Ok(id)
    }

    /// Verifies a user's address for a browser that followed a link in a mail. The link proves who
    /// reads the mail, not who chose the password. `sign_up` is the sign-up that the browser has a
    /// cookie for: the first one has the user's id and keeps the password, a later one brings its
    /// own. Without either, the password is removed.
    pub async fn verify(&self, user: &mut User, sign_up: Option<&str>) -> Result<(), UsersError> {
        let now = Time::now();
        (user.email_verified, user.updated_at) = (true, now);
        if sign_up == Some(user.id.as_str()) {
            return Ok(self.database.execute(vec![user.update()]).await?);
        }
        let mut statements = vec![User::delete_sessions(&user.id), User::delete_password(&user.id)];
        if let Some((identifier, claim)) = self.claim(sign_up, &user.id, now).await? {
            (user.name, user.image) = (claim.name, claim.image);
            statements.push(Database::consume_verification(&identifier, now));
            statements.push(User::insert_password(&user.id, &claim.password, now));
        }
        statements.push(user.update());
        self.database.execute(statements).await?;
        self.announce(Revoked::User(user.id.clone()));
        Ok(())
    }

    /// A later sign-up for a user's address, and the identifier under which it is stored.
    async fn claim(
        &self,
        sign_up: Option<&str>,
        user: &str,
        now: Time,
    ) -> Result<Option<(String, Claim)>, UsersError> {
        let Some(identifier) = sign_up.map(claimed) else { return Ok(None) };
        let kept = self.database.verification(&identifier, now).await?;
        let claim = kept.and_then(|claim| serde_json::from_str::<Option<Claim>>(&claim).ok()?);
        Ok(claim.filter(|claim| claim.user == user).map(|claim| (identifier, claim)))
    }

    /// Whether a user has a password.
    pub async fn has_password(&self, user: &str) -> Result<bool, UsersError> {
        Ok(self.password_of(user).await?.is_some())
    }

    /// Uses up a token for deleting an account. Returns whether it belonged to this user.
    pub async fn take_deletion(&self, token: &str, user: &str) -> Result<bool, UsersError> {
        let identifier = deletion(token);
        let now = Time::now();
        if self.database.verification(&identifier, now).await?.as_deref() != Some(user) {
            return Ok(false);
        }
        let taken = Database::consume_verification(&identifier, now);
        match self.database.execute(vec![taken]).await {
            Ok(()) => Ok(true),
            Err(DatabaseError::Stale) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why a new password is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Shorter than 8 characters.
    #[error("a password needs at least {} characters", limits::PASSWORD.start())]
    Short,
    /// Longer than 128 characters.
    #[error("a password has at most {} characters", limits::PASSWORD.end())]
    Long,
}

/// Checks whether a password may be used.
pub fn check_length(password: &str) -> Result<(), PasswordError> {
    // Checks bytes first, to avoid counting the characters of a megabyte.
    if password.len() > 4 * limits::PASSWORD.end() {
        return Err(PasswordError::Long);
    }
    let characters = password.encode_utf16().count();
    if characters < *limits::PASSWORD.start() {
        Err(PasswordError::Short)
    } else if characters > *limits::PASSWORD.end() {
        Err(PasswordError::Long)
    } else {
        Ok(())
    }
}

/// Whether a text is an e-mail address by Better Auth's rules: ASCII, no two dots in a row, no dot
/// at the start or before the `@`, and a domain of at least two labels that ends in letters.
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let local_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"_'+-.".contains(&byte);
    let labels: Vec<_> = domain.split('.').collect();
    let label = |label: &&str| {
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && label.starts_with(|first: char| first.is_ascii_alphanumeric())
    };
    text.len() <= limits::EMAIL
        && !local.is_empty()
        && local.bytes().all(local_byte)
        && !local.starts_with('.')
        && !local.ends_with(['.', '\''])
        && !text.contains("..")
        && labels.len() >= 2
        && labels.iter().all(label)
        && labels
            .last()
            .is_some_and(|top| top.len() >= 2 && top.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_by_better_auths_rule() {
        for good in ["a@b.co", "A.b-c_d+e'f@x-y.example.com", "1@2.de", "a'b@c.de"] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@example.com", "a".repeat(400));
        for bad in [
            "",
            "a",
            "@b.co",
            "a@",
            "a@b",
            "a@b.c",
            "a@b.c1",
            ".a@b.co",
            "a.@b.co",
            "a..b@c.de",
            "a@b..co",
            "a@-b.co",
            "a b@c.de",
            "ä@b.co",
            "a@bü.de",
            "a@b.co\n",
            "a\"@b.co",
            "a@b@c.de",
            "a'@b.co",
            &long,
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn a_password_is_as_long_as_javascript_says() {
        assert_eq!(check_length("1234567"), Err(PasswordError::Short));
        assert_eq!(check_length("12345678"), Ok(()));
        assert_eq!(check_length("🦀🦀🦀🦀"), Ok(()), "each is two UTF-16 units");
        assert_eq!(check_length(&"ä".repeat(128)), Ok(()));
        assert_eq!(check_length(&"a".repeat(129)), Err(PasswordError::Long));
        assert_eq!(check_length(&"a".repeat(1 << 20)), Err(PasswordError::Long));
    }
}
