//! `host check`: what plugins define, and everything that is wrong with them, without serving them.
//!
//! They are inspected in a temporary folder, by the code that serves them.

use std::path::{Path, PathBuf};

use anstream::println;
use anyhow::{Context, Result, bail, ensure};
use host_plugins::{Inspection, Limits};
use host_workspace::Definition;
use host_workspace::definition::{ActionKind, OnDelete};

use super::output::{Format, Output};
use super::plugin::Copy;
use crate::style::{BAD, DIM, GOOD, PLAIN, STRONG};

/// `host check`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File of a plugin, folder of a plugin in scripts, or folder of plugins.
    plugin: PathBuf,
    /// Format of the output; by default `text` on a terminal, and `json` elsewhere.
    #[arg(long, value_enum)]
    format: Option<CheckFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CheckFormat {
    /// Lines for people to read.
    Text,
    /// One JSON value; an array of them for a folder of plugins.
    Json,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let path = &args.plugin;
    let shown = path.display();
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let for_people = args.format.map_or(is_terminal, |format| format == CheckFormat::Text);
    let is_script = path.ends_with("workspace.rhai");
    let one = path.is_file() || path.join("workspace.rhai").is_file();
    let found = if is_script {
        let folder = path.canonicalize().with_context(|| format!("there is no file {shown}"))?;
        one_of(folder.parent().unwrap_or(Path::new("/"))).await?
    } else if one {
        one_of(path).await?
    } else {
        ensure!(path.is_dir(), "there is no file {shown}");
        host_plugins::inspect(path).await?
    };
    ensure!(
        !found.is_empty(),
        "there is no plugin in {shown}: a plugin is a .wasm file, or a folder with a workspace.rhai"
    );
    if for_people {
        found.iter().for_each(describe);
    } else if one {
        Output::stdout(Format::Json).print(found.first())?;
    } else {
        Output::stdout(Format::Json).print(&found)?;
    }
    let broken: Vec<_> = found.iter().filter(|plugin| !plugin.faults.is_empty()).collect();
    if broken.is_empty() {
        return Ok(());
    }
    if !for_people {
        for plugin in &broken {
            for fault in &plugin.faults {
                // A fault in another file of the plugin names that file itself.
                anstream::eprintln!("{}: {fault}", plugin.file);
            }
        }
    }
    bail!("{} of {} cannot be served", broken.len(), found.len())
}

async fn one_of(plugin: &Path) -> Result<Vec<Inspection>> {
    let copy = Copy::of(plugin)?;
    Ok(host_plugins::inspect(&copy.plugins).await?)
}

fn describe(plugin: &Inspection) {
    let good = plugin.faults.is_empty();
    let (mark, style) = if good { ("●", GOOD) } else { ("✗", BAD) };
    let kib = plugin.size.div_ceil(1024);
    println!("\n  {style}{mark}{PLAIN} {STRONG}{}{PLAIN}  {DIM}{kib} KiB{PLAIN}", plugin.file);
    if let Some(definition) = &plugin.definition {
        define(definition);
    }
    let mut label = "imports";
    for import in &plugin.imports {
        let denied = if is_denied(plugin, import) {
            format!("  {BAD}denied: the manifest does not grant it{PLAIN}")
        } else {
            String::new()
        };
        line(label, &format!("{import}{denied}"));
        label = "";
    }
    if let Some(grants) = &plugin.grants {
        let mut granted = Vec::new();
        granted.extend(grants.env.iter().map(|name| {
            // Whether a server that is started from here would find it. Its value is not shown.
            match std::env::var(name) {
                Ok(_) => format!("env {name}  {DIM}set{PLAIN}"),
                Err(_) => format!("env {name}  {BAD}not set{PLAIN}"),
            }
        }));
        granted.extend(grants.ai.then(|| "ai".to_owned()));
        if let Some(http) = &grants.http {
            let hosts = http.hosts.iter().map(|host| String::from(host.clone()));
            granted.extend(hosts.map(|host| format!("http {host}")));
            granted.extend(http.allow_private.then(|| "http to private addresses".to_owned()));
        }
        if granted.is_empty() {
            granted.push("nothing".to_owned());
        }
        let mut label = "granted";
        for grant in granted {
            line(label, &grant);
            label = "";
        }
    }
    let usual = Limits::default().named();
    let mut label = "limits";
    for (name, value) in &plugin.limits {
        let is_set = usual.get(name) != Some(value);
        if is_set || matches!(name.as_str(), "action" | "parse" | "memory") {
            let whose = if is_set { "  from the manifest" } else { "" };
            line(label, &format!("{name} {value}{DIM}{whose}{PLAIN}"));
            label = "";
        }
    }
    for fault in &plugin.faults {
        println!("    {BAD}{:<9}{PLAIN} {fault}", "fault");
    }
    println!();
}

fn define(definition: &Definition) {
    line("id", &format!("{} {DIM}{}{PLAIN}", definition.id, definition.version));
    let mut label = "tables";
    for table in &definition.tables {
        let mut facts = Vec::new();
        if table.versions.len() != 1 {
            facts.push(format!("{} versions", table.versions.len()));
        }
        facts.extend(table.documents.iter().map(|document| format!("document {}", document.name)));
        facts.extend(table.unique.iter().map(|fields| format!("unique {}", fields.join(" and "))));
        facts.extend(table.references.iter().map(|reference| {
            let on_delete = match reference.on_delete {
                OnDelete::Restrict => "restrict",
                OnDelete::Cascade => "cascade",
                OnDelete::SetNull => "set null",
            };
            format!("{} of {} ({on_delete})", reference.field, reference.table)
        }));
        facts.extend(table.checks_changes.then(|| "checked".to_owned()));
        facts.extend(table.enforce.then(|| "enforced over sync".to_owned()));
        line(label, &format!("{:<24} {DIM}{}{PLAIN}", table.name, facts.join(", ")));
        label = "";
    }
    let mut label = "keys";
    for kv in &definition.kv {
        line(label, &kv.key);
        label = "";
    }
    let mut label = "awareness";
    for field in &definition.awareness {
        line(label, &field.name);
        label = "";
    }
    let mut label = "actions";
    for action in &definition.actions {
        let kind = match action.kind {
            ActionKind::Query => "query",
            ActionKind::Mutation => "mutation",
        };
        line(label, &format!("{:<24} {DIM}{kind:<8} {}{PLAIN}", action.path, action.description));
        label = "";
    }
}

fn line(label: &str, text: &str) {
    println!("    {DIM}{label:<9}{PLAIN} {text}");
}

/// Whether the plugin imports something that its manifest does not grant.
fn is_denied(plugin: &Inspection, import: &str) -> bool {
    let Some(grants) = &plugin.grants else { return false };
    let sends = import.starts_with("wasi:http/outgoing-handler");
    let asks = import.starts_with("epicenter:workspace/ai");
    (sends && grants.http.is_none()) || (asks && !grants.ai)
}
