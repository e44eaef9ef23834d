//! The rows of the tables, and every statement about them.

use serde::Serialize;

use super::{Database, DatabaseError, Row, Statement, Value};
use crate::secret;
use crate::time::Time;

/// The tables and the columns of them that we use.
pub(super) const TABLES: &[(&str, &str)] = &[
    ("user", USER),
    ("session", SESSION),
    ("account", ACCOUNT),
    ("verification", r#""id", "identifier", "value", "expiresAt", "createdAt", "updatedAt""#),
];

const USER: &str = r#""id", "name", "email", "emailVerified", "image", "createdAt", "updatedAt""#;
const SESSION: &str =
    r#""id", "expiresAt", "token", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId""#;
const ACCOUNT: &str =
    r#""id", "accountId", "providerId", "userId", "scope", "password", "createdAt", "updatedAt""#;

/// Ids per statement; SQLite accepts at most 32,766 parameters.
const AT_ONCE: usize = 512;

/// The provider of accounts with a password.
const CREDENTIAL: &str = "credential";

/// A user, as answers show one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The user's display name.
    pub name: String,
    /// In lower case.
    pub email: String,
    /// Whether the user has proved that they own the address.
    pub email_verified: bool,
    /// URL of a profile picture.
    pub image: Option<String>,
    /// When the account was created.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
    /// The permanent id of the account.
    pub id: String,
}

/// A session, as answers show it.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// When it expires unless it is extended.
    pub expires_at: Time,
    /// The token that its holder presents.
    pub token: String,
    /// When its holder signed in.
    pub created_at: Time,
    /// When it was last extended.
    pub updated_at: Time,
    /// The address that its holder signed in from.
    pub ip_address: Option<String>,
    /// The `User-Agent` of the browser or program.
    pub user_agent: Option<String>,
    /// The id of the user.
    pub user_id: String,
    /// The id of the session; not a secret.
    pub id: String,
}

/// A way to sign in.
#[derive(Clone)]
pub struct Account {
    /// Its id.
    pub id: String,
    /// The provider's id for the user.
    pub account_id: String,
    /// `credential` for a password.
    pub provider_id: String,
    /// The id of the user.
    pub user_id: String,
    /// The scopes that the provider granted, separated by commas.
    pub scope: Option<String>,
    /// The hash of the password.
    pub password: Option<String>,
    /// When it was created.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
}

/// Takes the columns of a row one by one.
struct Columns(std::vec::IntoIter<Value>);

impl Columns {
    fn next(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Null)
    }

    fn optional_text(&mut self) -> Option<String> {
        match self.next() {
            Value::Text(text) => Some(text),
            Value::Integer(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn text(&mut self) -> Result<String, DatabaseError> {
        self.optional_text().ok_or_else(|| unreadable("text"))
    }

    fn flag(&mut self) -> bool {
        matches!(self.next(), Value::Flag(true) | Value::Integer(1..))
    }

    fn time(&mut self) -> Result<Time, DatabaseError> {
        match self.next() {
            Value::Time(time) => Ok(time),
            Value::Text(text) => Time::parse(&text).ok_or_else(|| unreadable("a time")),
            Value::Integer(millis) => Ok(Time::from_millis(millis)),
            _ => Err(unreadable("a time")),
        }
    }
}

fn unreadable(kind: &str) -> DatabaseError {
    DatabaseError::Failed(format!("a column that should hold {kind} holds something else"))
}

impl User {
    fn read(columns: &mut Columns) -> Result<Self, DatabaseError> {
        let id = columns.text()?;
        Ok(Self {
            id,
            name: columns.text()?,
            email: columns.text()?,
            email_verified: columns.flag(),
            image: columns.optional_text(),
            created_at: columns.time()?,
            updated_at: columns.time()?,
        })
    }
}

impl Session {
    fn read(columns: &mut Columns) -> Result<Self, DatabaseError> {
        let id = columns.text()?;
        Ok(Self {
            id,
            expires_at: columns.time()?,
            token: columns.text()?,
            created_at: columns.time()?,
            updated_at: columns.time()?,
            ip_address: columns.optional_text(),
            user_agent: columns.optional_text(),
            user_id: columns.text()?,
        })
    }

    /// The statement that inserts it.
    pub(crate) fn insert(&self) -> Statement {
        Statement::new(
            format!(r#"INSERT INTO "session" ({SESSION}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"#),
            [
                self.id.as_str().into(),
                self.expires_at.into(),
                self.token.as_str().into(),
                self.created_at.into(),
                self.updated_at.into(),
                self.ip_address.clone().into(),
                self.user_agent.clone().into(),
                self.user_id.as_str().into(),
            ],
        )
    }
}

impl User {
    /// The statement that inserts it.
    pub(crate) fn insert(&self) -> Statement {
        Statement::new(
            format!(r#"INSERT INTO "user" ({USER}) VALUES ($1, $2, $3, $4, $5, $6, $7)"#),
            [
                self.id.as_str().into(),
                self.name.as_str().into(),
                self.email.as_str().into(),
                self.email_verified.into(),
                self.image.clone().into(),
                self.created_at.into(),
                self.updated_at.into(),
            ],
        )
    }

    /// The statement that updates the user to these values.
    pub(crate) fn update(&self) -> Statement {
        let sql = r#"UPDATE "user" SET "name" = $1, "email" = $2, "emailVerified" = $3, "image" = $4, "updatedAt" = $5 WHERE "id" = $6"#;
        let parameters = [
            self.name.as_str().into(),
            self.email.as_str().into(),
            self.email_verified.into(),
            self.image.clone().into(),
            self.updated_at.into(),
            self.id.as_str().into(),
        ];
        Statement::new(sql, parameters).must_change()
    }

    /// The statement that inserts a password for the user.
    pub(crate) fn insert_password(id: &str, hash: &str, now: Time) -> Statement {
        Statement::new(
            r#"INSERT INTO "account" ("id", "accountId", "providerId", "userId", "password", "createdAt", "updatedAt")
               VALUES ($1, $2, $3, $2, $4, $5, $5)"#,
            [secret::random(32).into(), id.into(), CREDENTIAL.into(), hash.into(), now.into()],
        )
    }

    /// The statement that replaces the user's password.
    pub(crate) fn update_password(id: &str, hash: &str, now: Time) -> Statement {
        Statement::new(
            r#"UPDATE "account" SET "password" = $1, "updatedAt" = $2
               WHERE "userId" = $3 AND "providerId" = $4"#,
            [hash.into(), now.into(), id.into(), CREDENTIAL.into()],
        )
    }

    /// The statement that removes the user's password.
    pub(crate) fn delete_password(id: &str) -> Statement {
        let sql = r#"DELETE FROM "account" WHERE "userId" = $1 AND "providerId" = $2"#;
        Statement::new(sql, [id.into(), CREDENTIAL.into()])
    }

    /// The statement that ends all of the user's sessions.
    pub(crate) fn delete_sessions(id: &str) -> Statement {
        Statement::new(r#"DELETE FROM "session" WHERE "userId" = $1"#, [id.into()])
    }

    /// The statement that deletes the user's expired sessions.
    pub(crate) fn delete_expired_sessions(id: &str, now: Time) -> Statement {
        Statement::new(
            r#"DELETE FROM "session" WHERE "userId" = $1 AND "expiresAt" < $2"#,
            [id.into(), now.into()],
        )
    }
}

impl Account {
    fn read(columns: &mut Columns) -> Result<Self, DatabaseError> {
        let id = columns.text()?;
        Ok(Self {
            id,
            account_id: columns.text()?,
            provider_id: columns.text()?,
            user_id: columns.text()?,
            scope: columns.optional_text(),
            password: columns.optional_text(),
            created_at: columns.time()?,
            updated_at: columns.time()?,
        })
    }

    /// Whether this account holds a password.
    pub fn is_credential(&self) -> bool {
        self.provider_id == CREDENTIAL && self.account_id == self.user_id
    }
}

fn each<T>(
    rows: Vec<Row>,
    read: impl Fn(&mut Columns) -> Result<T, DatabaseError>,
) -> Result<Vec<T>, DatabaseError> {
    rows.into_iter().map(|Row(values)| read(&mut Columns(values.into_iter()))).collect()
}

/// A column list with each column qualified by its table.
fn of(table: &str, columns: &str) -> String {
    columns.split(", ").map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
}

impl Database {
    /// The user with an id.
    pub async fn user(&self, id: &str) -> Result<Option<User>, DatabaseError> {
        let sql = format!(r#"SELECT {USER} FROM "user" WHERE "id" = $1"#);
        Ok(each(self.query(sql, [id.into()]).await?, User::read)?.pop())
    }

    /// The user with an e-mail address, in any case.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<User>, DatabaseError> {
        let sql = format!(r#"SELECT {USER} FROM "user" WHERE "email" = $1"#);
        Ok(each(self.query(sql, [email.to_lowercase().into()]).await?, User::read)?.pop())
    }

    /// All users, oldest first.
    pub async fn users(&self) -> Result<Vec<User>, DatabaseError> {
        let sql = format!(r#"SELECT {USER} FROM "user" ORDER BY "createdAt", "id""#);
        each(self.query(sql, []).await?, User::read)
    }

    /// The accounts through which a user can sign in.
    pub async fn accounts(&self, user: &str) -> Result<Vec<Account>, DatabaseError> {
        let sql = format!(
            r#"SELECT {ACCOUNT} FROM "account" WHERE "userId" = $1 ORDER BY "createdAt", "id""#
        );
        each(self.query(sql, [user.into()]).await?, Account::read)
    }

    /// The session with a token, together with its user. Expired sessions are included.
    pub async fn session(&self, token: &str) -> Result<Option<(Session, User)>, DatabaseError> {
        let sql = format!(
            r#"SELECT {}, {} FROM "session" s JOIN "user" u ON u."id" = s."userId" WHERE s."token" = $1"#,
            of("s", SESSION),
            of("u", USER),
        );
        let rows = self.query(sql, [token.into()]).await?;
        let both = |columns: &mut Columns| Ok((Session::read(columns)?, User::read(columns)?));
        Ok(each(rows, both)?.pop())
    }

    /// Which of these sessions, by id, have not expired.
    pub async fn live_sessions(
        &self,
        ids: &[String],
        now: Time,
    ) -> Result<Vec<String>, DatabaseError> {
        let sql = r#"SELECT "id" FROM "session" WHERE "expiresAt" >= $1 AND "id" IN"#;
        self.select_among(sql, &[now.into()], ids).await
    }

    /// The sessions of a user, oldest first. Expired sessions are included.
    pub async fn sessions(&self, user: &str) -> Result<Vec<Session>, DatabaseError> {
        let sql = format!(
            r#"SELECT {SESSION} FROM "session" WHERE "userId" = $1 ORDER BY "createdAt", "id""#
        );
        each(self.query(sql, [user.into()]).await?, Session::read)
    }

    /// Ends a session by its token. Returns its id, or `None` if there is no such session.
    pub async fn delete_session(&self, token: &str) -> Result<Option<String>, DatabaseError> {
        let sql = r#"DELETE FROM "session" WHERE "token" = $1 RETURNING "id""#;
        Ok(each(self.query(sql, [token.into()]).await?, Columns::text)?.pop())
    }

    /// Ends a session by its id. Returns whether it existed.
    pub async fn delete_session_by_id(&self, id: &str) -> Result<bool, DatabaseError> {
        let sql = r#"DELETE FROM "session" WHERE "id" = $1 RETURNING "id""#;
        Ok(!self.query(sql, [id.into()]).await?.is_empty())
    }

    /// Ends the sessions of a user except the one with this token. Returns their ids.
    pub async fn delete_other_sessions(
        &self,
        user: &str,
        token: &str,
    ) -> Result<Vec<String>, DatabaseError> {
        let sql = r#"DELETE FROM "session" WHERE "userId" = $1 AND "token" <> $2 RETURNING "id""#;
        each(self.query(sql, [user.into(), token.into()]).await?, Columns::text)
    }

    /// Extends a session. Returns whether it still exists.
    pub async fn extend_session(
        &self,
        token: &str,
        now: Time,
        expires_at: Time,
    ) -> Result<bool, DatabaseError> {
        let sql = r#"UPDATE "session" SET "expiresAt" = $1, "updatedAt" = $2 WHERE "token" = $3 RETURNING "id""#;
        let rows = self.query(sql, [expires_at.into(), now.into(), token.into()]).await?;
        Ok(!rows.is_empty())
    }

    /// Applies changes to a user. Returns whether the user still exists.
    pub async fn update_user(&self, user: &User) -> Result<bool, DatabaseError> {
        match self.execute(vec![user.update()]).await {
            Ok(()) => Ok(true),
            Err(DatabaseError::Stale) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a user with all sessions and accounts. The foreign keys cascade, but a database that
    /// was created without them is cleaned up as well.
    pub async fn delete_user(&self, id: &str) -> Result<(), DatabaseError> {
        let accounts = r#"DELETE FROM "account" WHERE "userId" = $1"#;
        let user = r#"DELETE FROM "user" WHERE "id" = $1"#;
        self.execute(vec![
            User::delete_sessions(id),
            Statement::new(accounts, [id.into()]),
            Statement::new(user, [id.into()]).must_change(),
        ])
        .await
    }

    /// Which of these tokens belong to sessions that have not expired.
    pub async fn live_tokens(
        &self,
        tokens: &[String],
        now: Time,
    ) -> Result<Vec<String>, DatabaseError> {
        let sql = r#"SELECT "token" FROM "session" WHERE "expiresAt" >= $1 AND "token" IN"#;
        self.select_among(sql, &[now.into()], tokens).await
    }

    /// Which of these accounts, by id, exist.
    pub async fn existing_users(&self, ids: &[String]) -> Result<Vec<String>, DatabaseError> {
        self.select_among(r#"SELECT "id" FROM "user" WHERE "id" IN"#, &[], ids).await
    }

    /// Selects ids from a long list in batches. `sql` ends just before the list.
    async fn select_among(
        &self,
        sql: &str,
        first: &[Value],
        ids: &[String],
    ) -> Result<Vec<String>, DatabaseError> {
        let mut found = Vec::new();
        for ids in ids.chunks(AT_ONCE) {
            // Pads the list to the next power of two by repeating the first id, so that there are
            // only a few different statements to prepare.
            let count = ids.len().next_power_of_two();
            let start = first.len() + 1;
            let marks: Vec<_> = (start..start + count).map(|number| format!("${number}")).collect();
            let sql = format!("{sql} ({})", marks.join(", "));
            let padding = std::iter::repeat_n(&ids[0], count - ids.len());
            let ids = ids.iter().chain(padding).map(|id| id.as_str().into());
            let rows = self.query(sql, first.iter().cloned().chain(ids)).await?;
            found.extend(each(rows, Columns::text)?);
        }
        Ok(found)
    }

    /// Removes one way to sign in.
    pub async fn delete_account(&self, id: &str) -> Result<(), DatabaseError> {
        self.execute(vec![Statement::new(r#"DELETE FROM "account" WHERE "id" = $1"#, [id.into()])])
            .await
    }

    /// Stores what a mailed link or an invitation refers to, and deletes expired entries. Only a
    /// digest of the identifier is stored (as Better Auth's `storeIdentifier: "hashed"` does).
    pub async fn create_verification(
        &self,
        identifier: &str,
        value: &str,
        now: Time,
        expires_at: Time,
    ) -> Result<(), DatabaseError> {
        let expired = r#"DELETE FROM "verification" WHERE "expiresAt" < $1"#;
        let insert = r#"INSERT INTO "verification" ("id", "identifier", "value", "expiresAt", "createdAt", "updatedAt") VALUES ($1, $2, $3, $4, $5, $5)"#;
        self.execute(vec![
            Statement::new(expired, [now.into()]),
            Statement::new(
                insert,
                [
                    secret::random(32).into(),
                    secret::digest(identifier).into(),
                    value.into(),
                    expires_at.into(),
                    now.into(),
                ],
            ),
        ])
        .await
    }

    /// The value stored under an identifier, unless it has expired.
    pub async fn verification(
        &self,
        identifier: &str,
        now: Time,
    ) -> Result<Option<String>, DatabaseError> {
        let sql = r#"SELECT "value" FROM "verification" WHERE "identifier" IN ($1, $2) AND "expiresAt" >= $3 ORDER BY "createdAt""#;
        let parameters = [secret::digest(identifier).into(), identifier.into(), now.into()];
        Ok(each(self.query(sql, parameters).await?, Columns::text)?.pop())
    }

    /// The statement that consumes a stored value, so that it works only once.
    pub(crate) fn consume_verification(identifier: &str, now: Time) -> Statement {
        let sql =
            r#"DELETE FROM "verification" WHERE "identifier" IN ($1, $2) AND "expiresAt" >= $3"#;
        Statement::new(sql, [secret::digest(identifier).into(), identifier.into(), now.into()])
            .must_change()
    }
}
