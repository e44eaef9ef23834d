//! Each provider's stream, split anywhere, becomes what the original server sent to its clients.
//!
//! `tests/recordings/ai` has the streams, and the original server's answer to each in both
//! generations of its format.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::assembly::{Assembly, Delta};
use super::body::{self, Generation};
use super::conversation::{Message, Request, Thinking};
use super::dialect;
use super::event::Event;
use super::sse::Decoder;
use super::upstream;
use super::wire::Writer;
use crate::providers::Api;

const APIS: [(&str, Api); 4] = [
    ("openai", Api::Responses),
    ("anthropic", Api::Messages),
    ("gemini", Api::GenerateContent),
    ("grok", Api::ChatCompletions),
];

fn recordings() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recordings/ai"))
}

fn stream_of(provider: &str, scenario: &str) -> Vec<u8> {
    let path = recordings().join(provider).join(format!("{scenario}.sse"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The answer in one recorded run.
struct Recording {
    provider: String,
    scenario: String,
    events: Vec<Value>,
}

fn recorded(version: &str) -> Vec<Recording> {
    let path = recordings().join(format!("answers-{version}.jsonl"));
    let text = std::fs::read_to_string(path).expect("the recording is there");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let runs = lines.map(|run| Recording {
        provider: run["provider"].as_str().expect("text").to_owned(),
        scenario: run["scenario"].as_str().expect("text").to_owned(),
        events: run["events"].as_array().expect("a list").clone(),
    });
    runs.collect()
}

fn api(provider: &str) -> Api {
    APIS.iter().find(|(name, _)| *name == provider).expect("a known provider").1
}

/// The events of a stream that arrives in pieces of random sizes.
fn events(provider: &str, stream: &[u8], seed: u64) -> Vec<Event> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut reader = dialect::reader(api(provider));
    let mut decoder = Decoder::new(1 << 20);
    let mut assembly = Assembly::default();
    let (mut data, mut deltas) = (VecDeque::new(), Vec::new());
    let mut events = VecDeque::from([Event::Started]);
    let mut rest = stream;
    while !rest.is_empty() {
        let longest = if random.random_bool(0.5) { 8 } else { 400 };
        let (piece, more) = rest.split_at(random.random_range(1..=longest).min(rest.len()));
        rest = more;
        decoder.push(piece, &mut data).expect("no event is that long");
        for data in data.drain(..) {
            reader.hear(&data, &mut deltas).unwrap_or_else(|error| panic!("{data}: {error}"));
        }
        deltas.drain(..).for_each(|delta| assembly.push(delta, &mut events));
    }
    reader.end(&mut deltas);
    deltas.push(Delta::Failed(upstream::cut(provider)));
    deltas.drain(..).for_each(|delta| assembly.push(delta, &mut events));
    events.into()
}

/// The frames sent to a client.
fn sent(provider: &str, scenario: &str, generation: Generation, seed: u64) -> Vec<Value> {
    let request = Request {
        provider: provider.to_owned(),
        model: format!("m-{scenario}"),
        ..Request::default()
    };
    written(&request, generation, events(provider, &stream_of(provider, scenario), seed))
}

fn written(request: &Request, generation: Generation, events: Vec<Event>) -> Vec<Value> {
    let mut writer = Writer::new(request, generation, 1 << 20);
    let mut sent = Vec::new();
    for event in events {
        let frames = String::from_utf8(writer.write(event).to_vec()).expect("text");
        for frame in frames.split_terminator("\n\n") {
            let data = frame.strip_prefix("data: ").expect("each frame is one line of data");
            sent.push(serde_json::from_str(data).expect("JSON"));
        }
    }
    sent
}

/// A client's view of the events: text, thoughts, calls, and how the answer ended.
fn understood(events: &[Value]) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let reasoning = events.iter().any(|event| event["type"] == "REASONING_MESSAGE_CONTENT");
    let (mut said, mut thought, mut end) = (String::new(), String::new(), Value::Null);
    let mut calls: Vec<Value> = Vec::new();
    for event in events {
        match event["type"].as_str().expect("each event has a type") {
            "TEXT_MESSAGE_CONTENT" => said += &text(&event["delta"]),
            "REASONING_MESSAGE_CONTENT" => thought += &text(&event["delta"]),
            "STEP_FINISHED" if !reasoning => thought += &text(&event["delta"]),
            "TOOL_CALL_START" => {
                let name = event.get("toolName").unwrap_or(&event["toolCallName"]);
                calls.push(json!({ "id": event["toolCallId"], "name": name, "arguments": "" }));
            }
            "TOOL_CALL_ARGS" => {
                let call = calls.iter_mut().find(|call| call["id"] == event["toolCallId"]);
                let call = call.expect("arguments follow their call");
                call["arguments"] = json!(text(&call["arguments"]) + &text(&event["delta"]));
            }
            "TOOL_CALL_END" => {
                let call = calls.iter_mut().find(|call| call["id"] == event["toolCallId"]);
                let input = event.get("input").unwrap_or(&event["metadata"]["tanstack"]["input"]);
                call.expect("an end follows its call")["input"] = input.clone();
            }
            "RUN_FINISHED" => {
                let reason = event.get("finishReason");
                let newer = &event["metadata"]["tanstack"]["finishReason"];
                end = json!({ "finished": reason.unwrap_or(newer) });
            }
            "RUN_ERROR" => {
                let message = event.get("message").unwrap_or(&event["error"]["message"]);
                end = json!({ "failed": message });
            }
            _ => {}
        }
    }
    json!({ "text": said, "thinking": thought, "calls": calls, "end": end })
}

/// Ids are random where the provider has none, and the old format used openai's other id.
fn without_ids(mut understood: Value) -> Value {
    for call in understood["calls"].as_array_mut().expect("a list") {
        call["id"] = Value::Null;
    }
    understood
}

/// Where this server deliberately differs from a recording.
fn exception(version: &str, provider: &str, scenario: &str) -> Option<&'static str> {
    Some(match (version, provider, scenario) {
        (_, _, "discmid") => "the words for a broken connection were those of its runtime",
        ("0.5.1", "openai", "refusal") => "it failed without a word",
        (_, "gemini", "refusal") => "it ended the run silently",
        ("0.5.1", "gemini", "errevent") => "it ended the run silently",
        ("0.5.1", "grok", "think" | "mixed") => "it left the thoughts out",
        ("0.5.1", "grok", "twotools") => "the recorded stream was another",
        ("0.5.1", "grok", "maxtok") => "it said that the answer was complete",
        ("0.58.0", "grok", "maxtok" | "mixed") => "it spoke to another API of grok",
        _ => return None,
    })
}

#[test]
fn clients_understand_what_they_understood_from_the_original_server() {
    for version in ["0.5.1", "0.58.0"] {
        for Recording { provider, scenario, events } in recorded(version) {
            if exception(version, &provider, &scenario).is_some() {
                continue;
            }
            for generation in [Generation::Old, Generation::Latest] {
                for seed in 0..20 {
                    let ours =
                        without_ids(understood(&sent(&provider, &scenario, generation, seed)));
                    let theirs = without_ids(understood(&events));
                    assert_eq!(ours, theirs, "{version} {provider} {scenario}, seed {seed}");
                }
            }
        }
    }
}

/// `accents.jsonl` lists what servers send beyond their API's documentation: who sends it, and what
/// a client should understand.
#[test]
fn servers_that_speak_with_an_accent_are_understood() {
    let table = std::fs::read_to_string(recordings().join("accents.jsonl")).expect("the table");
    for line in table.lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let text = |field: &str| row[field].as_str().expect("text").to_owned();
        let (name, provider) = (text("stream"), text("provider"));
        let stream = stream_of("accents", &name);
        for seed in 0..20 {
            let request = Request { provider: provider.clone(), ..Request::default() };
            let events = events(&provider, &stream, seed);
            let signatures = events.iter().filter_map(|event| match event {
                Event::ThinkingEnded { signature } => signature.as_deref(),
                _ => None,
            });
            let signatures: Vec<_> = signatures.collect();
            assert_eq!(json!(signatures), *row.get("signatures").unwrap_or(&json!([])), "{name}");
            if let Some(expected) = row.get("tokens") {
                let Some(Event::Finished { tokens, .. }) = events.last() else {
                    panic!("{name} does not finish");
                };
                let counts = json!([tokens.input, tokens.output, tokens.total]);
                assert_eq!(counts, *expected, "{name}");
            }
            for generation in [Generation::Old, Generation::Latest] {
                let mut got = understood(&written(&request, generation, events.clone()));
                for call in got["calls"].as_array_mut().expect("a list") {
                    let call = call.as_object_mut().expect("an object");
                    assert_ne!(call.remove("id"), Some(json!("")), "{name}");
                    call.remove("arguments");
                }
                assert_eq!(got, row["understood"], "{name}: {}, seed {seed}", text("sends"));
            }
        }
    }
}

#[test]
fn each_event_has_every_field_that_the_original_server_sent() {
    // Fields that only some providers' adapters had, and no client reads.
    let left_out = BTreeSet::from(["rawEvent", "itemId"]);
    for (version, generation) in [("0.5.1", Generation::Old), ("0.58.0", Generation::Latest)] {
        for Recording { provider, scenario, events } in recorded(version) {
            let ours = sent(&provider, &scenario, generation, 1);
            for theirs in events {
                let kind = &theirs["type"];
                let Some(like) = ours.iter().find(|event| event["type"] == *kind) else { continue };
                for field in theirs.as_object().expect("an object").keys() {
                    // Only some adapters sent the accumulated arguments.
                    let has = like.get(field).is_some() || left_out.contains(field.as_str());
                    let optional = matches!(field.as_str(), "metadata" | "code");
                    assert!(has || optional, "{version} {provider} {scenario}: {kind} {field}");
                }
            }
        }
    }
}

#[test]
fn the_shape_of_a_run_is_the_same_for_all_providers() {
    let shape = |provider: &str| {
        let events = events(provider, &stream_of(provider, "mixed"), 7).into_iter();
        let names = events.filter_map(|event| match event {
            // As many as the provider likes.
            Event::Model(_) | Event::Thinking(_) | Event::Text(_) => None,
            Event::CallArguments { .. } => None,
            event => Some(format!("{event:?}").split([' ', '(']).next().map(str::to_owned)),
        });
        names.flatten().collect::<Vec<_>>()
    };
    for (provider, _) in APIS {
        assert_eq!(
            shape(provider),
            [
                "Started",
                "ThinkingStarted",
                "ThinkingEnded",
                "TextStarted",
                "TextEnded",
                "CallStarted",
                "CallEnded",
                "Finished",
            ],
            "{provider}"
        );
    }
}

#[test]
fn counts_are_those_of_the_provider() {
    for (provider, cached, reasoning) in [
        ("openai", Some(2), Some(3)),
        ("anthropic", Some(0), None),
        ("gemini", None, Some(3)),
        ("grok", Some(2), Some(3)),
    ] {
        let Some(Event::Finished { tokens, .. }) =
            events(provider, &stream_of(provider, "text"), 3).pop()
        else {
            panic!("{provider} does not finish");
        };
        assert_eq!((tokens.input, tokens.output, tokens.total), (11, 7, 18), "{provider}");
        assert_eq!((tokens.cached_input, tokens.reasoning), (cached, reasoning), "{provider}");
    }
}

#[test]
fn a_stream_that_is_cut_anywhere_ends_in_an_error_and_never_in_an_answer() {
    for (provider, _) in APIS {
        let stream = stream_of(provider, "tool");
        let end = match provider {
            // The last event is not needed, because the finish reason has arrived.
            "grok" => stream.len() - "data: [DONE]\n\n".len() - 1,
            // Its lines end in two bytes, of which the first is enough.
            "gemini" => stream.len() - 1,
            _ => stream.len(),
        };
        let complete = String::from_utf8_lossy(&stream);
        let reason = complete.find("finish_reason\":\"tool").unwrap_or(end);
        for cut in 0..end.min(reason) {
            let events = events(provider, &stream[..cut], cut as u64);
            assert!(matches!(events.last(), Some(Event::Failed(_))), "{provider} cut at {cut}");
            let ends = events
                .iter()
                .filter(|event| matches!(event, Event::Failed(_) | Event::Finished { .. }));
            assert_eq!(ends.count(), 1, "{provider} cut at {cut}");
        }
    }
}

#[test]
fn what_is_repeated_for_old_clients_is_bounded_and_the_pieces_are_not() {
    let request = Request { provider: "openai".into(), model: "m".into(), ..Request::default() };
    let mut writer = Writer::new(&request, Generation::Old, 1000);
    writer.write(Event::Started);
    writer.write(Event::TextStarted);
    let mut repeated = 0;
    for _ in 0..1000 {
        let frame = writer.write(Event::Text("abcdefghij".to_owned()));
        let frame = std::str::from_utf8(&frame).expect("text").trim_start_matches("data: ");
        let event: Value = serde_json::from_str(frame.trim_end()).expect("JSON");
        assert_eq!(event["delta"], "abcdefghij");
        repeated += event.get("content").map_or(0, |text| text.as_str().unwrap_or_default().len());
    }
    assert!((900..=1000).contains(&repeated), "{repeated}");
}

/// The bodies that clients of both generations send for the same conversation.
fn conversations() -> [Value; 2] {
    let old = json!({
        "provider": "P", "model": "m", "systemPrompt": "You are X", "conversationId": "conv1",
        "messages": [
            { "id": "u1", "role": "user", "parts": [
                { "type": "text", "content": "Look " }, { "type": "text", "content": "here" }] },
            { "id": "a1", "role": "assistant", "parts": [
                { "type": "thinking", "content": "hm" },
                { "type": "text", "content": "Calling" },
                { "type": "tool-call", "id": "call_1", "name": "get_weather",
                  "arguments": "{\"city\":\"Paris\"}", "state": "input-complete",
                  "output": { "temp": 3 } }] },
            { "id": "a2", "role": "assistant", "parts": [
                { "type": "tool-call", "id": "call_2", "name": "get_time", "arguments": "{}",
                  "state": "input-complete" },
                { "type": "tool-result", "toolCallId": "call_2", "content": "\"12:00\"",
                  "state": "complete" },
                { "type": "text", "content": "It is 12" }] },
            { "id": "u2", "role": "user", "parts": [
                { "type": "text", "content": "And this image" },
                { "type": "image",
                  "source": { "type": "data", "value": "AAAA", "mimeType": "image/png" } },
                { "type": "image", "source": { "type": "url", "value": "https://x/i.png" } }] }]
    });
    let latest = json!({
        "threadId": "conv1", "runId": "run1", "state": {}, "tools": [], "context": [],
        "forwardedProps": { "provider": "P", "model": "m", "systemPrompt": "You are X" },
        "messages": [
            { "id": "u1", "role": "user", "content": "Look here" },
            { "id": "r1", "role": "reasoning", "content": "hm" },
            { "id": "a1", "role": "assistant", "content": "Calling", "toolCalls": [
                { "id": "call_1", "type": "function",
                  "function": { "name": "get_weather", "arguments": "{\"city\":\"Paris\"}" } }] },
            { "id": "t1", "role": "tool", "toolCallId": "call_1", "content": "{\"temp\":3}" },
            { "id": "a2", "role": "assistant", "toolCalls": [
                { "id": "call_2", "type": "function",
                  "function": { "name": "get_time", "arguments": "{}" } }] },
            { "id": "t2", "role": "tool", "toolCallId": "call_2", "content": "\"12:00\"" },
            { "id": "a3", "role": "assistant", "content": "It is 12" },
            { "id": "u2", "role": "user", "content": [
                { "type": "text", "text": "And this image" },
                { "type": "image",
                  "source": { "type": "data", "value": "AAAA", "mimeType": "image/png" } },
                { "type": "image", "source": { "type": "url", "value": "https://x/i.png" } }] }]
    });
    [old, latest]
}

/// The body that a provider is sent for a request.
fn asked(provider: &str, request: &Request) -> Value {
    let body = match api(provider) {
        Api::Responses => super::dialect::openai::body(request),
        Api::Messages => super::dialect::anthropic::body(request),
        Api::GenerateContent => super::dialect::gemini::body(request),
        Api::ChatCompletions => super::dialect::completions::body(request, provider),
    };
    body.expect("the provider can be shown all of it")
}

#[test]
fn a_conversation_reads_the_same_from_both_generations_of_clients() {
    let [old, latest] = conversations();
    let (old, generation) = body::read(&old).expect("as old clients send it");
    assert_eq!(generation, Generation::Old);
    let (latest, generation) = body::read(&latest).expect("as the newer send it");
    assert_eq!(generation, Generation::Latest);
    assert_eq!(old.messages, latest.messages);
    assert_eq!((&old.system, &old.thread), (&latest.system, &latest.thread));
    assert_eq!(latest.run.as_deref(), Some("run1"));
}

#[test]
fn a_conversation_is_asked_in_each_providers_words() {
    let [old, _] = conversations();
    let (request, _) = body::read(&old).expect("as old clients send it");
    let image = "data:image/png;base64,AAAA";
    assert_eq!(
        asked("openai", &request),
        json!({ "model": "m", "instructions": "You are X", "input": [
            { "type": "message", "role": "user",
              "content": [{ "type": "input_text", "text": "Look here" }] },
            { "type": "message", "role": "assistant", "content": "Calling" },
            { "type": "function_call", "call_id": "call_1", "name": "get_weather",
              "arguments": "{\"city\":\"Paris\"}" },
            { "type": "function_call_output", "call_id": "call_1", "output": "{\"temp\":3}" },
            { "type": "function_call", "call_id": "call_2", "name": "get_time",
              "arguments": "{}" },
            { "type": "function_call_output", "call_id": "call_2", "output": "\"12:00\"" },
            { "type": "message", "role": "assistant", "content": "It is 12" },
            { "type": "message", "role": "user", "content": [
                { "type": "input_text", "text": "And this image" },
                { "type": "input_image", "image_url": image, "detail": "auto" },
                { "type": "input_image", "image_url": "https://x/i.png", "detail": "auto" }] }],
            "stream": true })
    );
    assert_eq!(
        asked("anthropic", &request),
        json!({ "model": "m", "max_tokens": 64000, "messages": [
            { "role": "user", "content": "Look here" },
            { "role": "assistant", "content": [
                { "type": "text", "text": "Calling" },
                { "type": "tool_use", "id": "call_1", "name": "get_weather",
                  "input": { "city": "Paris" } }] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "call_1", "content": "{\"temp\":3}" }] },
            { "role": "assistant", "content": [
                { "type": "tool_use", "id": "call_2", "name": "get_time", "input": {} }] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "call_2", "content": "\"12:00\"" }] },
            { "role": "assistant", "content": "It is 12" },
            { "role": "user", "content": [
                { "type": "text", "text": "And this image" },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png",
                  "data": "AAAA" } },
                { "type": "image", "source": { "type": "url", "url": "https://x/i.png" } }] }],
            "system": "You are X", "stream": true })
    );
    assert_eq!(
        asked("gemini", &request),
        json!({ "contents": [
            { "parts": [{ "text": "Look here" }], "role": "user" },
            { "parts": [{ "text": "Calling" },
                { "functionCall": { "name": "get_weather", "args": { "city": "Paris" } } }],
              "role": "model" },
            { "parts": [{ "functionResponse": { "name": "get_weather",
                "response": { "content": "{\"temp\":3}" } } }], "role": "user" },
            { "parts": [{ "functionCall": { "name": "get_time", "args": {} } }],
              "role": "model" },
            { "parts": [{ "functionResponse": { "name": "get_time",
                "response": { "content": "\"12:00\"" } } }], "role": "user" },
            { "parts": [{ "text": "It is 12" }], "role": "model" },
            { "parts": [{ "text": "And this image" },
                { "inlineData": { "data": "AAAA", "mimeType": "image/png" } },
                { "fileData": { "fileUri": "https://x/i.png", "mimeType": "image/jpeg" } }],
              "role": "user" }],
            "systemInstruction": { "parts": [{ "text": "You are X" }], "role": "user" },
            "generationConfig": {} })
    );
    assert_eq!(
        asked("grok", &request),
        json!({ "model": "m", "messages": [
            { "role": "system", "content": "You are X" },
            { "role": "user", "content": "Look here" },
            { "role": "assistant", "content": "Calling", "tool_calls": [
                { "id": "call_1", "type": "function", "function": { "name": "get_weather",
                  "arguments": "{\"city\":\"Paris\"}" } }] },
            { "role": "tool", "tool_call_id": "call_1", "content": "{\"temp\":3}" },
            { "role": "assistant", "content": "", "tool_calls": [
                { "id": "call_2", "type": "function",
                  "function": { "name": "get_time", "arguments": "{}" } }] },
            { "role": "tool", "tool_call_id": "call_2", "content": "\"12:00\"" },
            { "role": "assistant", "content": "It is 12" },
            { "role": "user", "content": [
                { "type": "text", "text": "And this image" },
                { "type": "image_url", "image_url": { "url": image, "detail": "auto" } },
                { "type": "image_url",
                  "image_url": { "url": "https://x/i.png", "detail": "auto" } }] }],
            "stream": true, "stream_options": { "include_usage": true } })
    );
}

#[test]
fn thoughts_go_back_with_their_proof_to_the_provider_that_gave_it() {
    let (mut request, _) = body::read(&json!({
        "provider": "P", "model": "gemini-3-pro", "messages": [
            { "role": "user", "content": "Hi" },
            { "role": "reasoning", "content": "hm", "encryptedValue": "anthropic:SIG" },
            { "role": "assistant", "content": "", "toolCalls": [
                { "id": "c1", "encryptedValue": "gemini:AAAA",
                  "function": { "name": "f", "arguments": "{}" } },
                { "id": "c2", "function": { "name": "f", "arguments": "{}" } }] },
            { "role": "tool", "toolCallId": "c1", "content": "1" },
            { "role": "tool", "toolCallId": "c2", "content": "2" }]
    }))
    .expect("it is as it should be");
    let gemini = asked("gemini", &request);
    assert_eq!(gemini["contents"][1]["parts"][0]["thoughtSignature"], "AAAA");
    assert_eq!(gemini["contents"][1]["parts"][1].get("thoughtSignature"), None);
    let blocks = |request: &Request| asked("anthropic", request)["messages"][1]["content"].clone();
    assert_eq!(blocks(&request)[0]["type"], "tool_use", "nothing of it when it does not think");
    let thinking = json!({ "type": "enabled", "budget_tokens": 2048 });
    request.options.insert("thinking".to_owned(), thinking);
    let thought = json!({ "type": "thinking", "thinking": "hm", "signature": "SIG" });
    assert_eq!(blocks(&request)[0], thought);
    let redacted =
        Thinking { text: String::new(), signature: "anthropic-redacted:SECRET".to_owned() };
    let Message::Assistant { thinking, .. } = &mut request.messages[1] else {
        panic!("the second message is the model's");
    };
    thinking.insert(0, redacted);
    let secret = json!({ "type": "redacted_thinking", "data": "SECRET" });
    assert_eq!([&blocks(&request)[0], &blocks(&request)[1]], [&secret, &thought]);
    assert_eq!(asked("anthropic", &request)["max_tokens"], 2049);
}

#[test]
fn calls_and_results_always_come_in_pairs() {
    let (request, _) = body::read(&json!({
        "provider": "P", "model": "m", "messages": [
            { "role": "tool", "toolCallId": "gone", "content": "an orphan" },
            { "role": "user", "content": "a" },
            { "role": "assistant", "content": "" },
            { "role": "assistant", "toolCalls": [
                { "id": "c9", "function": { "name": "foo", "arguments": "{\"x\":1}" } }] },
            { "role": "user", "content": "c" }]
    }))
    .expect("it is as it should be");
    let input = asked("openai", &request)["input"].as_array().expect("a list").clone();
    let kinds: Vec<_> = input.iter().map(|item| item["type"].as_str().unwrap_or("")).collect();
    assert_eq!(kinds, ["message", "function_call", "function_call_output", "message"]);
    assert_eq!(input[2]["output"], "{\"error\":\"nobody ran this\"}");
}

#[test]
fn arguments_go_back_as_an_object_whatever_the_model_wrote() {
    for (arguments, expected) in
        [("", "{}"), ("null", "{}"), ("{\"a\":", "{}"), ("{\"a\": 1}", "{\"a\": 1}")]
    {
        let (request, _) = body::read(&json!({
            "provider": "P", "model": "m", "messages": [{ "role": "assistant", "toolCalls": [
                { "id": "c", "function": { "name": "f", "arguments": arguments } }] }]
        }))
        .expect("a well-formed body");
        let grok = asked("grok", &request);
        let call = &grok["messages"][0]["tool_calls"][0];
        assert_eq!(call["function"]["arguments"], expected);
        assert_eq!(asked("openai", &request)["input"][0]["arguments"], expected);
    }
}

#[test]
fn a_body_that_is_not_as_it_should_be_says_where() {
    let cases = [
        (json!([]), "/: expected an object, found an array of 0"),
        (json!({}), "/messages: expected an array, found nothing"),
        (json!({ "messages": "x" }), "/messages: expected an array, found \"x\""),
        (json!({ "messages": [null] }), "/messages/0: expected an object, found null"),
        (json!({ "messages": [] }), "/provider: expected a string, found nothing"),
        (json!({ "messages": [], "provider": 1 }), "/provider: expected a string, found 1"),
        (
            json!({ "messages": [], "provider": "p", "model": "" }),
            "/model: expected a name of 1 to 256 characters, found \"\"",
        ),
        (
            json!({ "messages": [{ "role": "robot" }] }),
            "/messages/0/role: expected user, assistant, system, developer, tool, reasoning or \
             activity, found \"robot\"",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image" }] }] }),
            "/messages/0/content/0/source: expected an object, found nothing",
        ),
        (
            json!({ "messages": [], "provider": "p", "model": "m", "tools": [{ "name": 3 }] }),
            "/tools/0/name: expected a string, found 3",
        ),
        (
            json!({ "messages": [], "provider": "p", "model": "m", "modelOptions": "x" }),
            "/modelOptions: expected an object, found \"x\"",
        ),
    ];
    for (body, message) in cases {
        let error = body::read(&body).map(|_| ()).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_model_of_gemini_leads_nowhere_else() {
    for model in ["../../v1/files", "..", "a/../../b", "m?key=1", "m#", "a//b", "m:x", "%2e%2e"] {
        super::dialect::gemini::path(model).expect_err(model);
    }
    let path = super::dialect::gemini::path("gemini-2.5-flash").expect("a model");
    assert_eq!(path, "models/gemini-2.5-flash:streamGenerateContent");
    let path = super::dialect::gemini::path("tunedModels/mine").expect("a model");
    assert_eq!(path, "tunedModels/mine:streamGenerateContent");
}

#[test]
fn errors_read_as_in_each_providers_own_client() {
    let openai =
        r#"{"error":{"message":"Incorrect API key provided: sk-bad.","code":"invalid_api_key"}}"#;
    let grok = r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xx."}"#;
    let anthropic =
        r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#;
    for (api, status, body, message, code) in [
        (
            Api::Responses,
            401,
            openai,
            "401 Incorrect API key provided: sk-bad.".to_owned(),
            "invalid_api_key",
        ),
        (
            Api::ChatCompletions,
            400,
            grok,
            "400 \"Incorrect API key provided: xx.\"".to_owned(),
            "400",
        ),
        (Api::Messages, 401, anthropic, format!("401 {anthropic}"), "401"),
        (Api::GenerateContent, 400, "{\"error\":{}}", "{\"error\":{}}".to_owned(), "400"),
        (Api::Responses, 502, "<html>", "502 <html>".to_owned(), "502"),
        (Api::Responses, 500, "", "500 status code (no body)".to_owned(), "500"),
    ] {
        let failure = dialect::failure(api, status, body);
        assert_eq!(failure.message, message);
        assert_eq!(failure.code.as_deref(), Some(code));
    }
}
