//! Plugins that ask models, with a test double as the model.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use host_workspace::{ActionError, Context};
use serde_json::json;

use super::scripts::{Served, query};
use crate::Limits;
use crate::call::{Call, Task};
use crate::reach::ai::{
    Answer, Answering, Asking, Assistant, Event, FinishReason, Message, Models, Request, Usage,
};
use crate::reach::manifest::Grants;

/// Repeats what it is asked, word by word; `fail` and `hang` in the system text make it do so.
#[derive(Debug, Default)]
struct Parrot {
    /// Answers in progress.
    answering: Arc<AtomicUsize>,
}

struct Words {
    words: std::vec::IntoIter<String>,
    said: String,
    system: String,
    answering: Arc<AtomicUsize>,
}

#[async_trait]
impl Models for Parrot {
    async fn ask(&self, _: &Context, request: Request) -> Result<Box<dyn Answering>, ActionError> {
        let Some(Message::User(text)) = request.messages.last() else {
            return Err(ActionError::Failed("nobody said anything".into()));
        };
        let words: Vec<_> = text.split_inclusive(' ').map(str::to_owned).collect();
        self.answering.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Words {
            words: words.into_iter(),
            said: String::new(),
            system: request.system,
            answering: self.answering.clone(),
        }))
    }
}

#[async_trait]
impl Answering for Words {
    async fn next(&mut self) -> Result<Option<Event>, ActionError> {
        match self.system.as_str() {
            "fail" => return Err(ActionError::Failed("the provider is down".into())),
            "hang" => std::future::pending().await,
            "cut" if !self.said.is_empty() => return Ok(None),
            _ => {}
        }
        Ok(Some(match self.words.next() {
            Some(word) => {
                self.said += &word;
                Event::Text(word)
            }
            None => Event::End(Answer {
                model: "parrot".into(),
                message: Assistant { text: self.said.clone(), ..Assistant::default() },
                reason: FinishReason::Stop,
                usage: Usage { input: 1, output: 2, total: 3 },
            }),
        }))
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.answering.fetch_sub(1, Ordering::SeqCst);
    }
}

fn asking(ai: bool, limits: Limits) -> (Asking, Arc<AtomicUsize>) {
    let parrot = Parrot::default();
    let answering = parrot.answering.clone();
    let grants = Grants { ai, ..Grants::default() };
    let models: Arc<dyn Models> = Arc::new(parrot);
    (Asking::new(&grants, Some(&models), &Arc::new(limits)), answering)
}

const ACTION: Task<'_> = Task::Action { path: "test" };

fn call(task: Task<'_>) -> Call {
    Call::new(&task, Arc::default(), None, "", Vec::new())
}

fn says(text: &str) -> Request {
    Request { messages: vec![Message::User(text.into())], ..Request::default() }
}

#[tokio::test]
async fn models_are_asked_with_the_grant_and_in_actions_only() {
    let cases = [
        (false, ACTION, "`ai = true` in its manifest"),
        (true, Task::CheckChange { table: "notes" }, "in actions only"),
        (true, Task::Define, "in actions only"),
    ];
    for (granted, access, expected) in cases {
        let (asking, _) = asking(granted, Limits::default());
        match asking.ask(&call(access), says("Hi")).await.err() {
            Some(ActionError::Denied(reason)) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{granted} {access:?}: {other:?}"),
        }
    }
    let (asking, answering) = asking(true, Limits::default());
    let reply = asking.ask(&call(ACTION), says("one two")).await.unwrap();
    let answer = reply.whole().await.unwrap();
    assert_eq!((&*answer.message.text, answer.usage.total), ("one two", 3));
    assert_eq!(answering.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn answers_are_bounded_in_size_and_number() {
    let limits =
        Limits { ai_requests: 1, ai_request_bytes: 100, ai_answer_bytes: 10, ..Limits::default() };
    let (asking, answering) = asking(true, limits);
    let call = call(ACTION);
    let large = asking.ask(&call, says(&"x".repeat(101))).await.err();
    assert!(matches!(&large, Some(ActionError::Invalid(issues)) if issues[0].message
        == "is 101 bytes; 100 is the most"));

    let mut first = asking.ask(&call, says("one two three four")).await.unwrap();
    let second = asking.ask(&call, says("Hi")).await.err();
    assert!(matches!(second, Some(ActionError::Failed(reason)) if reason.contains("1 answers")));
    assert_eq!(first.next().await.unwrap(), Some(Event::Text("one ".into())));
    assert_eq!(first.next().await.unwrap(), Some(Event::Text("two ".into())));
    assert!(first.next().await.unwrap_err().to_string().contains("longer than a plugin"));
    // The request has ended with the call, and nothing more arrives.
    assert_eq!(answering.load(Ordering::SeqCst), 0);
    assert_eq!(first.next().await.unwrap(), None);
    drop(first);
    assert!(asking.ask(&call, says("Hi")).await.is_ok());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let (asking, _) = asking(true, Limits::default());
    for (system, expected) in [("fail", "the provider is down"), ("cut", "broke off")] {
        let request = Request { system: system.into(), ..says("one two") };
        let reply = asking.ask(&call(ACTION), request).await.unwrap();
        let error = reply.whole().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{system}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_ask_models_too() {
    let ask = |system: &str| {
        query(&format!(
            "ai::chat(#{{ provider: \"x\", model: \"y\", system: \"{system}\", \
             messages: [#{{ user: \"one two\" }}] }})"
        ))
    };
    let parrot = Parrot::default();
    let answering = parrot.answering.clone();
    let files = [
        ("notes.wasm", String::new()),
        ("notes.toml", "ai = true\n[limits]\naction = \"300ms\"".to_owned()),
        ("notes/actions/ask.rhai", ask("")),
        ("notes/actions/fail.rhai", ask("fail")),
        ("notes/actions/hang.rhai", ask("hang")),
        ("notes/actions/odd.rhai", query("ai::chat(#{ colour: 1 })")),
    ];
    let files: Vec<_> = files.iter().map(|(file, text)| (*file, text.as_str())).collect();
    let served = Served::start_with_models(Some(Arc::new(parrot)), &files).await;
    assert_eq!(served.error(), "");
    let (status, body) = served.get("/notes/actions/ask").await;
    assert_eq!((status, &body["data"]["message"]["text"]), (200, &json!("one two")), "{body}");
    assert_eq!(body["data"]["usage"]["total"], 3);
    let (status, body) = served.get("/notes/actions/fail").await;
    assert_eq!((status, &body["error"]["message"]), (500, &json!("the provider is down")));
    let (status, body) = served.get("/notes/actions/odd").await;
    let message = body["error"]["message"].as_str().unwrap();
    assert!(status == 500 && message.contains("unknown field `colour`"), "{message}");
    assert_eq!(served.get("/notes/actions/hang").await.0, 504);
    while answering.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    let denied = Served::start(&[files[0], files[2]]).await;
    assert_eq!(denied.get("/notes/actions/ask").await.0, 403);
}
