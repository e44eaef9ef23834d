//! The styles of output for people. `anstream` strips them if the output is not a terminal.

use anstyle::{AnsiColor, Reset, Style};

/// Emphasis.
pub const STRONG: Style = Style::new().bold();
/// Details.
pub const DIM: Style = Style::new().dimmed();
/// URLs.
pub const LINK: Style = AnsiColor::Cyan.on_default();
/// Success.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Failure.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Back to plain text.
pub const PLAIN: Reset = Reset;
