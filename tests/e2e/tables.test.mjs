// Tables as REST: `/workspaces/{workspace}/tables/{table}` and `…/{id}`.

import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';

import { Server, until } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.dispose());

/** A post as the blog shows it. */
function post(fields) {
  return { title: '', content: '', views: 0, published: false, ...fields, _v: 2 };
}

/** An answer without its headers, to be compared as a whole. */
function answer({ status, body }) {
  return { status, body };
}

/** Asserts that an answer is an error of that status, in the specified format. */
function assertError({ status, body }, expected, text) {
  assert.equal(status, expected, JSON.stringify(body));
  assert.deepEqual(Object.keys(body), ['error']);
  assert.equal(typeof body.error.message, 'string');
  assert.match(body.error.message, text);
}

/** Asserts that a value was refused for these members. */
function assertIssues(response, ...paths) {
  assertError(response, 422, /./);
  const found = response.error.issues.map((issue) => issue.path.join('.'));
  assert.deepEqual(found, paths, JSON.stringify(response.error));
  for (const issue of response.error.issues) assert.ok(issue.message.length > 0);
}

test('the discovery root names the server, its workspaces and its actions', async () => {
  const { status, body } = await server.get('/');
  assert.equal(status, 200);
  assert.equal(body.name, 'Epicenter Local');
  assert.equal(body.mode, 'local');
  assert.match(body.version, /^\d+\.\d+\.\d+/);
  assert.deepEqual(body.workspaces, ['blog']);
  assert.deepEqual(body.actions.toSorted(), ['blog/posts/import', 'blog/posts/popular', 'blog/posts/publish']);
  assert.equal(body.plugins.length, 1);
  assert.equal(body.plugins[0].file, 'blog.wasm');
  assert.equal(body.plugins[0].state, 'serving');
  assert.equal(body.plugins[0].error, null);
});

test('a workspace describes its tables, key-values and actions with JSON Schemas', async () => {
  const { status, data } = await server.get('/workspaces/blog');
  assert.equal(status, 200);
  assert.equal(data.id, 'blog');
  assert.equal(data.tables.posts.schema.properties.title.type, 'string');
  assert.equal(data.kv.theme.schema.type, 'string');
  const publish = data.actions.find((action) => action.path.join('/') === 'posts/publish');
  assert.equal(publish.type, 'mutation');
  assert.equal(publish.input.properties.id.type, 'string');
});

test('a table that nobody wrote to is an empty list', async () => {
  const empty = await Server.start();
  try {
    assert.deepEqual(answer(await empty.get(POSTS)), { status: 200, body: { data: [] } });
  } finally {
    await empty.dispose();
  }
});

test('a row is created, read, listed, updated and deleted', async () => {
  const created = await server.post(POSTS, { id: 'life', title: 'Hello' });
  const first = post({ id: 'life', title: 'Hello' });
  assert.deepEqual(answer(created), { status: 201, body: { data: first } });
  assert.equal(created.headers.get('content-type'), 'application/json');
  assert.deepEqual(answer(await server.get(`${POSTS}/life`)), { status: 200, body: { data: first } });
  const { data: listed } = await server.get(POSTS);
  assert.deepEqual(listed.filter((row) => row.id === 'life'), [first]);

  const second = { ...first, views: 7 };
  const updated = await server.put(`${POSTS}/life`, { views: 7 });
  assert.deepEqual(answer(updated), { status: 200, body: { data: second } });
  assert.deepEqual((await server.get(`${POSTS}/life`)).data, second);

  const deleted = await server.delete(`${POSTS}/life`);
  assert.deepEqual(answer(deleted), { status: 200, body: { data: { id: 'life' } } });
  assertError(await server.get(`${POSTS}/life`), 404, /life/);
  const { data: left } = await server.get(POSTS);
  assert.deepEqual(left.filter((row) => row.id === 'life'), []);
});

test('POST of a row that is there replaces it whole and answers 200', async () => {
  await server.post(POSTS, { id: 'whole', title: 'Before', content: 'long', views: 3 });
  const replaced = await server.post(POSTS, { id: 'whole', title: 'After' });
  const expected = post({ id: 'whole', title: 'After' });
  assert.deepEqual(answer(replaced), { status: 200, body: { data: expected } });
});

test('PUT and PATCH change the given fields and leave the others', async () => {
  await server.post(POSTS, { id: 'fields', title: 'Title', content: 'Content', views: 1 });
  for (const method of ['PUT', 'PATCH']) {
    const views = method === 'PUT' ? 2 : 3;
    const { status, data } = await server.request(method, `${POSTS}/fields`, { views });
    assert.equal(status, 200);
    assert.deepEqual(data, post({ id: 'fields', title: 'Title', content: 'Content', views }));
  }
});

test('PUT and PATCH of a row that is not there are 404 and create nothing', async () => {
  for (const method of ['PUT', 'PATCH']) {
    assertError(await server.request(method, `${POSTS}/nobody`, { title: 'x' }), 404, /nobody/);
  }
  assertError(await server.get(`${POSTS}/nobody`), 404, /nobody/);
});

test('the id in the path wins over the id in the body', async () => {
  await server.post(POSTS, { id: 'path', title: 'Title' });
  const { status, data } = await server.put(`${POSTS}/path`, { id: 'body', title: 'Other' });
  assert.equal(status, 200);
  assert.deepEqual(data, post({ id: 'path', title: 'Other' }));
  assertError(await server.get(`${POSTS}/body`), 404, /body/);
});

test('POST without an id makes one', async () => {
  const ids = new Set();
  for (let n = 0; n < 20; n += 1) {
    const { status, data } = await server.post(POSTS, { title: 'No id' });
    assert.equal(status, 201);
    assert.match(data.id, /^[A-Za-z0-9_-]{21}$/);
    assert.deepEqual((await server.get(`${POSTS}/${data.id}`)).data, data);
    ids.add(data.id);
  }
  assert.equal(ids.size, 20);
});

test('POST of an array writes all of its rows, or none', async () => {
  const rows = [{ id: 'batch-1', title: 'One' }, { id: 'batch-2', title: 'Two' }, { title: 'Three' }];
  const { status, data } = await server.post(POSTS, rows);
  assert.equal(status, 201);
  assert.deepEqual(data.slice(0, 2), rows.slice(0, 2).map(post));
  assert.deepEqual((await server.get(`${POSTS}/${data[2].id}`)).data, data[2]);

  const refused = await server.post(POSTS, [
    { id: 'batch-3', title: 'Good' }, { id: 'batch-1', title: 'Changed' }, { id: 'batch-4', title: '' },
  ]);
  assertIssues(refused, '2.title');
  assert.equal((await server.get(`${POSTS}/batch-3`)).status, 404);
  assert.equal((await server.get(`${POSTS}/batch-1`)).data.title, 'One');
});

test('DELETE of a table wants to know which rows', async () => {
  await server.post(POSTS, [{ id: 'gone-1', title: 'Gone' }, { id: 'gone-2', title: 'Gone' }]);
  assertError(await server.delete(POSTS), 400, /filter/);
  assertError(await server.delete(`${POSTS}?filter[titel]=Gone`), 400, /titel/);
  const { status, data } = await server.delete(`${POSTS}?filter[title]=Gone`);
  assert.deepEqual({ status, data }, { status: 200, data: { deleted: 2 } });
  assert.equal((await server.get(`${POSTS}/gone-1`)).status, 404);
});

test('a writer who says which version he saw does not overwrite a newer one', async () => {
  const { headers } = await server.post(POSTS, { id: 'tagged', title: 'First' });
  const tag = headers.get('etag');
  assert.ok(tag);
  const unchanged = await server.request('GET', `${POSTS}/tagged`, undefined, { 'if-none-match': tag });
  assert.equal(unchanged.status, 304);
  assert.equal((await server.put(`${POSTS}/tagged`, { title: 'Second' }, { 'if-match': tag })).status, 200);
  assertError(await server.put(`${POSTS}/tagged`, { title: 'Third' }, { 'if-match': tag }), 412, /./);
  assert.equal((await server.get(`${POSTS}/tagged`)).data.title, 'Second');
  const { status } = await server.post(POSTS, { id: 'tagged', title: 'New' }, { 'if-none-match': '*' });
  assert.equal(status, 412);
});

test('an id may be any text: it is percent-encoded in the path', async () => {
  const ids = ['a b', 'a/b', 'ü✓🎉', '100%', '%2F', 'a?b#c', '...', "'\"<>&", 'a\\b', '\u0000'];
  for (const id of ids) {
    const path = `${POSTS}/${encodeURIComponent(id)}`;
    const created = await server.post(POSTS, { id, title: 'Odd' });
    assert.equal(created.status, 201, `${id}: ${JSON.stringify(created.body)}`);
    assert.equal(created.data.id, id);
    assert.deepEqual((await server.get(path)).data, post({ id, title: 'Odd' }), id);
    assert.equal((await server.put(path, { views: 1 })).data.id, id);
    assert.deepEqual((await server.delete(path)).data, { id });
    assert.equal((await server.get(path)).status, 404);
  }
  // Clients resolve dot segments, encoded ones too, before they send.
  for (const id of ['.', '..']) assertError(await server.post(POSTS, { id, title: 'Odd' }), 422, /which no URL can hold/);
});

test('text of any script comes back as it was sent', async () => {
  const title = 'Ünïcode ✓ 🎉 \u0000 \u2028 "quotes" \\ </script> \ud83d\ude00 مرحبا';
  await server.post(POSTS, { id: 'unicode', title });
  assert.equal((await server.get(`${POSTS}/unicode`)).data.title, title);
});

test('what does not exist is 404 and says what was not found', async () => {
  assertError(await server.get('/workspaces/shop/tables/posts'), 404, /shop/);
  assertError(await server.get('/workspaces/shop'), 404, /shop/);
  assertError(await server.get('/workspaces/blog/tables/pages'), 404, /pages/);
  assertError(await server.get(`${POSTS}/none`), 404, /none/);
  assertError(await server.delete(`${POSTS}/none`), 404, /none/);
  assertError(await server.post('/workspaces/shop/tables/posts', { id: 'x' }), 404, /shop/);
  assertError(await server.post('/workspaces/blog/tables/pages', { id: 'x' }), 404, /pages/);
  assertError(await server.get('/nothing/here'), 404, /./);
});

test('a row of the wrong shape is 422, and its issues point at the fields', async () => {
  assertIssues(await server.post(POSTS, { id: 'wrong', title: 5 }), 'title');
  assertIssues(await server.post(POSTS, { id: 'wrong', title: 'x', views: -1 }), 'views');
  assertIssues(await server.post(POSTS, { id: 'wrong', title: 'x', published: 'yes' }), 'published');
  assertIssues(await server.post(POSTS, { id: 7, title: 'x' }), 'id');
  assertIssues(await server.post(POSTS, { id: '', title: 'x' }), 'id');
  for (const body of [null, 5, 'text', true]) {
    assertIssues(await server.post(POSTS, JSON.stringify(body)), '');
  }
  assertError(await server.get(`${POSTS}/wrong`), 404, /wrong/);
});

test("the blog's own rule is asked on every write", async () => {
  const refused = await server.post(POSTS, { id: 'rule', title: '' });
  assertIssues(refused, 'title');
  assert.equal(refused.error.issues[0].message, 'must not be empty');
  assert.match(refused.error.message, /must not be empty/);
  assert.equal((await server.get(`${POSTS}/rule`)).status, 404);

  await server.post(POSTS, { id: 'rule', title: 'Title' });
  assertIssues(await server.put(`${POSTS}/rule`, { title: '' }), 'title');
  assertIssues(await server.put(`${POSTS}/rule`, { views: 'many' }), 'views');
  assertIssues(await server.put(`${POSTS}/rule`, '[]'), '');
  assert.deepEqual((await server.get(`${POSTS}/rule`)).data, post({ id: 'rule', title: 'Title' }));
});

test('a body that is not JSON is 400', async () => {
  for (const body of ['{"id": "x"', '', '{id: 1}', '\u0000', '{"id":"x"} trailing', 'NaN']) {
    assertError(await server.post(POSTS, body), 400, /JSON/);
  }
  assertError(await server.post(POSTS, new Uint8Array([0x22, 0xff, 0xfe, 0x22])), 400, /JSON/);
  await server.post(POSTS, { id: 'body', title: 'x' });
  assertError(await server.put(`${POSTS}/body`, 'nonsense'), 400, /JSON/);
  await server.delete(`${POSTS}/body`);
});

test('a body that does not say that it is JSON is 415', async () => {
  const body = JSON.stringify({ id: 'kind', title: 'x' });
  for (const kind of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', '']) {
    assertError(await server.post(POSTS, body, { 'content-type': kind }), 415, /application\/json/);
  }
  assert.equal((await server.get(`${POSTS}/kind`)).status, 404);
  const charset = { 'content-type': 'Application/JSON; charset=utf-8' };
  assert.equal((await server.post(POSTS, body, charset)).status, 201);
});

test('a body larger than a row may be is 413, and one just below is stored', async () => {
  const row = (size) => {
    const head = '{"id":"size","title":"x","content":"';
    return `${head}${'y'.repeat(size - head.length - 2)}"}`;
  };
  assertError(await server.post(POSTS, row(1024 * 1024 + 1)), 413, /1048576/);
  assert.equal((await server.post(POSTS, row(1000 * 1000))).status, 201);
  const { data } = await server.get(`${POSTS}/size`);
  assert.ok(data.content.length > 999_000);
  assertError(await server.put(`${POSTS}/size`, row(1024 * 1024 + 1)), 413, /1048576/);
});

test('a body that never ends is cut off at the limit', async () => {
  const socket = net.connect(server.port, '127.0.0.1');
  let received = '';
  socket.on('data', (bytes) => (received += bytes));
  socket.on('error', () => {});
  socket.write(
    `POST ${POSTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
      'Transfer-Encoding: chunked\r\n\r\n',
  );
  const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`;
  await until('an endless body is refused', () => {
    if (!socket.destroyed && socket.writable) socket.write(chunk);
    return received.startsWith('HTTP/1.1 413');
  });
  socket.destroy();
});

test('other methods are 405 and say which are allowed', async () => {
  const cases = [
    ['PATCH', POSTS, ['GET', 'POST']],
    ['PUT', POSTS, ['GET', 'POST']],
    ['POST', `${POSTS}/x`, ['GET', 'PUT', 'PATCH', 'DELETE']],
  ];
  for (const [method, route, allowed] of cases) {
    const response = await server.request(method, route, {});
    assertError(response, 405, new RegExp(method));
    const allow = response.headers.get('allow')?.split(/\s*,\s*/) ?? [];
    for (const one of allowed) assert.ok(allow.includes(one), `${method} ${route}: ${allow}`);
  }
});

test('a number that clients would not get back as it was sent is refused', async () => {
  const row = (views) => `{"id":"large","title":"x","views":${views}}`;
  assertIssues(await server.post(POSTS, row('9007199254740993')), 'views');
  assert.equal((await server.get(`${POSTS}/large`)).status, 404);
  const { status, data } = await server.post(POSTS, row('9007199254740991'));
  assert.equal(status, 201);
  assert.equal(data.views, Number.MAX_SAFE_INTEGER);
});

test('writes of different fields from sixteen connections at once are all kept', async () => {
  await server.post(POSTS, { id: 'raced', title: 'x' });
  const fields = { title: 'raced', content: 'raced', views: 16, published: true };
  for (let round = 0; round < 5; round += 1) {
    await server.post(POSTS, { id: 'raced', title: 'x' });
    const writes = Object.entries(fields).flatMap((field) => Array(4).fill(field));
    const answers = await Promise.all(
      writes.map(([name, value]) => server.put(`${POSTS}/raced`, { [name]: value })),
    );
    for (const { status, body } of answers) assert.equal(status, 200, JSON.stringify(body));
    assert.deepEqual((await server.get(`${POSTS}/raced`)).data, post({ id: 'raced', ...fields }));
  }
});

test('a read after the answer to a write sees that write', async () => {
  const writer = async (name) => {
    for (let views = 1; views <= 50; views += 1) {
      await server.post(POSTS, { id: name, title: name, views });
      const { data } = await server.get(`${POSTS}/${name}`);
      assert.equal(data.views, views);
      const { data: rows } = await server.get(POSTS);
      assert.equal(rows.find((row) => row.id === name)?.views, views);
    }
  };
  await Promise.all(['own-1', 'own-2', 'own-3', 'own-4'].map(writer));
});

test('rows are there again after a restart', async () => {
  const { data: before } = await server.get(POSTS);
  assert.ok(before.length > 5);
  await server.stop();
  await server.start();
  const { data: now } = await server.get(POSTS);
  assert.deepEqual(now, before);
});
