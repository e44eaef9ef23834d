//! TypeScript for apps: the types of workspaces, and the run-time data that the client needs.
//!
//! A row is typed as it is read: members with a default are present. The input of an action is
//! typed as it is given: members with a default are optional. Where a schema says more than a type
//! can (a pattern, a limit), the schema next to the type has it, and the client validates against
//! that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use host_workspace::Definition;
use host_workspace::definition::{ActionDefinition, ActionKind};
use serde_json::{Map, Value, json};

/// How deep a schema is followed. Deeper values are `unknown`: no app has them, and a recursive
/// schema without a name would never end.
const DEPTH: usize = 24;

/// A module that exports each workspace by its id, with the types of its rows.
pub fn module<'a>(definitions: impl IntoIterator<Item = &'a Definition>) -> String {
    let mut names = Names::default();
    let mut text = String::from(
        "// Written by `host types` from the workspaces' own schemas. Changes here are overwritten.\n\n",
    );
    let bodies: Vec<_> =
        definitions.into_iter().map(|definition| workspace(definition, &mut names)).collect();
    let mut imports = vec!["defineWorkspace", "jsonSchema"];
    for name in ["Mutation", "Query"] {
        if bodies.iter().any(|body| body.contains(&format!("{name}<"))) {
            imports.push(if name == "Mutation" { "type Mutation" } else { "type Query" });
        }
    }
    imports.sort_by_key(|name| name.trim_start_matches("type ").to_lowercase());
    let _ = writeln!(text, "import {{ {} }} from 'epicenter-client';", imports.join(", "));
    for body in bodies {
        text.push('\n');
        text.push_str(&body);
    }
    text
}

/// Names already used in the module.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// The name, made unique with a number if necessary.
    fn take(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{wanted}{number}");
            number += 1;
        }
        name
    }
}

fn workspace(definition: &Definition, names: &mut Names) -> String {
    let constant = names.take(&camel(&definition.id));
    let mut declared = String::new();
    let (mut tables, mut before, mut documents, mut kv, mut awareness, mut actions) =
        (String::new(), String::new(), String::new(), String::new(), String::new(), String::new());
    for table in &definition.tables {
        let Some((current, old)) = table.versions.split_last() else { continue };
        let title = current["title"].as_str().filter(|title| is_identifier(title));
        let name = names.take(title.unwrap_or(&pascal(&table.name)));
        let row = Type::of(current, Side::Read, names, &name);
        declared += &row.declare(&name);
        let _ = writeln!(tables, "    {}: {name};", key(&table.name));
        let old: Vec<_> = old
            .iter()
            .enumerate()
            .map(|(index, schema)| {
                let name = names.take(&format!("{name}V{}", index + 1));
                declared += &Type::of(schema, Side::Read, names, &name).declare(&name);
                name
            })
            .collect();
        if !old.is_empty() {
            let _ = writeln!(before, "    {}: {};", key(&table.name), old.join(" | "));
        }
        if !table.documents.is_empty() {
            let documents_of: Vec<_> =
                table.documents.iter().map(|document| quoted(&document.name)).collect();
            let _ = writeln!(documents, "    {}: {};", key(&table.name), documents_of.join(" | "));
        }
    }
    let mut inline = |schema: &Value, side, names: &mut Names, hint: &str| {
        let made = Type::of(schema, side, names, hint);
        declared += &made.declare_parts();
        made.text
    };
    for value in &definition.kv {
        let Some(current) = value.versions.last() else { continue };
        let text = inline(current, Side::Read, names, &pascal(&value.key));
        let _ = writeln!(kv, "    {}: {text};", key(&value.key));
    }
    for field in &definition.awareness {
        let text = inline(&field.schema, Side::Read, names, &pascal(&field.name));
        let _ = writeln!(awareness, "    {}: {text};", key(&field.name));
    }
    for action in &definition.actions {
        let hint = pascal(&action.path);
        let input = match &action.input {
            Some(schema) => inline(schema, Side::Write, names, &format!("{hint}Input")),
            None => "{}".into(),
        };
        let output = match &action.output {
            Some(schema) => inline(schema, Side::Read, names, &format!("{hint}Output")),
            None => "unknown".into(),
        };
        let kind = match action.kind {
            ActionKind::Query => "Query",
            ActionKind::Mutation => "Mutation",
        };
        actions += &comment(&action.description, "    ");
        let _ = writeln!(actions, "    {}: {kind}<{input}, {output}>;", quoted(&action.path));
    }
    let mut text = declared;
    if definition.title != definition.id {
        text += &comment(&definition.title, "");
    }
    let _ = writeln!(text, "export const {constant} = defineWorkspace<{{");
    for (member, lines) in [
        ("tables", tables),
        ("before", before),
        ("kv", kv),
        ("awareness", awareness),
        ("actions", actions),
        ("documents", documents),
    ] {
        match lines.is_empty() {
            // `before` and `documents` are omitted when they are empty.
            true if matches!(member, "before" | "documents") => {}
            true => _ = writeln!(text, "  {member}: {{}};"),
            false => _ = write!(text, "  {member}: {{\n{lines}  }};\n"),
        }
    }
    let _ = writeln!(text, "}}>({});", at_run_time(definition));
    text
}

/// The definition for the client, as an expression.
fn at_run_time(definition: &Definition) -> String {
    let mut text = format!("{{\n  id: {},\n  tables: {{\n", quoted(&definition.id));
    for table in &definition.tables {
        let _ = writeln!(text, "    {}: {{\n      versions: [", key(&table.name));
        for schema in &table.versions {
            let _ = writeln!(text, "        jsonSchema({}),", indented(schema, 8));
        }
        text += "      ],\n";
        if !table.documents.is_empty() {
            text += "      documents: {\n";
            for document in &table.documents {
                let _ = writeln!(
                    text,
                    "        {}: {{ guid: {}, updatedAt: {} }},",
                    key(&document.name),
                    quoted(&document.guid_column),
                    quoted(&document.updated_at_column),
                );
            }
            text += "      },\n";
        }
        text += "    },\n";
    }
    text += "  },\n  kv: {\n";
    for value in &definition.kv {
        let schema = value.versions.last().unwrap_or(&Value::Null);
        let _ = writeln!(text, "    {}: jsonSchema({}),", key(&value.key), indented(schema, 4));
    }
    text += "  },\n  awareness: {\n";
    for field in &definition.awareness {
        let schema = indented(&field.schema, 4);
        let _ = writeln!(text, "    {}: jsonSchema({schema}),", key(&field.name));
    }
    text += "  },\n  actions: {\n";
    for ActionDefinition { path, kind, .. } in &definition.actions {
        let kind = match kind {
            ActionKind::Query => "query",
            ActionKind::Mutation => "mutation",
        };
        let _ = writeln!(text, "    {}: '{kind}',", quoted(path));
    }
    text += "  },\n}";
    text
}

/// Whether values are typed as they are read, with defaults filled in, or as they are given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Read,
    Write,
}

/// Converts a schema to a type, and collects the named types that it needs.
struct Type {
    text: String,
    comment: String,
    /// Referenced schemas, declared once: pointer, name and type.
    parts: BTreeMap<String, (String, String)>,
}

impl Type {
    fn of(schema: &Value, side: Side, names: &mut Names, hint: &str) -> Self {
        let mut writer = Writer { root: schema, side, names, hint, parts: BTreeMap::new() };
        let text = writer.write(schema, 0, 0);
        let comment = schema["description"].as_str().unwrap_or_default().to_owned();
        Self { text, comment, parts: writer.parts }
    }

    fn declare(&self, name: &str) -> String {
        let comment = comment(&self.comment, "");
        let declaration = match self.text.starts_with('{') && !self.text.contains("} &") {
            true => format!("export interface {name} {}\n\n", self.text),
            false => format!("export type {name} = {};\n\n", self.text),
        };
        format!("{}{comment}{declaration}", self.declare_parts())
    }

    fn declare_parts(&self) -> String {
        let parts = self.parts.values();
        parts.map(|(name, text)| format!("export type {name} = {text};\n\n")).collect()
    }
}

struct Writer<'a> {
    root: &'a Value,
    side: Side,
    names: &'a mut Names,
    hint: &'a str,
    parts: BTreeMap<String, (String, String)>,
}

impl Writer<'_> {
    fn write(&mut self, schema: &Value, indent: usize, depth: usize) -> String {
        let Some(object) = schema.as_object() else {
            return if schema == &Value::Bool(false) { "never" } else { "unknown" }.into();
        };
        if depth > DEPTH {
            return "unknown".into();
        }
        if let Some(pointer) = object.get("$ref").and_then(Value::as_str) {
            return self.reference(pointer);
        }
        if let Some(value) = object.get("const") {
            return literal(value);
        }
        if let Some(values) = object.get("enum").and_then(Value::as_array) {
            return union(values.iter().map(literal));
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(choices) = object.get(keyword).and_then(Value::as_array) {
                return union(choices.iter().map(|one| self.write(one, indent, depth + 1)));
            }
        }
        if let Some(parts) = object.get("allOf").and_then(Value::as_array) {
            let parts: Vec<_> = parts
                .iter()
                .map(|one| format!("({})", self.write(one, indent, depth + 1)))
                .collect();
            return parts.join(" & ");
        }
        match object.get("type") {
            Some(Value::Array(types)) => {
                union(types.iter().map(|one| self.simple(one.as_str(), object, indent, depth)))
            }
            one => self.simple(one.and_then(Value::as_str), object, indent, depth),
        }
    }

    fn simple(
        &mut self,
        name: Option<&str>,
        schema: &Map<String, Value>,
        indent: usize,
        depth: usize,
    ) -> String {
        match name {
            Some("string") => "string".into(),
            Some("number" | "integer") => "number".into(),
            Some("boolean") => "boolean".into(),
            Some("null") => "null".into(),
            Some("array") => self.array(schema, indent, depth),
            Some("object") => self.object(schema, indent, depth),
            None if schema.contains_key("properties") => self.object(schema, indent, depth),
            _ => "unknown".into(),
        }
    }

    fn array(&mut self, schema: &Map<String, Value>, indent: usize, depth: usize) -> String {
        if let Some(first) = schema.get("prefixItems").and_then(Value::as_array) {
            let first: Vec<_> =
                first.iter().map(|one| self.write(one, indent, depth + 1)).collect();
            return format!("[{}]", first.join(", "));
        }
        match schema.get("items") {
            Some(items) => match self.write(items, indent, depth + 1) {
                simple if is_identifier(&simple) => format!("{simple}[]"),
                other => format!("({other})[]"),
            },
            None => "unknown[]".into(),
        }
    }

    fn object(&mut self, schema: &Map<String, Value>, indent: usize, depth: usize) -> String {
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required: Vec<_> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let others = match schema.get("additionalProperties") {
            None | Some(Value::Bool(false)) => None,
            Some(other) => Some(self.write(other, indent + 2, depth + 1)),
        };
        if properties.is_empty() {
            // A schema that names no members allows any.
            let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
            return match others {
                Some(value) => format!("Record<string, {value}>"),
                None if closed || schema.contains_key("properties") => "{}".into(),
                None => "Record<string, unknown>".into(),
            };
        }
        let pad = " ".repeat(indent + 2);
        let mut text = String::from("{\n");
        for (name, member) in properties {
            // The version is handled by the client, which writes the current one.
            if name == "_v" && depth == 0 {
                continue;
            }
            let given = required.contains(&name.as_str())
                || (self.side == Side::Read && member.get("default").is_some());
            text += &comment(member["description"].as_str().unwrap_or_default(), &pad);
            let optional = if given { "" } else { "?" };
            let member = self.write(member, indent + 2, depth + 1);
            let _ = writeln!(text, "{pad}{}{optional}: {member};", key(name));
        }
        if others.is_some() {
            let _ = writeln!(text, "{pad}[member: string]: unknown;");
        }
        let _ = write!(text, "{}}}", " ".repeat(indent));
        text
    }

    /// The name of a referenced schema.
    fn reference(&mut self, pointer: &str) -> String {
        if let Some((name, _)) = self.parts.get(pointer) {
            return name.clone();
        }
        let target = pointer.strip_prefix('#').and_then(|path| self.root.pointer(path)).cloned();
        let Some(target) = target else { return "unknown".into() };
        let last = pointer.rsplit('/').next().unwrap_or_default();
        let name = self.names.take(&format!("{}{}", self.hint, pascal(last)));
        // Added before its type is written, which may refer to itself.
        self.parts.insert(pointer.to_owned(), (name.clone(), String::new()));
        let text = self.write(&target, 0, 1);
        self.parts.insert(pointer.to_owned(), (name.clone(), text));
        name
    }
}

fn union(types: impl Iterator<Item = String>) -> String {
    let mut distinct = Vec::new();
    for one in types {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    if distinct.is_empty() { "never".into() } else { distinct.join(" | ") }
}

fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Number(_) | Value::Bool(_) | Value::Null => value.to_string(),
        Value::Array(_) | Value::Object(_) => "unknown".into(),
    }
}

/// A doc comment with any text.
fn comment(text: &str, pad: &str) -> String {
    let text = text.trim().replace("*/", "*\u{2060}/");
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    match lines.as_slice() {
        [] => String::new(),
        [one] => format!("{pad}/** {one} */\n"),
        many => {
            let lines: String = many
                .iter()
                .map(|line| format!("{pad} * {line}").trim_end().to_owned() + "\n")
                .collect();
            format!("{pad}/**\n{lines}{pad} */\n")
        }
    }
}

/// The name of a member, quoted if necessary.
fn key(name: &str) -> String {
    if is_identifier(name) { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    let json = json!(text).to_string();
    if json.contains('\'') || json.contains('\\') {
        return json;
    }
    format!("'{}'", &json[1..json.len() - 1])
}

fn indented(value: &Value, pad: usize) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.replace('\n', &format!("\n{}", " ".repeat(pad)))
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_')
}

/// `blog-js` is `BlogJs`.
fn pascal(name: &str) -> String {
    let parts =
        name.split(|one: char| !one.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let name: String = parts
        .map(|part| {
            let (first, rest) = part.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect();
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        name
    } else {
        format!("T{name}")
    }
}

/// `blog-js` is `blogJs`.
fn camel(name: &str) -> String {
    let name = pascal(name);
    let (first, rest) = name.split_at(1);
    let name = first.to_ascii_lowercase() + rest;
    // Reserved words cannot name a constant.
    let reserved =
        ["default", "delete", "new", "import", "export", "class", "const", "function", "var", "in"];
    if reserved.contains(&name.as_str()) { format!("{name}_") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_workspace::definition::{DocumentDefinition, KvDefinition, TableDefinition};

    fn definition() -> Definition {
        Definition {
            id: "my-shop".into(),
            title: "my-shop".into(),
            tables: vec![TableDefinition {
                name: "orders".into(),
                versions: vec![
                    json!({ "type": "object", "properties": { "id": { "type": "string" } }, "required": ["id"] }),
                    json!({
                        "title": "Order",
                        "description": "What somebody bought.\nOne line each.",
                        "type": "object",
                        "$defs": { "node": {
                            "type": "object",
                            "properties": { "next": { "$ref": "#/$defs/node" } },
                        } },
                        "properties": {
                            "id": { "type": "string" },
                            "state": { "enum": ["placed", "it's \"paid\""], "description": "Where it is. */" },
                            "count": { "type": "integer", "default": 1 },
                            "note": { "type": ["string", "null"] },
                            "tags": { "type": "array", "items": { "type": "string" } },
                            "tree": { "$ref": "#/$defs/node" },
                            "odd-name": { "anyOf": [{ "type": "number" }, { "const": true }] },
                            "_v": { "const": 2 },
                        },
                        "required": ["id", "state"],
                    }),
                ],
                documents: vec![DocumentDefinition {
                    name: "body".into(),
                    guid_column: "bodyId".into(),
                    updated_at_column: "edited".into(),
                }],
                checks_changes: false,
                ..TableDefinition::default()
            }],
            kv: vec![KvDefinition {
                key: "theme".into(),
                versions: vec![json!({ "type": "string" })],
            }],
            actions: vec![ActionDefinition {
                path: "orders/pay".into(),
                kind: ActionKind::Mutation,
                description: "Pays.".into(),
                input: Some(
                    json!({ "type": "object", "properties": { "tip": { "type": "number", "default": 0 } } }),
                ),
                output: None,
            }],
            ..Definition::default()
        }
    }

    #[test]
    fn rows_of_each_version_actions_and_documents_have_types() {
        let text = module([&definition()]);
        for expected in [
            "import { defineWorkspace, jsonSchema, type Mutation } from 'epicenter-client';",
            "export type OrderNode = {\n  next?: OrderNode;\n};",
            "/**\n * What somebody bought.\n * One line each.\n */\nexport interface Order {\n  id: string;",
            "  /** Where it is. *\u{2060}/ */\n  state: 'placed' | \"it's \\\"paid\\\"\";",
            "  count: number;",
            "  note?: string | null;",
            "  tags?: string[];",
            "  tree?: OrderNode;",
            "  'odd-name'?: number | true;\n}",
            "export interface OrderV1 {\n  id: string;\n}",
            "    orders: Order;",
            "    orders: OrderV1;",
            "    orders: 'body';",
            "    theme: string;",
            "    /** Pays. */\n    'orders/pay': Mutation<{\n  tip?: number;\n}, unknown>;",
            "export const myShop = defineWorkspace<{",
            "        body: { guid: 'bodyId', updatedAt: 'edited' },",
        ] {
            assert!(text.contains(expected), "{expected}\n\nis not in\n\n{text}");
        }
        assert!(!text.contains("_v?"), "{text}");
    }

    #[test]
    fn names_of_two_workspaces_do_not_meet() {
        let text = module([&definition(), &definition()]);
        assert!(
            text.contains("export interface Order {") && text.contains("export interface Order2 {")
        );
        assert!(text.contains("export const myShop2 = "));
    }

    #[test]
    fn a_schema_that_nests_without_end_is_cut() {
        let mut schema = json!({ "type": "string" });
        for _ in 0..200 {
            schema = json!({ "type": "array", "items": schema });
        }
        let mut one = definition();
        one.kv = vec![KvDefinition { key: "deep".into(), versions: vec![schema] }];
        assert!(module([&one]).contains("unknown"));
    }
}
