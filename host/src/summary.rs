//! The summary that a server prints when it has started.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use host_auth::SignUp;
use host_plugins::PluginStatus;
use host_workspace::Definition;
use host_workspace::definition::ActionKind;

use crate::access::Auth;
use crate::hub::HubServer;
use crate::local::LocalServer;
use crate::style::{BAD, DIM, GOOD, LINK, PLAIN, STRONG};

/// Prints a line. If nobody reads the output any more, as behind `| head`, the server keeps
/// running.
macro_rules! say {
    ($($line:tt)*) => {{
        let _ = writeln!(anstream::stdout(), $($line)*);
    }};
}

/// Prints the summary of a local server: every workspace with its tables, actions and room, where
/// it was loaded from and how long that took, and what failed and why.
pub fn local(server: &LocalServer, took: Duration) {
    let address = server.running.address();
    let base = format!("http://{address}");
    title("Epicenter Local", &base);
    let definitions = server.workspaces.definitions();
    let status = server.plugins.status();
    for definition in &definitions {
        let plugin =
            status.iter().find(|plugin| plugin.workspace.as_deref() == Some(&definition.id));
        workspace(definition, plugin, &base, &format!("ws://{address}"));
    }
    for plugin in status.iter().filter(|plugin| plugin.error.is_some()) {
        let error = plugin.error.as_deref().unwrap_or_default();
        say!("  {BAD}✗ {}{PLAIN} was not loaded", plugin.file);
        error.lines().for_each(|fault| say!("    {fault}"));
        say!();
    }
    if definitions.is_empty() {
        say!("  No workspaces yet: drop a .wasm file into {}\n", folder(&server.config.plugins));
    }
    say!(
        "  {DIM}plugins{PLAIN}  {}  {DIM}watched: overwrite a file and it is live{PLAIN}",
        folder(&server.config.plugins)
    );
    say!("  {DIM}data{PLAIN}     {}", folder(&server.config.data_dir));
    let access = &server.config.access;
    match &access.hub_url {
        Some(hub) => {
            say!("  {DIM}hub{PLAIN}      {LINK}{hub}{PLAIN}  {DIM}its sessions are required{PLAIN}")
        }
        None if !address.ip().is_loopback() => {
            everybody(&format!("anyone who reaches {address} can read and write everything"));
        }
        None => {}
    }
    ready(took);
}

/// Prints the summary of a hub.
pub fn hub(server: &HubServer, took: Duration) {
    let address = server.running.address();
    title("Epicenter Hub", &format!("http://{address}"));
    let (auth, shared) = (server.config.auth(), server.config.access.sync_token.is_some());
    let whose = match auth {
        _ if shared => "open to everybody with the shared token",
        Auth::Open => "open to everybody",
        Auth::Required => "each account has its own",
    };
    let room = format!("ws://{address}/rooms/{{room}}");
    say!("  {DIM}rooms{PLAIN}    {LINK}{room}{PLAIN}  {DIM}{whose}{PLAIN}");
    let sign_up = match server.config.accounts.sign_up {
        SignUp::Open => "anybody may sign up",
        SignUp::Invite => "only people with an invitation may sign up: host users invite",
        SignUp::Closed => "nobody may sign up: host users add",
    };
    say!("  {DIM}accounts{PLAIN} {LINK}http://{address}/auth{PLAIN}  {DIM}{sign_up}{PLAIN}");
    if let Some(ai) = server.running.ai() {
        let ready = ai.providers.iter().filter(|provider| provider.is_ready());
        let names: Vec<_> = ready.map(|provider| provider.name()).collect();
        let names =
            if names.is_empty() { "with the caller's key".into() } else { names.join(", ") };
        say!("  {DIM}ai{PLAIN}       {LINK}http://{address}/ai/chat{PLAIN}  {DIM}{names}{PLAIN}");
    }
    say!("  {DIM}data{PLAIN}     {}", folder(&server.config.data_dir));
    if auth == Auth::Open && server.config.is_public() {
        let what = if shared { "use AI and the proxy" } else { "read and write every room" };
        everybody(&format!("anyone who reaches {address} can {what}"));
    }
    ready(took);
}

/// Warns that no session is required although other machines may connect.
fn everybody(what: &str) {
    say!("\n  {BAD}!{PLAIN} {STRONG}{what}: --auth open{PLAIN}");
}

fn title(name: &str, base: &str) {
    say!("\n  {STRONG}{name}{PLAIN} {}  {LINK}{base}{PLAIN}\n", env!("CARGO_PKG_VERSION"));
}

fn ready(took: Duration) {
    say!("\n  {GOOD}ready{PLAIN} in {} ms  {DIM}Ctrl-C stops{PLAIN}\n", took.as_millis());
}

fn workspace(definition: &Definition, plugin: Option<&PluginStatus>, base: &str, socket: &str) {
    let id = &definition.id;
    print_head(definition, plugin);
    let mut label = "tables";
    for table in &definition.tables {
        let url = format!("{base}/workspaces/{id}/tables/{}", table.name);
        say!("    {DIM}{label:<8}{PLAIN} {:<24} {LINK}{url}{PLAIN}", table.name);
        label = "";
    }
    let mut label = "actions";
    for action in &definition.actions {
        let method = match action.kind {
            ActionKind::Query => "GET",
            ActionKind::Mutation => "POST",
        };
        let url = format!("{base}/workspaces/{id}/actions/{}", action.path);
        say!("    {DIM}{label:<8}{PLAIN} {method:<4} {:<19} {LINK}{url}{PLAIN}", action.path);
        label = "";
    }
    say!("    {DIM}{:<8}{PLAIN} {:<24} {LINK}{socket}/rooms/{id}{PLAIN}\n", "room", "sync");
}

fn print_head(definition: &Definition, plugin: Option<&PluginStatus>) {
    let mut head = format!("  {GOOD}●{PLAIN} {STRONG}{}{PLAIN}", definition.id);
    if definition.title != definition.id {
        head += &format!("  {}", definition.title);
    }
    say!("{head}");
    let Some(plugin) = plugin else { return };
    let mut facts = vec![plugin.file.clone()];
    facts.extend(plugin.version.as_ref().map(|version| format!("version {version}")));
    facts.extend(plugin.size.map(|size| format!("{} KiB", size.div_ceil(1024))));
    if let Some(took) = plugin.took_ms {
        let how = if plugin.from_cache == Some(true) { "loaded from cache" } else { "compiled" };
        facts.push(format!("{how} in {took} ms"));
    }
    if let Some(rows) = plugin.rows {
        facts.push(format!("{rows} row{}", if rows == 1 { "" } else { "s" }));
    }
    facts.extend(plugin.invalid.filter(|n| *n > 0).map(|n| format!("{n} of them invalid")));
    say!("    {DIM}{}{PLAIN}", facts.join(", "));
}

fn folder(path: &Path) -> String {
    let shown = path.display().to_string();
    if path.is_relative() && !shown.starts_with('.') { format!("./{shown}") } else { shown }
}
