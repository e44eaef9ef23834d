// What people may spend at a hub: chats and the proxy want a session, bound each user by themselves,
// and count what was taken. And nobody who leaves in the midst of something leaves work behind.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';

import Anthropic from '@anthropic-ai/sdk';
import { GoogleGenAI } from '@google/genai';
import OpenAI from 'openai';
import { WebSocket } from 'ws';

import { Provider } from './provider.mjs';
import { Providers, endless } from './providers.mjs';
import { Server, until, within } from './server.mjs';

const servers = [];
let providers;

before(async () => {
  providers = await Providers.start({
    endless,
    zipped: (request, response) => {
      const body = gzipSync(JSON.stringify({ error: { message: `no: ${request.headers.authorization}` } }));
      response.writeHead(401, { 'content-type': 'application/json', 'content-encoding': 'gzip' });
      response.end(body);
    },
  });
});

after(async () => {
  for (const server of servers) await server.dispose();
  await providers?.close();
});

async function start(args = [], env = providers.env) {
  const hub = await Server.start({ mode: 'hub', plugins: [], env, args: ['--auth', 'required', ...args] });
  servers.push(hub);
  return hub;
}

async function signUp(hub, name) {
  const body = { name, email: `${name}@example.com`, password: 'correct horse' };
  const { body: answer } = await hub.post('/auth/sign-up/email', body, { origin: hub.url });
  assert.equal(typeof answer.token, 'string', JSON.stringify(answer));
  return { token: answer.token, headers: { authorization: `Bearer ${answer.token}` } };
}

const hi = (provider, scenario) => ({
  messages: [{ role: 'user', content: 'Hi' }],
  provider,
  model: `m-${scenario}`,
  stream: true,
});

/** Begins something that streams, and gives how to leave it. */
async function begin(hub, route, body, headers) {
  const leaving = new AbortController();
  const response = await fetch(hub.url + route, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
    signal: leaving.signal,
  });
  return { status: response.status, response, leave: () => leaving.abort() };
}

const PLACES = {
  chat: ['/ai/chat', '--max-chats'],
  proxy: ['/proxy/grok/chat/completions', '--max-proxied'],
};

for (const [name, [route, flag]] of Object.entries(PLACES)) {
  describe(`the ${name} of a hub`, () => {
    test('wants a session', async () => {
      const hub = await start();
      for (const headers of [{}, { authorization: 'Bearer nonsense' }]) {
        assert.equal((await hub.post(route, hi('grok', 'text'), headers)).status, 401);
      }
      assert.equal((await hub.get('/ai/usage')).status, 401);
      const alice = await signUp(hub, 'alice');
      assert.equal((await hub.post(route, hi('grok', 'text'), alice.headers)).status, 200);
    });

    test('takes so many requests of a user in a minute, which are not those of another', async () => {
      const hub = await start([`${flag}-per-minute`, '3']);
      const [alice, bob] = [await signUp(hub, 'alice'), await signUp(hub, 'bob')];
      const send = ({ headers }) => hub.post(route, hi('grok', 'text'), headers);
      for (const expected of [200, 200, 200, 429]) {
        const answer = await send(alice);
        assert.equal(answer.status, expected);
        if (expected === 429) {
          assert.match(answer.error.message, /more than 3 requests in a minute/);
          assert.ok(Number(answer.headers.get('retry-after')) > 0);
        }
      }
      assert.equal((await send(bob)).status, 200);
    });

    test('has so many of a user under way, which are not those of another', async () => {
      const hub = await start([`${flag}-per-user`, '2']);
      const [alice, bob] = [await signUp(hub, 'alice'), await signUp(hub, 'bob')];
      const stream = ({ headers }) => begin(hub, route, hi('grok', 'endless'), headers);
      const open = [await stream(alice), await stream(alice)];
      const third = await stream(alice);
      assert.deepEqual([open[0].status, open[1].status, third.status], [200, 200, 429]);
      const other = await stream(bob);
      assert.equal(other.status, 200);
      open[0].leave();
      await until('there is a place again', async () => {
        const again = await stream(alice);
        again.leave();
        return again.status === 200;
      });
      for (const { leave } of [open[1], other]) leave();
    });
  });
}

test('what SDKs take through the proxy is counted for their user', async () => {
  const hub = await start();
  const [alice, bob] = [await signUp(hub, 'alice'), await signUp(hub, 'bob')];
  const at = (path) => `${hub.url}/proxy/${path}`;
  const openai = new OpenAI({ baseURL: at('openai/v1'), apiKey: alice.token });
  const grok = new OpenAI({ baseURL: at('grok/v1'), apiKey: alice.token });
  const anthropic = new Anthropic({ baseURL: at('anthropic'), apiKey: alice.token });
  const gemini = new GoogleGenAI({ apiKey: alice.token, httpOptions: { baseUrl: at('gemini') } });
  const messages = [{ role: 'user', content: 'Hi' }];
  const streams = [
    openai.responses.create({ model: 'm-text', input: 'Hi', stream: true }),
    grok.chat.completions.create({ model: 'm-text', messages, stream: true }),
    anthropic.messages.create({ model: 'm-text', max_tokens: 9, messages, stream: true }),
    gemini.models.generateContentStream({ model: 'm-text', contents: 'Hi' }),
  ];
  for (const stream of streams) for await (const _ of await stream);
  const usage = async ({ headers }) => (await hub.request('GET', '/ai/usage', undefined, headers)).data;
  await until('all four are counted', async () => (await usage(alice)).length === 4);
  for (const row of await usage(alice)) {
    const { provider, model, requests, inputTokens, outputTokens } = row;
    assert.match(model, /^m-text/, provider);
    assert.deepEqual([requests, inputTokens, outputTokens], [1, 11, 7], provider);
  }
  assert.deepEqual(await usage(bob), []);
});

test('an error that is compressed does not carry the key', async () => {
  const hub = await start();
  const alice = await signUp(hub, 'alice');
  const { status, error, headers } = await hub.post('/proxy/openai/v1/responses', hi('openai', 'zipped'), alice.headers);
  assert.equal(status, 401);
  assert.equal(headers.get('content-encoding'), null);
  assert.match(error.message, /openai refused the request with 401/);
  assert.equal(providers.requests.at(-1).headers['accept-encoding'], 'identity');
});

describe('who leaves', () => {
  /** Seconds of processor time that the process has taken. */
  const busy = (hub) => {
    const stat = readFileSync(`/proc/${hub.child.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  };

  /** Ends without a word what was in the midst of something. */
  const killed = async (script, hub, alice) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      cwd: import.meta.dirname,
      env: { ...process.env, URL: hub.url, TOKEN: alice.token },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await within('the client to be in the midst', new Promise((resolve) => child.stdout.once('data', resolve)));
    child.kill('SIGKILL');
  };

  const streams = (route, body) => `
    const response = await fetch(process.env.URL + '${route}', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer ' + process.env.TOKEN },
      body: '${JSON.stringify(body)}',
    });
    let chunks = 0;
    for await (const _ of response.body) if (++chunks === 3) console.log('midst');
  `;

  for (const [name, [route]] of Object.entries(PLACES)) {
    test(`without a word leaves no work behind: ${name}`, async () => {
      const hub = await start();
      const alice = await signUp(hub, 'alice');
      await killed(streams(route, hi('grok', 'endless')), hub, alice);
      await within('the provider to be left', providers.of('endless').at(-1).closed);
      await assertIdle(hub);
    });
  }

  /** Nothing is at work: what is measured is a time, and so takes one. */
  async function assertIdle(hub) {
    const before = busy(hub);
    await pause(1000);
    const spent = busy(hub) - before;
    assert.ok(spent < 0.3, `${spent} s of processor time in a second in which there is nothing to do`);
  }

  describe('a tunnel', () => {
    let provider, hub, alice, sockets;
    before(async () => {
      sockets = [];
      provider = await Provider.start(undefined, (socket, seen) => {
        seen.left = new Promise((resolve) => socket.on('close', resolve));
        sockets.push(seen);
        socket.on('message', (data) => socket.send(data));
      });
      hub = await start([], { OPENAI_BASE_URL: provider.url, OPENAI_API_KEY: 'sk-real' });
    });
    after(() => provider?.stop());

    test('without a word leaves no work behind', async () => {
      alice = await signUp(hub, 'alice');
      const script = `
        import { WebSocket } from 'ws';
        const headers = { authorization: 'Bearer ' + process.env.TOKEN };
        const socket = new WebSocket(process.env.URL.replace('http', 'ws') + '/proxy/openai/v1/realtime', { headers });
        socket.on('open', () => socket.send('hello'));
        socket.on('message', () => console.log('midst'));
      `;
      await killed(script, hub, alice);
      await within('the provider to be left', sockets.at(-1).left);
      await assertIdle(hub);
    });

    test('has to when its session ends', async () => {
      const bob = await signUp(hub, 'bob');
      const socket = new WebSocket(`${hub.url.replace('http', 'ws')}/proxy/openai/v1/realtime`, bob);
      const closed = new Promise((resolve) => socket.on('close', resolve));
      const heard = new Promise((resolve) => socket.on('message', resolve));
      socket.on('open', () => socket.send('hello'));
      await within('the echo', heard);
      const headers = { ...bob.headers, origin: hub.url };
      assert.equal((await hub.post('/auth/sign-out', {}, headers)).status, 200);
      await within('the end', closed, 5_000);
      await within('the provider to be left', sockets.at(-1).left);
    });
  });
});

