//! JSON text into the author's types, with issues that a person understands.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::issue::Issue;

/// Above this a 64-bit float no longer tells neighbouring whole numbers apart: 2^53.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Parses JSON of any shape, and writes `3.0` as `3`: to JSON Schema and JavaScript they are one
/// number, and to serde the first does not fit into an integer.
pub(crate) fn parse(json: &str) -> Result<Value, Issue> {
    let mut value = serde_json::from_str(json)
        .map_err(|error| Issue::new((), format!("is not JSON: {error}")))?;
    make_whole(&mut value);
    Ok(value)
}

fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if number.is_f64()
                && let Some(float) = number.as_f64()
                && float.fract() == 0.0
                && float.abs() < LARGEST_WHOLE
            {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(members) => members.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Reads a value as a type, or says where it does not fit.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Issue> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| misfit(error.path(), &error.inner().to_string()))
}

/// An issue from what serde says about a value, in words for the person who wrote the value rather
/// than for the one who wrote the type. The texts matched here are those of `serde::de::Error`; one
/// that it does not know passes through unchanged.
fn misfit(path: &Path, text: &str) -> Issue {
    let mut path: Vec<String> = path
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Unknown => None,
        })
        .collect();
    // Serde blames the object for a member that is missing or one too many; a form shows the
    // message beside the member.
    if let Some(member) = quoted_after(text, "missing field ") {
        path.push(member.to_owned());
        return Issue::new(path, "is required");
    }
    if let Some(member) = quoted_after(text, "unknown field ") {
        if path.last().is_none_or(|last| last != member) {
            path.push(member.to_owned());
        }
        return Issue::new(path, "is not a known field");
    }
    for prefix in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) =
            text.strip_prefix(prefix).and_then(|rest| rest.rsplit_once(", expected "))
        {
            return Issue::new(path, format!("must be {}, not {found}", plainly(expected)));
        }
    }
    if let Some((found, expected)) =
        text.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "))
    {
        return Issue::new(path, format!("must be {expected}, not {found}"));
    }
    Issue::new(path, text)
}

/// `title` from ``missing field `title` …``.
fn quoted_after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.strip_prefix('`')?.split('`').next()
}

/// What a Rust type is called by someone who does not write Rust.
fn plainly(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "u128" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "unit" => "null",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Recipe {
        title: String,
        steps: Vec<Step>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Step {
        minutes: u32,
        heat: Heat,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Heat {
        Low,
        High,
    }

    #[test]
    fn an_issue_points_at_the_innermost_member_in_plain_words() {
        for (value, expected) in [
            (json!({ "steps": [] }), "title: is required"),
            (json!({ "title": 7, "steps": [] }), "title: must be a string, not integer `7`"),
            (json!({ "title": "Tea", "steps": {} }), "steps: must be a list, not map"),
            (
                json!({ "title": "Tea", "steps": [{ "minutes": 1, "heat": "low" }, { "minutes": -1, "heat": "low" }] }),
                "steps.1.minutes: must be a whole number, 0 or more, not integer `-1`",
            ),
            (
                json!({ "title": "Tea", "steps": [{ "heat": "low" }] }),
                "steps.0.minutes: is required",
            ),
            (
                json!({ "title": "Tea", "steps": [{ "minutes": 1, "heat": "warm" }] }),
                "steps.0.heat: must be `low` or `high`, not `warm`",
            ),
            (json!({ "title": "Tea", "steps": [], "cost": 1 }), "cost: is not a known field"),
            (json!("Tea"), "must be an object, not string \"Tea\""),
        ] {
            let issue = read::<Recipe>(&value).expect_err("the value does not fit");
            assert_eq!(issue.to_string(), expected, "{value}");
        }
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
        for (text, expected) in [
            ("[3.0, -0.0, 7]", Ok(vec![3, 0, 7])),
            ("[3.5]", Err("0: must be a whole number, not floating point `3.5`")),
            ("[1e300]", Err("0: must be a whole number, not floating point `1e+300`")),
        ] {
            let parsed = parse(text).and_then(|value| read::<Vec<i64>>(&value));
            assert_eq!(
                parsed.map_err(|issue| issue.to_string()),
                expected.map_err(str::to_owned),
                "{text}"
            );
        }
    }
}
