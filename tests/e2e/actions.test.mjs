// Actions: `/workspaces/{workspace}/actions/{path…}`, queries by GET and mutations by POST.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';

import { Client } from './clients.mjs';
import { Server, until } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';
const BLOG = '/workspaces/blog/actions';
const PROBE = '/workspaces/probe/actions';
const COUNTERS = '/workspaces/probe/tables/counters';

let server;
before(async () => {
  server = await Server.start({ plugins: ['blog', 'probe'] });
});
after(() => server?.dispose());

beforeEach(async () => {
  for (const table of [POSTS, COUNTERS]) {
    const { data: rows } = await server.get(table);
    for (const { id } of rows) {
      if (table === COUNTERS) await server.put(`${table}/${id}`, { value: 0 });
      await server.delete(`${table}/${id}`);
    }
  }
});

function assertRefused({ status, error, body }, expected, ...paths) {
  assert.equal(status, expected, JSON.stringify(body));
  assert.deepEqual(Object.keys(body), ['error']);
  if (paths.length > 0) {
    assert.deepEqual(error.issues.map((issue) => issue.path.join('.')), paths, JSON.stringify(error));
    for (const path of paths) assert.ok(error.message.includes(path), error.message);
  }
}

test('a query is a GET, and its input is the query string', async () => {
  for (const [id, views, published] of [['a', 5, true], ['b', 50, true], ['c', 500, true], ['d', 5000, false]]) {
    await server.post(POSTS, { id, title: id, views, published });
  }
  const popular = await server.get(`${BLOG}/posts/popular?min=10`);
  assert.equal(popular.status, 200);
  assert.deepEqual(Object.keys(popular.body), ['data']);
  assert.deepEqual(popular.data.map((post) => post.id), ['c', 'b']);
});

test('texts of a query string become what the schema says', async () => {
  const query = 'text=12&count=-3&draft=true&ratio=0.5&tags=a&tags=b%20c&numbers=1&numbers=2';
  const { status, data } = await server.get(`${PROBE}/echo?${query}`);
  assert.equal(status, 200);
  assert.deepEqual(data, {
    text: '12', count: -3, draft: true, ratio: 0.5, tags: ['a', 'b c'], numbers: [1, 2],
  });
  const least = await server.get(`${PROBE}/echo?text=&count=0&draft=0&tags=one`);
  assert.deepEqual(least.data, {
    text: '', count: 0, draft: false, ratio: null, tags: ['one'], numbers: [],
  });
});

test('input that is not as the schema says is 422 and names the key', async () => {
  const echo = (query) => server.get(`${PROBE}/echo?${query}`);
  assertRefused(await echo('text=x&count=three&draft=true'), 422, 'count');
  assertRefused(await echo('text=x&count=1.5&draft=true'), 422, 'count');
  assertRefused(await echo('text=x&count=1&draft=perhaps'), 422, 'draft');
  assertRefused(await echo('text=x&count=1&count=2&draft=true'), 422, 'count');
  assertRefused(await echo('text=x&count=1&draft=true&numbers=1&numbers=two'), 422, 'numbers');
  const missing = await echo('text=x&count=1');
  assertRefused(missing, 422);
  assert.match(missing.error.message, /draft/);

  assertRefused(await server.get(`${BLOG}/posts/popular`), 422);
  assertRefused(await server.get(`${BLOG}/posts/popular?min=ten`), 422, 'min');
  assertRefused(await server.get(`${BLOG}/posts/popular?min=-1`), 422, 'min');
  assertRefused(await server.post(`${BLOG}/posts/publish`, { id: 5 }), 422, 'id');
  assertRefused(await server.post(`${BLOG}/posts/publish`, {}), 422);
  assertRefused(await server.post(`${BLOG}/posts/publish`, []), 422);
});

test('a mutation is a POST with a JSON body, and answers what it returns', async () => {
  await server.post(POSTS, { id: 'draft', title: 'Draft' });
  const { status, body } = await server.post(`${BLOG}/posts/publish`, { id: 'draft' });
  assert.equal(status, 200);
  assert.deepEqual(Object.keys(body), ['data']);
  assert.equal(body.data.published, true);
  assert.equal((await server.get(`${POSTS}/draft`)).data.published, true);

  assertRefused(await server.post(`${BLOG}/posts/publish`, '{"id":'), 400);
  const plain = { 'content-type': 'text/plain' };
  assertRefused(await server.post(`${BLOG}/posts/publish`, '{"id":"draft"}', plain), 415);
});

test('the wrong method is 405 and says the right one', async () => {
  const publish = await server.get(`${BLOG}/posts/publish?id=x`);
  assertRefused(publish, 405);
  assert.equal(publish.headers.get('allow'), 'POST');
  const popular = await server.post(`${BLOG}/posts/popular`, { min: 1 });
  assertRefused(popular, 405);
  assert.match(popular.headers.get('allow'), /GET/);
  assertRefused(await server.delete(`${BLOG}/posts/publish`), 405);
});

test('what does not exist is 404', async () => {
  assertRefused(await server.get(`${BLOG}/posts/burn`), 404);
  assertRefused(await server.post(`${BLOG}/posts`, {}), 404);
  assertRefused(await server.post(`${BLOG}/posts/publish/now`, {}), 404);
  assertRefused(await server.get('/workspaces/shop/actions/posts/popular?min=1'), 404);
  assertRefused(await server.post(`${BLOG}/posts/publish`, { id: 'nobody' }), 404);
});

test('what a mutation returns as an error is answered with its status, and nothing is written', async () => {
  await server.post(COUNTERS, { id: 'kept', value: 5 });
  const expected = { fail: [500, /on purpose/], refuse: [422, /on purpose/], deny: [403, /on purpose/] };
  for (const [how, [status, text]] of Object.entries(expected)) {
    const response = await server.post(`${PROBE}/misbehave`, { id: 'kept', how });
    assertRefused(response, status);
    assert.match(response.error.message, text);
    assert.equal((await server.get(`${COUNTERS}/kept`)).data.value, 5, how);
  }
});

test('a mutation that panics, spins or devours memory is one clear error, and nothing is written', async () => {
  await server.post(COUNTERS, { id: 'kept', value: 5 });
  const watching = await Client.join(server, 'probe');
  let transactions = 0;
  watching.doc.on('afterTransaction', ({ changed }) => (transactions += changed.size > 0 ? 1 : 0));
  for (const [how, status] of [['panic', 500], ['devour', 500], ['spin', 504]]) {
    const bad = server.post(`${PROBE}/misbehave`, { id: 'kept', how });
    // Others are served meanwhile.
    for (let n = 0; n < 20; n += 1) {
      assert.equal((await server.post(`${PROBE}/add`, { id: 'other', by: 1 })).status, 200);
      assert.equal((await server.get(`${BLOG}/posts/popular?min=0`)).status, 200);
    }
    const response = await bad;
    assertRefused(response, status);
    assert.ok(response.error.message.length > 10, response.error.message);
    assert.equal((await server.get(`${COUNTERS}/kept`)).data.value, 5, how);
  }
  await until('the watching client has all', () => watching.table('counters').get('other').value === 60);
  assert.equal(transactions, 60, 'a mutation that fails is nothing to those who watch');
  assert.match(server.logs, /it panicked on purpose/);
  watching.leave();
});

test('a mutation is entirely there or not at all, also for one that fails late', async () => {
  await server.post(COUNTERS, { id: 'from', value: 10 });
  const { status, data } = await server.post(`${PROBE}/move`, { from: 'from', to: 'to', by: 4 });
  assert.equal(status, 200);
  assert.equal(data, 6);
  const poor = await server.post(`${PROBE}/move`, { from: 'from', to: 'to', by: 7 });
  assertRefused(poor, 500);
  assert.match(poor.error.message, /1 is missing/);
  assert.equal((await server.get(`${COUNTERS}/from`)).data.value, 6);
  assert.equal((await server.get(`${COUNTERS}/to`)).data.value, 4);
});

test('a query sees one moment, however much is moved meanwhile', async () => {
  for (const id of ['a', 'b', 'c', 'd']) await server.post(COUNTERS, { id, value: 25 });
  const ids = ['a', 'b', 'c', 'd'];
  let moving = true;
  const move = async (n) => {
    for (let round = 0; moving; round += 1) {
      const [from, to] = [ids[(n + round) % 4], ids[(n + round + 1 + (round % 3)) % 4]];
      await server.post(`${PROBE}/move`, { from, to, by: 1 });
    }
  };
  const movers = [0, 1, 2, 3].map(move);
  for (let n = 0; n < 100; n += 1) {
    const { status, data } = await server.get(`${PROBE}/sum`);
    assert.equal(status, 200);
    assert.equal(data, 100);
    const { data: rows } = await server.get(COUNTERS);
    assert.equal(rows.reduce((sum, row) => sum + row.value, 0), 100, 'a list is of one moment, too');
  }
  moving = false;
  await Promise.all(movers);
});

test('sixteen connections that count lose no update', async () => {
  const each = 25;
  const answers = await Promise.all(Array.from({ length: 16 }, async () => {
    const values = [];
    for (let n = 0; n < each; n += 1) {
      const { status, data, body } = await server.post(`${PROBE}/add`, { id: 'raced', by: 1 });
      assert.equal(status, 200, JSON.stringify(body));
      values.push(data.value);
    }
    return values;
  }));
  assert.equal((await server.get(`${COUNTERS}/raced`)).data.value, 16 * each);
  // Each saw a value that no other saw, and its own in the order in which it asked.
  assert.equal(new Set(answers.flat()).size, 16 * each);
  for (const values of answers) assert.deepEqual(values, values.toSorted((a, b) => a - b));
});

test('counting goes on while a client writes the same row', async () => {
  const client = await Client.join(server, 'probe');
  await server.post(`${PROBE}/add`, { id: 'both', by: 1 });
  await until('the client has it', () => client.table('counters').get('both'));
  let counting = true;
  const writing = (async () => {
    while (counting) {
      client.table('counters').set('both', { id: 'both', value: 1000 }, Date.now());
      await client.saved();
    }
  })();
  for (let n = 0; n < 50; n += 1) {
    const { status, body } = await server.post(`${PROBE}/add`, { id: 'both', by: 1 });
    assert.ok(status === 200 || status === 409, JSON.stringify(body));
  }
  counting = false;
  await writing;
  assert.equal(client.table('counters').entries('both').length, 1);
  client.leave();
});

test('a query that writes is denied, and writes nothing', async () => {
  const response = await server.get(`${PROBE}/write-in-query?id=sneaky`);
  assertRefused(response, 403);
  assert.match(response.error.message, /query/);
  assert.equal((await server.get(`${COUNTERS}/sneaky`)).status, 404);
});

test("the plugin's check is asked before each change, with the row before", async () => {
  await server.post(COUNTERS, { id: 'checked', value: 1 });
  assertRefused(await server.delete(`${COUNTERS}/checked`), 422, 'value');
  assert.equal((await server.get(`${COUNTERS}/checked`)).data.value, 1);
  await server.put(`${COUNTERS}/checked`, { value: 0 });
  assert.equal((await server.delete(`${COUNTERS}/checked`)).status, 200);
});

test('a large result arrives whole, and a huge one is an error', async () => {
  const large = await server.get(`${PROBE}/large?bytes=4000000`);
  assert.equal(large.status, 200);
  assert.equal(large.data.length, 4_000_000);
  const huge = await server.get(`${PROBE}/large?bytes=9000000`);
  assertRefused(huge, 500);
  assert.equal((await server.get(`${PROBE}/large?bytes=1`)).data, 'x');
});
