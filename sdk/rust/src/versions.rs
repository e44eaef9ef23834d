//! How a value of any version becomes a valid value of the current one.
//!
//! A row that was written by a table with more than one version carries the member `_v`, the number
//! of the version that wrote it, counted from 1. The SDK adds and removes it; an author's types
//! never see it.
//!
//! - A row with `_v` is read as that version and no other.
//! - A row without `_v` is read as the newest version that it fits and that has all of its members;
//!   when there is none, as the current one, whose issues are then reported. Newest first, because
//!   REST clients and actions write the current version. All of its members, because serde passes
//!   over those that a type lacks: otherwise a slip in a current row would turn it into an old one,
//!   without its new members.
//! - A row with a `_v` that is higher than the table has versions was written by a newer plugin. It
//!   is invalid rather than guessed at, and stays in the document as it is.
//!
//! The shape decides the version; the rules are asked once, of the migrated value, and all that they
//! find is reported.
//!
//! Members that the current type does not have are dropped from what is read, as serde does. The
//! document keeps the original until the row is rewritten; then they are gone. A type that must keep
//! them says so in serde's own way: `#[serde(flatten)] rest: Map<String, Value>`.

use std::cell::OnceCell;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::issue::{FieldPath, Issue, Issues};
use crate::json::{parse, read};
use crate::schema;

/// The member that names the version which wrote a row.
const VERSION_MEMBER: &str = "_v";

type Rule<T> = Box<dyn Fn(&T, &mut Issues)>;

/// Reads a value and migrates it to the current version.
type Read<T> = Box<dyn Fn(&Value) -> Result<T, Issue>>;

/// All versions of a value, and the rules that the current one fulfils.
pub(crate) struct Versions<T> {
    /// Oldest first.
    previous: Vec<Version<T>>,
    current: Version<T>,
    rules: Vec<Rule<T>>,
}

struct Version<T> {
    schema: fn() -> Value,
    read: Read<T>,
    /// The members that its type has; `None` when it may have any. Made when first needed.
    members: OnceCell<Option<Vec<String>>>,
}

impl<T: Serialize + DeserializeOwned + JsonSchema + 'static> Versions<T> {
    pub(crate) fn new() -> Versions<T> {
        Versions {
            previous: Vec::new(),
            current: Version::new(|value: T| value),
            rules: Vec::new(),
        }
    }

    pub(crate) fn add_previous<P: DeserializeOwned + JsonSchema + 'static>(
        &mut self,
        migrate: impl Fn(P) -> T + 'static,
    ) {
        self.previous.push(Version::new(migrate));
    }

    pub(crate) fn add_rule(&mut self, rule: impl Fn(&T, &mut Issues) + 'static) {
        self.rules.push(Box::new(rule));
    }

    /// A rule that is one condition on one place.
    pub(crate) fn add_condition(
        &mut self,
        at: FieldPath,
        message: String,
        holds: impl Fn(&T) -> bool + 'static,
    ) {
        self.add_rule(move |value, issues| {
            if !holds(value) {
                issues.add(at.clone(), message.clone());
            }
        });
    }

    /// One schema for each version, oldest first.
    pub(crate) fn schemas(&self) -> Vec<Value> {
        self.oldest_first().map(|version| (version.schema)()).collect()
    }

    /// The same for rows, which always have an id, and carry the number of their version where there
    /// are several.
    pub(crate) fn row_schemas(&self) -> Vec<Value> {
        let mut schemas = self.schemas();
        let several = schemas.len() > 1;
        for (schema, number) in schemas.iter_mut().zip(1..) {
            schema::require(schema, "id");
            if let Some(members) = schema["properties"].as_object_mut()
                && several
            {
                members.insert(VERSION_MEMBER.to_owned(), json!({ "const": number }));
            }
        }
        schemas
    }

    /// The current row for a row of any version, or everything that is wrong with it.
    pub(crate) fn parse_row(&self, json: &str) -> Result<String, Vec<Issue>> {
        let mut value = parse(json)?;
        let Value::Object(members) = &mut value else {
            return Err(vec![Issue::new((), "a row must be an object")]);
        };
        let version = self.take_version(members)?;
        let id = match members.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(_) => return Err(vec![Issue::new("id", "must be a string")]),
            None => return Err(vec![Issue::new("id", "is required")]),
        };
        let row = self.read(&value, version)?;
        self.check(&row)?;
        let Value::Object(mut members) = serialize(&row)? else {
            return Err(vec![Issue::new((), "the plugin's row type must serialize to an object")]);
        };
        if members.get("id") != Some(&Value::String(id)) {
            return Err(vec![Issue::new(
                "id",
                "the plugin's row type must keep the id it was given",
            )]);
        }
        if !self.previous.is_empty() {
            members.insert(VERSION_MEMBER.to_owned(), json!(self.count()));
        }
        Ok(Value::Object(members).to_string())
    }

    /// The same for a value under a key. A value need not be an object, so it carries no `_v`.
    pub(crate) fn parse_value(&self, json: &str) -> Result<String, Vec<Issue>> {
        let value = self.read(&parse(json)?, None)?;
        self.check(&value)?;
        Ok(serialize(&value)?.to_string())
    }

    fn count(&self) -> usize {
        self.previous.len() + 1
    }

    /// Takes `_v` out of a row, so that types with `deny_unknown_fields` or a flattened map do not
    /// meet it.
    fn take_version(&self, members: &mut Map<String, Value>) -> Result<Option<usize>, Issue> {
        let Some(version) = members.shift_remove(VERSION_MEMBER) else {
            return Ok(None);
        };
        let count = self.count();
        match version.as_u64().and_then(|number| usize::try_from(number).ok()) {
            Some(number) if (1..=count).contains(&number) => Ok(Some(number)),
            Some(number) if number > count => Err(Issue::new(
                VERSION_MEMBER,
                format!(
                    "was written by version {number}, but the plugin knows versions up to {count}; \
                     load a newer plugin"
                ),
            )),
            _ => Err(Issue::new(
                VERSION_MEMBER,
                format!("must be a whole number from 1 to {count}, not {version}"),
            )),
        }
    }

    fn read(&self, value: &Value, version: Option<usize>) -> Result<T, Issue> {
        if let Some(number) = version {
            let previous = self.previous.get(number - 1);
            return (previous.unwrap_or(&self.current).read)(value);
        }
        if self.previous.is_empty() {
            return (self.current.read)(value);
        }
        self.oldest_first()
            .rev()
            .filter(|version| version.has_all_members(value))
            .find_map(|version| (version.read)(value).ok())
            .map_or_else(|| (self.current.read)(value), Ok)
    }

    fn oldest_first(&self) -> impl DoubleEndedIterator<Item = &Version<T>> {
        self.previous.iter().chain([&self.current])
    }

    fn check(&self, value: &T) -> Result<(), Vec<Issue>> {
        let mut issues = Issues::default();
        for rule in &self.rules {
            rule(value, &mut issues);
        }
        if issues.0.is_empty() { Ok(()) } else { Err(issues.0) }
    }
}

impl<T> Version<T> {
    fn new<P: DeserializeOwned + JsonSchema + 'static>(
        migrate: impl Fn(P) -> T + 'static,
    ) -> Version<T> {
        Version {
            schema: schema::accepted::<P>,
            read: Box::new(move |value| read::<P>(value).map(&migrate)),
            members: OnceCell::new(),
        }
    }

    fn has_all_members(&self, value: &Value) -> bool {
        let Value::Object(members) = value else {
            return true;
        };
        match self.members.get_or_init(|| schema::members(&(self.schema)())) {
            Some(known) => members.keys().all(|member| known.contains(member)),
            None => true,
        }
    }
}

/// Reads a row as the host hands it out: valid, of the current version, perhaps with `_v`.
pub(crate) fn read_current<T: DeserializeOwned>(json: &str) -> Result<T, Issue> {
    let mut value = parse(json)?;
    if let Value::Object(members) = &mut value {
        members.shift_remove(VERSION_MEMBER);
    }
    read(&value)
}

fn serialize<T: Serialize>(value: &T) -> Result<Value, Issue> {
    serde_json::to_value(value).map_err(|error| {
        Issue::new((), format!("the plugin cannot write this value as JSON: {error}"))
    })
}

impl From<Issue> for Vec<Issue> {
    fn from(issue: Issue) -> Vec<Issue> {
        vec![issue]
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    struct PostV1 {
        id: String,
        name: String,
    }

    #[derive(Deserialize, JsonSchema)]
    struct PostV2 {
        id: String,
        title: String,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Post {
        id: String,
        title: String,
        tags: Vec<String>,
        views: u32,
    }

    fn post(id: String, title: String) -> Post {
        Post { id, title, tags: Vec::new(), views: 0 }
    }

    fn posts() -> Versions<Post> {
        let mut posts = Versions::new();
        posts.add_previous(|PostV1 { id, name }| post(id, format!("{name} (v1)")));
        posts.add_previous(|PostV2 { id, title }| post(id, title));
        posts.add_condition("title".into(), "must not be empty".into(), |post: &Post| {
            !post.title.is_empty()
        });
        posts.add_rule(|post: &Post, issues| {
            for (index, tag) in post.tags.iter().enumerate() {
                if tag.contains(' ') {
                    issues.add(["tags".to_owned(), index.to_string()], "must be one word");
                }
            }
        });
        posts
    }

    /// What becomes of a row: the row itself, or its issues one a line.
    fn parsed(row: Value) -> String {
        match posts().parse_row(&row.to_string()) {
            Ok(json) => json,
            Err(issues) => issues.iter().map(Issue::to_string).collect::<Vec<_>>().join("\n"),
        }
    }

    #[test]
    fn a_row_is_read_as_the_version_it_names_or_as_the_newest_that_fits() {
        const CURRENT: &str = r#"{"id":"1","title":"Tea","tags":[],"views":0,"_v":3}"#;
        for (row, expected) in [
            (json!({ "id": "1", "title": "Tea", "tags": [], "views": 0, "_v": 3 }), CURRENT),
            (json!({ "id": "1", "title": "Tea", "tags": [], "views": 0 }), CURRENT),
            (json!({ "id": "1", "title": "Tea", "_v": 2 }), CURRENT),
            (json!({ "id": "1", "title": "Tea" }), CURRENT),
            (
                json!({ "_v": 1, "id": "1", "name": "Tea" }),
                r#"{"id":"1","title":"Tea (v1)","tags":[],"views":0,"_v":3}"#,
            ),
            (
                json!({ "id": "1", "name": "Tea" }),
                r#"{"id":"1","title":"Tea (v1)","tags":[],"views":0,"_v":3}"#,
            ),
            // A named version is taken at its word, although another would fit.
            (json!({ "id": "1", "title": "Tea", "_v": 1 }), "name: is required"),
            (json!({ "id": "1", "title": "Tea", "_v": 3 }), "tags: is required"),
            (
                json!({ "id": "1", "title": "Tea", "_v": 4 }),
                "_v: was written by version 4, but the plugin knows versions up to 3; load a newer plugin",
            ),
            (
                json!({ "id": "1", "title": "Tea", "_v": "2" }),
                "_v: must be a whole number from 1 to 3, not \"2\"",
            ),
            (
                json!({ "id": "1", "title": "Tea", "_v": 0 }),
                "_v: must be a whole number from 1 to 3, not 0",
            ),
            // An older version would fit, but only by losing a member.
            (
                json!({ "id": "1", "title": "Tea", "tags": "a", "views": 0 }),
                "tags: must be a list, not string \"a\"",
            ),
            (json!({ "id": "1", "name": "Tea", "title": "Tea" }), "name: is not a known field"),
            // Nothing fits: the current version says why.
            (json!({ "id": "1" }), "title: is required"),
        ] {
            assert_eq!(parsed(row.clone()), expected, "{row}");
        }
    }

    #[test]
    fn every_rule_is_asked_and_every_issue_reported() {
        assert_eq!(
            parsed(json!({ "id": "1", "title": "", "tags": ["a b", "c", "d e"], "views": 0 })),
            "title: must not be empty\ntags.0: must be one word\ntags.2: must be one word"
        );
        // Also of a row that had to be migrated first.
        assert_eq!(parsed(json!({ "id": "1", "title": "", "_v": 2 })), "title: must not be empty");
    }

    #[test]
    fn a_row_is_an_object_with_a_string_id() {
        assert_eq!(parsed(json!([])), "a row must be an object");
        assert_eq!(parsed(json!({ "title": "Tea" })), "id: is required");
        assert_eq!(parsed(json!({ "id": 1, "title": "Tea" })), "id: must be a string");
        let issues = posts().parse_row("{").expect_err("it is cut off");
        assert!(issues[0].message.starts_with("is not JSON: "), "{issues:?}");
    }

    #[test]
    fn a_table_with_one_version_writes_no_version() {
        let mut posts = Versions::<Post>::new();
        let row = r#"{"id":"1","title":"Tea","tags":[],"views":0}"#;
        assert_eq!(posts.parse_row(row).as_deref(), Ok(row));
        assert!(posts.row_schemas()[0]["properties"]["_v"].is_null());
        posts.add_previous(|PostV2 { id, title }| post(id, title));
        assert_eq!(posts.row_schemas()[0]["properties"]["_v"], json!({ "const": 1 }));
        assert_eq!(posts.row_schemas()[1]["properties"]["_v"], json!({ "const": 2 }));
    }

    #[test]
    fn a_flattened_map_keeps_unknown_members_and_never_sees_the_version() {
        #[derive(Serialize, Deserialize, JsonSchema)]
        struct Open {
            id: String,
            #[serde(flatten)]
            rest: Map<String, Value>,
        }
        let mut open = Versions::<Open>::new();
        open.add_previous(|PostV1 { id, .. }| Open { id, rest: Map::new() });
        assert_eq!(
            open.parse_row(r#"{"_v":2,"id":"1","b":1,"a":2}"#).as_deref(),
            Ok(r#"{"id":"1","b":1,"a":2,"_v":2}"#)
        );
    }

    #[test]
    fn a_version_that_knows_all_members_comes_before_one_that_drops_some() {
        #[derive(Default, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        struct Lenient {
            id: String,
            title: String,
        }
        let mut lenient = Versions::<Lenient>::new();
        lenient.add_previous(|PostV1 { id, name }| Lenient { id, title: name });
        for (row, title) in [
            (r#"{"id":"1","name":"Tea"}"#, "Tea"),
            (r#"{"id":"1","title":"Tea"}"#, "Tea"),
            (r#"{"id":"1","title":"Tea","name":"Pot"}"#, "Tea"),
            (r#"{"id":"1","colour":"red"}"#, ""),
        ] {
            let expected = format!(r#"{{"id":"1","title":"{title}","_v":2}}"#);
            assert_eq!(lenient.parse_row(row), Ok(expected), "{row}");
        }
        let schema = &lenient.row_schemas()[1];
        assert_eq!(schema["required"], json!(["id"]), "every row has an id");
    }

    #[test]
    fn a_migration_that_changes_the_id_is_refused() {
        #[derive(Serialize, Deserialize, JsonSchema)]
        struct Renamed {
            id: String,
        }
        let mut renamed = Versions::<Renamed>::new();
        renamed.add_previous(|PostV1 { name, .. }| Renamed { id: name });
        assert_eq!(
            renamed.parse_row(r#"{"_v":1,"id":"1","name":"2"}"#),
            Err(vec![Issue::new("id", "the plugin's row type must keep the id it was given")])
        );
    }

    #[test]
    fn a_value_under_a_key_is_tried_newest_first() {
        #[derive(Serialize, Deserialize, JsonSchema)]
        struct Theme {
            name: String,
        }
        let mut theme = Versions::<Theme>::new();
        theme.add_previous(|name: String| Theme { name });
        for value in [r#""dark""#, r#"{"name":"dark"}"#] {
            assert_eq!(theme.parse_value(value).as_deref(), Ok(r#"{"name":"dark"}"#));
        }
        assert_eq!(
            theme.parse_value("7"),
            Err(vec![Issue::new((), "must be an object, not integer `7`")])
        );
    }
}
