//! What can be known about a write-ahead log that was left behind.
//!
//! After a crash SQLite takes over the commits of the log up to the first frame whose checksum does not hold, because a
//! commit that was under way may have been torn. But it cannot have been more than one: each is on disk before the next
//! begins. So two commits that follow each other from a broken frame on say that the frame was damaged later, and that
//! taking over only what is before it would lose what was acknowledged. That they follow is told by their checksums, each
//! of which continues the one before: commits that failed, one after the other, may have left several in the same place.
//! Damage to the last commit of a log cannot be told from a torn one.
//!
//! The format is that of <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// A checksum.
type Sum = (u32, u32);

/// A log that was read to its end.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Pages that it holds, by their number, from 1 on.
    pub pages: HashSet<u32>,
    /// Pages of the database after the last commit; none if there is no commit.
    pub size: Option<u32>,
    /// Commits that follow each other from a broken frame on.
    pub lost: usize,
    /// Whether its header was changed after it was written, so that SQLite takes over nothing.
    pub bad_header: bool,
}

impl Log {
    /// Whether it was damaged, and not only torn by a crash.
    pub fn is_damaged(&self) -> bool {
        self.bad_header || self.lost > 1
    }

    /// Reads a log; `None` if there is none.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if file.metadata()?.len() == 0 {
            return Ok(None);
        }
        let mut file = BufReader::with_capacity(256 * 1024, file);
        let mut log = Self::default();
        let mut header = [0; HEADER];
        if !fill(&mut file, &mut header)? {
            return Ok(Some(log));
        }
        let Some(page) = page_size(&header) else {
            log.bad_header = (0..HEADER).any(|at| was_changed_at(&header, at));
            return Ok(Some(log));
        };
        let words = Words { big: header[3] & 1 == 1 };
        let mut frame = vec![0; FRAME + page];
        let mut pages = Vec::new();
        // What the checksum of the frame before may be. A broken one has two: what it says, and what it should say.
        let mut before = vec![words.add((0, 0), &header[..24])];
        let mut broken = false;
        while fill(&mut file, &mut frame)? {
            // Frames of the log's life before are left in place behind those of this one.
            let ours = frame[8..16] == header[16..24];
            let (number, size) = (word(&frame, 0), word(&frame, 4));
            let says = (word(&frame, 16), word(&frame, 20));
            let should = |sum: &Sum| words.add(words.add(*sum, &frame[..8]), &frame[FRAME..]);
            let follows = ours && before.iter().any(|sum| should(sum) == says);
            match (broken, follows) {
                (_, true) => before = vec![says],
                (false, false) => before = vec![says, should(&before[0])],
                (true, false) => break,
            }
            broken |= !follows;
            if broken {
                log.lost += usize::from(size > 0);
                continue;
            }
            pages.push(number);
            if size > 0 {
                log.pages.extend(pages.drain(..));
                log.size = Some(size);
            }
        }
        Ok(Some(log))
    }
}

/// The bytes of a page, if the header is whole.
fn page_size(header: &[u8; HEADER]) -> Option<usize> {
    let words = Words { big: header[3] & 1 == 1 };
    let whole = word(header, 0) & !1 == 0x377f_0682
        && words.add((0, 0), &header[..24]) == (word(header, 24), word(header, 28));
    let page = word(header, 8) as usize;
    (whole && page.is_power_of_two() && (512..=65536).contains(&page)).then_some(page)
}

/// Whether the header would be whole with another byte at one place. A header that was torn, where the log begins anew, is
/// not, unless only the counter of such beginnings was written; so that does not count.
fn was_changed_at(header: &[u8; HEADER], at: usize) -> bool {
    let mut other = *header;
    !(12..16).contains(&at)
        && (0..=255).any(|byte| {
            other[at] = byte;
            page_size(&other).is_some()
        })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Fills a buffer; false if the file ends before.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| true),
    }
}

/// How the words of a checksum are read: in the byte order of the machine that wrote the log.
struct Words {
    big: bool,
}

impl Words {
    fn add(&self, (mut one, mut two): Sum, bytes: &[u8]) -> Sum {
        let read = |bytes: &[u8]| match bytes.try_into() {
            Ok(word) if self.big => u32::from_be_bytes(word),
            Ok(word) => u32::from_le_bytes(word),
            Err(_) => 0,
        };
        for pair in bytes.chunks_exact(8) {
            one = one.wrapping_add(read(&pair[..4])).wrapping_add(two);
            two = two.wrapping_add(read(&pair[4..])).wrapping_add(one);
        }
        (one, two)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A log with ten commits, as a crash leaves it.
    fn log() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        connection.execute_batch("CREATE TABLE a (b TEXT)").unwrap();
        for number in 0..9 {
            connection.execute("INSERT INTO a VALUES (?1)", ["x".repeat(number * 1000)]).unwrap();
        }
        std::fs::read(folder.path().join("a.db-wal")).unwrap()
    }

    fn read(bytes: &[u8]) -> Log {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Log::read(file.path()).unwrap().unwrap_or_default()
    }

    #[test]
    fn a_log_that_was_torn_is_not_damaged() {
        let whole = log();
        let read_whole = read(&whole);
        assert!(!read_whole.is_damaged() && read_whole.size.is_some(), "{read_whole:?}");
        assert!(read_whole.pages.contains(&1));
        for length in (0..whole.len()).step_by(97) {
            assert!(!read(&whole[..length]).is_damaged(), "{length} bytes");
        }
        // The last commit has reached the disk in part.
        let mut torn = whole.clone();
        let last = whole.len() - 100;
        torn[last..].fill(0);
        assert_eq!(read(&torn).lost, 1);
        assert!(!read(&torn).is_damaged());
        // The log begins anew, and its first bytes have reached the disk.
        let mut next = whole.clone();
        next[15] ^= 1;
        next[16..24].fill(7);
        assert!(!read(&next).is_damaged());
    }

    #[test]
    fn a_byte_that_changed_is_noticed_if_commits_follow() {
        let whole = log();
        for at in (HEADER..whole.len() / 2).step_by(61).chain([0, 3, 5, 10, 17, 30]) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            assert!(read(&damaged).is_damaged(), "byte {at}");
        }
    }
}
