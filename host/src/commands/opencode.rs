//! `host opencode-config`: the configuration with which opencode uses the providers of a hub.

use std::str::FromStr;

use clap::Args;
use reqwest::Url;
use serde_json::{Map, Value, json};

/// Each provider's name in opencode and in the proxy, and the version that opencode's libraries expect as a part
/// of the base URL.
const PROVIDERS: [(&str, &str, &str); 4] = [
    ("openai", "openai", "v1"),
    ("anthropic", "anthropic", "v1"),
    ("google", "gemini", "v1beta"),
    ("xai", "grok", "v1"),
];

/// The package with which opencode speaks to endpoints for OpenAI's chat completions.
const COMPATIBLE: &str = "@ai-sdk/openai-compatible";

/// Prints the configuration with which opencode uses the providers of a hub.
///
/// Put it in opencode.json, and the token of a session in the environment variable that it names. A hub that
/// requires no session needs no token.
#[derive(Debug, Args)]
pub struct OpencodeArgs {
    /// URL of the hub.
    #[arg(long, value_name = "URL", default_value = "http://localhost:3913")]
    hub_url: Url,
    /// Environment variable in which opencode finds the session's token.
    #[arg(long, value_name = "NAME", default_value = "EPICENTER_TOKEN")]
    token_variable: String,
    /// Endpoint that the hub was started with (`--ai-endpoint`), and the models to offer from it, like
    /// ollama=llama3.2,qwen3; repeat it for more than one.
    #[arg(long = "endpoint", value_name = "NAME=MODELS")]
    endpoints: Vec<Models>,
}

/// The models of an endpoint.
#[derive(Debug, Clone)]
struct Models {
    endpoint: String,
    models: Vec<String>,
}

impl OpencodeArgs {
    /// Prints the configuration.
    pub fn run(&self) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string_pretty(&self.config())?);
        Ok(())
    }

    fn config(&self) -> Value {
        let hub = self.hub_url.as_str().trim_end_matches('/');
        let options = |name: &str, version: &str| {
            json!({
                "baseURL": format!("{hub}/proxy/{name}/{version}"),
                "apiKey": format!("{{env:{}}}", self.token_variable),
            })
        };
        let mut providers = Map::new();
        for (theirs, ours, version) in PROVIDERS {
            providers.insert(theirs.to_owned(), json!({ "options": options(ours, version) }));
        }
        for Models { endpoint, models } in &self.endpoints {
            let models: Map<_, _> = models.iter().map(|model| (model.clone(), json!({}))).collect();
            let provider = json!({
                "npm": COMPATIBLE,
                "name": endpoint,
                "options": options(endpoint, "v1"),
                "models": models,
            });
            providers.insert(endpoint.clone(), provider);
        }
        json!({ "$schema": "https://opencode.ai/config.json", "provider": providers })
    }
}

impl FromStr for Models {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected NAME=MODEL,MODEL, like ollama=llama3.2,qwen3";
        let (endpoint, models) = text.split_once('=').ok_or(wrong)?;
        let models: Vec<_> = models.split(',').map(|model| model.trim().to_owned()).collect();
        if endpoint.is_empty() || models.iter().any(String::is_empty) {
            return Err(wrong);
        }
        Ok(Self { endpoint: endpoint.to_owned(), models })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_is_pointed_at_the_proxy() {
        let args = OpencodeArgs {
            hub_url: Url::parse("https://hub.example/").expect("a URL"),
            token_variable: "TOKEN".into(),
            endpoints: vec!["ollama=llama3.2,qwen3".parse().expect("models")],
        };
        let options = |path: &str| json!({ "baseURL": format!("https://hub.example/proxy/{path}"), "apiKey": "{env:TOKEN}" });
        let expected = json!({
            "$schema": "https://opencode.ai/config.json",
            "provider": {
                "openai": { "options": options("openai/v1") },
                "anthropic": { "options": options("anthropic/v1") },
                "google": { "options": options("gemini/v1beta") },
                "xai": { "options": options("grok/v1") },
                "ollama": {
                    "npm": "@ai-sdk/openai-compatible",
                    "name": "ollama",
                    "options": options("ollama/v1"),
                    "models": { "llama3.2": {}, "qwen3": {} },
                },
            },
        });
        assert_eq!(args.config(), expected);
        assert!("ollama".parse::<Models>().is_err());
        assert!("ollama=a,,b".parse::<Models>().is_err());
    }
}
