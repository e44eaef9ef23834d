//! Every bound of chat and proxy, with its default and the reason for it.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Bounds on what callers ask and on what providers answer.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Chats that one user starts in a minute. A person types a few; an agent that calls tools
    /// asks again after each of them.
    pub chats_per_minute: u32,
    /// Chats of one user that stream at the same time: a person with a few tabs and an agent.
    pub chats_per_user: usize,
    /// Chats of everyone that stream at the same time. Each holds two sockets and some buffers.
    pub chats: usize,
    /// Bytes of a chat's request. Images and documents travel in it as base64.
    pub chat_body_bytes: usize,
    /// Bytes of one event of a provider's stream. The longest is the one with which openai ends:
    /// it repeats the whole answer.
    pub event_bytes: usize,
    /// Bytes of a provider's whole stream. The longest answers take some hundred tokens a KiB,
    /// each in an event of a few hundred bytes.
    pub stream_bytes: usize,
    /// Bytes of accumulated text that one stream repeats. Clients of the old format get, with
    /// each piece of text, all that came before it, which grows with the square of the answer;
    /// beyond this they get the pieces alone, which is all that the known clients read.
    pub repeated_bytes: usize,
    /// Bytes read of a provider's answer that is an error.
    pub error_bytes: usize,
    /// How long a provider may take to begin its answer. A model on one's own machine reads a
    /// long prompt for minutes.
    pub first_byte_timeout: Duration,
    /// How long a provider may be silent in the midst of an answer. Some think without a word.
    pub idle_timeout: Duration,
    /// How often a request is sent that fails before its answer begins.
    pub attempts: u32,
    /// How long to wait before the second attempt; twice that before the third.
    pub retry_delay: Duration,
    /// The longest wait that a provider may ask for before the next attempt. One that asks for
    /// more has its error passed on at once, so that the user can decide.
    pub retry_after: Duration,
    /// How often a model is asked again with what came of the actions that it called.
    pub action_rounds: u32,
    /// How long an answer may take in which a model calls actions, with all of its rounds.
    pub action_time: Duration,
    /// Bytes of an action's result that a model is shown. A page of rows; models pay for each.
    pub action_result_bytes: usize,
    /// Requests that the proxy passes on for one user in a minute. An agent at work sends some ten,
    /// a script that embeds documents some hundred.
    pub proxied_per_minute: u32,
    /// Requests of one user that the proxy has under way at the same time, WebSockets among them.
    pub proxied_per_user: usize,
    /// Requests of everyone that the proxy passes on at the same time. Each holds two sockets and
    /// what is in their buffers.
    pub proxied: usize,
    /// How long nothing may move in either direction of a proxied request or WebSocket. SDKs wait
    /// ten minutes for an answer, and a model that reasons may need them before its first byte.
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
