//! Who else than its owner may enter a room: a table in SQLite.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::Owned;

/// Members of one room. A list is shown whole, and each of them is looked up.
const MEMBERS_PER_ROOM: usize = 256;
/// Invitations of one account, over all of its rooms.
const MEMBERS_PER_OWNER: usize = 10_000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS members (
        owner TEXT NOT NULL, room TEXT NOT NULL, account TEXT NOT NULL,
        write INTEGER NOT NULL, since INTEGER NOT NULL,
        PRIMARY KEY (owner, room, account)
    ) STRICT, WITHOUT ROWID;
";

/// What somebody may do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Get updates and presence, and be present.
    Read,
    /// That, and change the document.
    Write,
}

/// Why the table did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// Too many are invited.
    #[error("{limit} accounts are invited {to}, and that is the limit; remove one first")]
    Full {
        /// The limit.
        limit: usize,
        /// To what.
        to: &'static str,
    },
    /// The database fails.
    #[error("members cannot be read or written now: {0}")]
    Database(#[from] rusqlite::Error),
}

/// The table. Clones share it.
#[derive(Clone)]
pub struct Members {
    // One connection: a look-up takes microseconds. It is only ever locked on threads that may
    // block.
    connection: Arc<Mutex<Connection>>,
}

impl Members {
    /// Opens the file, and makes it when it is not there.
    pub fn open(path: &Path) -> Result<Self, MembersError> {
        let connection = Connection::open(path)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// What an account may do in a room that was shared with it; none when it was not.
    pub async fn level(&self, room: &Owned, account: &str) -> Result<Option<Level>, MembersError> {
        let asked = vec![(room.clone(), account.to_owned())];
        Ok(self.levels(asked).await?.pop().flatten())
    }

    /// The same for many accounts and rooms, in their order.
    pub async fn levels(
        &self,
        asked: Vec<(Owned, String)>,
    ) -> Result<Vec<Option<Level>>, MembersError> {
        self.with(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT write FROM members WHERE owner = ?1 AND room = ?2 AND account = ?3",
            )?;
            let mut level = |(room, account): &(Owned, String)| {
                let write = select
                    .query_row(params![room.owner, room.room, account], |row| row.get::<_, bool>(0))
                    .optional()?;
                Ok(write.map(Level::of))
            };
            asked.iter().map(&mut level).collect()
        })
        .await
    }

    /// The accounts that a room was shared with, and what they may do.
    pub async fn of_room(&self, room: &Owned) -> Result<Vec<(String, Level)>, MembersError> {
        let room = room.clone();
        self.with(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT account, write FROM members WHERE owner = ?1 AND room = ?2
                 ORDER BY since, account",
            )?;
            let rows = select.query_map(params![room.owner, room.room], |row| {
                Ok((row.get(0)?, Level::of(row.get(1)?)))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The rooms that were shared with an account.
    pub async fn of_account(&self, account: &str) -> Result<Vec<Owned>, MembersError> {
        let account = account.to_owned();
        self.with(move |connection| {
            let mut select =
                connection.prepare_cached("SELECT owner, room FROM members WHERE account = ?1")?;
            let rows = select.query_map(params![account], |row| {
                Ok(Owned { owner: row.get(0)?, room: row.get(1)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Shares a room with an account, or changes what it may do there.
    pub async fn put(&self, room: &Owned, account: &str, level: Level) -> Result<(), MembersError> {
        let (room, account) = (room.clone(), account.to_owned());
        self.with(move |connection| {
            let transaction = connection.transaction()?;
            let write = level == Level::Write;
            let changed = transaction.execute(
                "UPDATE members SET write = ?4 WHERE owner = ?1 AND room = ?2 AND account = ?3",
                params![room.owner, room.room, account, write],
            )?;
            if changed == 0 {
                let count = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
                    transaction
                        .query_row(sql, values, |row| row.get::<_, i64>(0))
                        .map(|count| count as usize)
                };
                let in_room = count(
                    "SELECT count(*) FROM members WHERE owner = ?1 AND room = ?2",
                    &[&room.owner, &room.room],
                )?;
                if in_room >= MEMBERS_PER_ROOM {
                    return Err(MembersError::Full { limit: MEMBERS_PER_ROOM, to: "to this room" });
                }
                let in_all =
                    count("SELECT count(*) FROM members WHERE owner = ?1", &[&room.owner])?;
                if in_all >= MEMBERS_PER_OWNER {
                    let to = "to your rooms";
                    return Err(MembersError::Full { limit: MEMBERS_PER_OWNER, to });
                }
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                transaction.execute(
                    "INSERT INTO members (owner, room, account, write, since)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![room.owner, room.room, account, write, now.as_millis() as i64],
                )?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Takes a room away from an account. Whether it had it.
    pub async fn remove(&self, room: &Owned, account: &str) -> Result<bool, MembersError> {
        let (room, account) = (room.clone(), account.to_owned());
        self.with(move |connection| {
            let removed = connection.execute(
                "DELETE FROM members WHERE owner = ?1 AND room = ?2 AND account = ?3",
                params![room.owner, room.room, account],
            )?;
            Ok(removed > 0)
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, MembersError> + Send + 'static,
    ) -> Result<T, MembersError> {
        let connection = self.connection.clone();
        let work = tokio::task::spawn_blocking(move || work(&mut connection.lock()));
        work.await.expect("a look-up does not panic, and is not aborted")
    }
}

impl Level {
    fn of(write: bool) -> Self {
        if write { Self::Write } else { Self::Read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> Owned {
        Owned { owner: "alice".into(), room: name.into() }
    }

    #[tokio::test]
    async fn what_was_shared_is_remembered_and_can_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.db");
        let members = Members::open(&path).unwrap();
        let blog = room("blog");
        assert_eq!(members.level(&blog, "bob").await.unwrap(), None);
        members.put(&blog, "bob", Level::Read).await.unwrap();
        members.put(&blog, "carol", Level::Write).await.unwrap();
        members.put(&room("notes"), "bob", Level::Write).await.unwrap();
        drop(members);

        let members = Members::open(&path).unwrap();
        let listed = members.of_room(&blog).await.unwrap();
        assert_eq!(listed, [("bob".into(), Level::Read), ("carol".into(), Level::Write)]);
        assert_eq!(members.of_account("bob").await.unwrap(), [blog.clone(), room("notes")]);
        members.put(&blog, "bob", Level::Write).await.unwrap();
        assert_eq!(members.level(&blog, "bob").await.unwrap(), Some(Level::Write));
        assert!(members.remove(&blog, "bob").await.unwrap());
        assert!(!members.remove(&blog, "bob").await.unwrap());
        assert_eq!(members.level(&blog, "bob").await.unwrap(), None);
        assert_eq!(members.level(&room("notes"), "bob").await.unwrap(), Some(Level::Write));
    }

    #[tokio::test]
    async fn a_room_is_shared_with_a_bounded_number_of_accounts() {
        let folder = tempfile::tempdir().unwrap();
        let members = Members::open(&folder.path().join("members.db")).unwrap();
        members.connection.lock().pragma_update(None, "synchronous", "OFF").unwrap();
        for n in 0..MEMBERS_PER_ROOM {
            members.put(&room("blog"), &format!("guest {n}"), Level::Read).await.unwrap();
        }
        let full = members.put(&room("blog"), "one more", Level::Read).await;
        assert!(matches!(full, Err(MembersError::Full { .. })));
        // Who is in can still be changed, and other rooms are not full.
        members.put(&room("blog"), "guest 0", Level::Write).await.unwrap();
        members.put(&room("notes"), "one more", Level::Read).await.unwrap();
    }
}
