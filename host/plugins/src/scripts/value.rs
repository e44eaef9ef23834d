//! Converts between JSON and script values.

use rhai::{Array, Dynamic, INT, Map};
use serde_json::{Number, Value};

/// How deep JSON may nest, as the contract says.
const DEPTH: usize = 64;

/// A JSON value as a script sees it. Integers beyond 64 bits become floating-point numbers.
pub(super) fn to_script(value: Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(bool) => bool.into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Dynamic::from_int(integer as INT),
            (None, float) => Dynamic::from_float(float.unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.into(),
        Value::Array(list) => Dynamic::from_array(list.into_iter().map(to_script).collect()),
        Value::Object(object) => {
            let members = object.into_iter().map(|(name, value)| (name.into(), to_script(value)));
            Dynamic::from_map(members.collect())
        }
    }
}

/// JSON text as a script sees it.
pub(super) fn read(text: &str) -> Result<Dynamic, String> {
    serde_json::from_str(text)
        .map(to_script)
        .map_err(|error| format!("the host has no JSON: {error}"))
}

/// Converts a script's value to JSON; the error says why it has no JSON form.
pub(super) fn to_json(value: Dynamic) -> Result<Value, String> {
    convert(value, 0)
}

fn convert(value: Dynamic, depth: usize) -> Result<Value, String> {
    if depth > DEPTH {
        return Err(format!("is nested deeper than {DEPTH} levels"));
    }
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(bool) = value.as_bool() {
        return Ok(Value::Bool(bool));
    }
    if let Ok(integer) = value.as_int() {
        return Ok(Value::from(integer));
    }
    if let Ok(float) = value.as_float() {
        let number = Number::from_f64(float);
        return number
            .map(Value::Number)
            .ok_or_else(|| format!("has {float}, which JSON cannot say"));
    }
    if let Ok(character) = value.as_char() {
        return Ok(Value::String(character.into()));
    }
    if value.is_string() {
        return Ok(Value::String(value.into_string().unwrap_or_default()));
    }
    if value.is_array() {
        let list: Array = value.into_array().unwrap_or_default();
        let list = list.into_iter().map(|member| convert(member, depth + 1));
        return list.collect::<Result<_, _>>().map(Value::Array);
    }
    match value.try_cast_result::<Map>() {
        Ok(map) => {
            let members = map
                .into_iter()
                .map(|(name, value)| convert(value, depth + 1).map(|value| (name.into(), value)));
            members.collect::<Result<_, _>>().map(Value::Object)
        }
        Err(other) => {
            Err(format!("has a value of the type {}, which is not JSON", other.type_name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_comes_back_as_it_went_in() {
        let value = json!({"a": [1, -2, 2.5, "x", true, null, {}], "b": 9007199254740993_i64});
        assert_eq!(to_json(to_script(value.clone())), Ok(value));
    }

    #[test]
    fn what_is_no_json_says_what_it_is() {
        let nested = (0..70).fold(json!(1), |value, _| json!([value]));
        let cases = [
            (Dynamic::from_float(f64::NAN), "has NaN, which JSON cannot say"),
            (to_script(nested), "is nested deeper than 64 levels"),
            (Dynamic::from(std::time::Duration::ZERO), "which is not JSON"),
        ];
        for (value, expected) in cases {
            let error = to_json(value).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
