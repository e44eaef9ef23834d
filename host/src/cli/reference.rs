//! `docs/flags.md`, the page with every command and flag, is generated from the command line itself. `cargo xtask
//! docs` writes it, and the test compares it.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// Set by `cargo xtask docs`: the page is written instead of compared.
const WRITE: &str = "WRITE_DOCS";

const HEAD: &str = "\
# Flags

<!-- Written by `cargo xtask docs` from the command line itself; edit the help texts in host/src/cli and \
host/src/commands. -->

Every command and flag of the binary, as `host --help` and `host COMMAND --help` list them. The
[command line](command-line.md) has a page that explains the commands.
";

#[test]
fn the_page_of_flags_is_what_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flags.md");
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).expect("the page is there");
    assert!(written == page, "docs/flags.md is out of date: run `cargo xtask docs`");
}

#[test]
fn every_flag_is_explained() {
    let mut server = Cli::command();
    server.build();
    let mut commands = vec![&server];
    while let Some(command) = commands.pop() {
        for arg in command.get_arguments().filter(|arg| !is_usual(arg)) {
            let help = text(arg);
            let named = format!("{} {}", command.get_name(), arg.get_id());
            assert!(help.len() > 3, "{named}: {help:?}");
            for value in possible(arg) {
                let help = value.get_help().map(ToString::to_string).unwrap_or_default();
                let says_nothing = ["", "It is.", "It is not.", "Yes.", "No."].contains(&&*help);
                assert!(!says_nothing, "{named} {}: {help:?}", value.get_name());
            }
        }
        commands.extend(command.get_subcommands().filter(|inner| inner.get_name() != "help"));
    }
}

fn page() -> String {
    let mut server = Cli::command();
    server.build();
    let mut page = HEAD.to_owned();
    section(&mut page, &server, None, 2);
    page
}

/// Writes a command and those below it. `outer` has the flags that need not be said again.
fn section(page: &mut String, command: &Command, outer: Option<&[&Command]>, level: usize) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    _ = write!(page, "\n{} `{name}`\n\n{about}\n", "#".repeat(level));
    if !command.has_subcommands() || outer.is_none() {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace("\n       ", "\n");
        _ = write!(page, "\n```sh\n{usage}\n```\n");
    }
    let outer = outer.unwrap_or_default();
    let known = |arg: &Arg| outer.iter().any(|outer| has(outer, arg));
    let all: Vec<_> = command.get_arguments().filter(|arg| !is_usual(arg)).collect();
    let own: Vec<_> = all.iter().copied().filter(|arg| !known(arg)).collect();
    let mut headings = vec![None];
    for arg in &own {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    for heading in headings {
        let mut rows = own.iter().filter(|arg| arg.get_help_heading() == heading).peekable();
        if rows.peek().is_none() {
            continue;
        }
        if let Some(heading) = heading {
            _ = write!(page, "\n{} {heading}\n", "#".repeat(level + 1));
        }
        page.push_str("\n| flag | default | |\n|---|---|---|\n");
        rows.for_each(|arg| row(page, arg));
    }
    if all.len() > own.len() {
        let outer = outer.iter().filter(|outer| outer.get_arguments().any(|arg| !is_usual(arg)));
        let outer = outer.filter(|outer| all.iter().any(|arg| has(outer, arg)));
        let whose: Vec<_> =
            outer.map(|outer| format!("`{}`", outer.get_bin_name().unwrap_or("host"))).collect();
        _ = write!(page, "\nAll flags of {} are accepted, too.\n", whose.join(" and "));
    }
    if let Some(after) = command.get_after_help() {
        _ = write!(page, "\n{after}\n");
    }
    let outer = [outer, &[command]].concat();
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        section(page, inner, Some(&outer), (level + 1).min(3));
    }
}

/// Whether a command has just this flag.
fn has(command: &Command, arg: &Arg) -> bool {
    let mut args = command.get_arguments();
    args.any(|other| other.get_id() == arg.get_id() && text(other) == text(arg))
}

fn row(page: &mut String, arg: &Arg) {
    // What stands between angle brackets or in backticks is no markup there.
    let shown = arg.to_string();
    let mut help = text(arg);
    if arg.get_action().takes_values() {
        for value in possible(arg) {
            let meaning = value.get_help().map(ToString::to_string).unwrap_or_default();
            let meaning = if meaning.is_empty() { meaning } else { format!(": {meaning}") };
            _ = write!(help, "<br>`{}`{meaning}", value.get_name());
        }
    }
    if let Some(variable) = arg.get_env() {
        _ = write!(help, "<br>In the environment: `{}`", variable.to_string_lossy());
    }
    let defaults: Vec<_> = match arg.get_action().takes_values() {
        true => arg.get_default_values().iter().map(|it| format!("`{}`", it.display())).collect(),
        false => Vec::new(),
    };
    let cells = [format!("`{shown}`"), defaults.join(", "), help];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    _ = writeln!(page, "| {} |", cells.join(" | "));
}

/// The whole help, on one line.
fn text(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    help.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn possible(arg: &Arg) -> Vec<clap::builder::PossibleValue> {
    match arg.get_action().takes_values() {
        true => arg.get_possible_values(),
        false => Vec::new(),
    }
}

/// What clap adds to every command.
fn is_usual(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}
