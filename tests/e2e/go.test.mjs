// What plugins in Go get from their SDK, beyond what the blog uses of it (see languages.test.mjs).

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import { Client } from './clients.mjs';
import { Providers, calling, recording } from './providers.mjs';
import { Server, until } from './server.mjs';

const BOOKS = '/workspaces/library-go/tables/books';
const ACTIONS = '/workspaces/library-go/actions';

/** How long the component may take to compile, when other programs want the processor as well. */
const COMPILING = 120_000;

const LARGE = Buffer.alloc(4 << 20, 'x');

let providers;
let server;
let other;
before(async () => {
  let calls = 0;
  providers = await Providers.start({
    counts: async (request, response, { provider }) => {
      const bytes = calls++ === 0 ? Buffer.from(calling(provider, [['sum', {}]])) : recording(provider, 'text');
      await providers.replay(response, bytes);
    },
  });
  other = createServer(async (request, response) => {
    const sent = Buffer.concat(await request.toArray()).toString();
    const { 'content-type': type, 'x-many': many } = request.headers;
    if (request.url === '/large') response.end(LARGE);
    else if (request.url === '/none') response.writeHead(204).end();
    else response.end(JSON.stringify({ method: request.method, type, many, sent }));
  });
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
  server = new Server({ plugins: ['library-go'], env: providers.env });
  writeManifest();
  await server.start();
  const served = async () => (await server.get('/workspaces/library-go')).status === 200;
  await until('it is served', served, COMPILING);
});
after(async () => {
  await server?.dispose();
  await providers?.close();
  other?.close();
});

/** What is granted, with time for a batch of rows on a busy machine, and further limits. */
function writeManifest(limits = '') {
  const http = `[http]\nhosts = ["localhost:${other.address().port}"]\nallow-private = true\n`;
  writeFileSync(server.file('library-go.toml'), `ai = true\n${http}[limits]\nparse = "10s"\n${limits}`);
}

const book = (id, more) => ({ id, authors: [{ name: 'Ada' }], ...more });

test('types are described as JSON Schema', async () => {
  const { data } = await server.get('/workspaces/library-go');
  const { properties, required } = data.tables.books.schema;
  assert.deepEqual(required, ['id', 'authors']);
  assert.deepEqual(properties.price, {
    type: ['number', 'null'], minimum: 0, maximum: 99.5, description: 'In euros.',
  });
  assert.deepEqual(properties.state, { type: 'string', enum: ['in', 'lent'], default: 'in' });
  assert.deepEqual(properties.authors.items, {
    type: 'object',
    properties: { name: { type: 'string' }, born: { type: ['integer', 'null'] } },
    required: ['name'],
  });
  assert.deepEqual(properties.more, {});
  assert.deepEqual(properties.parts.items, { $ref: '#/$defs/Book' });
});

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
  ['more copies than a byte counts', book('x', { copies: { here: 256 } }), [
    'copies/here', 'must be at most 255',
  ]],
  ['something wrong in a part of a part', book('x', { parts: [book('y', { parts: [{ id: 'z' }] })] }), [
    'parts/0/parts/0/authors', 'is required',
  ]],
  ['nobody who wrote it', { id: 'x', authors: [] }, ['authors', 'must not be empty']],
  ['nameless authors', book('x', { authors: [{ name: '' }, { name: '' }] }), [
    'authors/0/name', 'must not be empty',
  ], ['authors/1/name', 'must not be empty']],
]) {
  test(`a row with ${what} is refused, and says where`, async () => {
    const { status, error } = await server.post(BOOKS, row);
    assert.equal(status, 422, JSON.stringify(error));
    assert.deepEqual(error.issues.map(({ path, message }) => [path.join('/'), message]), issues);
  });
}

test('a row is kept as it was meant', async () => {
  const row = book('kept', {
    authors: [{ name: 'Ünï\u{1f375}\0<&' }], price: 0.1, more: { deep: [1, -2.5, [null, true, '']] },
  });
  const stored = { ...row, state: 'in', text: '', edited: 0, _v: 2 };
  assert.deepEqual((await server.post(BOOKS, row)).data, stored);
  assert.deepEqual((await server.get(`${BOOKS}/kept`)).data, stored);
});

test('an old row is migrated by the function that says how', async () => {
  const client = await Client.join(server, 'library-go');
  client.doc.getArray('table:books').push([{ key: 'old', val: { id: 'old', author: 'Grace', _v: 1 }, ts: 1 }]);
  const row = await until('it is there', async () => (await server.get(`${BOOKS}/old`)).data);
  assert.deepEqual(row, { id: 'old', authors: [{ name: 'Grace' }], state: 'in', text: '', edited: 0, _v: 2 });
});

test('rows are found, counted, listed by pages and deleted', async () => {
  for (const id of ['a', 'b', 'c']) await server.post(BOOKS, book(id, { state: 'lent' }));
  assert.equal((await server.get(`${ACTIONS}/books/count`)).data, 2);
  assert.equal((await server.get(`${ACTIONS}/books/count?state=lent`)).data, 3);
  assert.deepEqual((await server.get(`${ACTIONS}/books/ids`)).data, ['old', 'kept', 'c', 'b', 'a']);
  assert.deepEqual((await server.get(`${ACTIONS}/books/some`)).data, ['a', 'c']);
  assert.equal((await server.get(`${ACTIONS}/books/together`)).data, 50 * 5);
  assert.equal((await server.get(`${ACTIONS}/books/find?id=none`)).data, null);
  assert.equal((await server.get(`${ACTIONS}/books/get?id=none`)).status, 404);
  assert.equal((await server.get(`${ACTIONS}/books/get?id=a`)).data.state, 'lent');
  assert.equal((await server.post(`${ACTIONS}/books/erase`, { id: 'none' })).data, false);
  assert.equal((await server.post(`${ACTIONS}/books/erase`, { id: 'kept' })).data, true);
  assert.equal((await server.get(`${BOOKS}/kept`)).status, 404);
  const { data } = await server.post(`${ACTIONS}/books/lend`, { id: 'old' });
  assert.ok(Math.abs(Date.parse(data.lent) - Date.now()) < 60_000, data.lent);
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

for (const [id, code, text, line] of [
  ['missing', 404],
  ['unwanted', 422, 'is not liked'],
  ['failing', 500, 'the check is broken', /library-go\/main\.go:\d+ in main\.[^ ]*: the check is broken/],
  ['panicking', 500, 'nil pointer', /panic: runtime error: .*nil pointer[^]* {2}library-go\/main\.go:\d+ in main\./],
]) {
  test(`a check that refuses a row as ${id} is answered with ${code}`, async () => {
    const { status, error } = await server.post(BOOKS, book(id));
    assert.equal(status, code, JSON.stringify(error));
    if (text) assert.ok(JSON.stringify(error).includes(text), JSON.stringify(error));
    if (code === 422) assert.deepEqual(error.issues.map(({ path }) => path), [['authors', '0'], []]);
    if (line) await until('the log has its place', () => line.test(server.logs));
    assert.equal((await server.get(`${BOOKS}/${id}`)).status, 404);
    assert.equal((await server.post(BOOKS, book('other'))).status, 201);
    await server.delete(`${BOOKS}/other`);
  });
}

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

test('what is asked of the host is answered, and what is said is logged', async () => {
  const { data } = await server.get(`${ACTIONS}/context`);
  assert.equal(data.caller, null);
  assert.ok(Math.abs(data.now - Date.now()) < 60_000, `${data.now}`);
  assert.ok(Math.abs(data.clock - Date.now()) < 60_000, `${data.clock}`);
  assert.match(data.id, /^[A-Za-z0-9_-]{21}$/);
  assert.equal(data.differs, true);
  assert.equal(data.slept, true);
  assert.deepEqual(data.none, []);
  assert.ok(data.request.length > 0);
  assert.notEqual((await server.get(`${ACTIONS}/context`)).data.random, data.random);
  for (const text of ['about to tell what="the context"', 'printed', 'cried']) {
    await until(`${text} is logged`, () => server.logs.includes(text));
  }
});

test('there are no files', async () => {
  assert.match((await server.get(`${ACTIONS}/context`)).data.files, /^open \/etc\/passwd: /);
});

test('a model is asked, for a whole answer and for pieces', async () => {
  const ask = (action, model) => server.get(`${ACTIONS}/${action}?model=${model}&question=Hi`);
  const whole = { text: 'Hello world', pieces: [], called: [], tokens: 18 };
  const { data, error } = await ask('ask', 'm-text');
  assert.equal(error, undefined);
  assert.deepEqual(data, whole);
  const { body } = providers.requests.at(-1);
  assert.match(JSON.stringify(body), /Be brief\./);
  assert.match(JSON.stringify(body), /Counts the books/);
  const { data: inPieces } = await ask('ask-in-pieces', 'm-text');
  assert.ok(inPieces.pieces.length > 1, JSON.stringify(inPieces));
  assert.deepEqual({ ...inPieces, pieces: inPieces.pieces.join('') }, { ...whole, pieces: 'Hello world' });
  const { data: counted } = await ask('ask', 'm-counts');
  assert.deepEqual([counted.text, counted.called], ['Hello world', ['sum']]);
});

const LINE = /library-go\/main\.go:\d+/;

for (const [how, status, message, logged] of [
  ['denied', 403, /sign in to do this/],
  ['failed', 500, /the printer is out of paper/, LINE],
  ['plain', 500, /something broke/, /library-go\/main\.go:\d+ in main\.fail: something broke/],
  ['wrapped', 404, /./],
  ['two', 422, /./],
  ['infinite', 500, /\+Inf is no JSON/, LINE],
  ['panic', 500, /the roof is on fire/, /panic: the roof is on fire[^]*library-go\/main\.go:\d+ in main\.fail/],
  ['nil', 500, /nil pointer dereference/, LINE],
  ['index', 500, /index out of range \[5\] with length 1/, LINE],
  ['exit', 500, /./],
  ['deadlock', 500, /./, /all goroutines are asleep - deadlock!/],
  ['recursion', 500, /recursed too deeply|stack/],
  ['memory', 500, /memory/],
  ['loop', 504, /took longer than/],
]) {
  test(`a handler that fails (${how}) is answered with ${status}, and the next is served`, async () => {
    const before = server.logs.length;
    const { status: given, error } = await server.post(`${ACTIONS}/fail`, { how });
    assert.equal(given, status, JSON.stringify(error));
    assert.match(error.message, message);
    if (how === 'two') assert.deepEqual(error.issues.map(({ path }) => path), [['one'], ['a', 'b']]);
    if (logged) await until('the log names the place', () => logged.test(server.logs.slice(before)));
    assert.equal((await server.get(`${ACTIONS}/books/find?id=a`)).data.id, 'a');
  });
}

/** An action that asks the other server for one of its pages. */
const asked = (action, route, more) => {
  const input = new URLSearchParams({ url: `http://localhost:${other.address().port}${route}`, ...more });
  return server.get(`${ACTIONS}/${action}?${input}`);
};

test('a request has the method, the headers and the body that are said', async () => {
  const { data, error } = await asked('exchange', '/', { text: 'Tee, 茶, \u{1f375} & <more>' });
  assert.ok(data, JSON.stringify(error));
  assert.deepEqual({ ...data, sent: JSON.parse(data.sent) }, {
    method: 'PUT', type: 'text/x', many: 'one, two', sent: { text: 'Tee, 茶, \u{1f375} & <more>' },
  });
});

test('an answer that is not JSON is an error with its status and the line of the handler', async () => {
  const before = server.logs.length;
  const { status, error } = await asked('exchange', '/none');
  assert.equal(status, 500);
  assert.match(error.message, /^the answer \(204\) cannot be read: unexpected EOF$/);
  const line = /library-go\/main\.go:\d+ in main\.exchange: the answer \(204\)/;
  await until('the log names the line', () => line.test(server.logs.slice(before)));
});

test('JSON that is none is an error with the line of the source', async () => {
  const before = server.logs.length;
  const { status, error } = await server.post(`${ACTIONS}/echo`, { json: '{"a":' });
  assert.equal(status, 500);
  assert.match(error.message, /not JSON: unexpected end of JSON input/);
  const line = /library-go\/main\.go:\d+: not JSON/;
  await until('the log names the line', () => line.test(server.logs.slice(before)));
});

test('ten thousand rows and a thousand actions leave its memory bounded', async () => {
  const rows = Array.from({ length: 200 }, (_, index) => book(`${index}`, { text: 'x'.repeat(index) }));
  rows.push(book('wrong', { authors: [] }));
  const json = JSON.stringify({ rows, again: rows, andAgain: rows });
  /** One batch of rows, of which one is wrong, so that nothing is written; and twenty actions. */
  const work = async () => {
    const refused = await server.post(BOOKS, rows);
    assert.equal(refused.status, 422, refused.error?.message);
    for (let index = 0; index < 10; index++) {
      const { status, error } = await server.post(`${ACTIONS}/echo`, { json });
      assert.equal(status, 200, error?.message);
      assert.equal((await server.get(`${ACTIONS}/books/ids`)).status, 200);
    }
  };
  const memory = async () => (await server.get('/plugins')).data.find(({ file }) => file === 'library-go.wasm').memory;
  for (let index = 0; index < 50; index++) await work();
  // An instance takes some 20 MiB before anything is collected, and there are two or three: for rows and
  // for actions. The texts alone that one of them was given and gave back are twice as much.
  const bytes = await memory();
  assert.ok(bytes > 1 << 20 && bytes < 64 << 20, `${bytes} bytes`);
});

test('answers that are larger together than its memory are collected in between', async () => {
  const hash = async () => (await server.get('/plugins')).data.find(({ file }) => file === 'library-go.wasm').hash;
  const before = await hash();
  // A busy machine takes more than the usual 5 s.
  writeManifest('action = "60s"\n');
  await until('the manifest is in force', async () => (await hash()) !== before, COMPILING);
  const { data, error } = await asked('weigh', '/large', { times: 40 });
  assert.equal(data, 40 * LARGE.length, JSON.stringify(error));
});
