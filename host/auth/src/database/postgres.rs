//! PostgreSQL, through a small connection pool.

use std::error::Error;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::BytesMut;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls_platform_verifier::ConfigVerifierExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Backend, DatabaseError, Row, Statement, Value};

/// The size of the pool. A sign-in holds a connection for a few milliseconds, so this is plenty,
/// and ten servers still fit under PostgreSQL's default of 100.
const CONNECTIONS: usize = 8;
/// How long to wait for a new connection or a free one.
const CONNECT: Duration = Duration::from_secs(5);

/// The tables, as Better Auth creates them.
const SCHEMA: &str = r#"
create table "user" ("id" text not null primary key, "name" text not null, "email" text not null unique, "emailVerified" boolean not null, "image" text, "createdAt" timestamptz default CURRENT_TIMESTAMP not null, "updatedAt" timestamptz default CURRENT_TIMESTAMP not null);
create table "session" ("id" text not null primary key, "expiresAt" timestamptz not null, "token" text not null unique, "createdAt" timestamptz default CURRENT_TIMESTAMP not null, "updatedAt" timestamptz not null, "ipAddress" text, "userAgent" text, "userId" text not null references "user" ("id") on delete cascade);
create table "account" ("id" text not null primary key, "accountId" text not null, "providerId" text not null, "userId" text not null references "user" ("id") on delete cascade, "accessToken" text, "refreshToken" text, "idToken" text, "accessTokenExpiresAt" timestamptz, "refreshTokenExpiresAt" timestamptz, "scope" text, "password" text, "createdAt" timestamptz default CURRENT_TIMESTAMP not null, "updatedAt" timestamptz not null);
create table "verification" ("id" text not null primary key, "identifier" text not null, "value" text not null, "expiresAt" timestamptz not null, "createdAt" timestamptz default CURRENT_TIMESTAMP not null, "updatedAt" timestamptz default CURRENT_TIMESTAMP not null);
create index "session_userId_idx" on "session" ("userId");
create index "account_userId_idx" on "account" ("userId");
create index "verification_identifier_idx" on "verification" ("identifier");
"#;

pub(super) struct Postgres(Pool);

impl Postgres {
    pub fn open(url: &str) -> Result<Self, DatabaseError> {
        // The URL may hold a password, so it is not repeated.
        let config: tokio_postgres::Config =
            url.parse().map_err(|error| DatabaseError::Failed(format!("not its URL: {error}")))?;
        // The system's certificate store, to which an operator can add an authority
        // (`SSL_CERT_FILE`): managed databases often have their own.
        let tls = rustls::ClientConfig::with_platform_verifier()
            .map_err(|error| DatabaseError::Failed(format!("no TLS: {error}")))?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, MakeRustlsConnect::new(tls), recycling);
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT))
            .create_timeout(Some(CONNECT))
            .build()
            .map_err(|error| DatabaseError::Failed(error.to_string()))?;
        Ok(Self(pool))
    }

    async fn connection(&self) -> Result<Object, DatabaseError> {
        self.0.get().await.map_err(|error| {
            let mut text = format!("PostgreSQL cannot be reached: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text += &format!(": {error}");
                cause = error.source();
            }
            DatabaseError::Failed(text)
        })
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn query(&self, statement: Statement) -> Result<Vec<Row>, DatabaseError> {
        let connection = self.connection().await?;
        let prepared = connection.prepare_cached(&statement.sql).await?;
        let rows = connection.query(&prepared, &parameters(&statement)).await?;
        rows.iter().map(read).collect()
    }

    async fn execute(&self, statements: Vec<Statement>) -> Result<(), DatabaseError> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        for statement in statements {
            let prepared = transaction.prepare_cached(&statement.sql).await?;
            let changed = transaction.execute(&prepared, &parameters(&statement)).await?;
            if changed == 0 && statement.must_change {
                // Dropping the transaction rolls it back.
                return Err(DatabaseError::Stale);
            }
        }
        Ok(transaction.commit().await?)
    }

    async fn create(&self) -> Result<(), DatabaseError> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        transaction.batch_execute(SCHEMA).await?;
        Ok(transaction.commit().await?)
    }
}

fn parameters(statement: &Statement) -> Vec<&(dyn ToSql + Sync)> {
    statement.parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Text(text) => text.to_sql_checked(kind, out),
            Value::Integer(number) => number.to_sql_checked(kind, out),
            Value::Flag(flag) => flag.to_sql_checked(kind, out),
            Value::Time(time) => SystemTime::from(*time).to_sql_checked(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // Each kind of value checks its own type.
        true
    }

    to_sql_checked!();
}

fn read(row: &tokio_postgres::Row) -> Result<Row, DatabaseError> {
    let mut values = Vec::with_capacity(row.len());
    for (index, column) in row.columns().iter().enumerate() {
        let value = match *column.type_() {
            Type::BOOL => row.try_get::<_, Option<bool>>(index)?.map(Value::Flag),
            Type::INT4 => {
                row.try_get::<_, Option<i32>>(index)?.map(|number| Value::Integer(number.into()))
            }
            Type::INT8 => row.try_get::<_, Option<i64>>(index)?.map(Value::Integer),
            Type::TIMESTAMP | Type::TIMESTAMPTZ => {
                row.try_get::<_, Option<SystemTime>>(index)?.map(|time| Value::Time(time.into()))
            }
            _ => row.try_get::<_, Option<String>>(index)?.map(Value::Text),
        };
        values.push(value.unwrap_or(Value::Null));
    }
    Ok(Row(values))
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::UNIQUE_VIOLATION) => Self::Conflict,
            Some(&SqlState::FOREIGN_KEY_VIOLATION) => Self::Stale,
            _ => {
                let cause = error.as_db_error().map(|error| error.message().to_owned());
                Self::Failed(cause.unwrap_or_else(|| error.to_string()))
            }
        }
    }
}
