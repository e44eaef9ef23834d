//! Runs build tools. Their output is shown as it arrives, and its end is kept for the error.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;

use anyhow::anyhow;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

/// How much of a program's output is kept, from the end. 64 KiB: errors are printed last, and
/// nobody reads more.
const KEPT: usize = 64 << 10;

/// Longest line in bytes; a longer one is split. 16 KiB: nobody prints longer ones on purpose.
const LINE: u64 = 16 << 10;

/// Maximum bytes read from a program's standard output. 64 MiB: Cargo's messages for a thousand
/// crates take less than one.
const RESULT: u64 = 64 << 20;

/// Why a build failed.
#[derive(Debug)]
pub struct BuildError {
    reason: anyhow::Error,
    /// The end of the toolchain's output, without colours; empty if it was not run.
    pub output: String,
}

impl BuildError {
    /// Prepends a reason to the error's message.
    pub(super) fn context(self, reason: String) -> Self {
        Self { reason: self.reason.context(reason), ..self }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.reason)
    }
}

impl std::error::Error for BuildError {}

impl From<anyhow::Error> for BuildError {
    fn from(reason: anyhow::Error) -> Self {
        Self { reason, output: String::new() }
    }
}

/// Runs a program and returns its standard output. `remedy` says what to do if the program is not
/// installed. Dropping the future kills the program.
pub async fn run_tool(
    command: Command,
    name: &str,
    remedy: &'static str,
) -> Result<String, BuildError> {
    start(command, name, Some(remedy)).await
}

/// The same for a program that must be installed.
pub async fn run(command: Command, name: &str) -> Result<String, BuildError> {
    start(command, name, None).await
}

async fn start(
    mut command: Command,
    name: &str,
    remedy: Option<&'static str>,
) -> Result<String, BuildError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match (error.kind(), remedy) {
        (ErrorKind::NotFound, Some(remedy)) => anyhow!(remedy),
        _ => anyhow!("{name} cannot be started: {error}"),
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = async {
        let mut text = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(RESULT).read_to_end(&mut text).await?;
        }
        std::io::Result::Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let (result, said) = tokio::join!(read, show(stderr));
    let ended = async { Ok((child.wait().await?, result?)) };
    let (status, result): (_, String) = ended
        .await
        .map_err(|error: std::io::Error| anyhow!("the output of {name} cannot be read: {error}"))?;
    if status.success() {
        return Ok(result);
    }
    // Some compilers write errors to standard output. Cargo's messages there are JSON.
    let is_text = !result.starts_with('{');
    if is_text {
        anstream::eprint!("{result}");
    }
    let output = if is_text { said + result.as_str() } else { said };
    Err(BuildError { reason: anyhow!("{name} failed"), output: tail(&output).to_owned() })
}

/// Shows the output as it arrives, and returns its end.
async fn show(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(from) = from else { return String::new() };
    let mut from = BufReader::new(from);
    let mut said = String::new();
    let mut line = Vec::new();
    while let Ok(1..) = (&mut from).take(LINE).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        anstream::eprint!("{text}");
        said += &anstream::adapter::strip_str(&text).to_string();
        line.clear();
        if said.len() > 2 * KEPT {
            said = tail(&said).to_owned();
        }
    }
    said
}

/// The last [`KEPT`] bytes of a text, or slightly fewer so as not to split a character.
fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(KEPT);
    (from..text.len()).find_map(|at| text.get(at..)).unwrap_or_default()
}

/// Whether the first file is newer than the second, or the second is missing.
pub fn is_newer(first: &Path, second: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    match (modified(first), modified(second)) {
        (Some(first), Some(second)) => first > second,
        (_, None) => true,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_text_is_kept_and_no_letter_is_cut() {
        let long = "ä".repeat(KEPT);
        assert!(tail(&long).len() <= KEPT && long.ends_with(tail(&long)));
        assert_eq!(tail("short"), "short");
    }

    #[tokio::test]
    async fn what_a_program_says_is_in_the_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let error = run(command, "it").await.unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.output.as_str()),
            ("it failed", "two\none\n")
        );
        let error =
            run_tool(Command::new("no-such-program"), "it", "install it").await.unwrap_err();
        assert_eq!(error.to_string(), "install it");
    }
}
