//! A guest's output: its log lines, limited for each call, and its last words.
//!
//! Lines arrive through the contract's `log` and through WASI's stdout and stderr. All become
//! events of the `tracing` target `plugin`, with the plugin, its workspace, the call and the
//! request as fields. A guest that is about to trap usually says why first (the SDKs' panic hooks
//! log an error, a language runtime prints to stderr). The last such lines are kept, because they
//! make the error worth reading.

use std::sync::Arc;

/// Lines of stderr kept as last words. A Python traceback gives the reason in its last line, a Rust
/// panic in the second of three.
const STDERR_TAIL: usize = 4;

/// The severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// One of the two streams of WASI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdio {
    Out,
    Err,
}

/// The log of the call that an instance is serving.
pub(crate) struct Log {
    plugin: Arc<str>,
    workspace: Arc<str>,
    max_lines: usize,
    max_bytes: usize,
    call: String,
    request_id: Arc<str>,
    lines: usize,
    dropped: usize,
    last_error: Option<String>,
    stderr_tail: Vec<String>,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Log {
    pub(crate) fn new(
        plugin: Arc<str>,
        workspace: Arc<str>,
        max_lines: usize,
        max_bytes: usize,
    ) -> Self {
        Self {
            plugin,
            workspace,
            max_lines,
            max_bytes,
            call: String::new(),
            request_id: "".into(),
            lines: 0,
            dropped: 0,
            last_error: None,
            stderr_tail: Vec::new(),
            out: Vec::new(),
            err: Vec::new(),
        }
    }

    /// Starts the log of a call.
    pub(crate) fn begin(&mut self, call: String, request_id: Arc<str>) {
        self.call = call;
        self.request_id = request_id;
        self.lines = 0;
        self.dropped = 0;
        self.last_error = None;
        self.stderr_tail.clear();
        self.out.clear();
        self.err.clear();
    }

    /// Writes what is left, and the number of dropped lines.
    pub(crate) fn end(&mut self) {
        self.flush(Stdio::Out);
        self.flush(Stdio::Err);
        if self.dropped > 0 {
            let message =
                format!("{} more lines dropped; a call may log {}", self.dropped, self.max_lines);
            self.emit(Level::Warn, &message);
            self.dropped = 0;
        }
    }

    /// What the guest said last before it failed.
    pub(crate) fn last_words(&self) -> Option<String> {
        if let Some(error) = &self.last_error {
            return Some(error.clone());
        }
        (!self.stderr_tail.is_empty()).then(|| self.stderr_tail.join("; "))
    }

    /// Writes one line.
    pub(crate) fn write(&mut self, level: Level, message: &str) {
        let message = one_line(message, self.max_bytes);
        if level == Level::Error {
            self.last_error = Some(message.clone());
        }
        if self.lines >= self.max_lines {
            self.dropped += 1;
            return;
        }
        self.lines += 1;
        self.emit(level, &message);
    }

    /// Takes bytes of a stream and logs the lines that they complete.
    pub(crate) fn stdio(&mut self, stream: Stdio, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let max = self.max_bytes;
            let buffer = self.buffer(stream);
            let room = max.saturating_sub(buffer.len());
            buffer.extend_from_slice(part.get(..room).unwrap_or(part));
            if part.ends_with(b"\n") || self.buffer(stream).len() >= max {
                self.flush(stream);
            }
        }
    }

    fn flush(&mut self, stream: Stdio) {
        let line = std::mem::take(self.buffer(stream));
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        match stream {
            Stdio::Out => self.write(Level::Info, line),
            Stdio::Err => {
                if self.stderr_tail.len() == STDERR_TAIL {
                    self.stderr_tail.remove(0);
                }
                self.stderr_tail.push(one_line(line, self.max_bytes));
                self.write(Level::Warn, line);
            }
        }
    }

    fn buffer(&mut self, stream: Stdio) -> &mut Vec<u8> {
        match stream {
            Stdio::Out => &mut self.out,
            Stdio::Err => &mut self.err,
        }
    }

    fn emit(&self, level: Level, message: &str) {
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    target: "plugin",
                    tracing::Level::$level,
                    workspace = %self.workspace,
                    plugin = %self.plugin,
                    action = %self.call,
                    request_id = %self.request_id,
                    "{message}"
                )
            };
        }
        match level {
            Level::Debug => event!(DEBUG),
            Level::Info => event!(INFO),
            Level::Warn => event!(WARN),
            Level::Error => event!(ERROR),
        }
    }
}

/// A call that is cut short, because its time was up or its caller disconnected, is logged as well.
impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}

/// Truncates a message to its limit and escapes control characters, so that a guest can neither
/// forge a line of the host's log nor control the reader's terminal.
pub(crate) fn one_line(message: &str, max_bytes: usize) -> String {
    let cut = &message[..message.floor_char_boundary(max_bytes)];
    let mut line = String::with_capacity(cut.len());
    for character in cut.chars() {
        if character.is_control() && character != '\t' {
            line.extend(character.escape_debug());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Log {
        let mut log = Log::new("a.wasm".into(), "a".into(), 3, 16);
        log.begin("define".into(), "".into());
        log
    }

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let mut log = log();
        (0..10).for_each(|_| log.write(Level::Info, "hello"));
        assert_eq!((log.lines, log.dropped), (3, 7));
    }

    #[test]
    fn a_stream_without_line_ends_takes_bounded_memory() {
        let mut log = log();
        log.stdio(Stdio::Out, &[b'x'; 100_000]);
        assert!(log.out.len() <= 16);
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        assert_eq!(one_line("a\nb\u{1b}[2J", 100), r"a\nb\u{1b}[2J");
        assert_eq!(one_line("ééé", 3), "é");
    }

    #[test]
    fn an_error_line_or_else_the_end_of_stderr_are_the_last_words() {
        let mut log = log();
        log.stdio(Stdio::Err, b"one\ntwo\nthr");
        log.stdio(Stdio::Err, b"ee\n");
        assert_eq!(log.last_words().as_deref(), Some("one; two; three"));
        log.write(Level::Error, "panicked");
        assert_eq!(log.last_words().as_deref(), Some("panicked"));
    }
}
