"""Language models, for plugins whose manifest says `ai = true`, in actions.

    answer = ai.chat(ai.Request("anthropic", "claude-haiku-4-5", [ai.User("Hi")], system="Be brief."))
    answer.message.text

An action has five seconds, which a model may take for itself: let the manifest say more, as
`action = "2m"` under `[limits]`. A mutation may be run again, and then asks again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import host


@dataclass
class User:
    """What the person said."""

    text: str


@dataclass
class Thought:
    """What a model thought, and the provider's proof that it did; empty when there is none."""

    text: str
    signature: str = ""


@dataclass
class ToolCall:
    """A call that a model made. The arguments are JSON as it wrote them, and may break the schema."""

    id: str
    name: str
    arguments: str
    signature: str = ""


@dataclass
class Assistant:
    """What a model said; from an answer, it is sent back as it is when the conversation goes on."""

    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    thinking: list[Thought] = field(default_factory=list)


@dataclass
class ToolResult:
    """What came of a call, mostly JSON. Each call of a message wants one, in their order."""

    call: ToolCall
    content: str


@dataclass
class Tool:
    """Something that a model may call. It is the plugin that runs a call and sends the result back."""

    name: str
    """1 to 64 characters from `[A-Za-z0-9_-]`."""
    description: str
    parameters: dict[str, Any]
    """The JSON Schema of its input, an object."""


@dataclass
class Request:
    """What a model is asked."""

    provider: str
    """`anthropic`, `gemini`, `grok`, `openai`, or what the operator has added."""
    model: str
    messages: list[User | Assistant | ToolResult]
    """What was said, oldest first."""
    system: str = ""
    """What the model is told before anyone speaks."""
    tools: list[Tool] = field(default_factory=list)
    options: dict[str, Any] | None = None
    """In the provider's own words: temperature, thinking and so on."""


@dataclass
class Answer:
    """All that a model said."""

    model: str
    """The model that answered, by its own name."""
    message: Assistant
    reason: str
    """`stop`, `tool-calls`, `length` or `content-filter`."""
    input_tokens: int
    output_tokens: int
    total_tokens: int


def chat(request: Request) -> Answer:
    """Asks, and waits for the whole answer. Raises `Failed` with the provider's words."""
    return _answer(host.ask(host.ai.chat, _request(request)))


def chat_stream(request: Request) -> Iterator[Thought | str | ToolCall | Answer]:
    """Asks, and gives the answer as it comes: pieces of thoughts, of text, calls, and all at the end."""
    with host.ask(host.ai.chat_stream, _request(request)) as stream:
        while (event := host.ask(stream.next)) is not None:
            if isinstance(event, host.ai.Event_Thinking):
                yield Thought(event.value)
            elif isinstance(event, host.ai.Event_Text):
                yield event.value
            elif isinstance(event, host.ai.Event_ToolCall):
                yield _call(event.value)
            else:
                yield _answer(event.value)
                return


def _request(request: Request) -> Any:
    wit = host.ai
    options = None if request.options is None else json.dumps(request.options)
    tools = [wit.Tool(it.name, it.description, json.dumps(it.parameters)) for it in request.tools]
    messages = [_message(message) for message in request.messages]
    return wit.Request(request.provider, request.model, request.system, messages, tools, options)


def _message(message: User | Assistant | ToolResult) -> Any:
    wit = host.ai
    match message:
        case User(text):
            return wit.Message_User(text)
        case Assistant(text, calls, thinking):
            thoughts = [wit.Thought(it.text, it.signature) for it in thinking]
            calls = [wit.ToolCall(it.id, it.name, it.arguments, it.signature) for it in calls]
            return wit.Message_Assistant(wit.Assistant(thoughts, text, calls))
        case ToolResult(call, content):
            return wit.Message_ToolResult(wit.ToolResult(call.id, call.name, content))


def _call(call: Any) -> ToolCall:
    return ToolCall(call.id, call.name, call.arguments, call.signature)


def _answer(answer: Any) -> Answer:
    said = answer.message
    thinking = [Thought(it.text, it.signature) for it in said.thinking]
    message = Assistant(said.text, [_call(call) for call in said.calls], thinking)
    usage = answer.usage
    reason = answer.reason.name.lower().replace("_", "-")
    return Answer(answer.model, message, reason, usage.input, usage.output, usage.total)
