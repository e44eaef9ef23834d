//! What can be asked of each workspace.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::answers::{PLUGIN, WRITES, answers};
use super::document::{
    Answer, Content, Operation, Parameter, Place, RequestBody, Style, object, string,
};
use super::example;
use super::schemas::{Schemas, as_input, clean, filter_of, reference, within};
use crate::definition::{ActionDefinition, ActionKind, Definition, TableDefinition};
use crate::query::{MAX_LIMIT, Operator};
use crate::schema::{Schema, property};
use crate::transaction::MAX_WRITES;

const SORT: &str =
    "Fields to sort by, most significant first; `-` before a field sorts it in descending order.";
const LIVE: &str = "With `Accept: text/event-stream` the list is live: a `reset`, a `put` for each row, \
an `invalid` for each row that is not valid (unless there is a filter), and a `ready`. After that come `put`, \
`delete` and `invalid` as rows change, each time followed by a `ready`, whose id resumes the stream \
(`Last-Event-ID`). A live list takes `filter` and `fields`.";

/// The operations of all workspaces, and the schemas that they refer to.
#[derive(Default)]
pub struct Api {
    paths: IndexMap<String, IndexMap<&'static str, Operation>>,
    /// What was named alike, so that it gets a name of its own in the end.
    names: HashMap<String, Vec<(String, &'static str, String)>>,
    pub schemas: Schemas,
}

impl Api {
    /// Adds what a method does at a path, under a name that is made of these parts.
    pub fn add(&mut self, path: &str, method: &'static str, parts: &[&str], operation: Operation) {
        let name = name(parts);
        let named = (path.to_owned(), method, spelt_out(parts));
        self.names.entry(name.clone()).or_default().push(named);
        let operation = Operation { operation_id: name, ..operation };
        self.paths.entry(path.to_owned()).or_default().insert(method, operation);
    }

    /// The paths, each with what can be done there. Two actions such as `a-b` and `a_b` would have one name:
    /// both get one in which every character counts, whichever was declared first.
    pub fn paths(&mut self) -> Value {
        let alike = self.names.values().filter(|named| named.len() > 1);
        for (path, method, name) in alike.flatten() {
            let operation = self.paths.get_mut(path).and_then(|path| path.get_mut(method));
            if let Some(operation) = operation {
                operation.operation_id.clone_from(name);
            }
        }
        json!(self.paths)
    }

    pub fn workspace(&mut self, definition: &Definition) {
        let id = &definition.id;
        let base = format!("/workspaces/{id}");
        let descriptor = Answer::data("The descriptor.", json!({ "type": "object" }));
        self.add(
            &base,
            "get",
            &[id],
            Operation {
                summary: format!("What {} consists of", definition.title),
                tags: tags([id]),
                responses: answers([(200, descriptor)], &[&[404]]),
                ..Operation::default()
            },
        );
        for table in &definition.tables {
            self.table(id, table);
            for document in &table.documents {
                self.document(id, &table.name, &document.name);
            }
        }
        self.kv(definition);
        let fields: Map<_, _> = definition
            .awareness
            .iter()
            .map(|field| {
                let schema = format!("{id}.awareness.{}", field.name);
                (field.name.clone(), self.schemas.add(&schema, field.schema.clone()))
            })
            .collect();
        let states = json!({
            "type": "object",
            "additionalProperties": { "type": "object", "properties": fields },
        });
        self.add(
            &format!("{base}/awareness"),
            "get",
            &[id, "awareness"],
            Operation {
                summary: "Who is there: the presence states, by client".into(),
                tags: tags([id, "awareness"]),
                responses: answers(
                    [(200, Answer::data("The valid fields of each state.", states))],
                    &[&[404]],
                ),
                ..Operation::default()
            },
        );
        for action in &definition.actions {
            self.action(id, action);
        }
    }

    fn table(&mut self, workspace: &str, table: &TableDefinition) {
        let Some(schema) = table.versions.last() else { return };
        let full = format!("{workspace}.{}", table.name);
        let row = self.schemas.add(&full, schema.clone());
        let new = self.schemas.add(&format!("{full}.new"), new_row(schema));
        let some = self.schemas.add(&format!("{full}.fields"), some_fields(schema));
        let example = example::row(table, schema);
        self.rows(workspace, table, schema, [&row, &new, &some], &example);
        self.row(workspace, table, [&row, &some], &example);
    }

    /// All rows of a table at once.
    fn rows(
        &mut self,
        workspace: &str,
        table: &TableDefinition,
        schema: &Value,
        [row, new, some]: [&Value; 3],
        example: &Value,
    ) {
        let name = &table.name;
        let path = format!("/workspaces/{workspace}/tables/{name}");
        let table_tags = || tags([workspace, "tables"]);
        let listed = json!({
            "type": "object",
            "required": ["data"],
            "properties": {
                "data": { "type": "array", "items": { "anyOf": [row, some, reference("InvalidRow")] } },
                "next": { "type": "string", "description": "The cursor of the next page." },
                "count": { "type": "integer", "description": "How many rows are selected in all." },
            },
        });
        // Live lists are left to the description: clients that are generated from two content types
        // take every list for rows or text.
        self.add(
            &path,
            "get",
            &[workspace, name, "list"],
            Operation {
                summary: format!("List {name}"),
                description: format!("All valid rows, or those that the parameters select. {LIVE}"),
                tags: table_tags(),
                live: true,
                parameters: list_parameters(schema),
                responses: answers(
                    [
                        (200, Answer::json("The rows.", listed).tagged()),
                        (304, Answer::common("NotModified")),
                    ],
                    &[&[400, 404]],
                ),
                ..Operation::default()
            },
        );
        let many = json!({ "type": "array", "items": new, "maxItems": MAX_WRITES });
        let written = json!({ "anyOf": [row, { "type": "array", "items": row }] });
        self.add(&path, "post", &[workspace, name, "create"], Operation {
            summary: format!("Create or replace {name}"),
            description: "One row, or an array of rows, of which all are written or none. A row without an \
                id gets one. `If-None-Match: *` only creates: if one of the rows exists, nothing is written, \
                and the issues name those that do. Other conditions need a single row."
                .into(),
            tags: table_tags(),
            parameters: vec![Parameter::header("If-Match"), Parameter::header("If-None-Match")],
            request_body: Some(RequestBody::json(
                json!({ "anyOf": [new, many] }),
                example.clone(),
            )),
            responses: answers(
                [
                    (200, Answer::data("Written; at least one row existed.", written.clone()).tagged()),
                    (201, Answer::data("Created.", written).tagged()),
                ],
                &[&[400, 412, 413, 415, 422], WRITES, PLUGIN],
            ),
            ..Operation::default()
        });
        let boolean = json!({ "type": "boolean" });
        let invalid = "Delete the rows that are not valid.";
        let deleted = object([("deleted", json!({ "type": "integer" }))]);
        self.add(
            &path,
            "delete",
            &[workspace, name, "deleteMany"],
            Operation {
                summary: format!("Delete the {name} that a filter selects"),
                description:
                    "All of them or none; or the invalid rows, the first 10,000 if there are more. \
                Either `filter` or `invalid` is required."
                        .into(),
                tags: table_tags(),
                parameters: vec![
                    filter_parameter(schema),
                    Parameter::new(Place::Query, "invalid", invalid, boolean),
                ],
                responses: answers(
                    [(200, Answer::data("How many rows were deleted.", deleted))],
                    &[&[400, 413, 422], WRITES, PLUGIN],
                ),
                ..Operation::default()
            },
        );
    }

    /// One row of a table.
    fn row(
        &mut self,
        workspace: &str,
        table: &TableDefinition,
        [row, some]: [&Value; 2],
        example: &Value,
    ) {
        let name = &table.name;
        let path = format!("/workspaces/{workspace}/tables/{name}/{{id}}");
        let table_tags = || tags([workspace, "tables"]);
        self.add(
            &path,
            "get",
            &[workspace, name, "get"],
            Operation {
                summary: format!("Read one of {name}"),
                description:
                    "An invalid row is answered with 422, its issues, and the row as it is stored."
                        .into(),
                tags: table_tags(),
                parameters: vec![row_id(), Parameter::header("If-None-Match")],
                responses: answers(
                    [
                        (200, Answer::data("The row.", row.clone()).tagged()),
                        (304, Answer::common("NotModified")),
                    ],
                    &[&[404, 422]],
                ),
                ..Operation::default()
            },
        );
        for (method, verb) in [("put", "update"), ("patch", "patch")] {
            self.add(&path, method, &[workspace, name, verb], Operation {
                summary: format!("Set fields of one of {name}"),
                description: "Fields that are not given keep their values. A row that is not valid as it is \
                    stored cannot be changed in part (422); POST replaces it."
                    .into(),
                tags: table_tags(),
                parameters: vec![row_id(), Parameter::header("If-Match")],
                request_body: Some(RequestBody::json(some.clone(), example.clone())),
                responses: answers(
                    [(200, Answer::data("The row.", row.clone()).tagged())],
                    &[&[400, 412, 413, 415, 422], WRITES, PLUGIN],
                ),
                ..Operation::default()
            });
        }
        let deleted = object([("id", string())]);
        self.add(
            &path,
            "delete",
            &[workspace, name, "delete"],
            Operation {
                summary: format!("Delete one of {name}"),
                tags: table_tags(),
                parameters: vec![row_id(), Parameter::header("If-Match")],
                responses: answers(
                    [(200, Answer::data("Deleted.", deleted))],
                    &[&[412, 422], WRITES, PLUGIN],
                ),
                ..Operation::default()
            },
        );
    }

    /// The document of that name, of each row.
    fn document(&mut self, workspace: &str, table: &str, document: &str) {
        let path = format!("/workspaces/{workspace}/tables/{table}/{{id}}/documents/{document}");
        let guid = json!({ "type": ["string", "null"] });
        let answer = Answer::data(
            "The text, and the room that it syncs in.",
            object([("text", string()), ("guid", guid)]),
        );
        let answer = answer.tagged();
        self.add(&path, "get", &[workspace, table, document, "get"], Operation {
            summary: format!("Read the {document} of one of {table}"),
            description: "The document's root text `content`, without marks. It syncs at `/rooms/{guid}`. \
                A document whose content is not plain text is answered with 409."
                .into(),
            tags: tags([workspace, "tables"]),
            parameters: vec![row_id(), Parameter::header("If-None-Match")],
            responses: answers(
                [
                    (200, answer.clone().or_plain_text()),
                    (304, Answer::common("NotModified")),
                ],
                &[&[404, 409, 422, 500]],
            ),
            ..Operation::default()
        });
        let mut body = RequestBody::json(object([("text", string())]), json!({ "text": "Hello" }));
        body.content.insert("text/plain", Content { schema: string(), example: None });
        self.add(&path, "put", &[workspace, table, document, "set"], Operation {
            summary: format!("Replace the {document} of one of {table}"),
            description: "Makes the smallest change that turns the old text into the new one; what others \
                write meanwhile is merged. Also sets the time of the row's last edit."
                .into(),
            tags: tags([workspace, "tables"]),
            parameters: vec![row_id(), Parameter::header("If-Match")],
            request_body: Some(body),
            responses: answers([(200, answer)], &[&[400, 412, 413, 415, 422], WRITES, PLUGIN]),
            ..Operation::default()
        });
    }

    fn kv(&mut self, definition: &Definition) {
        let id = &definition.id;
        let mut properties = Map::new();
        for kv in &definition.kv {
            let Some(current) = kv.versions.last() else { continue };
            let schema = self.schemas.add(&format!("{id}.kv.{}", kv.key), current.clone());
            properties.insert(kv.key.clone(), schema.clone());
            let path = format!("/workspaces/{id}/kv/{}", kv.key);
            let value = || [(200, Answer::data("The value.", schema.clone()))];
            self.add(
                &path,
                "get",
                &[id, "kv", &kv.key, "get"],
                Operation {
                    summary: format!("Read {}", kv.key),
                    tags: tags([id, "kv"]),
                    responses: answers(value(), &[&[404, 422]]),
                    ..Operation::default()
                },
            );
            self.add(
                &path,
                "put",
                &[id, "kv", &kv.key, "set"],
                Operation {
                    summary: format!("Set {}", kv.key),
                    tags: tags([id, "kv"]),
                    parameters: vec![Parameter::header("If-Match")],
                    request_body: Some(RequestBody::json(schema.clone(), example::value(current))),
                    responses: answers(value(), &[&[400, 412, 413, 415, 422], WRITES, PLUGIN]),
                    ..Operation::default()
                },
            );
            let key = json!({ "type": "object", "properties": { "key": string() } });
            self.add(
                &path,
                "delete",
                &[id, "kv", &kv.key, "delete"],
                Operation {
                    summary: format!("Delete {}", kv.key),
                    tags: tags([id, "kv"]),
                    parameters: vec![Parameter::header("If-Match")],
                    responses: answers([(200, Answer::data("Deleted.", key))], &[&[412], WRITES]),
                    ..Operation::default()
                },
            );
        }
        let values = json!({ "type": "object", "properties": properties });
        self.add(
            &format!("/workspaces/{id}/kv"),
            "get",
            &[id, "kv"],
            Operation {
                summary: "All values that are set and valid".into(),
                tags: tags([id, "kv"]),
                responses: answers([(200, Answer::data("By key.", values))], &[&[404]]),
                ..Operation::default()
            },
        );
    }

    fn action(&mut self, workspace: &str, action: &ActionDefinition) {
        let full = format!("{workspace}.actions.{}", action.path.replace('/', "."));
        let namespace = action.path.split_once('/').map_or(workspace, |(namespace, _)| namespace);
        let (method, kind) = match action.kind {
            ActionKind::Query => ("get", "query"),
            ActionKind::Mutation => ("post", "mutation"),
        };
        let output = match &action.output {
            Some(output) => self.schemas.add(&format!("{full}.output"), output.clone()),
            None => json!({}),
        };
        let errors: &[u16] = match action.kind {
            ActionKind::Query => &[403, 404, 422],
            ActionKind::Mutation => &[422],
        };
        let writes = if action.kind == ActionKind::Mutation { WRITES } else { &[] };
        let of_input: &[u16] = match (&action.input, action.kind) {
            (None, _) => &[],
            (Some(_), ActionKind::Query) => &[400],
            (Some(_), ActionKind::Mutation) => &[400, 413, 415],
        };
        let described = !action.description.is_empty();
        let mut operation = Operation {
            summary: if described { &action.description } else { &action.path }.clone(),
            tags: tags([namespace, kind]),
            responses: answers(
                [(200, Answer::data("The result.", output))],
                &[errors, writes, of_input, PLUGIN],
            ),
            ..Operation::default()
        };
        match (&action.input, action.kind) {
            (None, _) => {}
            (Some(input), ActionKind::Query) => {
                operation.parameters = self.input_parameters(&full, input);
            }
            (Some(input), ActionKind::Mutation) => {
                let nothing = Schema::compile(input).is_ok_and(|input| input.allows(&json!({})));
                let schema = self.schemas.add(&format!("{full}.input"), input.clone());
                let body = RequestBody::json(schema, example::value(input));
                operation.request_body = Some(RequestBody { required: !nothing, ..body });
            }
        }
        let path = format!("/workspaces/{workspace}/actions/{}", action.path);
        self.add(&path, method, &[workspace, &action.path], operation);
    }

    /// The input of a query, a parameter for each field.
    fn input_parameters(&mut self, action: &str, input: &Value) -> Vec<Parameter> {
        let required = input["required"].as_array();
        let fields = input["properties"].as_object().into_iter().flatten();
        let parameter = |(field, _): (&String, _)| {
            let schema = clean(&format!("{action}.input.{field}"));
            let schema = self.schemas.add(&schema, within(input, property(input, field)));
            let required = required.is_some_and(|required| required.contains(&json!(field)));
            Parameter { required, ..Parameter::new(Place::Query, field, "", schema) }
        };
        fields.map(parameter).collect()
    }
}

/// The schema of a row that somebody creates: it may come without an id.
fn new_row(schema: &Value) -> Value {
    let mut new = as_input(schema);
    if let Some(required) = new.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field != "id");
    }
    if let Some(id) = new.pointer_mut("/properties/id").and_then(Value::as_object_mut) {
        id.insert("minLength".into(), 1.into());
        id.insert("maxLength".into(), 512.into());
    }
    new
}

/// The schema of some fields of a row.
fn some_fields(schema: &Value) -> Value {
    let mut some = as_input(schema);
    if let Some(some) = some.as_object_mut() {
        some.remove("required");
    }
    some
}

fn tags<const N: usize>(tags: [&str; N]) -> Vec<String> {
    tags.map(str::to_owned).to_vec()
}

/// The name of an operation, which clients make into that of a function.
fn name(parts: &[&str]) -> String {
    clean(&parts.join("_")).replace(['.', '-'], "_")
}

/// A name of the same parts in which other parts are never written alike: what is no letter and no digit is
/// written as its code.
fn spelt_out(parts: &[&str]) -> String {
    let mut name = String::new();
    for byte in parts.join("/").bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() => name.push(byte.into()),
            byte => name.push_str(&format!("_{byte:02x}")),
        }
    }
    name
}

fn row_id() -> Parameter {
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": 512 });
    Parameter { required: true, ..Parameter::new(Place::Path, "id", "", schema) }
}

fn list_parameters(schema: &Value) -> Vec<Parameter> {
    let fields: Vec<_> =
        schema["properties"].as_object().into_iter().flatten().map(|f| f.0).collect();
    let orders: Vec<_> = fields.iter().flat_map(|f| [f.to_string(), format!("-{f}")]).collect();
    let named = |names: Value| match fields.is_empty() {
        true => string(),
        false => json!({ "type": "string", "enum": names }),
    };
    let several = |name: &str, description: &str, items: Value| {
        let schema = json!({ "type": "array", "items": items, "minItems": 1 });
        let parameter = Parameter::new(Place::Query, name, description, schema);
        Parameter { style: Some(Style::COMMAS), ..parameter }
    };
    let one = |name: &str, description: &str, schema: Value| {
        Parameter::new(Place::Query, name, description, schema)
    };
    let boolean = || json!({ "type": "boolean" });
    let limit = json!({ "type": "integer", "minimum": 0, "maximum": MAX_LIMIT });
    vec![
        one("limit", "The most rows to return; without it, all.", limit),
        one("cursor", "Where to go on: the `next` of the page before.", string()),
        several("sort", SORT, named(json!(orders))),
        filter_parameter(schema),
        several("fields", "The fields of each row to return.", named(json!(fields))),
        one("count", "Whether to count all rows that are selected.", boolean()),
        one(
            "invalid",
            "Return the invalid rows with their issues instead of the others.",
            boolean(),
        ),
        one(
            "refused",
            "Return what sync brought and the table's rules refused, alone and instead of the rows.",
            boolean(),
        ),
        Parameter::header("If-None-Match"),
    ]
}

fn filter_parameter(schema: &Value) -> Parameter {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let fields: Map<_, _> =
        fields.map(|(field, part)| (field.clone(), filter_of(schema, part))).collect();
    let operators: Vec<_> = Operator::NAMED.iter().map(|(name, _)| *name).collect();
    let description = format!(
        "`filter[field]=value`, or `filter[field][operator]=value` with one of {}. All must hold. Arrays \
         and objects are written as JSON; the list of `in` may also be separated by commas. Where a field may \
         hold text or something else, quotes make a value text: `\"null\"`. Fields with `format: date-time` \
         are compared as times.",
        operators.join(", ")
    );
    let schema = json!({ "type": "object", "properties": fields, "additionalProperties": false });
    let parameter = Parameter::new(Place::Query, "filter", &description, schema);
    Parameter { style: Some(Style::BRACKETS), ..parameter }
}
