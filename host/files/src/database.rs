//! SQLite files: opened, checked and brought up to date in one way.
//!
//! A new one is made under another name, with its tables, and then renamed, so a file that is empty was not left by
//! a server that ended early: it was cut. SQLite itself would take it for a new one and show a server without data.
//! The same holds for a file that is shorter than its own header says, and for one that is missing while its log is there.
//!
//! Each schema has a version, which SQLite keeps in the file (`user_version`). A file of a newer version is left alone.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};

use crate::log::Log;
use crate::whole::{put_new, temporary_beside, tighten};

/// How long to wait while another program, such as a backup, holds the file.
const BUSY: Duration = Duration::from_secs(5);

/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system does not let us.
    #[error("{} cannot be opened: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says. Not called `source`: the message contains it, and a chain of causes would repeat it.
        error: io::Error,
    },
    /// It was cut, or is not what it was.
    #[error("{}: {what}; put a backup in its place, or {instead}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What else can be done.
        instead: String,
    },
    /// It has tables that this program does not know.
    #[error(
        "{} was written by a newer version of this server (its format is {version}, and this one knows {known}); \
         start that version, or choose another data folder", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its tables.
        version: i64,
        /// The latest version that is known.
        known: usize,
    },
    /// Anything else.
    #[error("{} cannot be opened: {message}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        message: String,
    },
}

/// A database that the server keeps.
#[derive(Debug)]
pub struct Database<'a> {
    /// Its file.
    pub path: &'a Path,
    /// Its tables, each version by its difference to the one before.
    pub migrations: &'a [M<'a>],
    /// Whether a commit is on disk when it returns. Otherwise a power cut may cost the last few seconds.
    pub durable: bool,
}

impl Database<'_> {
    /// Opens the file, and makes it when it is missing.
    pub fn open(&self) -> Result<Connection, OpenError> {
        tighten_database(self.path);
        if is_there(self.path)? {
            check_database(self.path)?;
        } else {
            create_database(self.path, |connection| self.migrate(connection))?;
        }
        let failed = |error: rusqlite::Error| failed(self.path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(self.path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        // Not an update alone: the pragma answers with a row.
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
            .map_err(failed)?;
        let synchronous = if self.durable { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
        self.migrate(&mut connection)?;
        Ok(connection)
    }

    fn migrate(&self, connection: &mut Connection) -> Result<(), OpenError> {
        use rusqlite_migration::Error;
        let path = self.path.to_owned();
        match Migrations::from_slice(self.migrations).to_latest(connection) {
            Ok(()) => Ok(()),
            Err(Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead)) => {
                let version = connection.pragma_query_value(None, "user_version", |row| row.get(0));
                let version = version.map_err(|error| failed(&path, error))?;
                Err(OpenError::Newer { path, version, known: self.migrations.len() })
            }
            Err(Error::RusqliteError { err, .. }) => Err(failed(&path, err)),
            Err(error) => Err(OpenError::Database { path, message: error.to_string() }),
        }
    }
}

/// Makes a new file, with its tables, or none; nothing if there is one meanwhile.
pub fn create_database<E: From<OpenError>>(
    path: &Path,
    prepare: impl FnOnce(&mut Connection) -> Result<(), E>,
) -> Result<(), E> {
    let log = beside(path, "-wal");
    if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        let what = "the file is missing, and what was written to it last is in its log";
        let instead = format!("remove {} as well to start without data", log.display());
        return Err(damaged(path, what, instead).into());
    }
    let file = |error| OpenError::File { path: path.to_owned(), error };
    let failed = |error| failed(path, error);
    let new = temporary_beside(path).map_err(file)?;
    let mut connection = Connection::open(new.path()).map_err(failed)?;
    // It is synced as a whole, and nothing is to be left beside it.
    connection
        .pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))
        .map_err(failed)?;
    prepare(&mut connection)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    match put_new(new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        put => Ok(put.map_err(file)?),
    }
}

/// Sees to it that no other account reads a database or writes to it ([`tighten`]).
pub fn tighten_database(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        tighten(&beside(path, suffix));
    }
}

/// Looks for what cannot be, before SQLite makes something else of it. The file must be there.
pub fn check_database(path: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::File { path: path.to_owned(), error };
    let remove = || "remove it to start without data".to_owned();
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length == 0 {
        return Err(damaged(path, "the file is empty, and a server never leaves it so", remove()));
    }
    let mut head = [0; 100];
    match std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(damaged(path, "the file was cut", remove()));
        }
        read => read.map_err(failed)?,
    }
    if !head.starts_with(MAGIC) {
        return Err(damaged(path, "this is no SQLite database", remove()));
    }
    let log_path = beside(path, "-wal");
    let log = Log::read(&log_path).map_err(failed)?;
    if let Some(log) = &log {
        if log.is_damaged() {
            let what = match log.lost {
                0 => {
                    "its first bytes were changed, and without them nothing in it counts".to_owned()
                }
                lost => format!("it was changed, and {lost} writes follow after that"),
            };
            let keep = format!(
                "keep what is before the damage with `sqlite3 {} 'PRAGMA wal_checkpoint(TRUNCATE)'`",
                path.display()
            );
            return Err(damaged(&log_path, what, keep));
        }
        let path = path.display();
        tracing::info!("{path} was not closed; its log counts up to the last write that is whole");
    }
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let page = match u16::from_be_bytes([head[16], head[17]]) {
        // 65536 does not fit.
        1 => 65536,
        size => u64::from(size),
    };
    // The number of pages is only valid if it was written with the last change. With a log, its last commit says it.
    let counted = (number(24) == number(92)).then(|| number(28));
    let pages = log.as_ref().map_or(counted, |log| log.size).unwrap_or(0);
    let in_log = |page: u32| log.as_ref().is_some_and(|log| log.pages.contains(&page));
    let there = u32::try_from(length / page).unwrap_or(u32::MAX);
    let whole = u64::from(pages) * page;
    if length < whole && !(there.saturating_add(1)..=pages).all(in_log) {
        let what = format!("the file was cut: it has {length} bytes of {whole}");
        return Err(damaged(path, what, recover(path)));
    }
    Ok(())
}

fn is_there(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|error| OpenError::File { path: path.to_owned(), error })
}

fn failed(path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged(path, format!("the file is damaged ({error})"), recover(path))
        }
        _ => OpenError::Database { path: path.to_owned(), message: error.to_string() },
    }
}

fn damaged(path: &Path, what: impl Into<String>, instead: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), what: what.into(), instead }
}

fn recover(path: &Path) -> String {
    format!("see what `sqlite3 {} .recover` can still read", path.display())
}

/// The name of a file that SQLite keeps beside a database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Where an open database is. SQLite goes on writing to a file that was removed, and what it says is saved then is not.
#[derive(Debug, Clone)]
pub struct Place(Vec<(PathBuf, u64, u64)>);

impl Place {
    /// Of a database that is open.
    pub fn of(path: &Path) -> io::Result<Self> {
        let files = [path.to_owned(), beside(path, "-wal")].into_iter();
        let files = files.map(|path| {
            let metadata = std::fs::metadata(&path)?;
            Ok((path, metadata.dev(), metadata.ino()))
        });
        Ok(Self(files.collect::<io::Result<_>>()?))
    }

    /// Whether the files are still what they were when they were opened; otherwise what has become of them.
    pub fn check(&self) -> Result<(), String> {
        for (path, dev, ino) in &self.0 {
            let what = match std::fs::metadata(path) {
                Ok(metadata) if (metadata.dev(), metadata.ino()) == (*dev, *ino) => continue,
                Ok(_) => "was replaced by another file",
                Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed",
                Err(error) => return Err(format!("{}: {error}", path.display())),
            };
            return Err(format!(
                "{} {what} while the server runs; put it back, or stop the server",
                path.display()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[M<'_>] = &[M::up("CREATE TABLE a (b TEXT)")];

    fn open(path: &Path) -> Result<Connection, OpenError> {
        Database { path, migrations: ONE, durable: true }.open()
    }

    fn filled(path: &Path) {
        let connection = open(path).unwrap();
        let text = "x".repeat(100_000);
        connection.execute("INSERT INTO a VALUES (?1)", [text]).unwrap();
    }

    #[test]
    fn all_files_of_a_database_are_for_this_account_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let connection = open(&path).unwrap();
        let files = || ["", "-wal", "-shm"].map(|suffix| beside(&path, suffix));
        for file in files() {
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        let again = open(&path).unwrap();
        for file in files() {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        drop((connection, again));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_that_is_empty_or_cut_or_something_else_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        filled(&path);
        let whole = std::fs::read(&path).unwrap();
        let mut something_else = whole.clone();
        something_else[..16].fill(b'x');
        for (bytes, what) in [
            (&whole[..0], "is empty"),
            (&whole[..50], "was cut"),
            (&whole[..4096], "was cut: it has 4096 bytes of "),
            (&whole[..whole.len() - 1], "was cut"),
            (&something_else, "no SQLite database"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = open(&path).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("put a backup in its place"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is left alone");
        }
        std::fs::write(&path, &whole).unwrap();
        open(&path).unwrap();
    }

    #[test]
    fn a_file_that_was_cut_is_refused_though_there_is_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        filled(&path);
        let connection = open(&path).unwrap();
        connection.execute("INSERT INTO a VALUES ('y')", []).unwrap();
        let copy = folder.path().join("copy.db");
        std::fs::copy(beside(&path, "-wal"), beside(&copy, "-wal")).unwrap();
        std::fs::copy(&path, &copy).unwrap();
        check_database(&copy).unwrap();
        let length = std::fs::metadata(&copy).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(&copy).unwrap().set_len(length / 2).unwrap();
        assert!(check_database(&copy).unwrap_err().to_string().contains("was cut"));
        // What is in the log need not be in the file.
        connection.execute("INSERT INTO a VALUES (?1)", ["z".repeat(100_000)]).unwrap();
        std::fs::copy(beside(&path, "-wal"), beside(&copy, "-wal")).unwrap();
        std::fs::copy(&path, &copy).unwrap();
        check_database(&copy).unwrap();
    }

    #[test]
    fn a_log_without_its_file_is_not_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::fs::write(beside(&path, "-wal"), "the last writes").unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("is missing"), "{error}");
        assert!(beside(&path, "-wal").exists());
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("newer version") && error.contains("is 7"), "{error}");
    }

    #[test]
    fn a_file_that_was_removed_or_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let connection = open(&path).unwrap();
        let place = Place::of(&path).unwrap();
        place.check().unwrap();
        for file in [path.clone(), beside(&path, "-wal")] {
            let aside = folder.path().join("aside");
            std::fs::rename(&file, &aside).unwrap();
            assert!(place.check().unwrap_err().contains("was removed"));
            std::fs::write(&file, "").unwrap();
            assert!(place.check().unwrap_err().contains("was replaced"));
            std::fs::rename(&aside, &file).unwrap();
            place.check().unwrap();
        }
        drop(connection);
    }
}
