//! Language models for plugins, through the server's chat and on behalf of the caller.

use async_trait::async_trait;
use host_ai::chat::Run;
use host_ai::chat::{self, Chat, NotStarted};
use host_plugins::ai::{
    Answer, Answering, Assistant, Event, FinishReason, Message, Models, Request, Thought, ToolCall,
    Usage,
};
use host_workspace::{ActionError, Context, Issue};

/// The server's chat.
#[derive(Debug)]
pub(crate) struct ChatModels(pub Chat);

#[async_trait]
impl Models for ChatModels {
    async fn ask(&self, by: &Context, request: Request) -> Result<Box<dyn Answering>, ActionError> {
        let run =
            self.0.run(by.caller.as_ref(), request_of(request)).map_err(
                |refused| match refused {
                    NotStarted::UnknownProvider(_) => {
                        ActionError::Invalid(vec![Issue::at("provider", refused.to_string())])
                    }
                    _ => ActionError::Failed(refused.to_string()),
                },
            )?;
        Ok(Box::new(Reply { run, answer: chat::Answer::default() }))
    }
}

/// An answer in progress, with its content so far.
struct Reply {
    run: Run,
    answer: chat::Answer,
}

#[async_trait]
impl Answering for Reply {
    async fn next(&mut self) -> Result<Option<Event>, ActionError> {
        while let Some(event) = self.run.next().await {
            self.answer.hear(&event);
            let event = match event {
                chat::Event::Thinking(piece) => Event::Thinking(piece),
                chat::Event::Text(piece) => Event::Text(piece),
                chat::Event::CallEnded { id, .. } => {
                    let call = self.answer.calls.iter().rfind(|call| call.id == id).cloned();
                    let Some(call) = call else { continue };
                    Event::ToolCall(tool_call_to(call))
                }
                chat::Event::Finished { .. } => {
                    // Reads the end of the body, so that the connection can be reused.
                    self.run.next().await;
                    Event::End(answer_to(std::mem::take(&mut self.answer)))
                }
                chat::Event::Failed(failure) => return Err(ActionError::Failed(failure.message)),
                _ => continue,
            };
            return Ok(Some(event));
        }
        Ok(None)
    }
}

fn request_of(request: Request) -> chat::Request {
    let tools = request.tools.into_iter().map(|tool| chat::Tool {
        name: tool.name,
        description: tool.description,
        parameters: tool.parameters,
    });
    let mut messages: Vec<chat::Message> = Vec::new();
    for message in request.messages {
        let message = match message {
            Message::User(text) => chat::Message::User(vec![chat::Content::Text(text)]),
            Message::Assistant(said) => chat::Answer {
                thinking: said.thinking.into_iter().map(thought_of).collect(),
                text: said.text,
                calls: said.calls.into_iter().map(tool_call_of).collect(),
                ..chat::Answer::default()
            }
            .message(),
            Message::ToolResult(result) => {
                let (call, name) = (result.id, result.name);
                let result = chat::ToolResult { call, name, content: result.content };
                // Consecutive results belong to one message.
                if let Some(chat::Message::Results(results)) = messages.last_mut() {
                    results.push(result);
                    continue;
                }
                chat::Message::Results(vec![result])
            }
        };
        messages.push(message);
    }
    chat::Request {
        provider: request.provider,
        model: request.model,
        system: request.system,
        messages,
        tools: tools.collect(),
        options: request.options,
        ..chat::Request::default()
    }
}

fn answer_to(answer: chat::Answer) -> Answer {
    let thought = |it: chat::Thinking| Thought { text: it.text, signature: it.signature };
    Answer {
        model: answer.model.unwrap_or_default(),
        message: Assistant {
            thinking: answer.thinking.into_iter().map(thought).collect(),
            text: answer.text,
            calls: answer.calls.into_iter().map(tool_call_to).collect(),
        },
        reason: match answer.reason {
            chat::FinishReason::Stop => FinishReason::Stop,
            chat::FinishReason::ToolCalls => FinishReason::ToolCalls,
            chat::FinishReason::Length => FinishReason::Length,
            chat::FinishReason::ContentFilter => FinishReason::ContentFilter,
        },
        usage: Usage {
            input: answer.tokens.input,
            output: answer.tokens.output,
            total: answer.tokens.total,
        },
    }
}

fn thought_of(thought: Thought) -> chat::Thinking {
    chat::Thinking { text: thought.text, signature: thought.signature }
}

fn tool_call_to(call: chat::ToolCall) -> ToolCall {
    let chat::ToolCall { id, name, arguments, signature } = call;
    ToolCall { id, name, arguments, signature: signature.unwrap_or_default() }
}

fn tool_call_of(call: ToolCall) -> chat::ToolCall {
    let ToolCall { id, name, arguments, signature } = call;
    let signature = Some(signature).filter(|signature| !signature.is_empty());
    chat::ToolCall { id, name, arguments, signature }
}
