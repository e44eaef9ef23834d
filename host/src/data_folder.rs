//! The data folder: everything that is stored, and the process that uses it.
//!
//! One process at a time holds the folder, through a lock that ends with the process and that no other
//! account can hold. A server that starts while the previous one is still saving waits for it briefly. A
//! server writes its address to `server.json`, for commands that find the folder locked. A file left
//! behind by a crash does no harm: it counts only while the lock is held, and whoever takes the lock
//! removes it first.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host_sync::{Hooks, Limits, Rooms, Sqlite};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::start_error::StartError;

/// The file in which the server that holds the folder announces its address.
const ANNOUNCEMENT: &str = "server.json";

/// How long a server waits for a folder that another process holds. A server that was told to stop takes a few seconds for
/// its last requests and its last writes, and whoever starts the next one should not have to know.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often to try the lock; nothing signals that it is free.
const LOOK: Duration = Duration::from_millis(50);

/// The data folder, locked against other processes until this is dropped.
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Locks the folder, and creates it if it is missing.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |error| StartError::Data { folder: path.to_owned(), error };
        create(path).map_err(failed)?;
        let file = path.join("lock");
        // Whoever can open it can hold it.
        host_files::tighten(&file);
        let mut lock = OpenOptions::new();
        let lock = lock.create(true).truncate(false).write(true).mode(0o600);
        let lock = lock.open(file).map_err(failed)?;
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

    /// The same for a server, which waits a few seconds for the previous one to end.
    pub async fn open_after_others(path: &Path) -> Result<Self, StartError> {
        let deadline = Instant::now() + PATIENCE;
        let mut told = false;
        loop {
            match Self::open(path) {
                Err(StartError::InUse { .. }) if Instant::now() < deadline => {}
                result => return result,
            }
            if !told {
                told = true;
                tracing::info!(
                    "another process uses the data folder {}; waiting up to {PATIENCE:?} for its end",
                    path.display()
                );
            }
            tokio::time::sleep(LOOK).await;
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
        let announcement = json!({ "url": url, "pid": std::process::id() }).to_string();
        host_files::write_whole(&self.path.join(ANNOUNCEMENT), announcement.as_bytes())
    }

    /// The address that the holder of a locked folder has announced.
    pub fn announced(path: &Path) -> Option<String> {
        let text = std::fs::read(path.join(ANNOUNCEMENT)).ok()?;
        let announcement: Value = serde_json::from_slice(&text).ok()?;
        Some(announcement["url"].as_str()?.to_owned())
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // A file that remains is removed by the next process that takes the lock.
        let _ = std::fs::remove_file(self.path.join(ANNOUNCEMENT));
    }
}

/// Logs rooms that open and close.
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

    #[tokio::test(start_paused = true)]
    async fn a_server_waits_for_the_one_before_but_not_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let before = DataFolder::open(folder.path()).expect("nobody has it");
        let started = Instant::now();
        let refused = DataFolder::open_after_others(folder.path()).await;
        assert!(matches!(refused, Err(StartError::InUse { .. })));
        assert!(started.elapsed() >= PATIENCE && started.elapsed() < PATIENCE * 2);
        let (opened, ()) = tokio::join!(DataFolder::open_after_others(folder.path()), async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(before);
        });
        opened.expect("it is free now");
    }

    #[test]
    fn no_other_account_can_hold_the_lock() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let lock = folder.path().join("lock");
        let mode = || std::fs::metadata(&lock).expect("the lock").permissions().mode() & 0o777;
        drop(DataFolder::open(folder.path()).expect("nobody has it"));
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o644))
            .expect("it is ours");
        drop(DataFolder::open(folder.path()).expect("nobody has it"));
        assert_eq!(mode(), 0o600);
    }

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
