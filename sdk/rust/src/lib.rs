//! Write a workspace in plain typed Rust and ship it as one `.wasm` file.
//!
//! A workspace is a set of tables, key-values and actions over one shared document. The host keeps
//! the document, syncs it, and serves it as REST; a plugin says what it *means*: what a row is, when
//! it is valid, how an old row becomes a current one, what an action does. This is a whole one:
//!
//! ```
//! use epicenter_workspace::*;
//!
//! const BOOKS: Table<Book> = Table::new("books");
//! const SHELF: Key<String> = Key::new("shelf");
//!
//! #[derive(Default, Serialize, Deserialize, JsonSchema)]
//! #[serde(default)]
//! struct Book {
//!     id: String,
//!     title: String,
//!     pages: u32,
//!     lent_to: Option<String>,
//! }
//!
//! /// What a book was before anyone lent one.
//! #[derive(Deserialize, JsonSchema)]
//! struct BookV1 {
//!     id: String,
//!     name: String,
//! }
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Lend {
//!     id: String,
//!     to: String,
//! }
//!
//! fn lend(tx: &Transaction, Lend { id, to }: Lend) -> Result<Book> {
//!     log::info!("{id} goes to {to}");
//!     BOOKS.modify(tx, &id, |book| book.lent_to = Some(to))
//! }
//!
//! fn at_home(ctx: &Context, (): ()) -> Result<Vec<Book>> {
//!     BOOKS
//!         .select()
//!         .filter(field!(Book.lent_to).eq(None))
//!         .sort(field!(Book.pages).descending())
//!         .list(ctx)
//! }
//!
//! fn workspace() -> Workspace {
//!     Workspace::new("library")
//!         .table(
//!             BOOKS
//!                 .define()
//!                 .previous(|BookV1 { id, name }| Book {
//!                     id,
//!                     title: name,
//!                     ..Book::default()
//!                 })
//!                 .rule("title", "must not be empty", |book| !book.title.is_empty()),
//!         )
//!         .kv(SHELF)
//!         .mutation("books/lend", "Notes who has a book.", lend)
//!         .query("books/at-home", "What can be lent, thickest first.", at_home)
//! }
//!
//! export!(workspace);
//! # fn main() {}
//! ```
//!
//! # Building
//!
//! A plugin is a library with `crate-type = ["cdylib"]` (and no `rlib`, with which Cargo leaves out
//! link-time optimisation) that depends on this crate, `serde` and `schemars` (their derives name
//! their crates). Either of these builds it, and the host takes the result as it is:
//!
//! ```text
//! cargo build --release --target wasm32-unknown-unknown
//! cargo build --release --target wasm32-wasip2
//! ```
//!
//! The first is smaller and imports nothing but what the host offers.
//!
//! # Rows and their versions
//!
//! A row type derives [`Serialize`], [`Deserialize`] and [`JsonSchema`], and has a string member
//! `id`. When rows change shape, keep the old type, and say with
//! [`previous`](TableDefinition::previous) how one becomes a current row: old rows stay in the
//! document as they are, and every read migrates them. Which version wrote a row is kept in its
//! member `_v`, which the SDK adds and removes; a row without it is read as the newest version that
//! it fits and that has all of its members.
//!
//! Members that the current type lacks are dropped when a row is read, as serde does; the document
//! keeps them until the row is rewritten. A type that must carry them along, because clients write
//! members of their own, flattens a map: `#[serde(flatten)] rest: serde_json::Map<String, Value>`.
//!
//! A [`rule`](TableDefinition::rule) depends on the row alone and holds for every row, wherever it
//! came from: one that breaks it is invalid, which hides it from lists and never deletes it. A
//! [`check`](TableDefinition::check) may read the workspace and see who asks, and is asked before
//! REST or an action changes a row. Values that no two rows may share
//! ([`unique`](TableDefinition::unique)) and fields that refer to rows
//! ([`references`](TableDefinition::references)) are a line each. All of that holds for sync as well in a table
//! that says [`enforce`](TableDefinition::enforce).
//!
//! # Reading and writing
//!
//! A [`Table`] or [`Key`] is a constant; its methods take the call that they belong to. A query has
//! a [`Context`], which can read; a mutation has a [`Transaction`], which can also write. So a query
//! that writes does not compile, and neither does a [`field!`] that the row type does not have.
//!
//! All writes of a mutation happen, or none: none when it returns an [`Error`], panics, or runs out
//! of time. A panic is written to the host's log with its message and place.
//!
//! # Testing
//!
//! A plugin's crate also builds for the author's own machine, where `cargo test` runs its functions
//! and [`Workspace::parse_row`] shows what becomes of a row. The host's side (tables, keys, clock)
//! exists in the host only: calling it there panics.

#[doc(hidden)]
#[path = "bindings.rs"]
pub mod __bindings;
#[doc(hidden)]
#[path = "plugin.rs"]
pub mod __plugin;
pub mod ai;
mod context;
mod error;
pub mod http;
mod issue;
mod json;
mod key;
pub mod log;
mod schema;
mod select;
mod table;
mod versions;
mod workspace;

pub use context::{Caller, Context, Right, Source, Transaction};
pub use error::{Error, Result};
pub use issue::{FieldPath, Issue, Issues};
pub use key::{Key, KeyDefinition};
pub use select::{Field, Filter, Order, Page, Select};
pub use table::{Change, OnDelete, Row, Table, TableDefinition};
pub use workspace::{Id, Workspace};

pub use schemars::JsonSchema;
pub use serde::{Deserialize, Serialize};
pub use serde_json::{Value, json};

/// Makes the plugin's exports out of a function that builds its [`Workspace`].
///
/// Called once, at the top of the crate: `export!(workspace);`. The plugin's version is that of the
/// package.
#[macro_export]
macro_rules! export {
    ($workspace:path) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Plugin;

            impl $crate::__plugin::Plugin for Plugin {
                const VERSION: &str = env!("CARGO_PKG_VERSION");

                fn workspace() -> $crate::Workspace {
                    $workspace()
                }
            }

    $crate::__bindings::__export_bindings!(Plugin with_types_in $crate::__bindings);
        };

        // On the author's own machine there is no host to export to; a use of the function keeps the
        // compiler from calling the whole plugin unused.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $crate::Workspace = $workspace;
    };
}
