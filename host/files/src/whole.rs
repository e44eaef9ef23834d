//! Permissions, and files that are written whole.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// Read and written by this account alone.
const PRIVATE: u32 = 0o600;

/// Sees to it that no other account can read or write a file, and says so in the log if one could. The owner's own bits
/// are kept: a file that is read-only stays that. A missing file stays missing.
pub fn tighten(path: &Path) {
    tighten_to(path, 0o700);
}

/// The same for a file that is shared with accounts of its group.
pub fn tighten_shared(path: &Path) {
    tighten_to(path, 0o770);
}

fn tighten_to(path: &Path, mask: u32) {
    // Whatever else is wrong with the file shows when it is opened.
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let before = metadata.permissions().mode() & 0o7777;
    let after = before & mask;
    if before == after {
        return;
    }
    let path_shown = path.display();
    match std::fs::set_permissions(path, Permissions::from_mode(after)) {
        Ok(()) => tracing::warn!(
            "other accounts could open {path_shown} (mode {before:04o}); its mode is {after:04o} now"
        ),
        Err(error) => tracing::warn!(
            "other accounts can open {path_shown} (mode {before:04o}), and that cannot be changed: {error}"
        ),
    }
}

/// Writes a file, for this account alone. Whoever reads it sees the old bytes or the new ones, and so does whoever reads
/// it after a crash.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary_beside(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder_of(path)
}

/// A file beside another, which disappears unless it is put in its place.
pub(crate) fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default();
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".partial")
        .permissions(Permissions::from_mode(PRIVATE))
        .tempfile_in(folder_of(path))
}

/// Puts a temporary file in its place, unless there is one already. Durable when it returns.
pub(crate) fn put_new(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    sync_folder_of(path)
}

/// The rename of a file is on disk once its folder is.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What is in a file that is made when it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether they were made just now.
    pub new: bool,
}

/// Reads a key or a secret; makes it where there is none. An empty file, which a crash or a full disk may have left, is
/// none if `may_replace` says that nothing depends on what was in it, and an error otherwise.
pub fn keep(path: &Path, may_replace: bool, make: impl FnOnce() -> Vec<u8>) -> io::Result<Kept> {
    tighten(path);
    match std::fs::read(path) {
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => {
            if !may_replace {
                let message = "the file is empty, and what was in it is still needed; restore it from a backup, or \
                    remove it to have a new one made";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            tracing::warn!("{} was empty; a new one was made", path.display());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return Ok(Kept { bytes: read?, new: false }),
    }
    let bytes = make();
    write_whole(path, &bytes)?;
    Ok(Kept { bytes, new: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_written_whole_and_for_this_account_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_whole(&path, b"one").unwrap();
        assert_eq!(mode(&path), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"two"[..], 0o600));
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
        assert!(write_whole(&folder.path().join("no/such/folder"), b"").is_err());
    }

    #[test]
    fn what_others_could_read_they_can_read_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        tighten(&path);
        for (before, after) in [(0o644, 0o600), (0o666, 0o600), (0o440, 0o400), (0o600, 0o600)] {
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            tighten(&path);
            assert_eq!(mode(&path), after);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn an_empty_key_is_made_anew_only_where_nothing_depends_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let first = keep(&path, false, || b"first".to_vec()).unwrap();
        assert_eq!((first.bytes.as_slice(), first.new), (&b"first"[..], true));
        let again = keep(&path, true, || b"second".to_vec()).unwrap();
        assert_eq!((again.bytes.as_slice(), again.new), (&b"first"[..], false));
        for empty in ["", "\n"] {
            std::fs::write(&path, empty).unwrap();
            let error = keep(&path, false, || b"third".to_vec()).unwrap_err();
            assert!(error.to_string().contains("restore it"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), empty.as_bytes(), "it is left alone");
        }
        assert!(keep(&path, true, || b"third".to_vec()).unwrap().new);
        assert_eq!(mode(&path), 0o600);
    }
}
