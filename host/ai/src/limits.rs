//! Every limit of the chat and the proxy, with its default and the reason for it.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Limits on callers' requests and providers' answers.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Chats that one user may start in a minute. A person types a few; an agent that calls tools
    /// sends another after each call.
    pub chats_per_minute: u32,
    /// Chats of one user that stream at the same time: a person with a few tabs and an agent.
    pub chats_per_user: usize,
    /// Chats of all users that stream at the same time. Each holds two sockets and some buffers.
    pub chats: usize,
    /// Bytes of a chat request. Images and documents are sent in it as base64.
    pub chat_body_bytes: usize,
    /// Bytes of one event in a provider's stream. The longest is openai's last one, which repeats
    /// the whole answer.
    pub event_bytes: usize,
    /// Bytes of a provider's whole stream. The longest answers have a few hundred tokens per KiB,
    /// each in an event of a few hundred bytes.
    pub stream_bytes: usize,
    /// Bytes of accumulated text that one stream repeats. Each piece for an old client repeats all
    /// text before it, which grows with the square of the answer. Beyond this limit old clients get
    /// only the new piece, which is all that the known ones read.
    pub repeated_bytes: usize,
    /// Bytes read of a provider's error response.
    pub error_bytes: usize,
    /// How long a provider may take to start its answer. A model on the user's own machine may read
    /// a long prompt for minutes.
    pub first_byte_timeout: Duration,
    /// How long a provider may be silent in the middle of an answer. Some models think silently.
    pub idle_timeout: Duration,
    /// How often a request that fails before its answer starts is sent.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles before the third.
    pub retry_delay: Duration,
    /// The longest pause before a retry that a provider may ask for. If it asks for more, its error
    /// is passed on at once, so that the user can decide.
    pub retry_after: Duration,
    /// How many rounds a model gets with the results of its calls.
    pub action_rounds: u32,
    /// How long an answer with calls may take, all rounds included.
    pub action_time: Duration,
    /// Bytes of an action's result that a model is shown. A page of rows; each byte costs tokens.
    pub action_result_bytes: usize,
    /// Requests that the proxy forwards for one user in a minute. An agent sends about ten, a
    /// script that embeds documents about a hundred.
    pub proxied_per_minute: u32,
    /// Requests of one user that the proxy handles at the same time, WebSockets included.
    pub proxied_per_user: usize,
    /// Requests of all users that the proxy handles at the same time. Each holds two sockets and
    /// their buffers.
    pub proxied: usize,
    /// How long a proxied request or WebSocket may be idle in both directions. SDKs wait ten
    /// minutes for an answer, and a reasoning model may need them before its first byte.
    pub proxy_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            chats_per_minute: 60,
            chats_per_user: 8,
            chats: 4096,
            chat_body_bytes: 32 * MIB,
            event_bytes: 8 * MIB,
            stream_bytes: 128 * MIB,
            repeated_bytes: 16 * MIB,
            error_bytes: 16 * KIB,
            first_byte_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(300),
            attempts: 3,
            retry_delay: Duration::from_millis(500),
            retry_after: Duration::from_secs(15),
            action_rounds: 16,
            action_time: Duration::from_secs(15 * 60),
            action_result_bytes: 256 * KIB,
            proxied_per_minute: 1200,
            proxied_per_user: 64,
            proxied: 2048,
            proxy_idle_timeout: Duration::from_secs(15 * 60),
        }
    }
}
