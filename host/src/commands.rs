//! The commands of the binary other than serving, one file for each.
//!
//! The data commands talk to a server, or open its data folder if no server is running (`api`).
//! They read (`input`) and print (`output`) JSON. They exit with 0, with 1 on a failure, and with 2
//! if the command line is wrong.

mod api;
mod build;
mod call;
mod check;
mod input;
mod kv;
mod new;
mod opencode;
mod output;
mod plugin;
mod rows;
mod sessions;
mod tables;
mod transfer;
mod types;
mod users;

use clap::Subcommand;

/// A command other than serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the tables, with their fields and number of rows.
    Tables(tables::Args),
    /// Reads and writes the rows of a table.
    Rows(rows::Args),
    /// Reads and writes key-values.
    Kv(kv::Args),
    /// Runs an action: a query or a mutation.
    Call(call::Args),
    /// Writes a table as JSON lines, or a room's whole document as one Yjs update (.yjs).
    Export(transfer::Export),
    /// Reads what `export` writes: rows are created or replaced, a document is merged.
    Import(transfer::Import),
    /// Starts a plugin project: a folder with sources, a scenario and the SDK.
    New(new::Args),
    /// Builds a plugin into the plugins folder, with the toolchain that is installed.
    Build(build::Args),
    /// Shows what a plugin defines, imports and may use, and everything that is wrong with it, without
    /// serving it.
    Check(check::Args),
    /// Writes TypeScript types of workspaces, for apps that hold them with `epicenter-client`.
    Types(types::Args),
    /// Runs a scenario against a plugin: requests, and what is expected of their answers.
    Test(plugin::Test),
    /// Manages the accounts of a hub.
    Users(users::UsersArgs),
    /// Manages the sessions of a hub: who is signed in.
    Sessions(sessions::SessionsArgs),
    /// Prints the configuration with which opencode uses the providers of a hub.
    OpencodeConfig(opencode::OpencodeArgs),
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Tables(args) => tables::run(args).await,
            Self::Rows(args) => rows::run(args).await,
            Self::Kv(args) => kv::run(args).await,
            Self::Call(args) => call::run(args).await,
            Self::Export(args) => transfer::export(args).await,
            Self::Import(args) => transfer::import(args).await,
            Self::New(args) => new::run(&args),
            Self::Build(args) => build::run(args).await,
            Self::Check(args) => check::run(args).await,
            Self::Types(args) => types::run(args).await,
            Self::Test(args) => plugin::test(args).await,
            Self::Users(users) => users.run().await,
            Self::Sessions(sessions) => sessions.run().await,
            Self::OpencodeConfig(args) => args.run(),
        }
    }
}

/// A mistake on the command line that was found only once the command ran. The process exits with 2, as for
/// mistakes that clap finds.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Usage {
    fn error(message: impl Into<String>) -> anyhow::Error {
        Self(message.into()).into()
    }
}

/// What an error has to say beyond its message, one a line.
pub fn details(error: &anyhow::Error) -> Vec<String> {
    let refused = error.downcast_ref::<api::RequestRefused>();
    refused.into_iter().flat_map(api::RequestRefused::details).collect()
}
