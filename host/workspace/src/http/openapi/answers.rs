//! The errors that operations answer with. All that an operation knows are named: clients that are generated
//! tell them apart, and tests find those that it does not know.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::document::Answer;
use super::schemas::reference;

/// The errors that there are: status, name and what it means.
const ERRORS: &[(u16, &str, &str)] = &[
    (
        400,
        "BadRequest",
        "The query string, a header or the body cannot be read, or asks for what is not there.",
    ),
    (401, "Unauthorized", "The server wants a session, and none that is valid was sent."),
    (403, "Forbidden", "The caller, or the page that asks, may not do this."),
    (404, "NotFound", "There is no such workspace, table, row, key, document or action."),
    (409, "Conflict", "Others keep changing the same rows; try again."),
    (412, "PreconditionFailed", "What is there is not what `If-Match` or `If-None-Match` demands."),
    (413, "TooLarge", "The body is too large, or it would change too many rows."),
    (415, "UnsupportedMediaType", "The body is of another type."),
    (422, "Invalid", "A value is not valid; `issues` say where and why."),
    (500, "Failed", "The workspace's plugin failed."),
    (
        503,
        "Unavailable",
        "The server has too much to do, stops, or cannot reach what it needs; try again.",
    ),
    (504, "TimedOut", "The workspace's plugin took too long."),
    (507, "Full", "The document is as large as it may become."),
];

/// What every operation may answer.
const EVERYWHERE: &[u16] = &[401, 503];
/// What may come of changing the document.
pub const WRITES: &[u16] = &[403, 404, 409, 507];
/// What may come of asking the plugin.
pub const PLUGIN: &[u16] = &[500, 504];

/// The answers of an operation: what it does when all is well, and the errors that it knows.
pub fn answers<const N: usize>(
    well: [(u16, Answer); N],
    errors: &[&[u16]],
) -> BTreeMap<u16, Answer> {
    let known = |status: &u16| EVERYWHERE.contains(status) || errors.concat().contains(status);
    let errors = ERRORS.iter().filter(|(status, ..)| known(status));
    let errors = errors.map(|(status, name, _)| (*status, Answer::common(name)));
    errors.chain(well).collect()
}

/// The answers that many operations have, by their names.
pub fn common() -> Map<String, Value> {
    let errors = ERRORS.iter().map(|(_, name, description)| {
        ((*name).to_owned(), json!(Answer::json(description, reference("Error"))))
    });
    let same = Answer::empty("You have this version.");
    errors.chain([("NotModified".to_owned(), json!(same))]).collect()
}
