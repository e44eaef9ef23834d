//! Progress messages of a slow startup.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Minimum time between messages. 1 s: a faster start needs none.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// How often an unchanged message is repeated. 10 s: a sign of life that does not flood the log.
const UNCHANGED: Duration = Duration::from_secs(10);

/// Names of files in one line.
const NAMED: usize = 4;

/// The last message.
#[derive(Default)]
pub(super) struct Progress {
    line: String,
    at: Option<Instant>,
}

impl Progress {
    /// Logs which files are being processed, if that has changed. `files` lists all files, each
    /// with whether a job is running; `compiled` lists those that are being compiled.
    pub(super) fn tell<'f>(
        &mut self,
        files: impl Iterator<Item = (&'f str, bool)>,
        compiled: &[Arc<str>],
    ) {
        let (mut loaded, mut done, mut all) = (Vec::new(), 0, 0);
        for (file, is_working) in files {
            all += 1;
            if !is_working {
                done += 1;
            } else if !compiled.iter().any(|compiled| **compiled == *file) {
                loaded.push(file.to_owned());
            }
        }
        let compiled: Vec<_> = compiled.iter().map(|file| file.to_string()).collect();
        let parts = [("compiling", compiled), ("loading", loaded)];
        let parts = parts.iter().filter(|(_, files)| !files.is_empty());
        let parts = parts.map(|(what, files)| format!("{what} {}", some(files)));
        let line = parts.collect::<Vec<_>>().join(", ");
        let is_news = self.line != line || self.at.is_none_or(|at| at.elapsed() >= UNCHANGED);
        if is_news && !line.is_empty() {
            tracing::info!(target: "progress", "{line}; {done} of {all} plugins are ready");
            *self = Self { line, at: Some(Instant::now()) };
        }
    }
}

/// The first names of a list, and the number of further ones.
fn some(files: &[String]) -> String {
    let (named, more) = files.split_at(files.len().min(NAMED));
    let named = named.join(", ");
    if more.is_empty() { named } else { format!("{named} and {} more", more.len()) }
}
