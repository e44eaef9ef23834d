//! SQLite: one connection, used by one thread at a time, off the async threads.
//!
//! A statement takes microseconds and a commit one disk flush, while hashing the password before it
//! takes a thousand times as long. So one connection is enough and never becomes a bottleneck.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql};

use super::{Backend, DatabaseError, Row, Statement, Value};
use crate::time::Time;

/// How long to wait while another program, such as a Better Auth server, is writing.
const BUSY: Duration = Duration::from_secs(5);

/// The tables, exactly as Better Auth creates them.
const SCHEMA: &str = r#"
create table "user" ("id" text not null primary key, "name" text not null, "email" text not null unique, "emailVerified" integer not null, "image" text, "createdAt" date not null, "updatedAt" date not null);
create table "session" ("id" text not null primary key, "expiresAt" date not null, "token" text not null unique, "createdAt" date not null, "updatedAt" date not null, "ipAddress" text, "userAgent" text, "userId" text not null references "user" ("id") on delete cascade);
create table "account" ("id" text not null primary key, "accountId" text not null, "providerId" text not null, "userId" text not null references "user" ("id") on delete cascade, "accessToken" text, "refreshToken" text, "idToken" text, "accessTokenExpiresAt" date, "refreshTokenExpiresAt" date, "scope" text, "password" text, "createdAt" date not null, "updatedAt" date not null);
create table "verification" ("id" text not null primary key, "identifier" text not null, "value" text not null, "expiresAt" date not null, "createdAt" date not null, "updatedAt" date not null);
create index "session_userId_idx" on "session" ("userId");
create index "account_userId_idx" on "account" ("userId");
create index "verification_identifier_idx" on "verification" ("identifier");
"#;

#[derive(Clone)]
pub(super) struct Sqlite(Arc<Mutex<Connection>>);

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let failed = |error: &dyn std::fmt::Display| {
            DatabaseError::Failed(format!("{} cannot be opened: {error}", path.display()))
        };
        let new = !path.exists();
        if new {
            // With its tables, so that a file without any was cut, and not left by a start that was cut short.
            host_files::create_database(path, |connection| -> Result<(), DatabaseError> {
                Ok(connection.execute_batch(SCHEMA)?)
            })?;
        } else {
            // Another program may use it, too, in another account of the same group.
            host_files::tighten_shared(path);
        }
        let connection = Connection::open(path).map_err(|error| failed(&error))?;
        let prepare = || -> rusqlite::Result<()> {
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            // A file that already existed keeps its mode.
            if new {
                connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            }
            Ok(())
        };
        prepare().map_err(|error| failed(&error))?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let connection = self.0.clone();
        tokio::task::spawn_blocking(move || work(&mut connection.lock()))
            .await
            .map_err(|_| DatabaseError::Failed("the work was interrupted".into()))?
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn query(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        self.run(move |connection| {
            let mut prepared = connection.prepare_cached(&statement.sql)?;
            let columns = prepared.column_count();
            let parameters = rusqlite::params_from_iter(&statement.parameters);
            let rows = prepared.query_map(parameters, |row| {
                (0..columns).map(|column| Ok(read(row.get_ref(column)?))).collect()
            })?;
            Ok(rows.map(|row| row.map(Row)).collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn execute(&self, statements: Vec<Statement>) -> Result<(), DatabaseError> {
        self.run(move |connection| {
            // Immediate, because it will write: SQLite may refuse to upgrade a transaction that
            // starts as a read.
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for statement in statements {
                let parameters = rusqlite::params_from_iter(&statement.parameters);
                let changed = transaction.prepare_cached(&statement.sql)?.execute(parameters)?;
                if changed == 0 && statement.must_change {
                    return Err(DatabaseError::Stale);
                }
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn create(&self) -> Result<(), DatabaseError> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            Ok(transaction.commit()?)
        })
        .await
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Integer(number) => ToSqlOutput::from(*number),
            Value::Flag(flag) => ToSqlOutput::from(i64::from(*flag)),
            Value::Time(time) => ToSqlOutput::from(time.to_string()),
        })
    }
}

fn read(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Time(Time::from_millis(number as i64)),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            Value::Text(String::from_utf8_lossy(text).into_owned())
        }
    }
}

impl From<host_files::OpenError> for DatabaseError {
    fn from(error: host_files::OpenError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error() {
            Some(failure)
                if failure.code == ErrorCode::ConstraintViolation
                    && failure.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE =>
            {
                Self::Conflict
            }
            // A row that refers to a deleted user.
            Some(failure)
                if failure.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY =>
            {
                Self::Stale
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}
