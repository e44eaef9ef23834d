//! Documents in one SQLite file.
//!
//! One thread writes. It takes all that has queued, of all rooms, and commits it in one
//! transaction, so that many writers share one flush of the disk: under load the cost of being
//! durable is spread over all of them. The file is in WAL mode with `synchronous=FULL`: a commit
//! has reached the disk when it returns, and a torn tail is cut off at the next start. Reads use
//! connections of their own and see the last commit.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};

use crate::storage::{Storage, StorageError, Stored};

/// Writes that may wait for the writer; more make rooms wait, which makes their clients wait.
const QUEUE: usize = 1024;
/// Rooms whose ids the writer remembers; a write to one of them needs no look into the table.
const IDS: usize = 16 * 1024;
/// Connections for reading that are kept open.
const READERS: usize = 4;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS rooms (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE IF NOT EXISTS snapshots (
        room INTEGER PRIMARY KEY REFERENCES rooms(id), position INTEGER NOT NULL, data BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS updates (
        room INTEGER NOT NULL REFERENCES rooms(id), position INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (room, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS owners (
        room TEXT PRIMARY KEY, owner TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// The schema's version, in the file's `user_version`.
const VERSION: i64 = 1;

/// Storage in one SQLite file. Dropping it ends the writer once all that was queued is written.
#[derive(Debug, Clone)]
pub struct Sqlite {
    writes: mpsc::Sender<Write>,
    readers: Arc<Mutex<Vec<Connection>>>,
    path: PathBuf,
}

enum Write {
    Append {
        room: String,
        updates: Vec<Bytes>,
        done: oneshot::Sender<Result<u64, StorageError>>,
    },
    Compact {
        room: String,
        document: Bytes,
        upto: u64,
        done: oneshot::Sender<Result<u64, StorageError>>,
    },
    Claim {
        rooms: Vec<String>,
        owner: String,
        done: oneshot::Sender<Result<u64, StorageError>>,
    },
}

impl Write {
    fn reply(self, result: Result<u64, StorageError>) {
        let (Write::Append { done, .. } | Write::Compact { done, .. } | Write::Claim { done, .. }) =
            self;
        // Who asked may have gone; the write stands all the same.
        let _ = done.send(result);
    }
}

impl Sqlite {
    /// Opens the file, and makes it when it is not there.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let context = |error: rusqlite::Error| {
            StorageError::Failed(format!("{} cannot be opened: {error}", path.display()))
        };
        let connection = Connection::open(path).map_err(context)?;
        // Not `?` alone: the pragma answers with a row.
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
            .map_err(context)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(context)?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(context)?;
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(context)?;
        if version > VERSION {
            return Err(StorageError::Failed(format!(
                "{} was written by a newer version of this server (format {version}, and this \
                 one knows {VERSION}); start that version, or choose another data folder",
                path.display()
            )));
        }
        connection.execute_batch(SCHEMA).map_err(context)?;
        connection.pragma_update(None, "user_version", VERSION).map_err(context)?;
        let position: i64 = connection
            .query_row(
                "SELECT max(coalesce((SELECT max(position) FROM snapshots), 0),
                            coalesce((SELECT max(position) FROM updates), 0))",
                [],
                |row| row.get(0),
            )
            .map_err(context)?;
        let (writes, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("storage".into())
            .spawn(move || {
                Writer { connection, position: position as u64, ids: Ids::default() }.run(queue)
            })
            .map_err(|error| {
                StorageError::Failed(format!("the writer cannot be started: {error}"))
            })?;
        Ok(Self { writes, readers: Arc::default(), path: path.to_owned() })
    }

    async fn write(
        &self,
        write: impl FnOnce(oneshot::Sender<Result<u64, StorageError>>) -> Write,
    ) -> Result<u64, StorageError> {
        let (done, result) = oneshot::channel();
        let gone = || StorageError::Failed("the writer has ended".into());
        self.writes.send(write(done)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let readers = self.readers.clone();
        let path = self.path.clone();
        let task = tokio::task::spawn_blocking(move || {
            let connection = match readers.lock().pop() {
                Some(connection) => connection,
                None => {
                    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                    Connection::open_with_flags(&path, flags)?
                }
            };
            let result = read(&connection)?;
            let mut readers = readers.lock();
            if readers.len() < READERS {
                readers.push(connection);
            }
            Ok(result)
        });
        let result =
            task.await.map_err(|_| StorageError::Failed("a read was interrupted".into()))?;
        result.map_err(|error: rusqlite::Error| error.into())
    }
}

#[async_trait]
impl Storage for Sqlite {
    async fn load(&self, room: &str) -> Result<Option<Stored>, StorageError> {
        let room = room.to_owned();
        self.read(move |connection| {
            // One transaction, so that snapshot and log belong together.
            let transaction = connection.unchecked_transaction()?;
            let Some(id) = room_id(&transaction, &room)? else { return Ok(None) };
            let mut stored = Stored::default();
            let snapshot = transaction
                .prepare_cached("SELECT position, data FROM snapshots WHERE room = ?")?
                .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
                .optional()?;
            if let Some((position, data)) = snapshot {
                stored.position = position as u64;
                stored.updates.push(data.into());
            }
            let mut statement = transaction.prepare_cached(
                "SELECT position, data FROM updates WHERE room = ? AND position > ? ORDER BY position",
            )?;
            let mut rows = statement.query(params![id, stored.position as i64])?;
            while let Some(row) = rows.next()? {
                stored.position = row.get::<_, i64>(0)? as u64;
                let data: Vec<u8> = row.get(1)?;
                stored.log_bytes += data.len();
                stored.updates.push(data.into());
            }
            Ok((!stored.updates.is_empty()).then_some(stored))
        })
        .await
    }

    async fn append(&self, room: &str, updates: Vec<Bytes>) -> Result<u64, StorageError> {
        self.write(|done| Write::Append { room: room.to_owned(), updates, done }).await
    }

    async fn compact(&self, room: &str, document: Bytes, upto: u64) -> Result<(), StorageError> {
        let room = room.to_owned();
        self.write(|done| Write::Compact { room, document, upto, done }).await.map(drop)
    }

    async fn exists(&self, room: &str) -> Result<bool, StorageError> {
        let room = room.to_owned();
        self.read(move |connection| Ok(room_id(connection, &room)?.is_some())).await
    }

    async fn claim(&self, rooms: Vec<String>, owner: &str) -> Result<Vec<bool>, StorageError> {
        let (mut owners, rooms) = self.owners(rooms).await?;
        // Mostly all of them are somebody's already, and nothing has to be written.
        let free = rooms.iter().zip(&owners).filter(|(room, found)| match found {
            None => true,
            Some(found) => found != owner && *room == owner,
        });
        let free: Vec<_> = free.map(|(room, _)| room.clone()).collect();
        if !free.is_empty() {
            let owner = owner.to_owned();
            self.write(|done| Write::Claim { rooms: free, owner, done }).await?;
            // Another may have been faster.
            (owners, _) = self.owners(rooms).await?;
        }
        Ok(owners.into_iter().map(|found| found.as_deref() == Some(owner)).collect())
    }
}

impl Sqlite {
    /// Whose rooms are, as far as they are anybody's; and the rooms again.
    async fn owners(
        &self,
        rooms: Vec<String>,
    ) -> Result<(Vec<Option<String>>, Vec<String>), StorageError> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT owner FROM owners WHERE room = ?")?;
            let owner = |room| statement.query_row([room], |row| row.get(0)).optional();
            let owners = rooms.iter().map(owner).collect::<Result<_, _>>()?;
            Ok((owners, rooms))
        })
        .await
    }
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

fn room_id(connection: &Connection, room: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM rooms WHERE name = ?")?
        .query_row([room], |row| row.get(0))
        .optional()
}

struct Writer {
    connection: Connection,
    /// Position of the last update, of any room.
    position: u64,
    ids: Ids,
}

/// The ids of rooms that were written to. Rooms are never removed, so what is here stays true.
#[derive(Default)]
struct Ids(HashMap<String, i64>);

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        let mut batch = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            batch.push(first);
            while batch.len() < QUEUE
                && let Ok(next) = queue.try_recv()
            {
                batch.push(next);
            }
            match self.commit(&batch) {
                Ok(positions) => {
                    for (write, position) in batch.drain(..).zip(positions) {
                        write.reply(Ok(position));
                    }
                }
                Err(error) => {
                    let error = StorageError::from(error);
                    for write in batch.drain(..) {
                        write.reply(Err(error.clone()));
                    }
                }
            }
        }
    }

    fn commit(&mut self, batch: &[Write]) -> rusqlite::Result<Vec<u64>> {
        let mut position = self.position;
        let mut positions = Vec::with_capacity(batch.len());
        let transaction = self.connection.transaction()?;
        // Forgotten when this fails: an id that was rolled back is not one.
        let mut ids = std::mem::take(&mut self.ids);
        for write in batch {
            match write {
                Write::Append { room, updates, .. } => {
                    let id = ids.of(&transaction, room)?;
                    let mut statement = transaction.prepare_cached(
                        "INSERT INTO updates (room, position, data) VALUES (?, ?, ?)",
                    )?;
                    for update in updates {
                        position += 1;
                        statement.execute(params![id, position as i64, &update[..]])?;
                    }
                    positions.push(position);
                }
                Write::Compact { room, document, upto, .. } => {
                    let id = ids.of(&transaction, room)?;
                    transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO snapshots (room, position, data)
                             VALUES (?, ?, ?)",
                        )?
                        .execute(params![id, *upto as i64, &document[..]])?;
                    transaction
                        .prepare_cached("DELETE FROM updates WHERE room = ? AND position <= ?")?
                        .execute(params![id, *upto as i64])?;
                    positions.push(*upto);
                }
                Write::Claim { rooms, owner, .. } => {
                    let mut statement = transaction.prepare_cached(
                        "INSERT INTO owners (room, owner) VALUES (?, ?)
                         ON CONFLICT DO UPDATE SET owner = excluded.owner
                         WHERE excluded.owner = excluded.room",
                    )?;
                    for room in rooms {
                        statement.execute(params![room, owner])?;
                    }
                    positions.push(position);
                }
            }
        }
        transaction.commit()?;
        self.position = position;
        self.ids = ids;
        Ok(positions)
    }
}

impl Ids {
    /// The id of a room, which is made when it is not there.
    fn of(&mut self, connection: &Connection, room: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.0.get(room) {
            return Ok(*id);
        }
        let id = match room_id(connection, room)? {
            Some(id) => id,
            None => connection
                .prepare_cached("INSERT INTO rooms (name) VALUES (?) RETURNING id")?
                .query_row([room], |row| row.get(0))?,
        };
        if self.0.len() == IDS {
            self.0.clear();
        }
        self.0.insert(room.to_owned(), id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_appended_is_read_back_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let updates = |list: &[&'static str]| list.iter().map(|u| Bytes::from(*u)).collect();
        {
            let storage = Sqlite::open(&path).unwrap();
            assert!(storage.load("a").await.unwrap().is_none());
            let first = storage.append("a", updates(&["1", "2"])).await.unwrap();
            storage.append("b", updates(&["x"])).await.unwrap();
            let second = storage.append("a", updates(&["3"])).await.unwrap();
            assert!(second > first);
            storage.compact("a", "12".into(), first).await.unwrap();
        }
        let storage = Sqlite::open(&path).unwrap();
        let stored = storage.load("a").await.unwrap().unwrap();
        assert_eq!(stored.updates, ["12", "3"]);
        assert_eq!(stored.log_bytes, 1);
        let position = storage.append("b", updates(&["y"])).await.unwrap();
        assert!(position > stored.position, "positions go on after a restart");
        assert!(storage.exists("b").await.unwrap());
        assert!(!storage.exists("c").await.unwrap());
    }

    #[tokio::test]
    async fn a_room_is_the_first_ones_who_claims_it_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let rooms = |list: &[&str]| list.iter().map(|room| room.to_string()).collect();
        let storage = Sqlite::open(&path).unwrap();
        assert_eq!(storage.claim(rooms(&["a", "b"]), "x").await.unwrap(), [true, true]);
        assert_eq!(storage.claim(rooms(&["b", "c"]), "y").await.unwrap(), [false, true]);
        assert!(!storage.exists("a").await.unwrap(), "an owner is no content");
        drop(storage);
        let storage = Sqlite::open(&path).unwrap();
        assert_eq!(storage.claim(rooms(&["a", "b", "c"]), "x").await.unwrap(), [true, true, false]);
        assert_eq!(storage.claim(rooms(&["a"]), "a").await.unwrap(), [true], "it has its name");
        assert_eq!(storage.claim(rooms(&["a"]), "x").await.unwrap(), [false]);
    }

    #[tokio::test]
    async fn a_file_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        drop(Sqlite::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Sqlite::open(&path).unwrap_err().to_string();
        assert!(error.contains("newer version"), "{error}");
    }
}
