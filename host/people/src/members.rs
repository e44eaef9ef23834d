//! Rooms of accounts and their members: a table in SQLite.
//!
//! A room is shared with a *member*: an e-mail address or an account id, as the owner typed it. The
//! owner learns whether that account exists only when its holder accepts by entering the room.
//! Until then, only what the owner typed is stored and shown: sharing must not reveal who has an
//! account on this server, or under which name. On acceptance the row gets the account's id and is
//! found by it from then on, even if the address changes.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use host_files::{Database, M};
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::limits::{MEMBERS_PER_OWNER, MEMBERS_PER_ROOM};

/// The prefix of the stored names of all rooms that belong to an account.
pub(crate) const PREFIX: &str = "account:";

/// A room of an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owned {
    /// The account's id.
    pub owner: String,
    /// The room's id, as its owner uses it.
    pub room: String,
}

impl Owned {
    /// The name under which the room is stored. The account's id is percent-encoded, so the first
    /// `/` ends it, and no two rooms share a name.
    pub(crate) fn kept_as(&self) -> String {
        format!("{PREFIX}{}/{}", utf8_percent_encode(&self.owner, NON_ALPHANUMERIC), self.room)
    }

    /// Parses a stored name; `None` if the room does not belong to an account.
    pub(crate) fn of(kept_as: &str) -> Option<Self> {
        let (owner, room) = kept_as.strip_prefix(PREFIX)?.split_once('/')?;
        let owner = percent_decode_str(owner).decode_utf8().ok()?.into_owned();
        Some(Self { owner, room: room.to_owned() })
    }
}

/// The migrations of the schema, one for each version.
const MIGRATIONS: &[M<'static>] = &[
    M::up(
        "CREATE TABLE IF NOT EXISTS members (
            owner TEXT NOT NULL, room TEXT NOT NULL, account TEXT NOT NULL,
            write INTEGER NOT NULL, since INTEGER NOT NULL,
            PRIMARY KEY (owner, room, account)
        ) STRICT, WITHOUT ROWID;",
    ),
    // Earlier members had already been looked up and shown to the owner.
    M::up(
        "ALTER TABLE members RENAME TO members_1;
        CREATE TABLE members (
            owner TEXT NOT NULL, room TEXT NOT NULL, member TEXT NOT NULL, account TEXT,
            write INTEGER NOT NULL, since INTEGER NOT NULL,
            PRIMARY KEY (owner, room, member)
        ) STRICT, WITHOUT ROWID;
        INSERT INTO members SELECT owner, room, account, account, write, since FROM members_1;
        DROP TABLE members_1;
        CREATE INDEX members_by_account ON members (account, owner, room);",
    ),
];

/// What a member may do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Receive updates and presence, and announce one's own presence.
    Read,
    /// Read, and change the document.
    Write,
}

/// Why an operation on members failed.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// There are too many members.
    #[error("{limit} accounts are invited {to}, and that is the limit; remove one first")]
    Full {
        /// The limit.
        limit: usize,
        /// What the limit applies to.
        to: &'static str,
    },
    /// The database failed.
    #[error("members cannot be read or written now: {0}")]
    Database(#[from] rusqlite::Error),
}

/// The members of rooms. Clones share the connection.
#[derive(Clone)]
pub struct Members {
    // One connection, because a look-up takes microseconds. Lock it only on threads that may block.
    connection: Arc<Mutex<Connection>>,
}

/// A member, as shown to the owner of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// An address or an id, as the owner typed it.
    pub member: String,
    /// The account, once its holder has accepted.
    pub account: Option<String>,
    /// What it may do.
    pub level: Level,
}

impl Members {
    /// Opens the file and creates it if it is missing.
    pub fn open(path: &Path) -> Result<Self, host_files::OpenError> {
        let connection = Database { path, migrations: MIGRATIONS, durable: true }.open()?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// The access of an account to somebody else's room that it has entered before; `None` if the
    /// room is not shared with it.
    pub async fn level(&self, room: &Owned, account: &str) -> Result<Option<Level>, MembersError> {
        let asked = vec![(room.clone(), account.to_owned())];
        Ok(self.levels(asked).await?.pop().flatten())
    }

    /// The same for many accounts and rooms, in order.
    pub async fn levels(
        &self,
        asked: Vec<(Owned, String)>,
    ) -> Result<Vec<Option<Level>>, MembersError> {
        self.with(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT max(write) FROM members WHERE owner = ?1 AND room = ?2 AND account = ?3",
            )?;
            let mut level = |(room, account): &(Owned, String)| {
                let write = select.query_row(params![room.owner, room.room, account], |row| {
                    row.get::<_, Option<bool>>(0)
                })?;
                Ok(write.map(Level::of))
            };
            asked.iter().map(&mut level).collect()
        })
        .await
    }

    /// The same, but also accepts shares with one of `names` on behalf of the account.
    pub async fn accept(
        &self,
        room: &Owned,
        account: &str,
        names: Vec<String>,
    ) -> Result<Option<Level>, MembersError> {
        // Nearly always it was accepted long ago, and there is nothing to write.
        if let Some(level) = self.level(room, account).await? {
            return Ok(Some(level));
        }
        let (of, by) = (room.clone(), account.to_owned());
        let accepted = self.with(move |connection| {
            let transaction = connection.transaction()?;
            let mut accepted = 0;
            for name in names {
                accepted += transaction.execute(
                    "UPDATE members SET account = ?4
                     WHERE owner = ?1 AND room = ?2 AND member = ?3 AND account IS NULL",
                    params![of.owner, of.room, name, by],
                )?;
            }
            transaction.commit()?;
            Ok(accepted > 0)
        });
        if accepted.await? { self.level(room, account).await } else { Ok(None) }
    }

    /// The members of a room.
    pub async fn of_room(&self, room: &Owned) -> Result<Vec<Member>, MembersError> {
        let room = room.clone();
        self.with(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT member, account, write FROM members WHERE owner = ?1 AND room = ?2
                 ORDER BY since, member",
            )?;
            let rows = select.query_map(params![room.owner, room.room], |row| {
                let (member, account) = (row.get(0)?, row.get(1)?);
                Ok(Member { member, account, level: Level::of(row.get(2)?) })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The rooms that an account has entered as a member.
    pub async fn of_account(&self, account: &str) -> Result<Vec<Owned>, MembersError> {
        let account = account.to_owned();
        self.with(move |connection| {
            let mut select = connection
                .prepare_cached("SELECT DISTINCT owner, room FROM members WHERE account = ?1")?;
            let rows = select.query_map(params![account], |row| {
                Ok(Owned { owner: row.get(0)?, room: row.get(1)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Shares a room, or changes a member's access. `account` is the member's account, if known; it
    /// matters only if that account has accepted before. Returns the account of the member, if it
    /// has accepted.
    pub async fn put(
        &self,
        room: &Owned,
        member: &str,
        account: Option<&str>,
        level: Level,
    ) -> Result<Option<String>, MembersError> {
        let (room, member) = (room.clone(), member.to_owned());
        let account = account.map(str::to_owned);
        self.with(move |connection| {
            let transaction = connection.transaction()?;
            let write = level == Level::Write;
            let changed = transaction.execute(
                "UPDATE members SET write = ?5
                 WHERE owner = ?1 AND room = ?2 AND (member = ?3 OR account = ?4)",
                params![room.owner, room.room, member, account, write],
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
                    "INSERT INTO members (owner, room, member, write, since)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![room.owner, room.room, member, write, now.as_millis() as i64],
                )?;
            }
            let accepted = transaction
                .query_row(
                    "SELECT account FROM members WHERE owner = ?1 AND room = ?2
                     AND (member = ?3 OR account = ?4) AND account IS NOT NULL LIMIT 1",
                    params![room.owner, room.room, member, account],
                    |row| row.get(0),
                )
                .optional()?;
            transaction.commit()?;
            Ok(accepted)
        })
        .await
    }

    /// Stops sharing a room with a member, who may be known by several names. Returns whether it
    /// was shared.
    pub async fn remove(
        &self,
        room: &Owned,
        names: Vec<String>,
        account: Option<&str>,
    ) -> Result<bool, MembersError> {
        let room = room.clone();
        let account = account.map(str::to_owned);
        self.with(move |connection| {
            let transaction = connection.transaction()?;
            let mut removed = 0;
            for name in names {
                removed += transaction.execute(
                    "DELETE FROM members
                     WHERE owner = ?1 AND room = ?2 AND (member = ?3 OR account = ?4)",
                    params![room.owner, room.room, name, account],
                )?;
            }
            transaction.commit()?;
            Ok(removed > 0)
        })
        .await
    }

    /// Deletes the members of all rooms of an account that was deleted.
    pub async fn forget_owner(&self, owner: &str) -> Result<(), MembersError> {
        let owner = owner.to_owned();
        self.with(move |connection| {
            connection.execute("DELETE FROM members WHERE owner = ?1", [owner])?;
            Ok(())
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

    fn member(member: &str, account: Option<&str>, level: Level) -> Member {
        Member { member: member.into(), account: account.map(str::to_owned), level }
    }

    #[tokio::test]
    async fn what_was_shared_is_remembered_and_can_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.db");
        let members = Members::open(&path).unwrap();
        let (blog, notes) = (room("blog"), room("notes"));
        let names = || vec!["bob".to_owned(), "bob@example.com".to_owned()];
        assert_eq!(members.accept(&blog, "bob", names()).await.unwrap(), None);
        members.put(&blog, "bob@example.com", None, Level::Read).await.unwrap();
        members.put(&blog, "carol", None, Level::Write).await.unwrap();
        members.put(&notes, "bob", None, Level::Write).await.unwrap();
        assert_eq!(members.level(&blog, "bob").await.unwrap(), None, "not accepted");
        assert_eq!(members.of_account("bob").await.unwrap(), []);
        for room in [&blog, &notes] {
            assert!(members.accept(room, "bob", names()).await.unwrap().is_some());
        }
        drop(members);

        let members = Members::open(&path).unwrap();
        let listed = members.of_room(&blog).await.unwrap();
        let bob = member("bob@example.com", Some("bob"), Level::Read);
        assert_eq!(listed, [bob, member("carol", None, Level::Write)]);
        assert_eq!(members.of_account("bob").await.unwrap(), [blog.clone(), notes.clone()]);
        // Under another name it is still the same member.
        let accepted = members.put(&blog, "bob", Some("bob"), Level::Write).await.unwrap();
        assert_eq!(accepted.as_deref(), Some("bob"));
        assert_eq!(members.of_room(&blog).await.unwrap().len(), 2);
        assert_eq!(members.level(&blog, "bob").await.unwrap(), Some(Level::Write));
        assert!(members.remove(&blog, names(), Some("bob")).await.unwrap());
        assert!(!members.remove(&blog, names(), Some("bob")).await.unwrap());
        assert_eq!(members.accept(&blog, "bob", names()).await.unwrap(), None);
        assert_eq!(members.level(&notes, "bob").await.unwrap(), Some(Level::Write));
        members.forget_owner("alice").await.unwrap();
        assert_eq!(members.level(&notes, "bob").await.unwrap(), None);
    }

    #[tokio::test]
    async fn members_of_the_first_version_have_accepted_and_look_ups_use_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(
            "CREATE TABLE members (
                owner TEXT NOT NULL, room TEXT NOT NULL, account TEXT NOT NULL,
                write INTEGER NOT NULL, since INTEGER NOT NULL,
                PRIMARY KEY (owner, room, account)
            ) STRICT, WITHOUT ROWID;
            INSERT INTO members VALUES ('alice', 'blog', 'bob', 1, 1);",
        )
        .unwrap();
        drop(old);
        let members = Members::open(&path).unwrap();
        assert_eq!(members.level(&room("blog"), "bob").await.unwrap(), Some(Level::Write));
        assert_eq!(members.of_account("bob").await.unwrap(), [room("blog")]);
        for query in [
            "SELECT DISTINCT owner, room FROM members WHERE account = 'bob'",
            "SELECT max(write) FROM members WHERE owner = 'a' AND room = 'b' AND account = 'c'",
        ] {
            let plan: String = members
                .connection
                .lock()
                .query_row(&format!("EXPLAIN QUERY PLAN {query}"), [], |row| row.get(3))
                .unwrap();
            assert!(plan.contains("SEARCH"), "{query}: {plan}");
        }
    }

    #[tokio::test]
    async fn a_room_is_shared_with_a_bounded_number_of_members() {
        let folder = tempfile::tempdir().unwrap();
        let members = Members::open(&folder.path().join("members.db")).unwrap();
        members.connection.lock().pragma_update(None, "synchronous", "OFF").unwrap();
        for n in 0..MEMBERS_PER_ROOM {
            members.put(&room("blog"), &format!("guest {n}"), None, Level::Read).await.unwrap();
        }
        let full = members.put(&room("blog"), "one more", None, Level::Read).await;
        assert!(matches!(full, Err(MembersError::Full { .. })));
        // Existing members can still be changed, and other rooms are not full.
        members.put(&room("blog"), "guest 0", None, Level::Write).await.unwrap();
        members.put(&room("notes"), "one more", None, Level::Read).await.unwrap();
    }
}
