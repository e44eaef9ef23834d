//! The flags of AI.

use std::time::Duration;

use clap::Args;
use host_ai::providers::Endpoint;
use host_ai::{AiConfig, Limits};

/// AI providers, and limits on their use. `host_ai::Limits` gives the reason for each default.
#[derive(Debug, Args)]
pub struct AiArgs {
    /// AI provider besides openai, anthropic, gemini and grok: any endpoint that speaks OpenAI's chat
    /// completions, like ollama=http://localhost:11434. Its key, if it needs one, is read from the
    /// environment (`OLLAMA_API_KEY`). Repeat it for more than one.
    #[arg(long = "ai-endpoint", value_name = "NAME=URL")]
    endpoints: Vec<Endpoint>,
    /// Most chats that one user may start in a minute.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().chats_per_minute)]
    max_chats_per_minute: u32,
    /// Most chats of one user that stream at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().chats_per_user)]
    max_chats_per_user: usize,
    /// Most chats of all users that stream at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().chats)]
    max_chats: usize,
    /// Most requests that one user may send through the proxy in a minute.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().proxied_per_minute)]
    max_proxied_per_minute: u32,
    /// Most requests of one user that the proxy handles at the same time, WebSockets included.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().proxied_per_user)]
    max_proxied_per_user: usize,
    /// Most requests of all users that the proxy handles at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().proxied)]
    max_proxied: usize,
    /// Largest request of a chat, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().chat_body_bytes)]
    max_chat_bytes: usize,
    /// Largest answer of a provider to a chat, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().stream_bytes)]
    max_answer_bytes: usize,
    /// Seconds that a provider may take to start its answer to a chat.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "300")]
    ai_first_byte_timeout: Duration,
    /// Seconds that a provider may stay silent in the middle of an answer to a chat.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "300")]
    ai_idle_timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl AiArgs {
    /// The configuration that these flags describe.
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
