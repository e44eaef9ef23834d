//! Documents in one SQLite file.
//!
//! One thread writes. It takes all that has queued, of all rooms, and commits it in one
//! transaction, so that many writers share one flush of the disk: under load the cost of being
//! durable is spread over all of them. A transaction that fails is done again write by write, so that a
//! room that cannot be written keeps no other from being saved. The file is in WAL mode with
//! `synchronous=FULL`: a commit has reached the disk when it returns, and a torn tail is cut off at the
//! next start. Reads use connections of their own and see the last commit.
//!
//! **Damage is seen.** Each update and each snapshot has a checksum over its bytes, its room's name, its
//! position, and the position before it; and a room knows the position of its last update. So what is
//! read is what was written, all of it and in this room, or an error. A name that is not found may be
//! that of a new room, or one whose place in the index was damaged: at the start the index is held
//! against the names, and made anew if they are intact.
//!
//! **A file that was removed** while the server runs takes no writes: nothing would be left of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use host_files::{Database, M, Place};
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};
use tokio::sync::{mpsc, oneshot};

use crate::author::Author;
use crate::storage::{Batch, Logged, Storage, StorageError, Stored};

/// Writes that may wait for the writer; more make rooms wait, which makes their clients wait.
const QUEUE: usize = 1024;
/// Rooms that the writer remembers; a write to one of them needs no look-up.
const KNOWN: usize = 16 * 1024;
/// Connections for reading that are kept open.
const READERS: usize = 4;

/// Writes that may fail one after the other before storage itself is taken to be at fault, and not what is written.
const CULPRITS: usize = 16;

const TABLES: &str = "
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

/// Checksums. `head` is the position of a room's last update; up to `unsummed` its updates are of a time before, and
/// have none. From here on positions count the updates of a room, where they once counted those of all.
const SUMS: &str = "
    ALTER TABLE rooms ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE rooms ADD COLUMN head INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE rooms ADD COLUMN unsummed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE snapshots ADD COLUMN sum INTEGER;
    ALTER TABLE updates ADD COLUMN sum INTEGER;
    UPDATE rooms SET head = max(
        coalesce((SELECT position FROM snapshots WHERE room = id), 0),
        coalesce((SELECT max(position) FROM updates WHERE room = id), 0));
    UPDATE rooms SET unsummed = head;
";

/// Who wrote what when, and notes. Updates of a time before have no author.
const AUTHORS: &str = "
    CREATE TABLE authors (
        id INTEGER PRIMARY KEY, account TEXT NOT NULL, by TEXT NOT NULL, UNIQUE (account, by)
    ) STRICT;
    ALTER TABLE updates ADD COLUMN at INTEGER;
    ALTER TABLE updates ADD COLUMN author INTEGER REFERENCES authors(id);
    CREATE TABLE notes (
        room INTEGER NOT NULL REFERENCES rooms(id), key BLOB NOT NULL, value BLOB NOT NULL,
        sum INTEGER NOT NULL, PRIMARY KEY (room, key)
    ) STRICT, WITHOUT ROWID;
";

/// Each version of the schema by its difference to the one before.
fn migrations() -> [M<'static>; 3] {
    let sum_names = |transaction: &Transaction<'_>| {
        let mut select = transaction.prepare("SELECT id, name FROM rooms")?;
        let mut update = transaction.prepare("UPDATE rooms SET sum = ?2 WHERE id = ?1")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
            update.execute(params![id, sum_of_name(id, &name)])?;
        }
        Ok(())
    };
    [M::up(TABLES), M::up_with_hook(SUMS, sum_names), M::up(AUTHORS)]
}

/// The checksum of a room's name.
fn sum_of_name(id: i64, name: &str) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&id.to_le_bytes());
    sum.update(name.as_bytes());
    sum.finalize().into()
}

/// When an update came, and the author's id.
type Mark = (i64, i64);

/// The checksum of an update, or of a snapshot, which has no `previous`.
fn sum(room: &str, previous: Option<u64>, position: u64, data: &[u8], mark: Option<Mark>) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&(room.len() as u64).to_le_bytes());
    sum.update(room.as_bytes());
    sum.update(&[u8::from(previous.is_some())]);
    sum.update(&previous.unwrap_or(0).to_le_bytes());
    sum.update(&position.to_le_bytes());
    if let Some((at, author)) = mark {
        sum.update(&at.to_le_bytes());
        sum.update(&author.to_le_bytes());
    }
    sum.update(data);
    sum.finalize().into()
}

/// The checksum of a note.
fn sum_of_note(room: &str, key: &[u8], value: &[u8]) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    for part in [room.as_bytes(), key] {
        sum.update(&(part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    sum.update(value);
    sum.finalize().into()
}

/// Unix time in ms.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Storage in one SQLite file. Dropping it ends the writer once all that was queued is written.
#[derive(Debug, Clone)]
pub struct Sqlite {
    writes: mpsc::Sender<Write>,
    readers: Arc<Readers>,
}

#[derive(Debug)]
struct Readers {
    path: PathBuf,
    place: Place,
    /// Whether a name that is not found may be that of a room all the same.
    names_are_damaged: bool,
    /// None once the storage is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

enum Write {
    Append {
        room: String,
        batch: Batch,
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
    /// Ends the writer after all that came before.
    Close {
        done: oneshot::Sender<Result<u64, StorageError>>,
    },
}

impl Write {
    fn reply(self, result: Result<u64, StorageError>) {
        let (Write::Append { done, .. }
        | Write::Compact { done, .. }
        | Write::Claim { done, .. }
        | Write::Close { done }) = self;
        // Who asked may have gone; the write stands all the same.
        let _ = done.send(result);
    }
}

impl Sqlite {
    /// Opens the file, and makes it when it is not there.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |error: &dyn std::fmt::Display| {
            StorageError::Failed(format!("{} cannot be opened: {error}", path.display()))
        };
        let connection = Database { path, migrations: &migrations(), durable: true }
            .open()
            .map_err(|error| StorageError::Unusable(error.to_string()))?;
        let names_are_damaged = !names_are_intact(&connection, path);
        let place = Place::of(path).map_err(|error| failed(&error))?;
        let (writes, queue) = mpsc::channel(QUEUE);
        let (rooms, authors) = (Known::default(), Authors::default());
        let writer = Writer { connection, place: place.clone(), rooms, authors };
        let idle = Mutex::new(Some(Vec::new()));
        let readers = Readers { path: path.to_owned(), place, names_are_damaged, idle };
        let readers = Arc::new(readers);
        let of_writer = readers.clone();
        std::thread::Builder::new()
            .name("storage".into())
            .spawn(move || writer.run(queue, &of_writer))
            .map_err(|error| failed(&error))?;
        Ok(Self { writes, readers })
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
        read: impl FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let readers = self.readers.clone();
        let task = tokio::task::spawn_blocking(move || {
            let idle = readers.idle.lock().as_mut().map(Vec::pop);
            let connection = match idle {
                None => return Err(StorageError::Failed("storage is closed".into())),
                Some(Some(connection)) => connection,
                Some(None) => readers.connect()?,
            };
            let result = read(&connection)?;
            if let Some(idle) = readers.idle.lock().as_mut()
                && idle.len() < READERS
            {
                idle.push(connection);
            }
            Ok(result)
        });
        task.await.map_err(|_| StorageError::Failed("a read was interrupted".into()))?
    }
}

impl Readers {
    fn connect(&self) -> Result<Connection, StorageError> {
        // Another file in its place has other rooms.
        self.place.check().map_err(StorageError::Failed)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Ok(Connection::open_with_flags(&self.path, flags)?)
    }
}

/// Whether each room is found by its name. Makes the index anew if it is at fault and the names are not.
fn names_are_intact(connection: &Connection, path: &Path) -> bool {
    let check = || -> rusqlite::Result<String> {
        connection.query_row("PRAGMA integrity_check(rooms)", [], |row| row.get(0))
    };
    let repair = || -> rusqlite::Result<bool> {
        let mut select = connection.prepare("SELECT id, name, sum FROM rooms NOT INDEXED")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (id, name, sum): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if sum_of_name(id, &name) != sum {
                return Ok(false);
            }
        }
        connection.execute_batch("REINDEX rooms")?;
        Ok(check()? == "ok")
    };
    let problem = match check() {
        Ok(ok) if ok == "ok" => return true,
        Ok(problem) => problem,
        Err(error) => error.to_string(),
    };
    let path = path.display();
    if repair().unwrap_or(false) {
        tracing::warn!(%problem, "the index of rooms in {path} was damaged, and was made anew from their names");
        return true;
    }
    tracing::error!(%problem, "the names of rooms in {path} are damaged; rooms that are not found are refused, because \
        they might not be new; put a backup in its place");
    false
}

#[async_trait]
impl Storage for Sqlite {
    async fn load(&self, room: &str) -> Result<Option<Stored>, StorageError> {
        let room = room.to_owned();
        let names_are_damaged = self.readers.names_are_damaged;
        self.read(move |connection| {
            // One transaction, so that snapshot and log belong together.
            let transaction = connection.unchecked_transaction()?;
            let found = transaction
                .prepare_cached("SELECT id, head, unsummed FROM rooms WHERE name = ?")?
                .query_row([&room], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
                })
                .optional()?;
            let Some((id, head, unsummed)) = found else {
                return if names_are_damaged { Err(maybe_new()) } else { Ok(None) };
            };
            let unsummed = unsummed as u64;
            let damaged = |what: String| Err(StorageError::Damaged(what));
            let mut stored = Stored::default();
            let snapshot = transaction
                .prepare_cached("SELECT position, data, sum FROM snapshots WHERE room = ?")?
                .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            if let Some((position, data, found)) = snapshot {
                let (data, found): (Vec<u8>, Option<i64>) = (data, found);
                stored.position = position as u64;
                if found.map_or(stored.position > unsummed, |found| {
                    found != sum(&room, None, stored.position, &data, None)
                }) {
                    return damaged("the snapshot is not what was written".into());
                }
                stored.updates.push(data.into());
            }
            let mut statement = transaction.prepare_cached(
                "SELECT position, data, sum, at, author FROM updates
                 WHERE room = ? AND position > ? ORDER BY position",
            )?;
            let mut rows = statement.query(params![id, stored.position as i64])?;
            while let Some(row) = rows.next()? {
                let position = row.get::<_, i64>(0)? as u64;
                let data: Vec<u8> = row.get(1)?;
                let found: Option<i64> = row.get(2)?;
                let (at, author): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
                let mark = at.zip(author);
                if found.map_or(position > unsummed, |found| {
                    found != sum(&room, Some(stored.position), position, &data, mark)
                }) {
                    return damaged(format!("update {position} is not what was written"));
                }
                stored.position = position;
                stored.log_bytes += data.len();
                stored.updates.push(data.into());
            }
            let mut statement =
                transaction.prepare_cached("SELECT key, value, sum FROM notes WHERE room = ?")?;
            let mut rows = statement.query([id])?;
            while let Some(row) = rows.next()? {
                let (key, value): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
                if row.get::<_, i64>(2)? != sum_of_note(&room, &key, &value) {
                    return damaged("a note is not what was written".into());
                }
                stored.notes.insert(key.into(), value.into());
            }
            if stored.position != head as u64 {
                let position = stored.position;
                return damaged(format!("the log ends with update {position} instead of {head}"));
            }
            let is_something = !stored.updates.is_empty() || !stored.notes.is_empty();
            Ok(is_something.then_some(stored))
        })
        .await
    }

    async fn append(&self, room: &str, batch: Batch) -> Result<u64, StorageError> {
        self.write(|done| Write::Append { room: room.to_owned(), batch, done }).await
    }

    async fn compact(&self, room: &str, document: Bytes, upto: u64) -> Result<(), StorageError> {
        let room = room.to_owned();
        self.write(|done| Write::Compact { room, document, upto, done }).await.map(drop)
    }

    async fn exists(&self, room: &str) -> Result<bool, StorageError> {
        let room = room.to_owned();
        let names_are_damaged = self.readers.names_are_damaged;
        self.read(move |connection| {
            let mut select = connection.prepare_cached("SELECT 1 FROM rooms WHERE name = ?")?;
            match select.exists([room])? {
                false if names_are_damaged => Err(maybe_new()),
                exists => Ok(exists),
            }
        })
        .await
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

    async fn close(&self) {
        // It fails if it was closed before.
        let _ = self.write(|done| Write::Close { done }).await;
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
            let owners = rooms.iter().map(owner).collect::<rusqlite::Result<_>>()?;
            Ok((owners, rooms))
        })
        .await
    }
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error.to_string()),
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

fn maybe_new() -> StorageError {
    StorageError::Damaged(
        "the names of rooms are, so nobody can say whether this is a new one".into(),
    )
}

struct Writer {
    connection: Connection,
    place: Place,
    rooms: Known,
    authors: Authors,
}

/// Ids of authors, by account and means.
#[derive(Default)]
struct Authors(HashMap<String, HashMap<String, i64>>);

/// Rooms that were written to. Rooms are never removed, and nobody else writes, so what is here stays true.
#[derive(Default)]
struct Known(HashMap<String, KnownRoom>);

#[derive(Clone, Copy)]
struct KnownRoom {
    id: i64,
    /// Position of the last update.
    head: u64,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Write>, readers: &Readers) {
        let mut batch = Vec::new();
        let mut closed = None;
        while closed.is_none()
            && let Some(first) = queue.blocking_recv()
        {
            let mut next = Some(first);
            while let Some(write) = next.take() {
                match write {
                    Write::Close { .. } => {
                        closed = Some(write);
                        break;
                    }
                    write => batch.push(write),
                }
                if batch.len() < QUEUE {
                    next = queue.try_recv().ok();
                }
            }
            if batch.is_empty() {
                break;
            }
            match self.commit(&batch) {
                Ok(positions) => {
                    for (write, position) in batch.drain(..).zip(positions) {
                        write.reply(Ok(position));
                    }
                }
                Err(error) if batch.len() == 1 => {
                    batch.drain(..).for_each(|write| write.reply(Err(error.clone())));
                }
                Err(_) => self.commit_singly(&mut batch),
            }
        }
        // Whoever closes the file last takes its log in, and readers may not.
        drop(readers.idle.lock().take());
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "storage was not closed in order");
        }
        if let Some(close) = closed {
            close.reply(Ok(0));
        }
    }

    /// Commits each write for itself, because one of them may be why all failed.
    fn commit_singly(&mut self, batch: &mut Vec<Write>) {
        let mut failures = Vec::new();
        for write in batch.drain(..) {
            let result = match failures.last() {
                Some(error) if failures.len() == CULPRITS => Err(StorageError::clone(error)),
                _ => self.commit(std::slice::from_ref(&write)),
            };
            match &result {
                Ok(_) => failures.clear(),
                Err(error) if failures.len() < CULPRITS => failures.push(error.clone()),
                Err(_) => {}
            }
            write.reply(result.map(|positions| positions.first().copied().unwrap_or_default()));
        }
    }

    fn commit(&mut self, batch: &[Write]) -> Result<Vec<u64>, StorageError> {
        self.place.check().map_err(StorageError::Failed)?;
        let mut positions = Vec::with_capacity(batch.len());
        let transaction = self.connection.transaction()?;
        // Forgotten when this fails: what was rolled back is not so.
        let mut rooms = std::mem::take(&mut self.rooms);
        let mut authors = std::mem::take(&mut self.authors);
        let at = now();
        for write in batch {
            match write {
                Write::Append { room, batch, .. } => {
                    let known = rooms.find(&transaction, room)?;
                    let mut insert = transaction.prepare_cached(
                        "INSERT INTO updates (room, position, data, sum, at, author)
                         VALUES (?, ?, ?, ?, ?, ?)",
                    )?;
                    for Logged { bytes, author } in &batch.updates {
                        let position = known.head + 1;
                        let author = authors.find(&transaction, author)?;
                        let mark = Some((at, author));
                        let sum = sum(room, Some(known.head), position, bytes, mark);
                        let row = params![known.id, position as i64, &bytes[..], sum, at, author];
                        insert.execute(row)?;
                        known.head = position;
                    }
                    for (key, value) in &batch.notes {
                        match value {
                            Some(value) => transaction
                                .prepare_cached(
                                    "INSERT OR REPLACE INTO notes (room, key, value, sum)
                                     VALUES (?, ?, ?, ?)",
                                )?
                                .execute(params![
                                    known.id,
                                    &key[..],
                                    &value[..],
                                    sum_of_note(room, key, value)
                                ])?,
                            None => transaction
                                .prepare_cached("DELETE FROM notes WHERE room = ? AND key = ?")?
                                .execute(params![known.id, &key[..]])?,
                        };
                    }
                    transaction
                        .prepare_cached("UPDATE rooms SET head = ? WHERE id = ?")?
                        .execute(params![known.head as i64, known.id])?;
                    positions.push(known.head);
                }
                Write::Compact { room, document, upto, .. } => {
                    let known = rooms.find(&transaction, room)?;
                    transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO snapshots (room, position, data, sum)
                             VALUES (?, ?, ?, ?)",
                        )?
                        .execute(params![
                            known.id,
                            *upto as i64,
                            &document[..],
                            sum(room, None, *upto, document, None)
                        ])?;
                    transaction
                        .prepare_cached("DELETE FROM updates WHERE room = ? AND position <= ?")?
                        .execute(params![known.id, *upto as i64])?;
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
                    positions.push(0);
                }
                Write::Close { .. } => positions.push(0),
            }
        }
        transaction.commit()?;
        // A file that was removed in the meantime has taken the commit along.
        self.place.check().map_err(StorageError::Failed)?;
        self.rooms = rooms;
        self.authors = authors;
        Ok(positions)
    }
}

impl Authors {
    /// Whoever has that account and means, who is noted when they are new.
    fn find(&mut self, connection: &Connection, author: &Author) -> rusqlite::Result<i64> {
        let (account, by) = (author.account_id(), &*author.by);
        let known = self.0.get(account).and_then(|of_account| of_account.get(by));
        if let Some(known) = known {
            return Ok(*known);
        }
        connection
            .prepare_cached("INSERT OR IGNORE INTO authors (account, by) VALUES (?, ?)")?
            .execute([account, by])?;
        let id = connection
            .prepare_cached("SELECT id FROM authors WHERE account = ? AND by = ?")?
            .query_row([account, by], |row| row.get(0))?;
        if self.0.len() == KNOWN {
            self.0.clear();
        }
        self.0.entry(account.to_owned()).or_default().insert(by.to_owned(), id);
        Ok(id)
    }
}

impl Known {
    /// A room, which is made when it is not there.
    fn find(&mut self, connection: &Connection, room: &str) -> rusqlite::Result<&mut KnownRoom> {
        if !self.0.contains_key(room) {
            let found = connection
                .prepare_cached("SELECT id, head FROM rooms WHERE name = ?")?
                .query_row([room], |row| {
                    Ok(KnownRoom { id: row.get(0)?, head: row.get::<_, i64>(1)? as u64 })
                })
                .optional()?;
            let known = match found {
                Some(known) => known,
                None => Self::make(connection, room)?,
            };
            if self.0.len() == KNOWN {
                self.0.clear();
            }
            self.0.insert(room.to_owned(), known);
        }
        Ok(self.0.get_mut(room).expect("it was there, or was put there"))
    }

    fn make(connection: &Connection, room: &str) -> rusqlite::Result<KnownRoom> {
        let id = connection
            .prepare_cached("INSERT INTO rooms (name) VALUES (?) RETURNING id")?
            .query_row([room], |row| row.get(0))?;
        connection
            .prepare_cached("UPDATE rooms SET sum = ? WHERE id = ?")?
            .execute(params![sum_of_name(id, room), id])?;
        Ok(KnownRoom { id, head: 0 })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[tokio::test]
    async fn what_was_appended_is_read_back_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let updates =
            |list: &[&'static str]| list.iter().map(|u| Bytes::from(*u)).collect::<Vec<_>>();
        {
            let storage = Sqlite::open(&path).unwrap();
            assert!(storage.load("a").await.unwrap().is_none());
            let first = storage.append("a", updates(&["1", "2"]).into()).await.unwrap();
            storage.append("b", updates(&["x"]).into()).await.unwrap();
            let second = storage.append("a", updates(&["3"]).into()).await.unwrap();
            assert!(second > first);
            storage.compact("a", "12".into(), first).await.unwrap();
        }
        let storage = Sqlite::open(&path).unwrap();
        let stored = storage.load("a").await.unwrap().unwrap();
        assert_eq!(stored.updates, ["12", "3"]);
        assert_eq!(stored.log_bytes, 1);
        let position = storage.append("a", updates(&["4"]).into()).await.unwrap();
        assert!(position > stored.position, "positions go on after a restart");
        assert!(storage.exists("b").await.unwrap());
        assert!(!storage.exists("c").await.unwrap());
    }

    #[tokio::test]
    async fn an_update_says_who_made_it_and_by_what_and_when() {
        use host_caller::{Account, Right};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let before = now();
        let storage = Sqlite::open(&path).unwrap();
        let ann = Some(Arc::new(Account::of_id("ann")));
        let logged = |author| Logged { bytes: "1".into(), author };
        let socket = || Author::new(ann.clone(), Right::Write, "socket");
        let action = Author::new(ann.clone(), Right::Owner, "action posts/publish 1.2");
        let updates = vec![logged(socket()), logged(action), logged(socket())];
        storage.append("a", Batch { updates, notes: Vec::new() }).await.unwrap();
        storage.append("a", vec![Bytes::from("2")].into()).await.unwrap();
        drop(storage);
        assert_eq!(Sqlite::open(&path).unwrap().load("a").await.unwrap().unwrap().updates.len(), 4);
        let connection = Connection::open(&path).unwrap();
        let mut select = connection
            .prepare(
                "SELECT at, account, by FROM updates JOIN authors ON author = authors.id
                 ORDER BY position",
            )
            .unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let rows: Vec<(i64, String, String)> =
            select.query_map([], row).unwrap().map(Result::unwrap).collect();
        assert!(rows.iter().all(|(at, ..)| (before..=now()).contains(at)));
        let authors: Vec<_> = rows.iter().map(|(_, who, by)| format!("{who} {by}")).collect();
        assert_eq!(
            authors,
            ["ann socket", "ann action posts/publish 1.2", "ann socket", " server"]
        );
        drop(select);
        connection.execute("UPDATE updates SET author = 2 WHERE position = 1", []).unwrap();
        let error = Sqlite::open(&path).unwrap().load("a").await.unwrap_err();
        assert!(matches!(error, StorageError::Damaged(_)), "{error}");
    }

    #[tokio::test]
    async fn notes_are_written_with_updates_and_outlive_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let note = |key: &'static str, value: Option<&'static str>| -> crate::storage::Note {
            (key.into(), value.map(Bytes::from))
        };
        let batch = |updates: &[&'static str], notes| {
            let updates = updates.iter().map(|u| Bytes::from(*u)).collect::<Vec<_>>();
            Batch { notes, ..Batch::from(updates) }
        };
        let storage = Sqlite::open(&path).unwrap();
        let first = vec![note("a", Some("1")), note("b", Some("2"))];
        let position = storage.append("x", batch(&["1"], first)).await.unwrap();
        storage.append("x", batch(&[], vec![note("a", None), note("b", Some("3"))])).await.unwrap();
        storage.append("y", batch(&[], vec![note("b", Some("4"))])).await.unwrap();
        storage.compact("x", "1".into(), position).await.unwrap();
        drop(storage);
        let storage = Sqlite::open(&path).unwrap();
        let notes = async |room| {
            let notes = storage.load(room).await.unwrap().unwrap().notes.into_iter();
            notes.map(|(key, value)| [&key[..], &value[..]].concat()).collect::<Vec<_>>()
        };
        assert_eq!(notes("x").await, [b"b3"]);
        assert_eq!(notes("y").await, [b"b4"]);
        let connection = Connection::open(&path).unwrap();
        connection.execute("UPDATE notes SET value = x'00' WHERE room = 1", []).unwrap();
        let error = storage.load("x").await.unwrap_err().to_string();
        assert!(error.contains("a note is not what was written"), "{error}");
        assert_eq!(notes("y").await, [b"b4"], "the other room goes on");
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

    fn bytes(list: &[&str]) -> Vec<Bytes> {
        list.iter().map(|update| Bytes::copy_from_slice(update.as_bytes())).collect()
    }

    #[tokio::test]
    async fn rooms_of_the_first_format_are_read_and_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(TABLES).unwrap();
        old.execute_batch(
            "INSERT INTO rooms (name) VALUES ('a'), ('b');
             INSERT INTO snapshots VALUES (1, 3, x'61');
             INSERT INTO updates VALUES (1, 5, x'62'), (1, 9, x'63'), (2, 7, x'78');
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        let storage = Sqlite::open(&path).unwrap();
        assert_eq!(storage.load("a").await.unwrap().unwrap().updates, ["a", "b", "c"]);
        assert_eq!(storage.append("a", bytes(&["d"]).into()).await.unwrap(), 10);
        storage.compact("b", "x".into(), 7).await.unwrap();
        drop(storage);
        let storage = Sqlite::open(&path).unwrap();
        assert_eq!(storage.load("a").await.unwrap().unwrap().updates, ["a", "b", "c", "d"]);
        assert_eq!(storage.load("b").await.unwrap().unwrap().updates, ["x"]);
        // What is written from now on must have its checksum.
        let other = Connection::open(&path).unwrap();
        other.execute("UPDATE updates SET sum = NULL WHERE position = 10", []).unwrap();
        assert!(matches!(storage.load("a").await, Err(StorageError::Damaged(_))));
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_written_in_this_room_or_an_error() {
        for damage in [
            "UPDATE updates SET data = x'00' WHERE position = 3",
            "UPDATE updates SET position = 9 WHERE position = 4",
            "UPDATE updates SET room = 3 - room WHERE position = 4",
            "DELETE FROM updates WHERE room = 1 AND position = 3",
            "DELETE FROM updates WHERE room = 1 AND position = 4",
            "DELETE FROM snapshots WHERE room = 1",
            "UPDATE snapshots SET data = x'00'",
            "UPDATE snapshots SET position = 1",
            "UPDATE rooms SET head = 3 WHERE id = 1",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("rooms.db");
            let storage = Sqlite::open(&path).unwrap();
            storage.append("a", bytes(&["1", "2"]).into()).await.unwrap();
            storage.append("b", bytes(&["x"]).into()).await.unwrap();
            storage.compact("a", "12".into(), 2).await.unwrap();
            storage.append("a", bytes(&["3", "4"]).into()).await.unwrap();
            let changed = Connection::open(&path).unwrap().execute(damage, []).unwrap();
            assert_eq!(changed, 1, "{damage}");
            assert!(matches!(storage.load("a").await, Err(StorageError::Damaged(_))), "{damage}");
            match storage.load("b").await {
                Ok(stored) => assert_eq!(stored.unwrap().updates, ["x"], "{damage}"),
                Err(error) => assert!(damage.contains("SET room"), "{damage}: {error}"),
            }
        }
    }

    /// Flips bytes of the file, one at a time, and opens it again.
    #[tokio::test]
    async fn a_flipped_byte_never_shows_other_data() {
        let rounds = std::env::var("FLIPS").map_or(150, |rounds| rounds.parse().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let mut rooms = Vec::new();
        let storage = Sqlite::open(&path).unwrap();
        for number in 0..40 {
            let name = format!("room {number}");
            let data = |n: usize| format!("{name} {n} {}", "x".repeat(n * number));
            let list: Vec<_> = (0..12).map(data).collect();
            let list: Vec<_> = list.iter().map(String::as_str).collect();
            let upto = storage.append(&name, bytes(&list[..4]).into()).await.unwrap();
            storage.compact(&name, list[..4].concat().into(), upto).await.unwrap();
            storage.append(&name, bytes(&list[4..]).into()).await.unwrap();
            let stored = storage.load(&name).await.unwrap().unwrap();
            rooms.push((name, stored.updates));
        }
        storage.close().await;
        let whole = std::fs::read(&path).unwrap();
        let mut random = rand::rngs::SmallRng::seed_from_u64(1);
        let (mut seen, mut refused) = (0, 0);
        for _ in 0..rounds {
            let mut damaged = whole.clone();
            let at = random.random_range(0..damaged.len());
            damaged[at] ^= random.random_range(1..=255u8);
            let copy = tempfile::tempdir().unwrap();
            let path = copy.path().join("rooms.db");
            std::fs::write(&path, damaged).unwrap();
            let Ok(storage) = Sqlite::open(&path) else {
                refused += 1;
                continue;
            };
            for (name, updates) in &rooms {
                match storage.load(name).await {
                    Ok(stored) => {
                        let found = stored.unwrap_or_default().updates;
                        assert_eq!(found, *updates, "{name} with byte {at} changed");
                    }
                    Err(_) => seen += 1,
                }
            }
        }
        assert!(seen > 0 && refused * 20 < rounds, "{seen} seen, {refused} of {rounds} refused");
    }

    #[tokio::test]
    async fn a_room_that_cannot_be_written_keeps_no_other_from_being_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let storage = Sqlite::open(&path).unwrap();
        storage.append("bad", bytes(&["1"]).into()).await.unwrap();
        // Its next position is taken, which no transaction gets over.
        let other = Connection::open(&path).unwrap();
        other
            .execute("INSERT INTO updates (room, position, data) VALUES (1, 2, x'00')", [])
            .unwrap();
        // Whatever comes now queues behind this, and goes into one transaction.
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let names: Vec<_> = (0..100).map(|number| format!("room {number}")).collect();
        let writes = names.iter().map(|name| storage.append(name, bytes(&["1"]).into()));
        let (bad, good, ()) = tokio::join!(
            storage.append("bad", bytes(&["2"]).into()),
            async {
                let mut results = Vec::new();
                let mut writes: Vec<_> = writes.map(Box::pin).collect();
                std::future::poll_fn(|context| {
                    for write in &mut writes {
                        assert!(write.as_mut().poll(context).is_pending());
                    }
                    std::task::Poll::Ready(())
                })
                .await;
                for write in writes {
                    results.push(write.await);
                }
                results
            },
            async { other.execute_batch("COMMIT").unwrap() },
        );
        assert!(bad.is_err());
        assert!(good.iter().all(Result::is_ok), "{good:?}");
    }

    #[tokio::test]
    async fn a_file_that_was_removed_takes_no_writes_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let aside = folder.path().join("aside.db");
        let storage = Sqlite::open(&path).unwrap();
        storage.append("a", bytes(&["1"]).into()).await.unwrap();
        std::fs::rename(&path, &aside).unwrap();
        let error = storage.append("a", bytes(&["2"]).into()).await.unwrap_err().to_string();
        assert!(error.contains("was removed"), "{error}");
        std::fs::rename(&aside, &path).unwrap();
        storage.append("a", bytes(&["2"]).into()).await.unwrap();
        assert_eq!(storage.load("a").await.unwrap().unwrap().updates, ["1", "2"]);
    }

    #[tokio::test]
    async fn a_damaged_index_of_names_is_made_anew_and_damaged_names_are_no_new_rooms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let storage = Sqlite::open(&path).unwrap();
        storage.append("the first room", bytes(&["1"]).into()).await.unwrap();
        storage.close().await;
        let flip = |which: usize| {
            let mut file = std::fs::read(&path).unwrap();
            let found: Vec<_> = file
                .windows(14)
                .enumerate()
                .filter(|(_, bytes)| bytes == b"the first room")
                .collect();
            assert_eq!(found.len(), 2, "the table and the index");
            let at = found[which].0;
            file[at] = b'T';
            std::fs::write(&path, file).unwrap();
        };
        let whole = std::fs::read(&path).unwrap();
        let mut found = 0;
        for which in [0, 1] {
            std::fs::write(&path, &whole).unwrap();
            flip(which);
            let storage = Sqlite::open(&path).unwrap();
            match storage.load("the first room").await {
                Ok(stored) => {
                    assert_eq!(stored.unwrap().updates, ["1"]);
                    found += 1;
                }
                Err(error) => assert!(matches!(error, StorageError::Damaged(_)), "{error}"),
            }
            storage.close().await;
        }
        assert_eq!(
            found, 2,
            "once by the index that was made anew, once by the one that is intact"
        );
    }
}
