//! Guests for tests: core modules written in WAT against the canonical ABI, with the contract's WIT
//! embedded as wit-bindgen does it. They need no toolchain, take milliseconds to compile, and can
//! misbehave in ways that no SDK lets an author.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("../../../../wit/0.1.0/workspace.wit");

/// A guest to be built. Its actions are named by their first letter, see `guest.wat`.
pub(super) struct Guest {
    /// The workspace's id.
    pub id: &'static str,
    /// Names of its tables.
    pub tables: &'static [&'static str],
    /// The schema of each table.
    pub schema: &'static str,
    /// Its queries; any of them can be called whether it is declared or not.
    pub queries: &'static [&'static str],
    /// Its mutations.
    pub mutations: &'static [&'static str],
    /// WAT that runs at the begin of `define`.
    pub on_define: &'static str,
    /// The version of the contract that it is built for.
    pub contract: &'static str,
    /// WIT that is added to its world.
    pub world: &'static str,
    /// An import in WAT that is added to the module.
    pub import: &'static str,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            id: "notes",
            tables: &["notes"],
            schema: r#"{"type":"object"}"#,
            queries: &[],
            mutations: &[],
            on_define: "",
            contract: "0.1.0",
            world: "",
            import: "",
        }
    }
}

impl Guest {
    /// A core module that carries the description of its interfaces.
    pub(super) fn module(&self) -> Vec<u8> {
        let mut module = self.bare_module();
        let wit = WIT
            .replace("workspace@0.1.0", &format!("workspace@{}", self.contract))
            .replace("import tables;", &format!("import tables; {}", self.world));
        let mut resolve = Resolve::default();
        let package = resolve.push_source("workspace.wit", &wit).unwrap();
        let world = resolve.select_world(&[package], Some("workspace")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
            .unwrap();
        module
    }

    /// The same module as a component.
    pub(super) fn component(&self) -> Vec<u8> {
        ComponentEncoder::default().module(&self.module()).unwrap().encode().unwrap()
    }

    /// A core module that says nothing about itself, but by the names of its exports.
    pub(super) fn bare_module(&self) -> Vec<u8> {
        let mut data = Data::default();
        let id = data.string(self.id);
        let version = data.string("1.2.3");
        let empty = [0, 0];
        let schema = data.string(self.schema);
        let versions = data.words(&schema);
        let mut tables = Vec::new();
        for table in self.tables {
            tables.extend(data.string(table));
            tables.extend([versions, 1]);
            tables.extend(empty);
            tables.push(0);
        }
        let tables = [data.words(&tables), u32::try_from(self.tables.len()).unwrap()];
        let mut actions = Vec::new();
        let queries = self.queries.iter().map(|path| (path, 0));
        let all: Vec<_> = queries.chain(self.mutations.iter().map(|path| (path, 1))).collect();
        for (path, kind) in &all {
            actions.extend(data.string(path));
            actions.push(*kind);
            actions.extend(empty);
            actions.push(1);
            actions.extend(schema);
            actions.push(0);
            actions.extend(empty);
        }
        let actions = [data.words(&actions), u32::try_from(all.len()).unwrap()];
        let definition = [id, empty, version, tables, empty, empty, actions].concat();
        let definition = data.words(&definition);
        let wat = include_str!("guest.wat")
            .replace("$DEFINITION", &definition.to_string())
            .replace("$DATA", &data.escaped())
            .replace(";;ON-DEFINE", self.on_define)
            .replace(";;IMPORT", self.import)
            .replace("@0.1.0", &format!("@{}", self.contract));
        wat::parse_str(wat).unwrap()
    }
}

/// The module's data segment, which begins at [`Data::BASE`].
#[derive(Default)]
struct Data(Vec<u8>);

impl Data {
    const BASE: usize = 4096;

    fn string(&mut self, text: &str) -> [u32; 2] {
        let at = self.at();
        self.0.extend(text.as_bytes());
        [at, u32::try_from(text.len()).unwrap()]
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let at = self.at();
        self.0.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        at
    }

    fn at(&self) -> u32 {
        u32::try_from(Self::BASE + self.0.len()).unwrap()
    }

    fn escaped(&self) -> String {
        self.0.iter().map(|byte| format!("\\{byte:02x}")).collect()
    }
}
