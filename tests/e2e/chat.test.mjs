// AI chat: the clients of both generations against a hub, with providers that replay recordings.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import * as latest from '@tanstack/ai-client';
import * as old from 'tanstack-ai-client-old';
import { Providers, endless, recording, refuse } from './providers.mjs';
import { Server, until, within } from './server.mjs';

const PROVIDERS = ['openai', 'anthropic', 'gemini', 'grok'];
const GENERATIONS = { old, latest };
const SERVER_KEY = /key-of-the-server/;

const WEATHER = {
  name: 'get_weather',
  description: 'How the weather is',
  inputSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};

/** A chat client of one generation, with what it was told. */
function client(generation, { url, body, tools, headers }) {
  const { ChatClient, fetchServerSentEvents } = GENERATIONS[generation];
  const told = { errors: [], chunks: [] };
  told.client = new ChatClient({
    // The newer clients declare their tools by themselves; the older leave it to the body.
    connection: fetchServerSentEvents(`${url}/ai/chat`, {
      headers,
      body: { ...body, ...(generation === 'old' && tools ? { tools } : {}) },
    }),
    tools,
    onError: (error) => told.errors.push(error),
    onChunk: (chunk) => told.chunks.push(chunk),
  });
  return told;
}

/** The last thing that the assistant said, as a person sees it. */
function said(client) {
  const message = client.getMessages().findLast(({ role }) => role === 'assistant');
  const parts = message?.parts ?? [];
  const join = (type) =>
    parts
      .filter((part) => part.type === type)
      .map(({ content }) => content)
      .join('');
  const calls = parts.filter(({ type }) => type === 'tool-call');
  return {
    text: join('text'),
    thinking: join('thinking'),
    calls: calls.map(({ name, arguments: input }) => [name, JSON.parse(input)]),
  };
}

/** The events of a stream that is read without a client. */
async function stream(url, body, headers = {}) {
  const response = await fetch(`${url}/ai/chat`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await within('the stream to end', response.text());
  const frames = text.split('\n\n').filter(Boolean);
  const data = frames.map((frame) => frame.replace(/^data: /, ''));
  const events = data.filter((data) => data.startsWith('{')).map((data) => JSON.parse(data));
  return { response, text, last: data.at(-1), events };
}

const hi = (provider, scenario, more = {}) => ({
  messages: [{ role: 'user', content: 'Hi' }],
  provider,
  model: `m-${scenario}`,
  ...more,
});

describe('a chat', () => {
  let providers;
  let server;
  let url;

  before(async () => {
    providers = await Providers.start({
      endless,
      // A call first; once the result is there, an answer.
      roundtrip: (request, response, { provider, before }) =>
        providers.replay(response, recording(provider, before % 2 ? 'text' : 'tool')),
      unauthorized: refuse(401, { error: { message: 'Incorrect API key', code: 'bad_key' } }),
      echo: (request, response) => {
        const keys = [request.headers.authorization, request.headers['x-api-key']];
        const message = `Incorrect API key provided: ${keys.join('').replace('Bearer ', '')}`;
        refuse(401, { error: { message } })(request, response);
      },
      limited: refuse(429, { error: { message: 'Rate limit reached' } }, { 'retry-after-ms': '10' }),
      patient: refuse(429, { error: { message: 'Come back later' } }, { 'retry-after': '3600' }),
      broken: refuse(500, { error: { message: 'The server had an error' } }),
      once: (request, response, { provider, before }) =>
        before === 0
          ? refuse(503, 'busy')(request, response)
          : providers.replay(response, recording(provider, 'text')),
      hangup: (request) => request.socket.destroy(),
      cut: async (request, response, { provider }) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(recording(provider, 'discmid'));
        setTimeout(() => response.destroy(), 50);
      },
      page: (request, response) => {
        response.writeHead(200, { 'content-type': 'text/html' });
        response.end('<html>Welcome to the captive portal</html>');
      },
      garbage: (request, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.end('data: {"choices": [}\n\ndata: ]]\n\n');
      },
      flood: (request, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        const line = Buffer.alloc(64 * 1024, 'a');
        const more = () => {
          while (!response.destroyed && response.write(line));
        };
        response.on('drain', more);
        response.write('data: ');
        more();
      },
      silent: () => {},
      stuck: (request, response, { provider }) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(recording(provider, 'discmid'));
      },
    });
    server = await Server.start({
      mode: 'hub',
      plugins: [],
      env: { ...providers.env, RUST_LOG: 'debug' },
      args: [
        ...['--ai-endpoint', `local=${providers.url}/local`, '--max-chats-per-minute', '100000'],
        ...['--ai-first-byte-timeout', '2', '--ai-idle-timeout', '2', '--max-chats-per-user', '64'],
      ],
    });
    url = server.url;
  });

  after(async () => {
    await server?.dispose();
    await providers?.close();
  });

  const SAID = {
    text: { text: 'Hello world', thinking: '', calls: [] },
    think: { text: 'Hello world', thinking: 'Let me think.', calls: [] },
    tool: { text: '', thinking: '', calls: [['get_weather', { city: 'Paris' }]] },
    mixed: {
      text: 'I will check.',
      thinking: 'Let me think.',
      calls: [['get_weather', { city: 'Paris' }]],
    },
  };

  for (const generation of Object.keys(GENERATIONS)) {
    for (const provider of PROVIDERS) {
      test(`the ${generation} client understands all that ${provider} says`, async () => {
        for (const [scenario, expected] of Object.entries(SAID)) {
          const body = { provider, model: `m-${scenario}` };
          const { client: chat, errors, chunks } = client(generation, { url, body });
          await within('the answer', chat.sendMessage('Hi'));
          assert.deepEqual(errors, [], scenario);
          assert.deepEqual(said(chat), expected, scenario);
          const end = chunks.find(({ type }) => type === 'RUN_FINISHED');
          assert.equal(end.finishReason, expected.calls.length ? 'tool_calls' : 'stop', scenario);
          assert.equal(end.usage.promptTokens, 11, scenario);
          assert.equal(end.usage.completionTokens, 7, scenario);
        }
      });

      test(`the ${generation} client runs a tool for ${provider} and sends its result`, async () => {
        const before = providers.of('roundtrip').length;
        const inputs = [];
        const execute = async (input) => {
          inputs.push(input);
          return { temperature: 21 };
        };
        const { client: chat, errors } = client(generation, {
          url,
          body: { provider, model: 'm-roundtrip' },
          tools: [{ ...WEATHER, execute }],
        });
        await within('the first answer', chat.sendMessage('How is the weather?'));
        await until('the model knows the weather', () => said(chat).text === 'Hello world');
        assert.deepEqual(errors, []);
        assert.deepEqual(inputs, [{ city: 'Paris' }]);
        const asked = providers.of('roundtrip').slice(before);
        assert.equal(asked.length, 2);
        assert.match(JSON.stringify(asked[0].body.tools), /get_weather.*How the weather is/);
        assert.match(JSON.stringify(asked[1].body), /temperature.{1,4}:21/);
      });
    }

    test(`the ${generation} client shows an image`, async () => {
      const body = { provider: 'openai', model: 'm-text' };
      const { client: chat, errors } = client(generation, { url, body });
      const source = { type: 'data', value: 'AAAA', mimeType: 'image/png' };
      const content = [{ type: 'text', content: 'Look' }, { type: 'image', source }];
      await within('the answer', chat.sendMessage({ content }));
      assert.deepEqual(errors, []);
      assert.deepEqual(providers.requests.at(-1).body.input.at(-1).content, [
        { type: 'input_text', text: 'Look' },
        { type: 'input_image', image_url: 'data:image/png;base64,AAAA', detail: 'auto' },
      ]);
    });

    test(`the ${generation} client is told why there is no answer`, async () => {
      const body = { provider: 'openai', model: 'm-unauthorized' };
      const { client: chat, errors } = client(generation, { url, body });
      await within('the end', chat.sendMessage('Hi'));
      assert.match(errors[0].message, /401 Incorrect API key/);
    });

    test(`the ${generation} client that stops ends the request to the provider`, async () => {
      for (const provider of PROVIDERS) {
        const body = { provider, model: 'm-endless' };
        const { client: chat, chunks } = client(generation, { url, body });
        const sending = chat.sendMessage('Hi');
        const hears = () => chunks.some(({ type }) => type === 'TEXT_MESSAGE_CONTENT');
        await until('the answer begins', hears);
        const request = providers.of('endless').at(-1);
        chat.stop();
        await within('the client to stop', sending);
        await within(`${provider} to see that nobody listens`, request.closed);
      }
    });
  }

  test('the stream is the same protocol for whoever reads it', async () => {
    const { response, text, last } = await stream(url, hi('openai', 'text'));
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-type'), 'text/event-stream');
    assert.equal(response.headers.get('cache-control'), 'no-cache');
    assert.equal(last, '[DONE]');
    for (const frame of text.split('\n\n').filter(Boolean)) assert.match(frame, /^data: [^\n]*$/);
  });

  test('the first event does not wait for the provider', async () => {
    const leave = new AbortController();
    const response = await fetch(`${url}/ai/chat`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(hi('openai', 'silent')),
      signal: leave.signal,
    });
    const { value } = await within('an event', response.body.getReader().read());
    assert.match(new TextDecoder().decode(value), /^data: {"type":"RUN_STARTED"/);
    leave.abort();
  });

  test('an endpoint of one’s own needs no key and speaks chat completions', async () => {
    const { events, last } = await stream(url, hi('local', 'think'));
    const text = events.filter(({ type }) => type === 'TEXT_MESSAGE_CONTENT').at(-1).content;
    assert.deepEqual([text, last], ['Hello world', '[DONE]']);
    const { url: path, headers } = providers.requests.at(-1);
    assert.equal(path, '/local/v1/chat/completions');
    assert.equal(headers.authorization, undefined);
  });

  test('a key of the caller goes before the server’s', async () => {
    const header = {
      openai: ['authorization', (key) => `Bearer ${key}`, '/openai/v1/responses'],
      anthropic: ['x-api-key', (key) => key, '/anthropic/v1/messages'],
      gemini: [
        'x-goog-api-key',
        (key) => key,
        '/gemini/v1beta/models/m-text:streamGenerateContent?alt=sse',
      ],
      grok: ['authorization', (key) => `Bearer ${key}`, '/grok/v1/chat/completions'],
    };
    for (const [provider, [name, value, path]] of Object.entries(header)) {
      await stream(url, hi(provider, 'text'));
      const request = providers.requests.at(-1);
      assert.equal(request.headers[name], value(`key-of-the-server-for-${provider}`));
      assert.equal(request.url, path);
      await stream(url, hi(provider, 'text'), { 'x-provider-api-key': 'sk-mine' });
      assert.equal(providers.requests.at(-1).headers[name], value('sk-mine'));
    }
  });

  const FAILURES = [
    // scenario, what the client reads, and how often the provider was asked
    ['unauthorized', /^401 Incorrect API key$/, 1],
    ['limited', /^429 Rate limit reached$/, 3],
    ['patient', /^429 Come back later$/, 1],
    ['broken', /^500 The server had an error$/, 3],
    ['hangup', /^Connection error\. openai/, 3],
    ['cut', /^Connection error\. openai ended the stream/, 1],
    ['page', /^openai does not answer with a stream: <html>/, 1],
    ['garbage', /^openai sent an event that cannot be read/, 1],
    ['flood', /^openai sends more than this server takes/, 1],
    ['silent', /^openai was silent for 2 seconds$/, 1],
    ['stuck', /^openai was silent for 2 seconds$/, 1],
    ['echo', /^401 Incorrect API key provided: …$/, 1],
    ['maxtok', /^max_output_tokens$/, 1],
    ['refusal', /^Refused without explanation$/, 1],
    ['errevent', /^Slow down$/, 1],
    ['failed', /^The model failed$/, 1],
  ];
  for (const [scenario, message, asked] of FAILURES) {
    test(`what fails ends the run with an error: ${scenario}`, async () => {
      const before = providers.of(scenario).length;
      const { response, events, last } = await stream(url, hi('openai', scenario));
      assert.equal(response.status, 200);
      const error = events.at(-1);
      assert.equal(error.type, 'RUN_ERROR');
      assert.match(error.message, message);
      assert.equal(error.error.message, error.message);
      assert.equal(error.error.code, error.code);
      assert.equal(last, '[DONE]');
      assert.equal(providers.of(scenario).length - before, asked);
    });
  }

  test('what fails before it begins is tried again', async () => {
    const { events } = await stream(url, hi('anthropic', 'once'));
    assert.equal(events.at(-1).type, 'RUN_FINISHED');
    assert.equal(providers.of('once').length, 2);
  });

  test('a part that a provider cannot be shown is named', async () => {
    const source = { type: 'data', value: 'QUFB', mimeType: 'video/mp4' };
    const messages = [{ role: 'user', content: [{ type: 'video', source }] }];
    const { events, last } = await stream(url, { ...hi('anthropic', 'text'), messages });
    assert.equal(events.at(-1).message, 'anthropic does not take content of type video');
    assert.equal(last, '[DONE]');
  });

  test('a request that is not one is refused, and says why', async () => {
    const cases = [
      [hi('mistral', 'x'), 400, /^Unsupported provider: mistral$/],
      ['{bad', 400, /not JSON/],
      [{}, 422, /\/messages: expected an array, found nothing/],
      [hi('openai', 'x', { model: null }), 422, /\/model: expected a string, found null/],
    ];
    for (const [body, status, message] of cases) {
      const { response, text } = await stream(url, body);
      assert.equal(response.status, status);
      assert.match(text, message);
    }
    const plain = await stream(url, hi('openai', 'x'), { 'content-type': 'text/plain' });
    assert.equal(plain.response.status, 422);
    const large = await stream(url, JSON.stringify({ messages: 'x'.repeat(33 * 1024 * 1024) }));
    assert.equal(large.response.status, 413);
  });

  test('what was spent can be read', async () => {
    const { events } = await stream(url, hi('gemini', 'text'));
    assert.equal(events.at(-1).type, 'RUN_FINISHED');
    const { data } = await (await fetch(`${url}/ai/usage`)).json();
    const row = data.find(({ provider, model }) => provider === 'gemini' && model === 'm-text');
    assert.match(row.day, /^\d{4}-\d\d-\d\d$/);
    assert.ok(row.requests >= 1);
    assert.equal(row.inputTokens, 11 * row.requests);
    assert.equal(row.outputTokens, 7 * row.requests);
  });

  test('what an abandoned answer took is counted, too', async () => {
    const row = async () => {
      const { data } = await (await fetch(`${url}/ai/usage`)).json();
      const mine = ({ provider, model }) => provider === 'anthropic' && model === 'm-endless';
      return data.find(mine)?.inputTokens ?? 0;
    };
    const before = await row();
    const { client: chat, chunks } = client('latest', {
      url,
      body: { provider: 'anthropic', model: 'm-endless' },
    });
    const sending = chat.sendMessage('Hi');
    await until('the answer begins', () => chunks.some(({ delta }) => delta));
    chat.stop();
    await sending;
    await until('it is counted', async () => (await row()) === before + 11);
  });

  test('no key of the server is in its log', () => {
    assert.ok(server.logs.length > 0);
    assert.doesNotMatch(server.logs, SERVER_KEY);
  });
});

describe('a hub', () => {
  test('that has no key asks for one', async () => {
    const server = await Server.start({
      mode: 'hub',
      plugins: [],
      env: { OPENAI_API_KEY: '', GROK_API_KEY: '' },
    });
    try {
      for (const [provider, variable] of [
        ['openai', 'OPENAI_API_KEY'],
        ['grok', 'GROK_API_KEY'],
      ]) {
        const { response, text } = await stream(server.url, hi(provider, 'text'));
        assert.equal(response.status, 401);
        assert.equal(
          text,
          `Missing API key: set x-provider-api-key header or configure ${variable} environment variable`,
        );
      }
    } finally {
      await server.dispose();
    }
  });

  test('bounds how many chats one user starts and has', async () => {
    const providers = await Providers.start({ endless });
    const server = await Server.start({
      mode: 'hub',
      plugins: [],
      env: providers.env,
      args: ['--max-chats-per-minute', '4', '--max-chats-per-user', '2'],
    });
    try {
      const leave = new AbortController();
      const open = () =>
        fetch(`${server.url}/ai/chat`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(hi('openai', 'endless')),
          signal: leave.signal,
        });
      assert.equal((await open()).status, 200);
      assert.equal((await open()).status, 200);
      const third = await open();
      assert.equal(third.status, 429);
      assert.match((await third.json()).error.message, /2 requests are running already/);
      leave.abort();
      let refused;
      await until('the rate is reached', async () => {
        const { response, text } = await stream(server.url, hi('openai', 'text'));
        refused = { response, text };
        return response.status === 429 && /in a minute/.test(text);
      });
      assert.ok(Number(refused.response.headers.get('retry-after')) >= 1);
    } finally {
      await server.dispose();
      await providers.close();
    }
  });
});
