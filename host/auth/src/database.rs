//! Where accounts are kept: the tables of Better Auth, in SQLite or PostgreSQL.
//!
//! The two speak the same SQL here: `$1, $2, …` are parameters of both, as long as they appear in
//! that order for the first time (SQLite numbers named parameters as it meets them). What differs
//! is how times and booleans are stored, ISO text and integers in SQLite, and that is hidden by
//! [`Value`] and [`Row`]. So a statement is written once, and each database is a few lines that run
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

/// How long a statement may take. Longer, and somebody else holds what it waits for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A failure of the database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// Something of that kind is there already.
    #[error("it is there already")]
    Conflict,
    /// A statement that had to change something changed nothing, and nothing else was done.
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

/// A statement with its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    sql: String,
    parameters: Vec<Value>,
    /// Whether all is undone when it changes no row.
    must_change: bool,
}

impl Statement {
    pub fn new(sql: impl Into<String>, parameters: impl IntoIterator<Item = Value>) -> Self {
        Self { sql: sql.into(), parameters: parameters.into_iter().collect(), must_change: false }
    }

    /// Undoes its transaction, with [`DatabaseError::Stale`], when it changes nothing.
    pub fn must_change(self) -> Self {
        Self { must_change: true, ..self }
    }
}

/// A row, column by column in the order of the statement.
pub(crate) struct Row(Vec<Value>);

/// What each kind of database does.
#[async_trait]
trait Backend: Send + Sync {
    /// Runs one statement, and gives its rows.
    async fn query(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError>;

    /// Runs statements, all or none of them.
    async fn execute(&self, statements: Vec<Statement>) -> Result<(), DatabaseError>;

    /// Runs the statements that make the tables.
    async fn create(&self) -> Result<(), DatabaseError>;
}

/// Where a database is. It is not shown, because a URL may hold a password.
#[derive(Clone)]
pub enum DatabasePlace {
    /// An SQLite file.
    File(PathBuf),
    /// The URL of a PostgreSQL database.
    Postgres(String),
}

impl From<&str> for DatabasePlace {
    /// A `postgres://` URL, or else a path.
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

/// The tables of accounts.
#[derive(Clone)]
pub struct Database(Arc<dyn Backend>);

impl Database {
    /// Opens a database. An empty one gets the tables; one that has them is used as it is; one that
    /// has something else is refused.
    pub async fn open(place: &DatabasePlace) -> Result<Self, DatabaseError> {
        let backend: Arc<dyn Backend> = match place {
            DatabasePlace::File(path) => Arc::new(sqlite::Sqlite::open(path)?),
            DatabasePlace::Postgres(url) => Arc::new(postgres::Postgres::open(url)?),
        };
        let database = Self(backend);
        database.prepare().await?;
        Ok(database)
    }

    /// Makes the tables where there are none.
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
            // Another server may have made them between the two looks.
            return self.check().await.map_err(|_| {
                DatabaseError::Failed(format!(
                    "it has {}, but not as Better Auth makes them: {missing}",
                    present.join(", ")
                ))
            });
        }
        match self.0.create().await {
            Ok(()) => {}
            // Another server may have been quicker.
            Err(error) => return self.check().await.map_err(|_| error),
        }
        self.check().await
    }

    /// Whether all columns are there.
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
