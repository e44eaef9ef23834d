//! Printing results: JSON, indented for people and compact for programs.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON value, indented on a terminal and compact elsewhere.
    Json,
    /// One line of JSON for each row.
    Jsonl,
}

/// Prints results.
pub struct Output<W> {
    to: W,
    format: Format,
    indented: bool,
    /// Members of the list that is being printed.
    members: usize,
}

impl Output<BufWriter<StdoutLock<'static>>> {
    /// On standard output.
    pub fn stdout(format: Format) -> Self {
        let stdout = io::stdout().lock();
        let indented = format == Format::Json && stdout.is_terminal();
        Self { to: BufWriter::new(stdout), format, indented, members: 0 }
    }
}

impl<W: Write> Output<W> {
    /// Prints one value. As `jsonl`, an array is one line for each member.
    pub fn value(mut self, value: &RawValue) -> io::Result<()> {
        if self.format == Format::Jsonl
            && let Ok(members) = serde_json::from_str::<Vec<Box<RawValue>>>(value.get())
        {
            return self.list(&members);
        }
        match self.indented {
            true => self.to.write_all(indent(value, "").as_bytes())?,
            false => self.to.write_all(value.get().as_bytes())?,
        }
        self.to.write_all(b"\n")?;
        self.to.flush()
    }

    /// Prints any value that can be serialised.
    pub fn print(self, value: impl Serialize) -> io::Result<()> {
        self.value(&serde_json::value::to_raw_value(&value)?)
    }

    /// Prints a list.
    pub fn list(mut self, members: &[Box<RawValue>]) -> io::Result<()> {
        for member in members {
            self.member(member)?;
        }
        self.end()
    }

    /// Prints one member of a list that arrives piece by piece. Call [`Self::end`] after the last one.
    pub fn member(&mut self, value: &RawValue) -> io::Result<()> {
        let first = self.members == 0;
        self.members += 1;
        match (self.format, self.indented) {
            (Format::Jsonl, _) => writeln!(self.to, "{}", value.get()),
            (Format::Json, false) => {
                write!(self.to, "{}{}", if first { "[" } else { "," }, value.get())
            }
            (Format::Json, true) => {
                write!(self.to, "{}\n  {}", if first { "[" } else { "," }, indent(value, "  "))
            }
        }
    }

    /// Ends a list.
    pub fn end(mut self) -> io::Result<()> {
        match (self.format, self.members) {
            (Format::Jsonl, _) => {}
            (Format::Json, 0) => writeln!(self.to, "[]")?,
            (Format::Json, _) if self.indented => writeln!(self.to, "\n]")?,
            (Format::Json, _) => writeln!(self.to, "]")?,
        }
        self.to.flush()
    }
}

/// The value on several lines, all of which but the first begin with the margin.
fn indent(value: &RawValue, margin: &str) -> String {
    let value: Value = serde_json::from_str(value.get()).unwrap_or_default();
    format!("{value:#}").replace('\n', &format!("\n{margin}"))
}

/// The progress of a long command, for people who watch it on a terminal.
pub struct Progress {
    what: &'static str,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// How often it changes.
    const BEAT: Duration = Duration::from_millis(100);

    pub fn new(what: &'static str) -> Self {
        Self { what, shown: None, terminal: io::stderr().is_terminal() }
    }

    /// Shows how many rows are done.
    pub fn rows(&mut self, count: usize) {
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= Self::BEAT);
        if self.terminal && due {
            self.shown = Some(Instant::now());
            let _ = write!(io::stderr(), "\r{} {count} rows", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            // Return to the first column and clear the line.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, indented: bool, json: &str) -> String {
        let mut text = Vec::new();
        let output = Output { to: &mut text, format, indented, members: 0 };
        output.value(&RawValue::from_string(json.to_owned()).expect("JSON")).expect("memory");
        String::from_utf8(text).expect("JSON is text")
    }

    #[test]
    fn results_are_indented_for_people_compact_for_programs_and_lines_on_demand() {
        let rows = r#"[{"id":"1","n":1.0},{"id":"2"}]"#;
        assert_eq!(printed(Format::Json, false, rows), format!("{rows}\n"));
        assert_eq!(
            printed(Format::Jsonl, false, rows),
            "{\"id\":\"1\",\"n\":1.0}\n{\"id\":\"2\"}\n"
        );
        assert_eq!(printed(Format::Jsonl, false, r#"{"a":[1]}"#), "{\"a\":[1]}\n");
        assert_eq!(printed(Format::Json, true, r#"{"a":[1]}"#), "{\n  \"a\": [\n    1\n  ]\n}\n");
    }

    #[test]
    fn a_list_that_comes_piece_by_piece_is_printed_like_one_that_is_there() {
        for (members, indented) in [(0, true), (0, false), (1, true), (2, true), (2, false)] {
            let list: Vec<_> = (0..members).map(|n| serde_json::json!({ "n": n })).collect();
            let whole = serde_json::to_string(&list).expect("JSON");
            let mut text = Vec::new();
            let output = Output { to: &mut text, format: Format::Json, indented, members: 0 };
            let raw: Vec<Box<RawValue>> = serde_json::from_str(&whole).expect("JSON");
            output.list(&raw).expect("memory");
            let text = String::from_utf8(text).expect("JSON is text");
            assert_eq!(text, printed(Format::Json, indented, &whole));
        }
    }
}
