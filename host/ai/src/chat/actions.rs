//! The server's own actions as tools for models.
//!
//! A caller names them among the tools of a chat. Providers allow only letters, digits, `_` and `-`
//! in the name of a tool and require an object as its input, so names and inputs are translated
//! here in both directions.

use std::fmt;

use async_trait::async_trait;
use axum::http::Extensions;
use serde_json::{Value, json};

use super::NotStarted;
use super::conversation::Tool;

/// Longest tool name that all providers accept.
const NAME: usize = 64;

/// A server's actions, implemented by the server that has some.
#[async_trait]
pub trait Actions: fmt::Debug + Send + Sync + 'static {
    /// The action with that name.
    fn find(&self, name: &str) -> Option<Action>;

    /// Runs an action on behalf of the caller whose request had these extensions. The result is
    /// JSON text; so is the error, an object with `error`.
    async fn run(&self, by: &Extensions, name: &str, input: Value) -> Result<String, String>;
}

/// The description of an action.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Tells the model when to call it.
    pub description: String,
    /// The JSON Schema of its input; `None` if it takes none.
    pub input: Option<Value>,
}

/// An action as a tool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    /// The tool name that the model uses.
    pub tool: String,
    /// The action's name on this server.
    pub action: String,
    input: Input,
}

/// How to turn the model's arguments into the action's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    None,
    /// The arguments are the input.
    Object,
    /// The input is wrapped in a member, `input`.
    Wrapped,
}

/// Looks up the actions with these names and adds them to `tools` under unique tool names.
pub(super) fn offer(
    actions: Option<&dyn Actions>,
    names: &[String],
    tools: &mut Vec<Tool>,
) -> Result<Vec<Offer>, NotStarted> {
    let mut offers = Vec::with_capacity(names.len());
    for name in names {
        let found = actions.and_then(|actions| actions.find(name));
        let action = found.ok_or_else(|| NotStarted::UnknownAction(name.clone()))?;
        let empty = || json!({ "type": "object", "properties": {} });
        let (input, parameters) = match action.input {
            None => (Input::None, empty()),
            Some(schema) if schema["type"] == "object" => (Input::Object, schema),
            Some(schema) => {
                let wrapped = json!({
                    "type": "object",
                    "properties": { "input": schema },
                    "required": ["input"],
                });
                (Input::Wrapped, wrapped)
            }
        };
        let tool = tool_name(name, tools);
        tools.push(Tool { name: tool.clone(), description: action.description, parameters });
        offers.push(Offer { tool, action: name.clone(), input });
    }
    Ok(offers)
}

/// Turns `blog/posts/publish` into `blog_posts_publish`, with a number appended if that is taken.
fn tool_name(action: &str, taken: &[Tool]) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    let letters = action.chars().map(|letter| if fits(letter) { letter } else { '_' });
    let plain: String = letters.take(NAME).collect();
    let numbered = (2..).map(|number| {
        let suffix = format!("_{number}");
        format!("{}{suffix}", &plain[..plain.len().min(NAME - suffix.len())])
    });
    let mut names = std::iter::once(plain.clone()).chain(numbered);
    let free = names.find(|name| taken.iter().all(|tool| tool.name != *name));
    free.expect("there are more numbers than tools")
}

impl Offer {
    /// Extracts the action's input from the model's arguments.
    pub fn input(&self, arguments: &str) -> Result<Value, String> {
        let arguments = match (self.input, arguments.trim()) {
            (Input::None, _) => return Ok(Value::Null),
            (_, "") => "{}",
            (_, arguments) => arguments,
        };
        let mut input: Value = serde_json::from_str(arguments)
            .map_err(|error| format!("the arguments are no JSON: {error}"))?;
        match self.input {
            Input::Wrapped => Ok(input.get_mut("input").map(Value::take).unwrap_or_default()),
            _ => Ok(input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Any(Option<Value>);

    #[async_trait]
    impl Actions for Any {
        fn find(&self, name: &str) -> Option<Action> {
            let action = Action { description: "does it".into(), input: self.0.clone() };
            (name != "none").then_some(action)
        }

        async fn run(&self, _: &Extensions, _: &str, input: Value) -> Result<String, String> {
            Ok(input.to_string())
        }
    }

    #[test]
    fn names_fit_providers_and_differ() {
        let mut tools = Vec::new();
        let names = ["a/b", "a_b", "a.b", &"x".repeat(70), &format!("{}y", "x".repeat(70))];
        let offers = offer(Some(&Any(None)), &names.map(str::to_owned), &mut tools);
        let names: Vec<_> = offers.unwrap().into_iter().map(|offer| offer.tool).collect();
        let long = "x".repeat(64);
        assert_eq!(names, ["a_b", "a_b_2", "a_b_3", &long, &format!("{}_2", &long[..62])]);
    }

    #[test]
    fn inputs_become_objects_and_back() {
        let cases = [
            (None, r#"{"a":1}"#, Ok(Value::Null)),
            (Some(json!({ "type": "object" })), r#"{"a":1}"#, Ok(json!({ "a": 1 }))),
            (Some(json!({ "type": "object" })), "", Ok(json!({}))),
            (Some(json!({ "type": "string" })), r#"{"input":"x"}"#, Ok(json!("x"))),
            (Some(json!({ "type": "string" })), r#""x""#, Ok(Value::Null)),
            (Some(json!({ "type": "object" })), "{", Err(())),
        ];
        for (schema, arguments, expected) in cases {
            let mut tools = Vec::new();
            let offers = offer(Some(&Any(schema.clone())), &["a".to_owned()], &mut tools).unwrap();
            assert_eq!(tools[0].parameters["type"], "object");
            let input = offers[0].input(arguments).map_err(drop);
            assert_eq!(input, expected, "{schema:?} {arguments}");
        }
    }

    #[test]
    fn an_action_that_is_not_there_is_named() {
        let names = ["none".to_owned()];
        let refused = offer(Some(&Any(None)), &names, &mut Vec::new()).unwrap_err();
        assert_eq!(refused, NotStarted::UnknownAction("none".into()));
        assert!(offer(None, &names, &mut Vec::new()).is_err());
    }
}
