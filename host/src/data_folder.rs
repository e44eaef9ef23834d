//! The data folder: everything that is stored, and which process uses it.
//!
//! One process at a time holds the folder, by a lock that ends with the process. A server announces its address in
//! the file `server.json`, for commands that find the folder locked. A file that a crash left behind misleads nobody:
//! it counts only while the lock is held, and whoever takes the lock removes it first.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host_sync::{Hooks, Limits, Rooms, Sqlite};
use serde_json::{Value, json};

use crate::start_error::StartError;

/// The file in which the server that holds the folder announces its address.
const ANNOUNCEMENT: &str = "server.json";

/// The data folder, held against other processes while this exists.
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Locks the folder, and creates it if it is missing.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |error| StartError::Data { folder: path.to_owned(), error };
        create(path).map_err(failed)?;
        let mut lock = OpenOptions::new();
        let lock = lock.create(true).truncate(false).write(true);
        let lock = lock.open(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StartError::InUse { folder: path.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        match std::fs::remove_file(path.join(ANNOUNCEMENT)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(Self { path: path.to_owned(), _lock: lock }),
        }
    }

    /// Opens the rooms that are stored in it.
    pub fn rooms(&self, limits: Limits) -> Result<Rooms, StartError> {
        let storage = Sqlite::open(&self.path.join("rooms.db"))?;
        Ok(Rooms::new(Arc::new(storage), limits, Arc::new(LogRooms)))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Announces the address of the server to commands on this machine.
    pub fn announce(&self, address: SocketAddr) -> io::Result<()> {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let url = format!("http://{}", SocketAddr::new(ip, address.port()));
        let partial = self.path.join(format!(".{ANNOUNCEMENT}.partial"));
        std::fs::write(&partial, json!({ "url": url, "pid": std::process::id() }).to_string())?;
        std::fs::rename(partial, self.path.join(ANNOUNCEMENT))
    }

    /// The address that the holder of a locked folder announced.
    pub fn announced(path: &Path) -> Option<String> {
        let text = std::fs::read(path.join(ANNOUNCEMENT)).ok()?;
        let announcement: Value = serde_json::from_slice(&text).ok()?;
        Some(announcement["url"].as_str()?.to_owned())
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // What remains is removed by the next one who takes the lock.
        let _ = std::fs::remove_file(self.path.join(ANNOUNCEMENT));
    }
}

/// Log lines for rooms that come and go.
struct LogRooms;

impl Hooks for LogRooms {
    fn created(&self, room: &str) {
        tracing::debug!(room, "room opened");
    }

    fn evicted(&self, room: &str) {
        tracing::debug!(room, "room evicted");
    }
}

/// Creates the folder if it is missing, for this account alone, because what it holds is private.
fn create(path: &Path) -> io::Result<()> {
    let mut folder = DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.recursive(true).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_ends_with_who_made_it_or_with_who_takes_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataFolder::open(folder.path()).expect("nobody has it");
        assert_eq!(DataFolder::announced(folder.path()), None);
        data.announce("0.0.0.0:3913".parse().expect("an address")).expect("the folder is ours");
        let url = Some("http://127.0.0.1:3913".to_owned());
        assert_eq!(DataFolder::announced(folder.path()), url);
        assert!(matches!(DataFolder::open(folder.path()), Err(StartError::InUse { .. })));
        assert_eq!(DataFolder::announced(folder.path()), url, "a look at the lock changes nothing");
        drop(data);
        assert_eq!(DataFolder::announced(folder.path()), None);

        let left_by_a_crash = folder.path().join(ANNOUNCEMENT);
        std::fs::write(left_by_a_crash, r#"{"url":"http://127.0.0.1:1"}"#).expect("a file");
        let _data = DataFolder::open(folder.path()).expect("nobody has it");
        assert_eq!(DataFolder::announced(folder.path()), None);
    }
}
