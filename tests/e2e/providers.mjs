// Providers of AI that replay what is in tests/recordings/ai, byte by byte, in random pieces.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const RECORDINGS = fileURLToPath(new URL('../recordings/ai', import.meta.url));

/** What a request to a provider asks for: its name, and the model without `m-`. */
function scenarioOf(url, body) {
  const provider = url.split('/')[1];
  const model = body.model ?? /models\/([^:]+):/.exec(url)?.[1] ?? '';
  return { provider, scenario: model.replace(/^m-/, '') };
}

/** The stream that is recorded for a scenario; an endpoint of one's own speaks as grok does. */
export function recording(provider, scenario) {
  const folder = provider === 'local' ? 'grok' : provider;
  return readFileSync(path.join(RECORDINGS, folder, `${scenario}.sse`));
}

/** Pieces of random sizes, the same for the same seed. */
function* pieces(bytes, seed) {
  let state = seed;
  for (let at = 0; at < bytes.length; ) {
    state = (state * 1103515245 + 12345) % 2147483648;
    const size = 1 + ((state >> 8) % (state % 2 ? 7 : 300));
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/**
 * All providers in one server, each below its own path. A request whose model is `m-text` is
 * answered with the recording of that name; `answers` has scenarios of its own, functions of
 * request and response whose `this` are the providers.
 */
export class Providers {
  static async start(answers = {}) {
    const providers = new Providers();
    await providers.#listen(answers);
    return providers;
  }

  /** The requests that have come, oldest first. */
  requests = [];

  async #listen(answers) {
    this.server = createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const body = JSON.parse(Buffer.concat(chunks).toString() || '{}');
      const { provider, scenario } = scenarioOf(request.url, body);
      const seen = { provider, scenario, url: request.url, headers: request.headers, body };
      seen.closed = new Promise((resolve) => response.on('close', resolve));
      this.requests.push(seen);
      const before = this.requests.filter((other) => other.scenario === scenario).length - 1;
      const answer = answers[scenario];
      if (answer) return answer.call(this, request, response, { provider, before, body });
      await this.replay(response, recording(provider, scenario));
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  /** Sends a stream in random pieces. */
  async replay(response, bytes) {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const piece of pieces(bytes, 1 + this.requests.length)) {
      response.write(piece);
      await turn();
    }
    response.end();
  }

  /** What a server must have in its environment to ask these providers, with a key for each. */
  get env() {
    const env = {};
    for (const name of ['openai', 'anthropic', 'gemini', 'grok']) {
      env[`${name.toUpperCase()}_BASE_URL`] = `${this.url}/${name}`;
      env[`${name.toUpperCase()}_API_KEY`] = `key-of-the-server-for-${name}`;
    }
    return env;
  }

  /** The requests of a scenario. */
  of(scenario) {
    return this.requests.filter((request) => request.scenario === scenario);
  }

  async close() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** A scenario that is answered round by round: calls first, `[name, input]` each, and at the end words. */
export function rounds(...answers) {
  const asked = new Map();
  return async function (_, response, { provider }) {
    const round = asked.get(provider) ?? 0;
    asked.set(provider, (round + 1) % (answers.length + 1));
    const words = () => recording(provider, 'text');
    await this.replay(response, answers[round] ? Buffer.from(calling(provider, answers[round])) : words());
  };
}

/** An answer that never ends: a word every now and then. */
export async function endless(_, response, { provider }) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const begin = {
    openai: '{"type":"response.created","response":{"model":"m-endless"}}',
    anthropic: '{"type":"message_start","message":{"model":"m","usage":{"input_tokens":11}}}',
  };
  if (begin[provider]) response.write(`data: ${begin[provider]}\n\n`);
  const word = {
    openai: '{"type":"response.output_text.delta","delta":"word "}',
    anthropic:
      '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word "}}',
    gemini: '{"candidates":[{"content":{"parts":[{"text":"word "}]}}]}',
    grok: '{"choices":[{"index":0,"delta":{"content":"word "}}]}',
  };
  while (!response.destroyed) {
    response.write(`data: ${word[provider]}\n\n`);
    await pause(20);
  }
}

/** An answer that is an error. */
export function refuse(status, body, headers = {}) {
  return (_, response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  };
}

/** The stream of an answer in which a model makes calls, `[name, input]` each. */
export function calling(provider, calls) {
  const frames = (list) => list.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('');
  const text = (input) => (typeof input === 'string' ? input : JSON.stringify(input));
  const id = (index) => `call_${index}_${Math.random().toString(36).slice(2)}`;
  switch (provider) {
    case 'openai': {
      const items = calls.flatMap(([name, input], index) => {
        const item = { id: `fc_${index}`, type: 'function_call', call_id: id(index), name };
        return [
          { type: 'response.output_item.added', output_index: index, item: { ...item, arguments: '' } },
          { type: 'response.function_call_arguments.delta', item_id: item.id, output_index: index, delta: text(input) },
          { type: 'response.output_item.done', output_index: index, item: { ...item, arguments: text(input) } },
        ];
      });
      const usage = { input_tokens: 11, output_tokens: 7, total_tokens: 18 };
      const end = { type: 'response.completed', response: { model: 'm', status: 'completed', usage } };
      return frames([{ type: 'response.created', response: { model: 'm' } }, ...items, end]);
    }
    case 'anthropic': {
      const blocks = calls.flatMap(([name, input], index) => [
        { type: 'content_block_start', index, content_block: { type: 'tool_use', id: id(index), name, input: {} } },
        { type: 'content_block_delta', index, delta: { type: 'input_json_delta', partial_json: text(input) } },
        { type: 'content_block_stop', index },
      ]);
      return frames([
        { type: 'message_start', message: { model: 'm', usage: { input_tokens: 11, output_tokens: 1 } } },
        ...blocks,
        { type: 'message_delta', delta: { stop_reason: 'tool_use' }, usage: { output_tokens: 7 } },
        { type: 'message_stop' },
      ]);
    }
    case 'gemini': {
      const parts = calls.map(([name, args]) => ({ functionCall: { name, args } }));
      const usageMetadata = { promptTokenCount: 11, candidatesTokenCount: 7, totalTokenCount: 18 };
      const candidates = [{ content: { parts, role: 'model' }, finishReason: 'STOP' }];
      return frames([{ candidates, usageMetadata, modelVersion: 'm' }]);
    }
    default: {
      const deltas = calls.map(([name, input], index) => ({
        tool_calls: [{ index, id: id(index), type: 'function', function: { name, arguments: text(input) } }],
      }));
      const chunk = (delta, finish_reason = null) => ({ model: 'm', choices: [{ index: 0, delta, finish_reason }] });
      const usage = { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 };
      return frames([...deltas.map((delta) => chunk(delta)), chunk({}, 'tool_calls'), { model: 'm', choices: [], usage }]);
    }
  }
}
