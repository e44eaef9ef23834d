// What plugins in C get from their SDK, beyond what the blog uses of it (see languages.test.mjs).

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Client } from './clients.mjs';
import { Server, until } from './server.mjs';

const BOOKS = '/workspaces/library-c/tables/books';
const ACTIONS = '/workspaces/library-c/actions';

let server;
before(async () => {
  server = await Server.start({ plugins: ['library-c'] });
  await until('it is served', async () => (await server.get('/workspaces/library-c')).status === 200);
});
after(() => server?.dispose());

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
    assert.equal(status, 422);
    assert.deepEqual(error.issues, [{ path: [], message: 'a is lent to somebody' }]);
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

test('twenty thousand rows and a thousand actions leave its memory as it is', async () => {
  const rows = Array.from({ length: 200 }, (_, index) => book(`${index}`, { text: 'x'.repeat(index) }));
  rows.push(book('wrong', { authors: [] }));
  const json = JSON.stringify({ rows });
  /** One batch of rows, of which one is wrong, so that nothing is written; and ten actions. */
  const work = async () => {
    assert.equal((await server.post(BOOKS, rows)).status, 422);
    for (let index = 0; index < 10; index++) {
      assert.equal((await server.post(`${ACTIONS}/twice`, { json })).status, 200);
      assert.equal((await server.get(`${ACTIONS}/books/ids`)).status, 200);
    }
  };
  const memory = async () => (await server.get('/plugins')).data.find(({ file }) => file === 'library-c.wasm').memory;
  await work();
  const before = await memory();
  assert.ok(before > 0);
  for (let index = 0; index < 100; index++) await work();
  assert.equal(await memory(), before);
});
