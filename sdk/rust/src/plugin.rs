//! The component's exports, on top of the author's [`Workspace`].

use std::cell::OnceCell;
use std::panic;

use crate::__bindings::epicenter::workspace::types as wit;
use crate::__bindings::exports::epicenter::workspace::guest;
use crate::error::Error;
use crate::issue::Issue;
use crate::log;
use crate::workspace::Workspace;

/// What [`export!`](crate::export) makes of the author's function.
pub trait Plugin {
    /// The version of the author's package.
    const VERSION: &str;

    /// Builds the workspace.
    fn workspace() -> Workspace;
}

/// The workspace of this instance, built when the host first calls.
fn workspace<P: Plugin>() -> &'static Workspace {
    thread_local! {
        // One instance holds one plugin and has one thread.
        static WORKSPACE: OnceCell<&'static Workspace> = const { OnceCell::new() };
    }
    WORKSPACE.with(|workspace| {
        *workspace.get_or_init(|| {
            report_panics();
            Box::leak(Box::new(P::workspace()))
        })
    })
}

/// Writes each panic to the host's log. Without WASI there is no standard error, and all that the
/// host would see is that the guest executed `unreachable`.
fn report_panics() {
    panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("no message");
        let message = match panic.location() {
            Some(place) => format!("panicked at {place}: {text}"),
            None => format!("panicked: {text}"),
        };
        log::write(log::Level::Error, &message);
    }));
}

fn to_host(issues: Vec<Issue>) -> Vec<wit::Issue> {
    issues.into_iter().map(wit::Issue::from).collect()
}

impl<P: Plugin> guest::Guest for P {
    fn define() -> guest::WorkspaceDefinition {
        workspace::<P>().definition(P::VERSION)
    }

    fn parse_rows(table: String, rows: Vec<String>) -> Vec<Result<String, Vec<wit::Issue>>> {
        let rows = workspace::<P>().parse_rows(&table, &rows);
        rows.into_iter().map(|row| row.map_err(to_host)).collect()
    }

    fn parse_kv(key: String, value: String) -> Result<String, Vec<wit::Issue>> {
        workspace::<P>().parse_kv(&key, &value).map_err(to_host)
    }

    fn check_change(change: wit::Change) -> Result<(), wit::Error> {
        workspace::<P>().check_change(&change).map_err(told)
    }

    fn run_action(path: String, input: String) -> Result<String, wit::Error> {
        workspace::<P>().run_action(&path, &input).map_err(told)
    }
}

/// Tells the author where it failed, and gives what the caller is told.
fn told(error: Error) -> wit::Error {
    if let Some(place) = error.place() {
        log::write(log::Level::Error, &format!("{place}: {error}"));
    }
    error.into_host()
}
