// Models that plugins ask, and models that call actions: a local server with keys of its own, and one
// that asks through its hub.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import * as latest from '@tanstack/ai-client';
import * as old from 'tanstack-ai-client-old';
import { Providers, calling, endless, refuse, rounds } from './providers.mjs';
import { Server, until, within } from './server.mjs';

const PROVIDERS = ['openai', 'anthropic', 'gemini', 'grok'];
const GENERATIONS = { old, latest };

/** Plugins that ask alike, in several languages: the name, and the table that `ask-and-add` writes to. */
const ASKING = { probe: 'counters', 'library-c': 'books' };

let providers;
let hub;
let alice;
const servers = [];

/** A local server with a plugin, whose manifest says this. */
async function local(manifest, { plugin = 'probe', args = [], env = {} } = {}) {
  const server = new Server({ plugins: [plugin, 'blog'], args, env });
  servers.push(server);
  writeFileSync(server.file(`${plugin}.toml`), manifest);
  await server.start();
  return server;
}

async function signUp(name) {
  const body = { name, email: `${name}@example.com`, password: 'correct horse' };
  const origin = { origin: hub.url };
  const { status, body: answer } = await hub.post('/auth/sign-up/email', body, origin);
  assert.equal(status, 200, JSON.stringify(answer));
  return { authorization: `Bearer ${answer.token}` };
}

before(async () => {
  providers = await Providers.start({
    endless,
    unauthorized: refuse(401, { error: { message: 'Incorrect API key', code: 'bad_key' } }),
    silent: () => {},
    sums: rounds([['sum', {}]]),
    adds: rounds([
      ['probe_add', { id: 'a', by: 2 }],
      ['probe_add', { id: 'a', by: 3 }],
    ], [['probe_sum', {}]]),
    wrong: rounds([['probe_add', { id: 'w', by: 'many' }]], [['probe_add', { id: 'w', by: 1 }]]),
    broken: rounds([['probe_misbehave', { id: 'b', how: 'fail' }]]),
    scribbles: rounds([['probe_add', '{"id": "s", "by']]),
    both: rounds([
      ['probe_add', { id: 'c', by: 1 }],
      ['get_weather', { city: 'Paris' }],
    ]),
    forever: (request, response, { provider }) =>
      providers.replay(response, Buffer.from(calling(provider, [['probe_sum', {}]]))),
  });
  hub = await Server.start({
    mode: 'hub',
    plugins: [],
    env: providers.env,
    args: ['--auth', 'required', '--max-chats-per-minute', '100000'],
  });
  servers.push(hub);
  alice = await signUp('alice');
});

after(async () => {
  for (const server of servers) await server.dispose();
  await providers?.close();
});

for (const [plugin, table] of Object.entries(ASKING)) describe(`a plugin, ${plugin},`, () => {
  const query = (action, input) => `/workspaces/${plugin}/actions/${action}?${new URLSearchParams(input)}`;

  let own;
  before(async () => {
    const manifest = 'ai = true\n[limits]\naction = "2s"\nai-answer-bytes = "64KiB"';
    own = await local(manifest, { plugin, env: providers.env, args: ['--max-chats-per-minute', '100000'] });
  });

  test('without the grant is denied, and told what would mend it', async () => {
    const server = await local('', { plugin, env: providers.env });
    const asked = providers.requests.length;
    const { status, error } = await server.get(query('ask', { model: 'openai:m-text', question: 'Hi' }));
    assert.equal(status, 403);
    assert.match(error.message, /`ai = true` in its manifest/);
    assert.equal(providers.requests.length, asked);
  });

  for (const provider of PROVIDERS) {
    test(`asks ${provider} for a whole answer`, async () => {
      const { status, data, error } = await own.get(query('ask', { model: `${provider}:m-text`, question: 'Hi' }));
      assert.equal(status, 200, error?.message);
      assert.deepEqual(data, { text: 'Hello world', called: [], tokens: 18 });
      const { body } = providers.requests.at(-1);
      assert.match(JSON.stringify(body), /Be brief\./);
      assert.match(JSON.stringify(body), /Sums up the counters/);
    });

    test(`gets the answer of ${provider} in pieces`, async () => {
      const { data, error } = await own.get(query('ask-in-pieces', { model: `${provider}:m-text`, question: 'Hi' }));
      assert.equal(error, undefined);
      assert.ok(data.pieces.length > 1, JSON.stringify(data));
      assert.equal(data.pieces.join(''), data.text);
    });

    test(`runs what ${provider} calls, and sends back what came of it`, async () => {
      const { data, error } = await own.get(query('ask', { model: `${provider}:m-sums`, question: 'Hi' }));
      assert.equal(error, undefined);
      assert.deepEqual([data.text, data.called], ['Hello world', ['sum']]);
    });
  }

  test('is told what the provider says, and leaves nothing written', async () => {
    const input = { model: 'openai:m-unauthorized', question: 'Hi' };
    const { status, error } = await own.post(`/workspaces/${plugin}/actions/ask-and-add`, input);
    assert.equal(status, 500);
    assert.equal(error.message, '401 Incorrect API key');
    const { status: counter } = await own.get(`/workspaces/${plugin}/tables/${table}/asked`);
    assert.equal(counter, 404);
    const streamed = await own.get(query('ask-in-pieces', input));
    assert.equal(streamed.error.message, '401 Incorrect API key');
  });

  test('is told that there is no such provider', async () => {
    const { status, error } = await own.get(query('ask', { model: 'mistral:m', question: 'Hi' }));
    assert.equal(status, 422);
    assert.deepEqual(error.issues, [{ path: ['provider'], message: 'Unsupported provider: mistral' }]);
  });

  test('has no more time than its action, and the request ends with it', async () => {
    for (const [scenario, action] of [['silent', 'ask'], ['endless', 'ask-in-pieces']]) {
      const { status } = await own.get(query(action, { model: `openai:m-${scenario}`, question: 'Hi' }));
      assert.equal(status, 504, scenario);
      await within(`the request of ${scenario} to end`, providers.of(scenario).at(-1).closed);
    }
  });

  test('asks through the hub with the session of its caller, whose usage it is', async () => {
    const server = await local('ai = true', { plugin, args: ['--hub-url', hub.url] });
    const bob = await signUp(`bob-${plugin}`);
    const ask = query('ask', { model: 'anthropic:m-text', question: 'Hi' });
    const { status, data, error } = await server.request('GET', ask, undefined, bob);
    assert.equal(status, 200, error?.message);
    assert.equal(data.text, 'Hello world');
    const { headers } = providers.requests.at(-1);
    assert.equal(headers['x-api-key'], 'key-of-the-server-for-anthropic');
    assert.doesNotMatch(JSON.stringify(headers), new RegExp(bob.authorization.slice(7, 30)));
    for (const place of [server, hub]) {
      const spent = async () => (await place.request('GET', '/ai/usage', undefined, bob)).data;
      const { data: known } = await place.request('GET', '/ai/providers', undefined, bob);
      assert.ok(known.every(({ ready }) => ready), JSON.stringify(known));
      const [row] = await until('it is counted', async () => (await spent()).length && spent());
      assert.deepEqual([row.provider, row.inputTokens, row.outputTokens], ['anthropic', 11, 7]);
    }
    assert.doesNotMatch(server.logs + hub.logs, new RegExp(bob.authorization.slice(7, 30)));
  });
});

describe('a model may call actions', () => {
  let server;
  before(async () => {
    const args = ['--hub-url', hub.url, '--max-chats-per-minute', '100000'];
    server = await local('', { args });
  });

  /** A conversation of one client, to which actions are offered. */
  function client(generation, { provider, model, tools, local }) {
    const { ChatClient, fetchServerSentEvents } = GENERATIONS[generation];
    const told = { errors: [], chunks: [] };
    told.client = new ChatClient({
      connection: fetchServerSentEvents(`${server.url}/ai/chat`, {
        headers: alice,
        body: { provider, model, tools },
      }),
      tools: local,
      onError: (error) => told.errors.push(error),
      onChunk: (chunk) => told.chunks.push(chunk),
    });
    return told;
  }

  const parts = (client, type) =>
    client
      .getMessages()
      .flatMap((message) => message.parts)
      .filter((part) => part.type === type);
  const text = (client) => parts(client, 'text').map(({ content }) => content).at(-1);

  const asks = async (scenario, tools, headers = alice) => {
    const body = { messages: [{ role: 'user', content: 'Hi' }], provider: 'grok', model: `m-${scenario}`, tools };
    const response = await fetch(`${server.url}/ai/chat`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
    const frames = (await within('the end', response.text())).split('\n\n').filter(Boolean);
    const data = frames.map((frame) => frame.replace(/^data: /, ''));
    return { response, data, events: data.filter((it) => it.startsWith('{')).map((it) => JSON.parse(it)) };
  };

  const counter = async (id) => {
    const { status, data } = await server.request('GET', `/workspaces/probe/tables/counters/${id}`, undefined, alice);
    return status === 200 ? data.value : undefined;
  };

  for (const generation of Object.keys(GENERATIONS)) {
    for (const provider of PROVIDERS) {
      test(`of which the ${generation} client sees the calls, the results and the end: ${provider}`, async () => {
        const before = (await counter('a')) ?? 0;
        const asked = providers.of('adds').length;
        const { client: chat, errors, chunks } = client(generation, {
          provider,
          model: 'm-adds',
          tools: ['probe/add', 'probe/sum'],
        });
        await within('the answer', chat.sendMessage('Add'));
        assert.deepEqual(errors, []);
        assert.equal(await counter('a'), before + 5);
        assert.equal(text(chat), 'Hello world');
        const calls = parts(chat, 'tool-call');
        assert.deepEqual(calls.map(({ name }) => name), ['probe_add', 'probe_add', 'probe_sum']);
        assert.deepEqual(calls.map(({ output }) => output?.value ?? output), [before + 2, before + 5, calls[2].output]);
        assert.equal(typeof calls[2].output, 'number');
        const results = parts(chat, 'tool-result');
        assert.deepEqual(results.map(({ state }) => state), ['complete', 'complete', 'complete']);
        // One run, whatever the number of rounds, and no call for the client to run.
        for (const type of ['RUN_STARTED', 'RUN_FINISHED']) {
          // The newer client makes an end of its own out of `[DONE]`.
          const sent = chunks.filter((chunk) => chunk.type === type && (chunk.usage || type === 'RUN_STARTED'));
          assert.equal(sent.length, 1, type);
        }
        assert.ok(!chunks.some(({ name }) => name === 'tool-input-available'));
        const { usage, finishReason } = chunks.find(({ type }) => type === 'RUN_FINISHED');
        assert.deepEqual([usage.promptTokens, usage.completionTokens, finishReason], [33, 21, 'stop']);
        const bodies = providers.of('adds').slice(asked).map(({ body }) => JSON.stringify(body));
        assert.equal(bodies.length, 3);
        assert.match(bodies[0], /To a counter, which begins with 0\./);
        assert.match(bodies[0], /"by":\{/);
        assert.match(bodies[2], new RegExp(`value.{1,4}:${before + 5}`));

        // The conversation goes on with all of it.
        await within('the second answer', chat.sendMessage('Add again'));
        assert.deepEqual(errors, []);
        assert.equal(await counter('a'), before + 10);
      });
    }

    test(`and the ${generation} client the rest`, async () => {
      const ran = [];
      const inputSchema = { type: 'object', properties: { city: { type: 'string' } } };
      const weather = {
        name: 'get_weather',
        description: 'How the weather is',
        inputSchema,
        execute: async (input) => (ran.push(input), { temperature: 21 }),
      };
      const { client: chat, errors } = client(generation, {
        provider: 'grok',
        model: 'm-both',
        tools: generation === 'old' ? ['probe/add', { name: weather.name, inputSchema }] : ['probe/add'],
        local: [weather],
      });
      const before = (await counter('c')) ?? 0;
      await within('the answer', chat.sendMessage('Both'));
      await until('the model has both results', () => text(chat) === 'Hello world');
      assert.deepEqual([errors, ran], [[], [{ city: 'Paris' }]]);
      assert.equal(await counter('c'), before + 1);
      const last = JSON.stringify(providers.of('both').at(-1).body);
      assert.match(last, /temperature.{1,4}:21/);
      assert.match(last, new RegExp(`value.{1,4}:${before + 1}`));
    });
  }

  test('but none that is not there', async () => {
    const asked = providers.requests.length;
    for (const tools of [['blog/posts/explode'], ['probe/add', 'nowhere/add'], ['probe']]) {
      const { response, data } = await asks('text', tools);
      assert.equal(response.status, 400);
      assert.match(JSON.parse(data[0]).error.message, new RegExp(`"${tools.at(-1)}"`));
    }
    assert.equal(providers.requests.length, asked);
    const { response, data } = await (async () => {
      const body = { messages: [{ role: 'user', content: 'Hi' }], provider: 'grok', model: 'm-text', tools: ['probe/add'] };
      const response = await fetch(`${hub.url}/ai/chat`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...alice },
        body: JSON.stringify(body),
      });
      return { response, data: await response.json() };
    })();
    assert.equal(response.status, 400, 'a hub has no actions');
    assert.match(data.error.message, /"probe\/add"/);
  });

  test('and none without a session', async () => {
    const { response } = await asks('adds', ['probe/add'], {});
    assert.equal(response.status, 401);
  });

  const result = ({ events }) => events.filter(({ type }) => type === 'TOOL_CALL_RESULT');

  test('is told what is wrong with an input, and may mend it', async () => {
    const told = await asks('wrong', ['probe/add']);
    const [first, second] = result(told);
    assert.equal(first.metadata.tanstack.state, 'output-error');
    const { error, issues } = JSON.parse(first.content);
    assert.match(error, /the input of add is not valid/);
    assert.deepEqual(issues[0].path, ['by']);
    assert.equal(JSON.parse(second.content).value, 1);
    assert.match(JSON.stringify(providers.of('wrong').at(-2).body.messages), /the input of add is not valid/);
    assert.equal(told.events.at(-1).type, 'RUN_FINISHED');
    assert.equal(await counter('w'), 1);
  });

  test('is told that an action failed, of which nothing happened', async () => {
    const told = await asks('broken', ['probe/misbehave']);
    assert.deepEqual(JSON.parse(result(told)[0].content), { error: 'it failed on purpose' });
    assert.equal(told.events.at(-1).type, 'RUN_FINISHED');
    assert.equal(await counter('b'), undefined);
  });

  test('and scribbles end the run', async () => {
    const told = await asks('scribbles', ['probe/add']);
    const { type, code } = told.events.at(-1);
    assert.deepEqual([type, code], ['RUN_ERROR', 'invalid_arguments']);
    assert.equal(await counter('s'), undefined);
  });

  test('is not asked for ever', async () => {
    const told = await asks('forever', ['probe/sum']);
    const { type, code, message } = told.events.at(-1);
    assert.deepEqual([type, code], ['RUN_ERROR', 'too_many_rounds']);
    assert.match(message, /17 rounds/);
    assert.equal(told.data.at(-1), '[DONE]');
  });
});
