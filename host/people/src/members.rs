//! Rooms of accounts, and who else than its owner may enter one: a table in SQLite.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::limits::{MEMBERS_PER_OWNER, MEMBERS_PER_ROOM};

/// What the names of all rooms that belong to an account begin with, where they are kept.
pub(crate) const PREFIX: &str = "account:";

/// A room of an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owned {
    /// The account's id.
    pub owner: String,
    /// The room's id, as its owner knows it.
    pub room: String,
}

impl Owned {
    /// The name under which it is kept. The account's id is percent-encoded, so the first `/` ends
    /// it, and no two rooms share a name.
    pub(crate) fn kept_as(&self) -> String {
        format!("{PREFIX}{}/{}", utf8_percent_encode(&self.owner, NON_ALPHANUMERIC), self.room)
    }

    /// The room that is kept under a name, if it belongs to an account.
    pub(crate) fn of(kept_as: &str) -> Option<Self> {
        let (owner, room) = kept_as.strip_prefix(PREFIX)?.split_once('/')?;
        let owner = percent_decode_str(owner).decode_utf8().ok()?.into_owned();
        Some(Self { owner, room: room.to_owned() })
    }
}

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
    /// Receive updates and presence, and be present.
    Read,
    /// That, and change the document.
    Write,
}

/// Why members cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// Too many accounts are members.
    #[error("{limit} accounts are invited {to}, and that is the limit; remove one first")]
    Full {
        /// The limit.
        limit: usize,
        /// Of what.
        to: &'static str,
    },
    /// The database failed.
    #[error("members cannot be read or written now: {0}")]
    Database(#[from] rusqlite::Error),
}

/// The table of members. Clones share it.
#[derive(Clone)]
pub struct Members {
    // One connection: a look-up takes microseconds. It is locked only on threads that may block.
    connection: Arc<Mutex<Connection>>,
}

impl Members {
    /// Opens the file, and creates it when it is missing.
    pub fn open(path: &Path) -> Result<Self, MembersError> {
        let connection = Connection::open(path)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// What an account may do in a room of another; `None` when the room is not shared with it.
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

    /// The accounts that a room is shared with, and what they may do.
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

    /// The rooms that are shared with an account.
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

    /// Stops sharing a room with an account. Says whether it was shared.
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

    #[test]
    fn no_two_rooms_are_kept_under_one_name() {
        let names = ["a", "b", "a/b", "b/a", "", "/", "account:a", "%2F", "a%2Fb", "ü", ":", "a:b"];
        let mut kept = std::collections::HashSet::new();
        for owner in names {
            for room in names {
                let owned = Owned { owner: owner.into(), room: room.into() };
                let name = owned.kept_as();
                assert_eq!(Owned::of(&name), Some(owned));
                assert!(kept.insert(name.clone()), "{name}");
            }
        }
    }

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
