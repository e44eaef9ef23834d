// One scenario for the blog in each language: the host treats all alike.

import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { Client } from './clients.mjs';
import { Server, plugin, until } from './server.mjs';

/**
 * The blog in each language: the plugin's name, which is also the workspace's id, and how the log
 * names a line of the author's source when the author's code fails there.
 */
const BLOGS = {
  blog: /src\/lib\.rs:\d+:\d+: key must be a string at line 1 column 3/,
  'blog-js': /SyntaxError: [^]* at handler \(src\/workspace\.ts:\d+\)/,
  'blog-python': /JSONDecodeError: [^]* app\.py:\d+ in import_posts/,
  'blog-go': /blog-go\/main\.go:\d+ in main\.importPosts: invalid character/,
  'blog-c': /blog\.c:\d+: not JSON: /,
};

/** How long the largest component (an interpreter and its library) may take to compile, when other
 *  programs want the processor as well. */
const COMPILING = 300_000;

for (const [blog, line] of Object.entries(BLOGS)) {
  describe(blog, () => {
    const posts = `/workspaces/${blog}/tables/posts`;
    const action = `/workspaces/${blog}/actions/posts`;
    let server;

    before(async () => {
      server = await Server.start({ plugins: [] });
      cpSync(plugin(blog), server.file(`${blog}.wasm`));
      await until(
        `${blog} is served`,
        async () => (await server.get(`/workspaces/${blog}`)).status === 200,
        COMPILING,
      );
    });
    after(() => server?.dispose());

    /** What the server logs until a line has `text` in it. */
    const logged = (text) => until(`the log says ${text}`, () => server.logs.includes(text));

    test('the definition says what there is', async () => {
      const { data } = await server.get(`/workspaces/${blog}`);
      assert.equal(data.id, blog);
      assert.match(data.version, /^\d+\.\d+\.\d+$/);
      const { schema } = data.tables.posts;
      assert.deepEqual(
        Object.keys(schema.properties).sort(),
        ['_v', 'content', 'id', 'published', 'title', 'views'],
      );
      assert.equal(schema.properties.title.type, 'string');
      assert.equal(schema.properties.views.type, 'integer');
      assert.deepEqual(schema.properties._v, { const: 2 });
      assert.ok(schema.required.includes('id'), JSON.stringify(schema));
      assert.equal(data.kv.theme.schema.type, 'string');
      const actions = data.actions.map(({ path, type }) => `${type} ${path.join('/')}`);
      assert.deepEqual(actions.sort(), [
        'mutation posts/import', 'mutation posts/publish', 'query posts/popular',
      ]);
      for (const { path, description, input } of data.actions) {
        assert.ok(description.length > 0, `${path} has no description`);
        assert.equal(input.type, 'object');
      }
    });

    test('a valid row is completed and stored', async () => {
      const { status, data } = await server.post(posts, { id: 'tea', title: 'Tee, 茶, 🍵', views: 12 });
      assert.equal(status, 201);
      const row = { id: 'tea', title: 'Tee, 茶, 🍵', content: '', views: 12, published: false, _v: 2 };
      assert.deepEqual(data, row);
      assert.deepEqual((await server.get(`${posts}/tea`)).data, row);
      assert.equal((await server.delete(`${posts}/tea`)).status, 200);
    });

    for (const [what, row, at] of [
      ['an empty title', { id: 'x', title: '' }, 'title'],
      ['a number for a title', { id: 'x', title: 5 }, 'title'],
      ['a text for a number', { id: 'x', title: 'x', views: 'many' }, 'views'],
      ['a fraction for a whole number', { id: 'x', title: 'x', views: 1.5 }, 'views'],
      ['less than none', { id: 'x', title: 'x', views: -1 }, 'views'],
      ['a text for a boolean', { id: 'x', title: 'x', published: 'yes' }, 'published'],
      ['a version from the future', { id: 'x', title: 'x', _v: 9 }, '_v'],
    ]) {
      test(`a row with ${what} is refused, at ${at}`, async () => {
        const { status, error } = await server.post(posts, row);
        assert.equal(status, 422, JSON.stringify(error));
        assert.deepEqual(error.issues.map(({ path }) => path), [[at]], JSON.stringify(error));
        assert.ok(error.issues.every(({ message }) => message.length > 0));
        assert.equal((await server.get(`${posts}/x`)).status, 404);
      });
    }

    test('the rule says its own words', async () => {
      const { error } = await server.post(posts, { id: 'x', title: '' });
      assert.deepEqual(error.issues, [{ path: ['title'], message: 'must not be empty' }]);
    });

    test('a row of the first version is migrated as it is read, and not rewritten', async () => {
      const client = await Client.join(server, blog);
      client.doc.getArray('table:posts').push([
        { key: 'old', val: { id: 'old', title: 'From before', _v: 1 }, ts: 1 },
        { key: 'bare', val: { id: 'bare', title: 'No version named' }, ts: 1 },
      ]);
      const migrated = { content: '', views: 0, published: false, _v: 2 };
      const row = async (id) => (await server.get(`${posts}/${id}`)).data;
      await until('both rows are there', async () => (await row('old')) && (await row('bare')));
      assert.deepEqual(await row('old'), { id: 'old', title: 'From before', ...migrated });
      assert.deepEqual(await row('bare'), { id: 'bare', title: 'No version named', ...migrated });
      const entries = client.doc.getArray('table:posts').toArray();
      assert.deepEqual(entries.find(({ key }) => key === 'old').val, { id: 'old', title: 'From before', _v: 1 });
    });

    test('a key has a schema', async () => {
      const theme = `/workspaces/${blog}/kv/theme`;
      assert.equal((await server.put(theme, '"dark"')).status, 200);
      assert.equal((await server.get(theme)).data, 'dark');
      assert.equal((await server.put(theme, '7')).status, 422);
      assert.equal((await server.get(theme)).data, 'dark');
    });

    test('a mutation writes, a query reads, and the log says so', async () => {
      for (const [id, views] of [['a', 5], ['b', 50], ['c', 500], ['d', 5000]]) {
        await server.post(posts, { id, title: id, views });
        if (id === 'd') continue;
        const { status, data } = await server.post(`${action}/publish`, { id });
        assert.equal(status, 200);
        assert.equal(data.published, true);
        await logged(`publishing ${id}`);
      }
      const { data } = await server.get(`${action}/popular?min=10`);
      assert.deepEqual(data.map(({ id }) => id), ['c', 'b']);
    });

    test('what does not exist is 404', async () => {
      const { status, error } = await server.post(`${action}/publish`, { id: 'nobody' });
      assert.equal(status, 404, JSON.stringify(error));
    });

    test('input that is not as the schema says is 422', async () => {
      assert.equal((await server.post(`${action}/publish`, { id: 7 })).status, 422);
      assert.equal((await server.get(`${action}/popular`)).status, 422);
      assert.equal((await server.get(`${action}/popular?min=-1`)).status, 422);
    });

    test('a mutation that fails half-way has done nothing, and says where', async () => {
      const json = JSON.stringify([{ id: 'one', title: 'One' }, { id: 'two', title: '' }]);
      const { status, error } = await server.post(`${action}/import`, { json });
      assert.equal(status, 422, JSON.stringify(error));
      assert.deepEqual(error.issues, [{ path: ['title'], message: 'must not be empty' }]);
      assert.equal((await server.get(`${posts}/one`)).status, 404);

      const two = JSON.stringify([{ id: 'one', title: 'One' }, { id: 'two', title: 'Two' }]);
      assert.equal((await server.post(`${action}/import`, { json: two })).data, 2);
      assert.equal((await server.get(`${posts}/two`)).data.title, 'Two');
    });

    test('what the author did not expect is 500 with the reason, and the next call is served', async () => {
      const { status, error } = await server.post(`${action}/import`, { json: '[{]' });
      assert.equal(status, 500, JSON.stringify(error));
      assert.match(error.message, /JSON|expect|key|column|property/i);
      await until('the log names the line', () => line.test(server.logs));
      assert.equal((await server.get(`${action}/popular?min=0`)).status, 200);
    });
  });
}
