//! Documents that are attached to rows: their text, read and written.
//!
//! A row names its document: the column that the table's definition says holds the id of a room
//! (its guid), which syncs like any room. The text is the root text [`CONTENT`]. A row that names
//! none yet has an empty text, and gets a guid with the first text that is written.
//!
//! **Writing** keeps what the old and new text have in common at either end, so that the cursors and
//! marks of other editors survive. It is retried if somebody edits meanwhile. The row's
//! updated-at column is set before, in the workspace's document, by the same rules as any change of
//! the row; so who may not change the row may not change its text. The two documents are separate:
//! a crash between both leaves the row's time newer than its text, and nobody was told that it was
//! saved.
//!
//! **Whose is it?** A guid comes from whoever wrote the row, and could name any room. So a room belongs to
//! the workspace whose row named it first, which storage remembers ([`Rooms::claim`]), and a workspace's own
//! room to itself. What belongs to another workspace is neither read nor written nor closed here, also while
//! that one is not served. Names that begin with [`SHARED`] are nobody's.
//!
//! **Deleting** the row closes the room's sockets. What is in the room stays on disk, as with the
//! original: another device may have kept the row, and its text must not be gone then.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use host_sync::{Author, RoomError, Rooms, StorageError, Text, Update};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::definition::{DocumentDefinition, Issue};
use crate::error::{ActionError, Error};

/// The name of the root text, as clients of the original have it.
const CONTENT: &str = "content";
/// What the names of rooms begin with in which devices find each other. Not `_` alone, with which random
/// ids may begin.
const SHARED: &str = "_epicenter_";
/// Bytes of the longest text that is written here; a novel has one million.
pub(crate) const MAX_TEXT: usize = 8 * 1024 * 1024;
/// How many times a write is tried while others edit the document.
const TRIES: usize = 16;
/// How many documents are read at once. Each takes a core, and up to 100 MB if it is hostile.
const READERS: usize = 2;

/// The documents of a workspace's rows.
#[derive(Clone)]
pub(crate) struct Documents {
    rooms: Rooms,
    workspace: Arc<str>,
    /// Whether a room is a workspace's own, and so no document of a row.
    is_workspace: IsWorkspace,
    /// Rooms that are known to be this workspace's.
    ours: Arc<Mutex<HashSet<Box<str>>>>,
}

/// Whether there is a workspace of that id.
pub(crate) type IsWorkspace = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A text that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Writing {
    pub text: String,
    /// The tag of the text that it replaces, if it may replace no other.
    pub replaces: Option<String>,
}

/// The guid that a row has in the column for it; none when it has none yet.
pub(crate) fn guid(document: &DocumentDefinition, row: &Value) -> Option<String> {
    let guid = row.get(&document.guid_column)?.as_str()?;
    (!guid.is_empty()).then(|| guid.to_owned())
}

/// Names a version of a text.
pub(crate) fn tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"t-{:x}\"", hasher.finish())
}

impl Documents {
    /// Those of a workspace, whose own room becomes its own, too.
    pub async fn open(
        rooms: Rooms,
        workspace: &str,
        is_workspace: IsWorkspace,
    ) -> Result<Self, StorageError> {
        rooms.claim(vec![workspace.to_owned()], workspace).await?;
        Ok(Self { rooms, workspace: workspace.into(), is_workspace, ours: Arc::default() })
    }

    /// Claims the rooms that rows name, except those that belong to others.
    pub async fn claim(&self, guids: Vec<String>) -> Result<(), StorageError> {
        let new: Vec<_> = {
            let ours = self.ours.lock();
            let new = |guid: &String| !guid.starts_with(SHARED) && !ours.contains(guid.as_str());
            guids.into_iter().filter(new).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let claimed = self.rooms.claim(new.clone(), &self.workspace).await?;
        let claimed = new.into_iter().zip(claimed).filter(|(_, ours)| *ours);
        self.ours.lock().extend(claimed.map(|(guid, _)| guid.into_boxed_str()));
        Ok(())
    }

    /// The text of a document; empty if it was never written.
    pub async fn read(&self, guid: &str) -> Result<String, Error> {
        self.check(guid).await?;
        let room = self.rooms.open_existing(guid).await;
        let room = room.map_err(|source| self.storage(guid, source))?;
        let Some(room) = room else { return Ok(String::new()) };
        let document = room.document().await?;
        order(document.bytes, |text| text.content().to_owned()).await
    }

    /// Replaces the text of a document. Returns once that is durable.
    pub async fn write(
        &self,
        guid: &str,
        writing: Writing,
        author: &Arc<Author>,
    ) -> Result<(), Error> {
        self.check(guid).await?;
        let room = self.rooms.open(guid)?;
        for _ in 0..TRIES {
            let document = room.document().await?;
            let Writing { text: new, replaces } = writing.clone();
            let edit = order(document.bytes, move |text| {
                let stale = replaces.is_some_and(|replaces| replaces != tag(text.content()));
                if stale { None } else { Some(text.replace(&new)) }
            });
            let edit = edit.await?.ok_or_else(|| Error::stale("the text"))?;
            if room.edit_at(document.version, edit, author.clone()).await? {
                return Ok(());
            }
        }
        Err(Error::Conflict)
    }

    /// Disconnects the clients in a document's room, because its row was deleted.
    pub fn close(&self, guid: &str) {
        if self.is_ours(guid) {
            self.rooms.disconnect(guid, 4004, "the row of this document was deleted");
        }
    }

    async fn check(&self, guid: &str) -> Result<(), Error> {
        if !self.is_ours(guid) {
            let claim = self.claim(vec![guid.to_owned()]).await;
            claim.map_err(|source| self.storage(guid, source))?;
        }
        if self.is_ours(guid) {
            return Ok(());
        }
        let message = format!(
            "{guid:?} is a room of others; leave the column empty, and the document gets one of its own"
        );
        Err(ActionError::Invalid(vec![Issue::whole(message)]).into())
    }

    /// Whether a room is known to be of this workspace's rows.
    fn is_ours(&self, guid: &str) -> bool {
        !(self.is_workspace)(guid) && self.ours.lock().contains(guid)
    }

    fn storage(&self, room: &str, source: StorageError) -> Error {
        RoomError::Storage { room: room.to_owned(), source }.into()
    }
}

/// Puts a document's text in order, on a thread of its own, and takes something from it.
async fn order<T: Send + 'static>(
    document: Bytes,
    take: impl FnOnce(&Text) -> T + Send + 'static,
) -> Result<T, Error> {
    static READING: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(READERS));
    // This fails only if the semaphore is closed, which never happens.
    let _turn = READING.acquire().await;
    let read = tokio::task::spawn_blocking(move || {
        let document = Update::scan(document).map_err(|error| error.to_string());
        let document = document.map_err(ActionError::Failed)?;
        Ok::<_, Error>(take(&Text::read(&document, CONTENT)?))
    });
    read.await.map_err(|error| ActionError::Failed(error.to_string()))?
}
