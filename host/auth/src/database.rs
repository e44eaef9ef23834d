//! Where accounts are kept: the tables of Better Auth, in SQLite or PostgreSQL.
//!
//! Both databases accept the same SQL here: `$1, $2, …` are parameters in both, as long as they
//! first appear in that order (SQLite numbers named parameters as it meets them). They differ in
//! how they store times and booleans: SQLite uses ISO text and integers. [`Value`] and [`Row`] hide
//! that, so each statement is written once and each database is only a few lines that run
//! statements.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::time::Time;

mod postgres;
mod rows;
mod sqlite;

pub use rows::{Account, Session, User};

/// How long a statement may take. A slower one is waiting for a lock that somebody else holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a statement failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// A row with the same unique key already exists.
    #[error("it is there already")]
    Conflict,
    /// A statement that had to change a row changed none. The transaction was rolled back.
    #[error("it is not there any more")]
    Stale,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// A parameter, or a column of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Text(String),
    Integer(i64),
    Flag(bool),
    Time(Time),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Time> for Value {
    fn from(time: Time) -> Self {
        Self::Time(time)
    }
}

/// A statement and its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    sql: String,
    parameters: Vec<Value>,
    /// Whether the transaction is rolled back if this statement changes no row.
    must_change: bool,
}

impl Statement {
    pub fn new(sql: impl Into<String>, parameters: impl IntoIterator<Item = Value>) -> Self {
        Self { sql: sql.into(), parameters: parameters.into_iter().collect(), must_change: false }
    }

    /// Rolls the transaction back with [`DatabaseError::Stale`] if this statement changes no row.
    pub fn must_change(self) -> Self {
        Self { must_change: true, ..self }
    }
}

/// A row: its columns in the order of the statement.
pub(crate) struct Row(Vec<Value>);

/// What a database backend provides.
#[async_trait]
trait Backend: Send + Sync {
    /// Runs one statement and returns its rows.
    async fn query(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError>;

    /// Runs statements in one transaction.
    async fn execute(&self, statements: Vec<Statement>) -> Result<(), DatabaseError>;

    /// Runs the statements that create the tables.
    async fn create(&self) -> Result<(), DatabaseError>;
}

/// Where a database is. `Debug` does not print it, because a URL may hold a password.
#[derive(Clone)]
pub enum DatabasePlace {
    /// An SQLite file.
    File(PathBuf),
    /// The URL of a PostgreSQL database.
    Postgres(String),
}

impl From<&str> for DatabasePlace {
    /// Parses a `postgres://` URL; anything else is a path.
    fn from(place: &str) -> Self {
        if ["postgres://", "postgresql://"].iter().any(|scheme| place.starts_with(scheme)) {
            Self::Postgres(place.to_owned())
        } else {
            Self::File(place.into())
        }
    }
}

impl fmt::Debug for DatabasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Postgres(_) => f.write_str("postgres://(hidden)"),
        }
    }
}

/// The database of accounts.
#[derive(Clone)]
pub struct Database(Arc<dyn Backend>);

impl Database {
    /// Opens a database. An empty one gets the tables, one that has them is used as it is, and one
    /// that holds anything else is refused.
    pub async fn open(place: &DatabasePlace) -> Result<Self, DatabaseError> {
        let backend: Arc<dyn Backend> = match place {
            DatabasePlace::File(path) => Arc::new(sqlite::Sqlite::open(path)?),
            DatabasePlace::Postgres(url) => Arc::new(postgres::Postgres::open(url)?),
        };
        let database = Self(backend);
        database.prepare().await?;
        Ok(database)
    }

    /// Creates the tables if there are none.
    async fn prepare(&self) -> Result<(), DatabaseError> {
        let Err(missing) = self.check().await else { return Ok(()) };
        let mut present = Vec::new();
        for (table, _) in rows::TABLES {
            let probe = format!(r#"SELECT 1 FROM "{table}" WHERE 1 = 0"#);
            if self.0.query(Statement::new(probe, [])).await.is_ok() {
                present.push(*table);
            }
        }
        if !present.is_empty() {
            // Another server may have created them between the two checks.
            return self.check().await.map_err(|_| {
                DatabaseError::Failed(format!(
                    "it has {}, but not as Better Auth makes them: {missing}",
                    present.join(", ")
                ))
            });
        }
        match self.0.create().await {
            Ok(()) => {}
            // Another server may have been faster.
            Err(error) => return self.check().await.map_err(|_| error),
        }
        self.check().await
    }

    /// Whether all columns exist.
    async fn check(&self) -> Result<(), DatabaseError> {
        for (table, columns) in rows::TABLES {
            let probe = format!(r#"SELECT {columns} FROM "{table}" WHERE 1 = 0"#);
            self.0.query(Statement::new(probe, [])).await?;
        }
        Ok(())
    }

    pub(crate) async fn query(
        &self,
        sql: impl Into<String>,
        parameters: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        in_time(self.0.query(Statement::new(sql, parameters))).await
    }

    pub(crate) async fn execute(&self, statements: Vec<Statement>) -> Result<(), DatabaseError> {
        in_time(self.0.execute(statements)).await
    }
}

async fn in_time<T>(
    work: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    let late = || DatabaseError::Failed(format!("no answer within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| late())?
}
