// What plugins in C get from their SDK, beyond what the blog uses of it (see languages.test.mjs).

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Client } from './clients.mjs';
import { Providers, calling, endless, rounds } from './providers.mjs';
import { Server, until, within } from './server.mjs';

const BOOKS = '/workspaces/library-c/tables/books';
const ACTIONS = '/workspaces/library-c/actions';

let providers;
let other;
let server;
before(async () => {
  // Says what it was asked.
  other = createServer(async (request, response) => {
    const { method, url, headers } = request;
    const body = Buffer.concat(await request.toArray()).toString();
    const [type, more] = [headers['content-type'], headers['x-a']];
    response.end(url === '/text' ? 'Tea' : JSON.stringify({ method, url, type, more, body }));
  });
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
  providers = await Providers.start({
    endless,
    mends: rounds(
      [['find', { id: 5 }]],
      [['find', { id: 'none' }], ['nonsense', {}], ['nothing', {}]],
      [['withdraw', { id: 'b' }], ['sum', { what: 'all' }], ['find', {}]],
    ),
    bare: rounds([['find', '']]),
    forever(_, response, { provider }) {
      return this.replay(response, Buffer.from(calling(provider, [['sum', {}]])));
    },
  });
  server = new Server({
    plugins: ['library-c'],
    env: providers.env,
    args: ['--max-chats-per-minute', '100000'],
  });
  const http = `[http]\nhosts = ["localhost:${other.address().port}"]\nallow-private = true\n`;
  writeFileSync(server.file('library-c.toml'), `ai = true\n${http}`);
  await server.start();
  await until('it is served', async () => (await server.get('/workspaces/library-c')).status === 200);
});
after(async () => {
  await server?.dispose();
  await providers?.close();
  other?.close();
});

const book = (id, more) => ({ id, authors: [{ name: 'Ada' }], ...more });

test('types are described as JSON Schema', async () => {
  const { data } = await server.get('/workspaces/library-c');
  const { properties, required } = data.tables.books.schema;
  assert.deepEqual(required, ['id', 'authors']);
  assert.deepEqual(properties.price, { type: 'number', minimum: 0, maximum: 99.5 });
  assert.deepEqual(properties.state, { type: 'string', enum: ['in', 'lent'], default: 'in' });
  assert.deepEqual(properties.authors.items, {
    type: 'object',
    properties: { name: { type: 'string' }, born: { type: ['integer', 'null'] } },
    required: ['name'],
  });
  assert.deepEqual(properties.more, {});
});

const deep = (levels) => `${'['.repeat(levels)}${']'.repeat(levels)}`;

for (const [what, row, ...issues] of [
  ['a list for an object', book('x', { authors: [[]] }), ['authors/0', 'must be an object, not a list']],
  ['a wrong member within a list', book('x', { authors: [{ name: 'Ada' }, { name: 7 }] }), [
    'authors/1/name', 'must be a string, not 7',
  ]],
  ['a missing member within a list', book('x', { authors: [{}] }), ['authors/0/name', 'is required']],
  ['a state that there is not', book('x', { state: 'lost' }), ['state', 'must be one of in, lent']],
  ['too high a price', book('x', { price: 99.75 }), ['price', 'must be at most 99.5']],
  ['two wrong members', book('x', { price: true, state: null }), [
    'state', 'must be a string, not null',
  ], ['price', 'must be a number, not true']],
  ['a character that ends texts in C', book('x', { state: 'in\0' }), [
    'state', 'must not contain the character U+0000',
  ]],
  ['nobody who wrote it', { id: 'x', authors: [] }, ['authors', 'must not be empty']],
  ['a nameless author', book('x', { authors: [{ name: '' }] }), ['authors/0/name', 'must not be empty']],
]) {
  test(`a row with ${what} is refused, and says where`, async () => {
    const { status, error } = await server.post(BOOKS, row);
    assert.equal(status, 422, JSON.stringify(error));
    assert.deepEqual(error.issues.map(({ path, message }) => [path.join('/'), message]), issues);
  });
}

test('a row is kept as it was meant', async () => {
  const row = book('kept', {
    authors: [{ name: 'Ünï\u{1f375}', born: null }], price: 0.1, more: { deep: [1, -2.5, [null, true, '']] },
  });
  const stored = { ...row, state: 'in', text: '', edited: 0, _v: 2 };
  assert.deepEqual((await server.post(BOOKS, row)).data, stored);
  assert.deepEqual((await server.get(`${BOOKS}/kept`)).data, stored);
});

test('an old row is migrated by the function that says how', async () => {
  const client = await Client.join(server, 'library-c');
  client.doc.getArray('table:books').push([{ key: 'old', val: { id: 'old', author: 'Grace', _v: 1 }, ts: 1 }]);
  const row = await until('it is there', async () => (await server.get(`${BOOKS}/old`)).data);
  assert.deepEqual(row, { id: 'old', authors: [{ name: 'Grace' }], state: 'in', text: '', edited: 0, _v: 2 });
});

test('rows are found, counted, listed by pages and deleted', async () => {
  for (const id of ['a', 'b', 'c']) await server.post(BOOKS, book(id, { state: 'lent' }));
  assert.equal((await server.get(`${ACTIONS}/books/count`)).data, 2);
  assert.equal((await server.get(`${ACTIONS}/books/count?state=lent`)).data, 3);
  assert.deepEqual((await server.get(`${ACTIONS}/books/ids`)).data, ['old', 'kept', 'c', 'b', 'a']);
  assert.equal((await server.get(`${ACTIONS}/books/find?id=none`)).data, null);
  assert.equal((await server.get(`${ACTIONS}/books/get?id=none`)).status, 404);
  assert.equal((await server.get(`${ACTIONS}/books/get?id=a`)).data.state, 'lent');
  assert.equal((await server.post(`${ACTIONS}/books/erase`, { id: 'none' })).data, false);
  assert.equal((await server.post(`${ACTIONS}/books/erase`, { id: 'kept' })).data, true);
  assert.equal((await server.get(`${BOOKS}/kept`)).status, 404);
});

test('a check refuses a change, of REST and of an action', async () => {
  for (const { status, error } of [
    await server.delete(`${BOOKS}/a`),
    await server.post(`${ACTIONS}/books/erase`, { id: 'a' }),
  ]) {
    assert.equal(status, 403);
    assert.equal(error.message, 'a is lent to somebody');
  }
  assert.equal((await server.get(`${BOOKS}/a`)).status, 200);
});

test('an action writes the document of a row', async () => {
  const { data } = await server.post(`${ACTIONS}/books/type`, { id: 'a', text: 'Once upon a time, 茶' });
  assert.equal(data, 'Once upon a time, 茶');
  assert.equal((await server.get(`${BOOKS}/a/documents/text`)).data.text, 'Once upon a time, 茶');
  assert.equal((await server.post(`${ACTIONS}/books/type`, { id: 'none', text: '' })).status, 404);
});

test('a key has a type and a rule', async () => {
  const furnish = async (seats) => server.post(`${ACTIONS}/furnish`, { seats });
  assert.deepEqual((await furnish(4)).data, [null, 4]);
  assert.deepEqual((await furnish(6.0)).data, [4, 6]);
  assert.deepEqual((await furnish(7)).error.issues, [{ path: [], message: 'must be even' }]);
  assert.equal((await furnish('8')).status, 422);
  assert.equal((await server.post(`${ACTIONS}/clear`)).data, true);
  assert.equal((await server.post(`${ACTIONS}/clear`)).data, false);
});

test('a value that is part of two others is two values', async () => {
  const { data } = await server.post(`${ACTIONS}/twice`, { json: '{"a":[1,{"b":2}]}' });
  assert.deepEqual(data, { first: { a: [1, { b: 2 }], new: 0.5 }, second: { a: [1, { b: 2 }] } });
});

for (const [what, json, reason] of [
  ['nothing', '', /not JSON/],
  ['half an object', '{"a":', /not JSON: .* at byte \d+/],
  ['more brackets than there may be', deep(65), /more than 64 levels/],
  ['a million brackets', '['.repeat(1e6), /more than 64 levels/],
  ['a number beyond all bounds', '[1e999]', /not JSON/],
  ['half a character', '["\\ud800"]', /not JSON/],
  ['a string without an end', '["', /not JSON/],
]) {
  test(`${what} for JSON is an error with the line of the source`, async () => {
    const before = server.logs.length;
    const { status, error } = await server.post(`${ACTIONS}/twice`, { json });
    assert.equal(status, 500);
    assert.match(error.message, reason);
    await until('the log names the line', () => /library\.c:\d+: not JSON/.test(server.logs.slice(before)));
  });
}

test('as many brackets as there may be are read', async () => {
  const { error } = await server.post(`${ACTIONS}/twice`, { json: deep(64) });
  assert.match(error.message, /new is set on what is not an object/);
});

test('what is asked of the host is answered, and broken characters are mended', async () => {
  const { data } = await server.get(`${ACTIONS}/context`);
  assert.equal(data.caller, null);
  assert.ok(Math.abs(data.now - Date.now()) < 60_000, `${data.now}`);
  assert.match(data.id, /^[A-Za-z0-9_-]{21}$/);
  assert.equal(data.differs, true);
  assert.ok(data.request.length > 0);
  await until('the line is logged', () => server.logs.includes('cut: ?'));
});

for (const [how, status, message] of [
  ['denied', 403, /nobody may not/],
  ['failed', 500, /the printer is out of paper/],
  ['two', 422, /./],
  ['infinite', 500, /a value is no JSON: .*inf/],
  ['nothing', 500, /gave no result, and did not say why/],
  ['missing', 500, /there is no row to put/],
  ['abort', 500, /./],
  ['recursion', 500, /memory|stack/],
  ['memory', 500, /memory/],
]) {
  test(`a handler that fails (${how}) is answered with ${status}, and the next is served`, async () => {
    const { status: given, error } = await server.post(`${ACTIONS}/fail`, { how });
    assert.equal(given, status, JSON.stringify(error));
    assert.match(error.message, message);
    if (how === 'two') assert.deepEqual(error.issues.map(({ path }) => path), [['one'], ['a', 'b']]);
    assert.equal((await server.get(`${ACTIONS}/books/find?id=a`)).data.id, 'a');
  });
}

const send = (how, route = '/tea') => {
  const url = `http://localhost:${other.address().port}${route}`;
  return server.get(`${ACTIONS}/send?${new URLSearchParams({ how, url })}`);
};

test('a request has the method, the headers and the text that it was given', async () => {
  const { data, error } = await send('text');
  assert.equal(error, undefined);
  assert.deepEqual(JSON.parse(data), { method: 'PUT', url: '/tea', type: 'text/x', more: 'b', body: 'Tee, 茶' });
});

test('a text becomes a part of a URL', async () => {
  const { data, error } = await send('query');
  assert.equal(error, undefined);
  assert.equal(data.url, '/tea?a%20b%2Fc%26d%3D%C3%A9~.-_');
});

test('a request without a part that failed is not sent, and says why', async () => {
  for (const [how, status, message] of [
    ['no-url', 500, /there is no URL/],
    ['no-value', 404, /./],
    ['no-header', 403, /`env = \["NOT_GRANTED"\]`/],
  ]) {
    const { status: given, error } = await send(how);
    assert.equal(given, status, how);
    assert.match(error.message, message);
  }
});

test('an answer that is not JSON is an error with the line of the source', async () => {
  const { status, error } = await send(`http://localhost:${other.address().port}/text`);
  assert.equal(status, 500);
  assert.match(error.message, /an answer \(200\) that is not JSON: .* at byte \d+/);
  await until('the log names the line', () => /library\.c:\d+: an answer \(200\)/.test(server.logs));
});

test('what is printed are lines of the log', async () => {
  const { error } = await server.get(`${ACTIONS}/print?text=${encodeURIComponent('Tee, 茶')}`);
  assert.equal(error, undefined);
  const line = (level, text) => new RegExp(`${level}.*${text}.*`);
  for (const [level, text] of [
    ['INFO', 'printed: Tee, 茶'], ['INFO', 'and 2 more'], ['INFO', 'unfinished'], ['WARN', 'complained: Tee, 茶'],
  ]) {
    const found = await until(`the log says ${text}`, () => server.logs.match(line(level, text)));
    assert.match(found[0], /library-c/);
  }
});

test('a handler that waits in the host for longer than it may ends in time, and nobody else waits for it', async () => {
  const napping = new Server({ plugins: ['library-c', 'blog'] });
  writeFileSync(napping.file('library-c.toml'), '[limits]\naction = "1s"\n');
  try {
    await napping.start();
    for (const name of ['library-c', 'blog']) {
      await until(`${name} is served`, async () => (await napping.get(`/workspaces/${name}`)).status === 200);
    }
    let awake = false;
    const started = performance.now();
    const naps = Promise.all(Array.from({ length: 6 }, () => napping.get(`${ACTIONS}/nap`)));
    naps.then(() => (awake = true), () => (awake = true));
    let others = 0;
    for (; !awake; others++) {
      const { status } = await napping.post('/workspaces/blog/tables/posts', { id: 'a', title: `${others}` });
      assert.ok(status === 200 || status === 201, `${status}`);
    }
    for (const { status, error } of await naps) {
      assert.equal(status, 504, JSON.stringify(error));
      assert.equal(error.message, 'plugin library-c.wasm: action nap took longer than 1000 ms');
    }
    assert.ok(performance.now() - started < 15_000, 'they ended long before 30 s');
    assert.ok(others > 5, `${others} other calls`);
    assert.equal((await napping.get(`${ACTIONS}/context`)).status, 200);
  } finally {
    await napping.dispose();
  }
});

test("the README's examples compile, without a warning", () => {
  const sdk = fileURLToPath(new URL('../../sdk/c', import.meta.url));
  const readme = readFileSync(path.join(sdk, 'README.md'), 'utf8');
  const examples = [...readme.matchAll(/```c\n([^]*?)```/g)].map(([, code]) => code);
  assert.ok(examples.length > 1);
  const folder = mkdtempSync(path.join(tmpdir(), 'host-c-'));
  try {
    examples.forEach((code, n) => {
      writeFileSync(path.join(folder, `${n}.c`), `#include "epicenter.h"\n${code}`);
      writeFileSync(path.join(folder, 'Makefile'), `NAME := ${n}\nSOURCES := ${n}.c\ninclude ${sdk}/plugin.mk\n`);
      // An example may be a part of a plugin that nothing in it refers to.
      const env = { ...process.env, CFLAGS: '-Werror -Wno-error=unused-function' };
      execFileSync('make', ['--silent', `build/${n}.o`], { cwd: folder, env, stdio: 'pipe' });
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

const asks = (action, model, more = {}) =>
  server.get(`${ACTIONS}/${action}?${new URLSearchParams({ model, question: 'Hi', ...more })}`);

/** Without which thoughts are not sent back to this provider. */
const THINKING = { options: JSON.stringify({ thinking: { type: 'enabled', budget_tokens: 1024 } }) };

/** What the providers were asked in one scenario from its n-th request on. */
const askedOf = (scenario, from = 0) => providers.of(scenario).slice(from).map(({ body }) => body);

test('a model is asked in one line', async () => {
  const { data, error } = await asks('ask-at-once', 'm-text', { question: 'What is thick?' });
  assert.equal(data, 'Hello world', JSON.stringify(error));
  const [{ messages, temperature, tools, system }] = askedOf('text');
  assert.match(JSON.stringify(messages), /What is thick\?/);
  assert.deepEqual([temperature, system], [0.5, undefined]);
  assert.deepEqual(tools.map(({ name }) => name), ['sum', 'find', 'withdraw', 'nothing']);
  assert.deepEqual(tools.map(({ input_schema: { required } }) => required), [[], ['id'], ['id'], []]);
});

test('what a model calls is run, and what is wrong with it told to the model, and logged', async () => {
  for (const provider of ['openai', 'anthropic', 'gemini', 'grok']) {
    const asked = providers.of('mends').length;
    const logged = server.logs.length;
    const input = { model: `${provider}:m-mends`, question: 'Hi' };
    const { data, error } = await server.post(`${ACTIONS}/run-tools`, input);
    assert.equal(error, undefined, provider);
    assert.equal(data.text, 'Hello world');
    assert.deepEqual([data.reason, data.input, data.output, data.total], [0, 44, 28, 72], provider);
    const bodies = askedOf('mends', asked);
    assert.equal(bodies.length, 4);
    // Without the quotes, which are escaped to a depth of the provider's own.
    const said = JSON.stringify(bodies.at(-1)).replaceAll(/[\\"]/g, '');
    for (const part of [
      '{error:not valid,issues:[{path:[id],message:must be a string, not 5}]}',
      '{error:not found}',
      '{error:there is no tool nonsense}',
      '{error:the tool nothing has no handler}',
      '{error:it is lent}',
      '{error:not valid,issues:[{path:[id],message:is required}]}',
    ]) assert.ok(said.includes(part), `${provider} was not told ${part}: ${said}`);
    await until('the log names the line', () => /library\.c:\d+: it is lent/.test(server.logs.slice(logged)));
    assert.equal((await server.get(`${BOOKS}/b`)).data.price, 0);
  }
});

test('a model that writes no input leaves out all of it', async () => {
  const { data } = await server.post(`${ACTIONS}/run-tools`, { model: 'grok:m-bare', question: 'Hi' });
  assert.equal(data.text, 'Hello world');
  assert.match(JSON.stringify(askedOf('bare').at(-1)), /is required/);
});

test('a model that calls and calls is not asked for ever', async () => {
  const { status, error } = await asks('ask-at-once', 'm-forever');
  assert.equal(status, 500);
  assert.equal(error.message, 'the model called tools in 17 rounds, without an end');
  assert.equal(providers.of('forever').length, 17);
});

test('thoughts, words and calls are heard as they come, and sent back as they were', async () => {
  const { data: thought, error } = await asks('listen', 'anthropic:m-think', THINKING);
  assert.equal(error, undefined);
  assert.deepEqual(thought, { thinking: 'Let me think.', text: 'Hello world', calls: [], signature: 'anthropic:SIG' });
  const [, { messages }] = askedOf('think');
  assert.deepEqual(messages.map(({ role }) => role), ['user', 'assistant', 'user']);
  assert.match(JSON.stringify(messages[1]), /Let me think\..*SIG.*Hello world/);
  for (const provider of ['openai', 'anthropic', 'gemini', 'grok']) {
    const { data } = await asks('listen', `${provider}:m-twotools`);
    assert.equal(data.calls.length, 2, provider);
    for (const call of data.calls) assert.equal(typeof JSON.parse(call), 'object');
  }
});

test('a request ends when nobody listens any more, or the action has ended', async () => {
  const { data, error } = await asks('listen-briefly', 'openai:m-endless');
  assert.equal(data, true, error?.message);
  assert.equal(providers.of('endless').length, 21);
  for (const { closed } of providers.of('endless')) await within('the request to end', closed);
});

test('a copy of a conversation goes on by itself', async () => {
  const before = providers.of('text').length;
  const { error } = await asks('fork', 'anthropic:m-text', { question: 'One', ...THINKING });
  assert.equal(error, undefined);
  const words = ({ messages }) => JSON.stringify(messages).match(/One|Two|Three|Four|Five|Hm\.|PROOF/g).join(' ');
  assert.deepEqual(askedOf('text', before).map(words), [
    'One Hm. PROOF Two Three Four', 'One Hm. PROOF Two Three Five',
  ]);
});

test('what could not be said is why nobody is asked', async () => {
  const asked = providers.requests.length;
  const { status } = await asks('ask-about-nothing', 'openai:m-text');
  assert.equal(status, 404);
  assert.equal(providers.requests.length, asked);
});

test('twenty thousand rows, a thousand actions and a hundred conversations do not make it grow', async () => {
  const rows = Array.from({ length: 200 }, (_, index) => book(`${index}`, { text: 'x'.repeat(index) }));
  rows.push(book('wrong', { authors: [] }));
  const json = JSON.stringify({ rows });
  /** One batch of rows, of which one is wrong, so that nothing is written; ten actions, and a conversation. */
  const work = async () => {
    assert.equal((await server.post(BOOKS, rows)).status, 422);
    for (let index = 0; index < 10; index++) {
      assert.equal((await server.post(`${ACTIONS}/twice`, { json })).status, 200);
      assert.equal((await server.get(`${ACTIONS}/books/ids`)).status, 200);
    }
    assert.equal((await asks('listen', 'anthropic:m-think', THINKING)).status, 200);
  };
  const memory = async () => (await server.get('/plugins')).data.find(({ file }) => file === 'library-c.wasm').memory;
  await work();
  const before = await memory();
  assert.ok(before > 0);
  for (let index = 0; index < 100; index++) await work();
  const grown = (await memory()) - before;
  assert.ok(grown <= 0, `by ${grown} bytes`);
});
