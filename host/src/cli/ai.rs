//! The options of AI.

use std::time::Duration;

use clap::Args;
use host_ai::providers::Endpoint;
use host_ai::{AiConfig, Limits};

/// AI providers, and bounds on their use; `Limits` of `host-ai` says why the defaults are what
/// they are.
#[derive(Debug, Args)]
pub struct AiArgs {
    /// AI provider beside openai, anthropic, gemini and grok: any endpoint that speaks OpenAI's chat
    /// completions, like ollama=http://localhost:11434. Its key, if it wants one, is in the
    /// environment (`OLLAMA_API_KEY`). Give it again for more of them.
    #[arg(long = "ai-endpoint", value_name = "NAME=URL")]
    endpoints: Vec<Endpoint>,
    /// Chats that one user starts in a minute.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().chats_per_minute)]
    max_chats_per_minute: u32,
    /// Chats of one user that stream at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().chats_per_user)]
    max_chats_per_user: usize,
    /// Chats of everyone that stream at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().chats)]
    max_chats: usize,
    /// Requests that one user sends through the proxy in a minute.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().proxied_per_minute)]
    max_proxied_per_minute: u32,
    /// Requests of one user that the proxy has under way at the same time, WebSockets among them.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().proxied_per_user)]
    max_proxied_per_user: usize,
    /// Requests of everyone that the proxy has under way at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().proxied)]
    max_proxied: usize,
    /// Bytes of a chat's request.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().chat_body_bytes)]
    max_chat_bytes: usize,
    /// Bytes of a provider's whole answer to a chat.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().stream_bytes)]
    max_answer_bytes: usize,
    /// Seconds that a provider may take to begin its answer to a chat.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "300")]
    ai_first_byte_timeout: Duration,
    /// Seconds that a provider may be silent in the midst of an answer to a chat.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "300")]
    ai_idle_timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl AiArgs {
    /// What the command line asks of a hub's AI.
    pub fn config(&self) -> AiConfig {
        let limits = Limits {
            chats_per_minute: self.max_chats_per_minute,
            chats_per_user: self.max_chats_per_user,
            chats: self.max_chats,
            proxied_per_minute: self.max_proxied_per_minute,
            proxied_per_user: self.max_proxied_per_user,
            proxied: self.max_proxied,
            chat_body_bytes: self.max_chat_bytes,
            stream_bytes: self.max_answer_bytes,
            first_byte_timeout: self.ai_first_byte_timeout,
            idle_timeout: self.ai_idle_timeout,
            ..Limits::default()
        };
        AiConfig { hub: None, endpoints: self.endpoints.clone(), limits }
    }
}
