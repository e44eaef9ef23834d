// The official SDKs of the providers, two generations of each, and the Vercel AI SDK, through the
// proxy of a real hub. They are configured as their documentation says: a base URL, and a session's
// token in place of the key.

import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import AnthropicNew from '@anthropic-ai/sdk';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createGoogle } from '@ai-sdk/google';
import { createOpenAI } from '@ai-sdk/openai';
import { createXai } from '@ai-sdk/xai';
import { GoogleGenAI as GenAINew, Modality } from '@google/genai';
import { generateText, streamText } from 'ai';
import AnthropicOld from 'anthropic-old';
import { GoogleGenAI as GenAIOld } from 'genai-old';
import OpenAINew from 'openai';
import { OpenAIRealtimeWS as RealtimeNew } from 'openai/realtime/ws';
import OpenAIOld from 'openai-old';
import { OpenAIRealtimeWS as RealtimeOld } from 'openai-old/realtime/ws';
import { WebSocket } from 'ws';

import { Provider, events } from './provider.mjs';
import { Server, within } from './server.mjs';

const TOKEN = 'SESSIONTOKEN0123456789abcdefghij';
const KEYS = {
  OPENAI_API_KEY: 'sk-real-openai',
  ANTHROPIC_API_KEY: 'sk-real-anthropic',
  GEMINI_API_KEY: 'real-gemini',
  GROK_API_KEY: 'xai-real',
};

/** A quarter of a megabyte that is not text. */
const BYTES = Buffer.from(Uint8Array.from({ length: 250_000 }, (_, n) => (n * 7 + (n >> 8)) % 256));

let hub, provider;
/** Tests that let a stream go on, or wait for it to end, do so by these. */
let signs;

before(async () => {
  provider = await Provider.start(answer, session);
  const bases = Object.fromEntries(
    ['OPENAI', 'ANTHROPIC', 'GEMINI', 'GROK'].map((name) => [`${name}_BASE_URL`, provider.url]),
  );
  const proxies = ['HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy', 'ALL_PROXY', 'all_proxy'];
  const direct = Object.fromEntries(proxies.map((name) => [name, undefined]));
  hub = await Server.start({ mode: 'hub', plugins: [], env: { ...direct, ...bases, ...KEYS } });
});

after(async () => {
  await hub?.dispose();
  await provider?.stop();
});

const at = (path) => `${hub.url}/proxy/${path}`;
const once = { maxRetries: 0 };

// --- What the stub answers: the shapes that the providers document.

const OPENAI_RESPONSE = {
  id: 'resp_1',
  object: 'response',
  created_at: 1795358840,
  status: 'completed',
  error: null,
  incomplete_details: null,
  model: 'm-text-2025',
  output: [
    {
      type: 'message',
      id: 'msg_1',
      role: 'assistant',
      status: 'completed',
      content: [{ type: 'output_text', text: 'Hello wörld', annotations: [] }],
    },
  ],
  usage: {
    input_tokens: 11,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 7,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 18,
  },
};
const message = OPENAI_RESPONSE.output[0];
const OPENAI_EVENTS = [
  { type: 'response.created', response: { ...OPENAI_RESPONSE, status: 'in_progress', output: [] } },
  { type: 'response.output_item.added', output_index: 0, item: { ...message, content: [] } },
  {
    type: 'response.content_part.added',
    item_id: 'msg_1',
    output_index: 0,
    content_index: 0,
    part: { type: 'output_text', text: '', annotations: [] },
  },
  ...['Hello', ' wörld'].map((delta) => ({
    type: 'response.output_text.delta',
    item_id: 'msg_1',
    output_index: 0,
    content_index: 0,
    delta,
    logprobs: [],
  })),
  { type: 'response.output_item.done', output_index: 0, item: message },
  { type: 'response.completed', response: OPENAI_RESPONSE },
].map((event, sequence_number) => ({ ...event, sequence_number }));

const CHAT = { id: 'chatcmpl-1', created: 1795358840, model: 'm-text-2025' };
const CHAT_RESPONSE = {
  ...CHAT,
  object: 'chat.completion',
  choices: [
    { index: 0, message: { role: 'assistant', content: 'Hello wörld' }, finish_reason: 'stop' },
  ],
  usage: { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 },
};
const CHAT_EVENTS = ['Hello', ' wörld', null].map((content) => ({
  ...CHAT,
  object: 'chat.completion.chunk',
  choices: [
    { index: 0, delta: content ? { content } : {}, finish_reason: content ? null : 'stop' },
  ],
}));

const ANTHROPIC_MESSAGE = {
  id: 'msg_1',
  type: 'message',
  role: 'assistant',
  model: 'm-text-2025',
  content: [{ type: 'text', text: 'Hello wörld' }],
  stop_reason: 'end_turn',
  stop_sequence: null,
  usage: { input_tokens: 11, output_tokens: 7 },
};
const ANTHROPIC_EVENTS = [
  { type: 'message_start', message: { ...ANTHROPIC_MESSAGE, content: [], stop_reason: null } },
  { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
  { type: 'ping' },
  { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hello' } },
  { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: ' wörld' } },
  { type: 'content_block_stop', index: 0 },
  { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 7 } },
  { type: 'message_stop' },
];

const gemini = (text, more) => ({
  candidates: [{ content: { parts: [{ text }], role: 'model' }, index: 0, ...more }],
  usageMetadata: { promptTokenCount: 11, candidatesTokenCount: 7, totalTokenCount: 18 },
  modelVersion: 'm-text-2025',
});
const GEMINI_RESPONSE = gemini('Hello wörld', { finishReason: 'STOP' });
const GEMINI_EVENTS = [gemini('Hello'), gemini(' wörld', { finishReason: 'STOP' })];
const GEMINI_FILE = { name: 'files/abc', uri: 'https://x/v1beta/files/abc', state: 'ACTIVE' };

const OPENAI_FILE = { id: 'file-1', object: 'file', bytes: 1, filename: 'a', purpose: 'batch' };
const list = (...data) => ({ object: 'list', data, has_more: false });

/** The answers to plain requests, by method and path without the version. */
const ANSWERS = {
  'POST /embeddings': { object: 'list', data: [{ index: 0, embedding: [0.5] }], model: 'm' },
  'GET /models': { ...list({ id: 'm', object: 'model', type: 'model' }), models: [{ name: 'm' }] },
  'POST /files': { ...OPENAI_FILE, type: 'file' },
  'GET /files': { ...list(OPENAI_FILE), files: [GEMINI_FILE] },
  'DELETE /files/file-1': { id: 'file-1', deleted: true },
  'POST /audio/transcriptions': { text: 'spoken' },
  'POST /images/edits': { created: 1, data: [{ b64_json: 'AAAA' }] },
  'POST /uploads/upload_1/parts': { id: 'part_1', object: 'upload.part' },
  'POST /messages/count_tokens': { input_tokens: 3 },
  'GET /messages/batches': list({ id: 'batch_1', type: 'message_batch' }),
  'POST /models/m:countTokens': { totalTokens: 3 },
  'POST /models/m:batchEmbedContents': { embeddings: [{ values: [0.5] }] },
  'GET /files/abc': GEMINI_FILE,
  'DELETE /files/abc': {},
};
const BINARY = ['POST /audio/speech', 'GET /files/file-1/content', 'GET /files/abc:download'];

const SSE = { 'content-type': 'text/event-stream; charset=utf-8' };

async function answer(seen, response) {
  const { pathname, searchParams } = new URL(seen.url, provider.url);
  if (pathname.startsWith('/upload/')) return upload(seen, response, searchParams);
  const route = `${seen.method} ${pathname.replace(/^\/v1(beta)?/, '')}`;
  if (BINARY.includes(route)) {
    const headers = { 'content-type': 'audio/mpeg', 'content-length': BYTES.length };
    return provider.send(response, 200, headers, BYTES);
  }
  if (ANSWERS[route]) return provider.json(response, ANSWERS[route], 200, { 'set-cookie': 'a=b' });
  const body = JSON.parse(seen.body);
  const model = body.model ?? /models\/([^:]+):/.exec(pathname)[1];
  const stream = body.stream || pathname.endsWith(':streamGenerateContent');
  const [whole, list, end] = {
    'POST /responses': [OPENAI_RESPONSE, OPENAI_EVENTS],
    'POST /chat/completions': [CHAT_RESPONSE, CHAT_EVENTS, 'data: [DONE]\n\n'],
    'POST /messages': [ANTHROPIC_MESSAGE, ANTHROPIC_EVENTS],
    [`POST /models/${model}:generateContent`]: [GEMINI_RESPONSE],
    [`POST /models/${model}:streamGenerateContent`]: [null, GEMINI_EVENTS],
  }[route];
  const failure = FAILURES[model];
  if (failure) {
    return provider.json(response, failure.body, failure.status, { 'x-request-id': 'req_9' });
  }
  if (model === 'm-gzip') {
    const zipped = gzipSync(stream ? events(list, end) : JSON.stringify(whole));
    const headers = { 'content-encoding': 'gzip', 'content-length': zipped.length };
    const type = stream ? SSE : { 'content-type': 'application/json' };
    return provider.send(response, 200, { ...headers, ...type }, zipped);
  }
  if (model === 'm-signs') {
    // The first half, and the second once the client has seen that.
    const half = Math.ceil(list.length / 2);
    response.writeHead(200, SSE);
    response.write(events(list.slice(0, half)));
    await Promise.race([signs.go, seen.left]);
    return response.end(events(list.slice(half), end));
  }
  if (model === 'm-dies') {
    response.writeHead(200, SSE);
    response.write(events(list.slice(0, -1)));
    return setTimeout(() => response.destroy(), 50);
  }
  return stream
    ? provider.send(response, 200, SSE, events(list, end))
    : provider.json(response, whole);
}

const FAILURES = {
  'm-400': { status: 400, body: { error: { code: 400, message: 'bad', status: 'INVALID_ARGUMENT' } } },
  'm-401': {
    status: 401,
    body: { error: { message: `Incorrect key ${KEYS.OPENAI_API_KEY}.`, code: 'invalid_api_key' } },
  },
  'm-429': { status: 429, body: { type: 'error', error: { type: 'rate', message: 'slower' } } },
  'm-500': { status: 500, body: { error: { message: 'broken' } } },
};

/** Gemini's resumable uploads: a start that says where to continue, then the bytes. */
function upload(seen, response, query) {
  if (seen.headers['x-goog-upload-command'] === 'start') {
    const place = `${provider.url}/upload/v1beta/files?upload_id=abc&upload_protocol=resumable`;
    return provider.json(response, {}, 200, { 'x-goog-upload-url': place });
  }
  assert.equal(query.get('upload_id'), 'abc');
  const final = seen.headers['x-goog-upload-command'].includes('finalize');
  const status = { 'x-goog-upload-status': final ? 'final' : 'active' };
  return provider.json(response, { file: GEMINI_FILE }, 200, status);
}

/** A session over a WebSocket: says hello, and then back what it hears. */
function session(socket, seen) {
  const live = seen.url.includes('BidiGenerateContent');
  const hello = live ? { setupComplete: {} } : { type: 'session.created', session: {} };
  if (!live) socket.send(JSON.stringify(hello));
  socket.on('message', (data) => {
    const heard = JSON.parse(data);
    if (!live) return socket.send(JSON.stringify({ ...heard, type: 'response.done' }));
    if (heard.setup) return socket.send(JSON.stringify(hello));
    const turns = heard.clientContent.turns[0].parts[0].text;
    socket.send(JSON.stringify({ serverContent: { modelTurn: { parts: [{ text: turns }] } } }));
  });
  socket.on('close', (code) => (seen.closed = code));
}

// --- What must be true of all that reached the provider.

/** The last request had the key in this header and no other, and nothing else of the caller. */
function assertClean(header, key, seen = provider.last) {
  const credentials = ['authorization', 'x-api-key', 'x-goog-api-key'];
  for (const name of credentials) {
    assert.equal(seen.headers[name], name === header ? key : undefined, name);
  }
  const all = JSON.stringify([seen.url, seen.rawHeaders, seen.body.toString('latin1')]);
  assert.ok(!all.includes(TOKEN), 'the token reached the provider');
  for (const name of ['cookie', 'origin', 'referer', 'forwarded', 'via', 'sec-fetch-mode']) {
    assert.equal(seen.headers[name], undefined, name);
  }
  assert.ok(!Object.keys(seen.headers).some((name) => name.startsWith('x-forwarded-')));
  assert.equal(seen.headers.host, new URL(provider.url).host);
}

const bearer = (key) => ['authorization', `Bearer ${key}`];

// --- OpenAI, and Grok with the same SDK.

for (const [version, OpenAI, Realtime] of [
  ['6.22', OpenAIOld, RealtimeOld],
  ['7.57', OpenAINew, RealtimeNew],
]) {
  describe(`openai ${version}`, () => {
    let client, grok;
    before(() => {
      client = new OpenAI({ baseURL: at('openai/v1'), apiKey: TOKEN, ...once });
      grok = new OpenAI({ baseURL: at('grok/v1'), apiKey: TOKEN, ...once });
    });
    const clean = () => assertClean(...bearer(KEYS.OPENAI_API_KEY));
    const ask = (model) => ({ model, messages: [{ role: 'user', content: 'Hi' }] });

    test('answers come whole', async () => {
      const response = await client.responses.create({ model: 'm-text', input: 'Hi' });
      assert.equal(response.output_text, 'Hello wörld');
      assert.equal(provider.last.url, '/v1/responses');
      assert.deepEqual(JSON.parse(provider.last.body), { model: 'm-text', input: 'Hi' });
      clean();
      const completion = await client.chat.completions.create(ask('m-text'));
      assert.equal(completion.choices[0].message.content, 'Hello wörld');
      const ofGrok = await grok.chat.completions.create(ask('m-text'));
      assert.equal(ofGrok.choices[0].message.content, 'Hello wörld');
      assertClean(...bearer(KEYS.GROK_API_KEY));
    });

    test('answers stream', async () => {
      const response = await client.responses.create({ model: 'm-text', input: 'Hi', stream: true });
      const got = [];
      for await (const event of response) got.push(event);
      assert.deepEqual(got, OPENAI_EVENTS);
      for (const one of [client, grok]) {
        const chunks = [];
        const stream = await one.chat.completions.create({ ...ask('m-text'), stream: true });
        for await (const chunk of stream) chunks.push(chunk);
        assert.deepEqual(chunks, CHAT_EVENTS);
      }
    });

    test('lists, embeddings and deletions work', async () => {
      const embedding = await client.embeddings.create({ model: 'm', input: 'x' });
      assert.equal(embedding.data.length, 1);
      const files = await client.files.list({ limit: 2 });
      assert.equal(provider.last.url, '/v1/files?limit=2');
      assert.equal(files.data[0].id, 'file-1');
      assert.equal((await client.files.delete('file-1')).deleted, true);
      assert.equal((await client.models.list()).data[0].id, 'm');
      clean();
    });

    test('files go up as multipart, byte for byte', async () => {
      const file = new File([BYTES], 'a.wav');
      await client.files.create({ file, purpose: 'batch' });
      assert.ok(provider.last.body.includes(BYTES));
      assert.match(provider.last.headers['content-type'], /^multipart\/form-data; boundary=/);
      assert.equal(Number(provider.last.headers['content-length']), provider.last.body.length);
      clean();
      const spoken = await client.audio.transcriptions.create({ file, model: 'm' });
      assert.equal(spoken.text, 'spoken');
      assert.ok(provider.last.body.includes(BYTES));
      await client.images.edit({ image: file, prompt: 'x', model: 'm' });
      await client.uploads.parts.create('upload_1', { data: file });
      assert.equal(provider.last.url, '/v1/uploads/upload_1/parts');
      assert.ok(provider.last.body.includes(BYTES));
    });

    test('binary answers come byte for byte', async () => {
      const speech = await client.audio.speech.create({ model: 'm', voice: 'alloy', input: 'x' });
      assert.equal(speech.headers.get('content-length'), String(BYTES.length));
      assert.ok(Buffer.from(await speech.arrayBuffer()).equals(BYTES));
      const content = await client.files.content('file-1');
      assert.ok(Buffer.from(await content.arrayBuffer()).equals(BYTES));
    });

    test('compressed answers stay what they are', async () => {
      const { data, response } = await client.responses
        .create({ model: 'm-gzip', input: 'Hi' })
        .withResponse();
      assert.equal(data.output_text, 'Hello wörld');
      assert.equal(response.headers.get('content-encoding'), 'gzip');
      const stream = await client.responses.create({ model: 'm-gzip', input: 'Hi', stream: true });
      const got = [];
      for await (const event of stream) got.push(event);
      assert.deepEqual(got, OPENAI_EVENTS);
    });

    test('errors are those of the provider, without its key', async () => {
      const failing = (model) => client.responses.create({ model, input: 'Hi' });
      await assert.rejects(failing('m-401'), (error) => {
        assert.ok(error instanceof OpenAI.AuthenticationError);
        assert.equal(error.code, 'invalid_api_key');
        assert.equal(error.requestID, 'req_9');
        assert.equal(error.message, '401 Incorrect key **************.');
        return true;
      });
      await assert.rejects(failing('m-429'), OpenAI.RateLimitError);
      await assert.rejects(failing('m-500'), OpenAI.InternalServerError);
      const nobody = new OpenAI({ baseURL: at('mistral/v1'), apiKey: TOKEN, ...once });
      await assert.rejects(nobody.models.list(), /400 Unsupported provider: mistral/);
    });

    test('an event arrives before the next one is sent', async () => {
      const go = resolvers();
      signs = { go: go.promise };
      const response = await client.responses.create({ model: 'm-signs', input: 'Hi', stream: true });
      const got = [];
      for await (const event of response) {
        got.push(event.type);
        if (event.type === 'response.output_text.delta') go.resolve();
      }
      assert.deepEqual(got, OPENAI_EVENTS.map((event) => event.type));
    });

    test('who leaves a stream ends it at the provider', async () => {
      signs = { go: new Promise(() => {}) };
      const response = await client.responses.create({ model: 'm-signs', input: 'Hi', stream: true });
      const seen = provider.last;
      for await (const event of response) {
        if (event.type === 'response.output_text.delta') break;
      }
      await within('the provider to be left', seen.left);
    });

    test('a stream that breaks off is an error, not an end', async () => {
      const got = [];
      await assert.rejects(async () => {
        const stream = await client.responses.create({ model: 'm-dies', input: 'Hi', stream: true });
        for await (const event of stream) got.push(event.type);
      });
      assert.ok(!got.includes('response.completed'));
    });

    test('a realtime session is a tunnel', async () => {
      // The SDK insists on TLS, which a hub leaves to what is in front of it.
      const createConnection = ({ host, port }) => net.connect({ host, port });
      const realtime = new Realtime({ model: 'm-live', options: { createConnection } }, client);
      realtime.on('error', () => {});
      const created = new Promise((resolve) => realtime.on('session.created', resolve));
      const done = new Promise((resolve) => realtime.on('response.done', resolve));
      await within('the session', created);
      assert.equal(provider.last.url, '/v1/realtime?model=m-live');
      clean();
      realtime.send({ type: 'response.create', text: 'wörld'.repeat(10_000) });
      assert.equal((await within('the answer', done)).text, 'wörld'.repeat(10_000));
      const seen = provider.last;
      realtime.close({ code: 1000, reason: 'bye' });
      await within('the provider to hear of it', closed(seen));
      assert.equal(seen.closed, 1000);
    });
  });
}

// --- Anthropic.

for (const [version, Anthropic, header] of [
  ['0.71.2', AnthropicOld, ['x-api-key', KEYS.ANTHROPIC_API_KEY]],
  ['1.12.0', AnthropicNew, bearer(KEYS.ANTHROPIC_API_KEY)],
]) {
  describe(`@anthropic-ai/sdk ${version}`, () => {
    let client;
    before(() => {
      client = new Anthropic({ baseURL: at('anthropic'), apiKey: TOKEN, authToken: null, ...once });
    });
    const ask = (model) => ({ model, max_tokens: 9, messages: [{ role: 'user', content: 'Hi' }] });

    test('answers come whole and stream', async () => {
      const whole = await client.messages.create(ask('m-text'));
      assert.equal(whole.content[0].text, 'Hello wörld');
      assert.equal(provider.last.url, '/v1/messages');
      assert.ok(provider.last.headers['anthropic-version']);
      assertClean(...header);
      const deltas = [];
      const stream = client.messages.stream(ask('m-text')).on('text', (delta) => deltas.push(delta));
      assert.equal(await stream.finalText(), 'Hello wörld');
      assert.deepEqual(deltas, ['Hello', ' wörld']);
      const zipped = await client.messages.create(ask('m-gzip'));
      assert.equal(zipped.content[0].text, 'Hello wörld');
    });

    test('counts, lists and files work', async () => {
      const count = await client.messages.countTokens({ model: 'm', messages: [] });
      assert.equal(count.input_tokens, 3);
      assert.equal((await client.messages.batches.list()).data[0].id, 'batch_1');
      assert.equal((await client.models.list()).data[0].id, 'm');
      const files = client.files ?? client.beta.files;
      await files.upload({ file: new File([BYTES], 'a.bin') });
      assert.match(provider.last.url, /^\/v1\/files/);
      assert.ok(provider.last.body.includes(BYTES));
      assertClean(...header);
    });

    test('errors are those of the provider', async () => {
      await assert.rejects(client.messages.create(ask('m-401')), Anthropic.AuthenticationError);
      await assert.rejects(client.messages.create(ask('m-429')), Anthropic.RateLimitError);
    });

    test('an event arrives before the next one is sent, and who leaves ends it', async () => {
      const go = resolvers();
      signs = { go: go.promise };
      const stream = client.messages.stream(ask('m-signs')).on('text', () => go.resolve());
      assert.equal(await stream.finalText(), 'Hello wörld');
      signs = { go: new Promise(() => {}) };
      const left = client.messages.stream(ask('m-signs'));
      left.on('error', () => {});
      left.on('abort', () => {});
      await new Promise((resolve) => left.on('text', resolve));
      const seen = provider.last;
      left.abort();
      await within('the provider to be left', seen.left);
      await left.done().catch(() => {});
    });
  });
}

// --- Google.

for (const [version, GoogleGenAI, api] of [
  ['1.42.0', GenAIOld, 'v1beta'],
  ['3.1.0', GenAINew, 'v1'],
]) {
  describe(`@google/genai ${version}`, () => {
    let ai;
    before(() => {
      ai = new GoogleGenAI({ apiKey: TOKEN, httpOptions: { baseUrl: at('gemini') } });
    });
    const clean = () => assertClean('x-goog-api-key', KEYS.GEMINI_API_KEY);

    test('answers come whole and stream', async () => {
      const whole = await ai.models.generateContent({ model: 'm-text', contents: 'Hi' });
      assert.equal(whole.text, 'Hello wörld');
      assert.equal(provider.last.url, `/${api}/models/m-text:generateContent`);
      clean();
      const chunks = [];
      for await (const chunk of await ai.models.generateContentStream({ model: 'm-text', contents: 'Hi' })) {
        chunks.push(chunk.text);
      }
      assert.deepEqual(chunks, ['Hello', ' wörld']);
      assert.equal(provider.last.url, `/${api}/models/m-text:streamGenerateContent?alt=sse`);
      const zipped = await ai.models.generateContent({ model: 'm-gzip', contents: 'Hi' });
      assert.equal(zipped.text, 'Hello wörld');
    });

    test('counts and lists work', async () => {
      const count = await ai.models.countTokens({ model: 'm', contents: 'Hi' });
      assert.equal(count.totalTokens, 3);
      const models = await ai.models.list({ config: { pageSize: 2 } });
      assert.equal(models.page[0].name, 'm');
      assert.match(provider.last.url, /\?pageSize=2$/);
      clean();
    });

    test('files go up in resumable uploads, through the proxy alone', async () => {
      const file = new Blob([BYTES], { type: 'application/octet-stream' });
      const uploaded = await ai.files.upload({ file, config: { displayName: 'a' } });
      assert.equal(uploaded.name, 'files/abc');
      assert.equal(provider.last.url, '/upload/v1beta/files?upload_id=abc&upload_protocol=resumable');
      assert.ok(provider.last.body.equals(BYTES));
      assert.equal(provider.last.headers['x-goog-upload-command'], 'upload, finalize');
      clean();
      assert.equal((await ai.files.get({ name: 'abc' })).state, 'ACTIVE');
      await ai.files.delete({ name: 'abc' });
      assert.equal(provider.last.method, 'DELETE');
    });

    test('errors are those of the provider', async () => {
      await assert.rejects(ai.models.generateContent({ model: 'm-400', contents: 'Hi' }), {
        status: 400,
        message: /INVALID_ARGUMENT/,
      });
    });

    test('a live session is a tunnel', async () => {
      const answers = [];
      const answered = resolvers();
      const live = await within(
        'the session',
        ai.live.connect({
          model: 'm-live',
          config: { responseModalities: [Modality.TEXT] },
          callbacks: {
            onmessage: (message) => {
              answers.push(message);
              if (message.serverContent) answered.resolve();
            },
          },
        }),
      );
      const seen = provider.last;
      assert.match(seen.url, /^\/ws\/google\.ai\.generativelanguage\.v1[a-z]*\.GenerativeService\.BidiGenerateContent$/);
      clean();
      live.sendClientContent({ turns: 'wörld' });
      await within('the answer', answered.promise);
      assert.equal(answers.at(-1).serverContent.modelTurn.parts[0].text, 'wörld');
      live.close();
      await within('the provider to hear of it', closed(seen));
    });
  });
}

// --- The Vercel AI SDK, whose base URLs have no version.

describe('ai 7', () => {
  const cases = [
    ['openai', createOpenAI, 'openai', '/v1/responses', bearer(KEYS.OPENAI_API_KEY)],
    ['anthropic', createAnthropic, 'anthropic', '/v1/messages', ['x-api-key', KEYS.ANTHROPIC_API_KEY]],
    [
      'google',
      createGoogle,
      'gemini',
      '/v1beta/models/m-text:streamGenerateContent?alt=sse',
      ['x-goog-api-key', KEYS.GEMINI_API_KEY],
    ],
    ['xai', createXai, 'grok', '/v1/responses', bearer(KEYS.GROK_API_KEY)],
  ];
  for (const [name, create, path, url, header] of cases) {
    test(`@ai-sdk/${name} works`, async () => {
      const models = create({ baseURL: at(path), apiKey: TOKEN });
      const failed = [];
      const stream = streamText({
        model: models('m-text'),
        prompt: 'Hi',
        maxRetries: 0,
        onError: ({ error }) => failed.push(error),
      });
      const deltas = [];
      for await (const delta of stream.textStream) deltas.push(delta);
      assert.deepEqual(failed, []);
      assert.equal(deltas.join(''), 'Hello wörld');
      assert.equal(provider.last.url, url);
      assertClean(...header);
      const whole = await generateText({ model: models('m-text'), prompt: 'Hi', maxRetries: 0 });
      assert.equal(whole.text, 'Hello wörld');
      const failing = generateText({ model: models('m-429'), prompt: 'Hi', maxRetries: 0 });
      await assert.rejects(failing, { statusCode: 429 });
    });
  }
});

// --- What no SDK does.

test('cookies and addresses of the caller stay here, cookies of the provider there', async () => {
  const response = await fetch(at('openai/v1/models'), {
    headers: {
      authorization: `Bearer ${TOKEN}`,
      cookie: 'better-auth.session_token=x',
      'x-forwarded-for': '10.0.0.1',
      'x-real-ip': '10.0.0.1',
    },
  });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('set-cookie'), null);
  assertClean(...bearer(KEYS.OPENAI_API_KEY));
  assert.ok(!JSON.stringify(provider.last.rawHeaders).includes('10.0.0.1'));
});

test('a page of an origin that is allowed may use an SDK, one of another may not', async () => {
  const preflight = (origin) =>
    fetch(at('anthropic/v1/messages'), {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'x-api-key,anthropic-version,x-stainless-lang',
      },
    });
  const allowed = await preflight('tauri://localhost');
  assert.equal(allowed.headers.get('access-control-allow-origin'), 'tauri://localhost');
  assert.match(allowed.headers.get('access-control-allow-headers'), /x-stainless-lang/);
  const other = await preflight('https://evil.example');
  assert.equal(other.headers.get('access-control-allow-origin'), null);
  const count = provider.seen.length;
  const sent = await fetch(at('openai/v1/responses'), {
    method: 'POST',
    headers: { origin: 'https://evil.example', 'content-type': 'text/plain' },
    body: '{"model":"m-text"}',
  });
  assert.equal(sent.status, 403);
  assert.equal(provider.seen.length, count);
});

test('a WebSocket of a browser has its token among the subprotocols', async () => {
  const url = at('openai/v1/realtime?model=m').replace('http', 'ws');
  const offered = ['realtime', `openai-insecure-api-key.${TOKEN}`, 'openai-beta.realtime-v1'];
  const socket = new WebSocket(url, offered);
  const [first] = await within('a message', new Promise((resolve, reject) => {
    socket.on('message', (data) => resolve([JSON.parse(data)]));
    socket.on('error', reject);
  }));
  assert.equal(first.type, 'session.created');
  assert.equal(socket.protocol, 'realtime');
  assert.equal(provider.last.headers['sec-websocket-protocol'], 'realtime, openai-beta.realtime-v1');
  assertClean(...bearer(KEYS.OPENAI_API_KEY));
  socket.close();
});

function resolvers() {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}

async function closed(seen) {
  while (seen.closed === undefined) await new Promise((next) => setTimeout(next, 10));
}
