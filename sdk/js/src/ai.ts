/**
 * Language models, for plugins whose manifest says `ai = true`, in actions.
 *
 * An action has five seconds, which a model may take for itself: let the manifest say more, as
 * `action = "2m"` under `[limits]`. A mutation may be run again, and then asks again.
 */

import * as host from 'epicenter:workspace/ai@0.2.0';

import { ask } from './errors.ts';

/** What a model is asked. */
export interface ChatRequest {
  /** `anthropic`, `gemini`, `grok`, `openai`, or what the operator has added. */
  provider: string;
  /** The model, as the provider calls it. */
  model: string;
  /** What the model is told before anyone speaks. */
  system?: string;
  /** What was said, oldest first. */
  messages: ChatMessage[];
  /** What the model may call. It is the plugin that runs a call and sends the result back. */
  tools?: ChatTool[];
  /** Options in the provider's own words: temperature, thinking and so on. */
  options?: Record<string, unknown>;
}

/** What someone said: the person; the model, as it stands in an answer; or what came of a call. */
export type ChatMessage =
  | { role: 'user'; content: string }
  | AssistantMessage
  | { role: 'tool'; call: ToolCall; content: string };

/** What a model said. */
export interface AssistantMessage {
  role: 'assistant';
  /** Its thoughts, as far as the provider tells them, with the provider's proof. */
  thinking: { text: string; signature: string }[];
  text: string;
  calls: ToolCall[];
}

/** Something that a model may call. */
export interface ChatTool {
  /** 1 to 64 characters from `[A-Za-z0-9_-]`. */
  name: string;
  /** When to call it, for the model to read. */
  description: string;
  /** The JSON Schema of its input, an object. */
  parameters: Record<string, unknown>;
}

/** A call that a model made. */
export interface ToolCall {
  id: string;
  name: string;
  /** JSON, as the model wrote it: it may break the tool's schema. */
  arguments: string;
  /** The provider's proof of the thought behind it; empty when there is none. */
  signature: string;
}

/** All that a model said. */
export interface ChatAnswer {
  /** The model that answered, by its own name. */
  model: string;
  /** To be sent back as it is, when the conversation goes on. */
  message: AssistantMessage;
  reason: 'stop' | 'tool-calls' | 'length' | 'content-filter';
  /** In tokens, as the provider counts. */
  usage: { input: number; output: number; total: number };
}

/** What happens while a model answers; the end repeats all of it. */
export type ChatEvent =
  | { type: 'thinking'; text: string }
  | { type: 'text'; text: string }
  | { type: 'tool-call'; call: ToolCall }
  | { type: 'end'; answer: ChatAnswer };

/** Asks, and waits for the whole answer. Throws `Failed` with the provider's words. */
export function chat(request: ChatRequest): ChatAnswer {
  return answerOf(ask(() => host.chat(requestOf(request))));
}

/** Asks, and gives the answer as it comes. The end of the action ends the request, too. */
export function* chatStream(request: ChatRequest): Generator<ChatEvent, void, void> {
  const stream = ask(() => host.chatStream(requestOf(request)));
  for (;;) {
    const event = ask(() => stream.next());
    if (event == null) return;
    switch (event.tag) {
      case 'end':
        yield { type: 'end', answer: answerOf(event.val) };
        return;
      case 'tool-call':
        yield { type: 'tool-call', call: event.val };
        break;
      default:
        yield { type: event.tag, text: event.val };
    }
  }
}

function requestOf(request: ChatRequest): host.Request {
  const { provider, model, system = '', messages, tools = [], options } = request;
  return {
    provider,
    model,
    system,
    messages: messages.map(messageOf),
    tools: tools.map(({ parameters, ...tool }) => ({ ...tool, parameters: JSON.stringify(parameters) })),
    options: options === undefined ? undefined : JSON.stringify(options),
  };
}

function messageOf(message: ChatMessage): host.Message {
  switch (message.role) {
    case 'user':
      return { tag: 'user', val: message.content };
    case 'assistant': {
      const { thinking, text, calls } = message;
      return { tag: 'assistant', val: { thinking, text, calls } };
    }
    case 'tool': {
      const { id, name } = message.call;
      return { tag: 'tool-result', val: { id, name, content: message.content } };
    }
  }
}

function answerOf({ model, message, reason, usage }: host.Answer): ChatAnswer {
  const { input, output, total } = usage;
  return {
    model,
    message: { role: 'assistant', ...message },
    reason,
    usage: { input: Number(input), output: Number(output), total: Number(total) },
  };
}
