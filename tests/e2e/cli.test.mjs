// The command line for data: on a running server by its address, on the server that uses the data
// folder, and on the folder when no server runs.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';

import * as Y from 'yjs';

import { BINARY, Server, command, until } from './server.mjs';

const servers = [];
after(() => Promise.all(servers.map((server) => server.dispose())));

/** A server, to be disposed of at the end. */
function place(options) {
  const server = new Server(options);
  servers.push(server);
  mkdirSync(path.join(server.folder, 'data'));
  return server;
}

/** A server that runs. */
async function started(options) {
  const server = place(options);
  await server.start();
  return server;
}

/** Runs commands in a server's folder, where its data and plugins are. */
const shell = (server, ...options) => (args, extra = {}) =>
  command([args[0], ...options, ...args.slice(1)], { cwd: server.folder, ...extra });

/** Asserts how a command fails, and that it prints nothing. */
function assertFails({ code, stdout, stderr }, expected, text) {
  assert.equal(code, expected, stderr);
  assert.equal(stdout, '');
  assert.match(stderr, text);
}

const places = {
  'a server by its address': async () => {
    const server = await started();
    return shell(server, '--url', server.url, '--data-dir', 'none');
  },
  'the server that uses the folder': async () => shell(await started()),
  'a folder that no server uses': () => shell(place()),
};

for (const [name, open] of Object.entries(places)) {
  test(`on ${name}, every command does what it says`, async () => {
    const host = await open();

    const [posts] = (await host(['tables'])).json;
    assert.equal(posts.workspace, 'blog');
    assert.equal(posts.table, 'posts');
    assert.equal(posts.rows, 0);
    assert.deepEqual(posts.fields.toSorted(), ['_v', 'content', 'id', 'published', 'title', 'views']);

    // A row as JSON, from a file, from standard input, and as flags.
    const inline = (await host(['rows', 'set', 'posts', '{"id":"1","title":"Inline","views":1}'])).json;
    assert.deepEqual(inline, { id: '1', title: 'Inline', content: '', views: 1, published: false, _v: 2 });
    const stdin = await host(['rows', 'set', 'posts', '-'], { input: '{"id":"2","title":"Piped"}' });
    assert.equal(stdin.json.title, 'Piped');
    const unasked = await host(['rows', 'set', 'posts'], { input: '{"id":"2","title":"Piped 2"}' });
    assert.equal(unasked.json.title, 'Piped 2');
    const flags = await host(['rows', 'set', 'posts', '--id', '3', '--title', '33', '--views', '30', '--published']);
    assert.deepEqual(flags.json, { id: '3', title: '33', content: '', views: 30, published: true, _v: 2 });
    const both = await host(['rows', 'set', 'posts', '{"id":"4","title":"a"}', '--title=--b']);
    assert.equal(both.json.title, '--b');
    const many = await host(['rows', 'set', 'posts', '[{"id":"5","title":"x"},{"id":"6","title":"y"}]']);
    assert.deepEqual(many.json.map((row) => row.id), ['5', '6']);
    assert.match((await host(['rows', 'set', 'posts', '--title', 'no id'])).json.id, /^[\w-]{21}$/);

    assert.equal((await host(['rows', 'get', 'posts', '3'])).json.views, 30);
    const updated = await host(['rows', 'update', 'posts', '3', '--views', '31']);
    assert.equal(updated.json.views, 31);
    assert.equal(updated.json.title, '33', 'the other fields stay');
    const patched = await host(['rows', 'update', 'posts', '3', '{"title":"three"}']);
    assert.equal(patched.json.title, 'three');

    // Lists as REST has them.
    const list = async (...options) => (await host(['rows', 'list', 'posts', ...options])).json;
    assert.equal((await list()).length, 7);
    const top = await list('--sort', '-views', '--limit', '2', '--fields', 'id,views');
    assert.deepEqual(top, [{ id: '3', views: 31 }, { id: '1', views: 1 }]);
    assert.deepEqual((await list('--filter', 'views[gte]=30')).map((row) => row.id), ['3']);
    assert.deepEqual(await list('--filter', 'title=three', '--filter', 'views=0'), []);
    const first = await host(['rows', 'list', 'posts', '--limit', '6']);
    const [, cursor] = /--cursor (\S+)/.exec(first.stderr);
    assert.equal(first.json.length, 6);
    assert.equal((await list('--cursor', cursor)).length, 1);
    assert.equal((await host(['rows', 'count', 'posts'])).json, 7);
    assert.equal((await host(['rows', 'count', 'posts', '--filter', 'views[gt]=0'])).json, 2);
    assert.equal((await host(['rows', 'count', 'posts', '--invalid'])).json, 0);

    // Compact in a pipe; a row a line on demand.
    const two = ['--filter', 'id[in]=1,2', '--fields', 'id'];
    const compact = await host(['rows', 'list', 'posts', ...two]);
    assert.equal(compact.stdout, '[{"id":"1"},{"id":"2"}]\n');
    const lines = await host(['rows', 'list', 'posts', ...two, '--format', 'jsonl']);
    assert.equal(lines.stdout, '{"id":"1"}\n{"id":"2"}\n');

    assert.deepEqual((await host(['rows', 'delete', 'posts', '1'])).json, { id: '1' });
    assert.deepEqual((await host(['rows', 'delete', 'posts', '--filter', 'title[in]=x,y'])).json, { deleted: 2 });
    assert.equal((await host(['rows', 'count', 'posts'])).json, 4);

    assert.deepEqual((await host(['kv', 'get'])).json, {});
    assert.equal((await host(['kv', 'set', 'theme', 'dark'])).json, 'dark');
    assert.equal((await host(['kv', 'set', 'theme', '"12"'])).json, '12');
    assert.equal((await host(['kv', 'get', 'theme'])).json, '12');
    assert.deepEqual((await host(['kv', 'get'])).json, { theme: '12' });
    assert.deepEqual((await host(['kv', 'delete', 'theme'])).json, { key: 'theme' });
    assertFails(await host(['kv', 'get', 'theme']), 1, /key "theme" has no value/);

    const published = await host(['call', 'posts/publish', '--id', '4']);
    assert.equal(published.json.published, true);
    const popular = await host(['call', 'posts/popular', '{"min":31}']);
    assert.deepEqual(popular.json.map((row) => row.id), ['3']);
    assert.deepEqual((await host(['call', 'posts/popular', '--min', '100'])).json, []);
  });

}

for (const name of ['a server by its address', 'a folder that no server uses']) {
  test(`on ${name}, what goes wrong is said, with 1, or with 2 where the command line is at fault`, async () => {
    const host = await places[name]();
    const cases = [
      [['rows', 'set', 'posts', '--title', ''], 1, /title: must not be empty/],
      [['rows', 'set', 'posts', '{"id":"a"}', '--views', 'many'], 2, /--views must be a number, and is "many"/],
      [['rows', 'set', 'posts', '--url', 'http://x'], 2, /table posts has no field "url"/],
      [['rows', 'set', 'posts', '--title'], 2, /--title needs a value/],
      [['rows', 'set', 'posts', '{'], 2, /is neither JSON/],
      [['rows', 'set', 'posts', '@none.json'], 1, /cannot open none.json/],
      [['rows', 'set', 'posts', '-'], 1, /standard input is not JSON/],
      [['rows', 'set', 'posts', '1'], 1, /must be an object/],
      [['rows', 'set'], 2, /Usage/],
      [['rows', 'set', 'nope', '{}'], 1, /no table "nope"; it has: posts/],
      [['rows', 'get', 'posts', 'nope'], 1, /table posts has no row "nope"/],
      [['rows', 'get', 'posts', '..'], 1, /".." cannot be named in a URL/],
      [['rows', 'get', 'posts', ''], 1, /cannot be named/],
      [['rows', 'update', 'posts', 'nope', '--views', '1'], 1, /no row "nope"/],
      [['rows', 'update', 'posts'], 2, /which row/],
      [['rows', 'delete', 'posts'], 2, /Usage/],
      [['rows', 'delete', 'posts', '--filter', ''], 2, /write it like/],
      [['rows', 'delete', 'posts', 'a', '--filter', 'id=a'], 2, /cannot be used with/],
      [['rows', 'list', 'posts', '--filter', 'nope=1'], 1, /no such field/],
      [['rows', 'list', 'posts', '--filter', 'views[like]=1'], 1, /no such operator/],
      [['rows', 'list', 'posts', '--sort', 'nope'], 1, /no such field/],
      [['rows', 'list', 'posts', '--cursor', 'nope'], 1, /cursor/],
      [['rows', 'list', 'posts', '--format', 'xml'], 2, /invalid value 'xml'/],
      [['kv', 'set', 'nope', '1'], 1, /no key "nope"; it has: theme/],
      [['kv', 'set', 'theme', '@'], 1, /cannot open/],
      [['call', 'nope'], 1, /no action "nope"; it has: posts\/publish, posts\/import, posts\/popular/],
      [['call', 'posts/popular', '--min', '-1'], 1, /min/],
      [['call', 'posts/popular', '[]'], 2, /its input is a JSON object/],
      [['call', 'posts/publish', '{"id":"none"}'], 1, /not found/],
      [['export', 'nope'], 1, /no table "nope"/],
      [['export', 'none', 'none.yjs'], 1, /Room not found: none/],
      [['import', 'posts', 'none.jsonl'], 1, /cannot open none.jsonl/],
      [['import', 'blog', '--room'], 1, /Empty update body/],
      [['tables', '--workspace', 'nope'], 1, /no workspace "nope"; there are: blog/],
      [['nope'], 2, /unrecognized subcommand 'nope'/],
    ];
    for (const [args, code, text] of cases) assertFails(await host(args), code, text);
    assert.equal((await host(['rows', 'count', 'posts'])).json, 0, 'nothing of it was written');
  });
}

test('several issues are listed, one a line', async () => {
  const host = shell(place());
  const refused = await host(['rows', 'set', 'posts', '[{"id":7},{"id":""}]']);
  assertFails(refused, 1, /\n {2}0\.id: must be a string\n {2}1\.id: must not be empty/);
});

test('a table goes out as lines and comes back the same, in pieces and in any order', async () => {
  const source = await started();
  const rows = Array.from({ length: 2500 }, (_, n) => ({
    id: `row/${n} ü%2e`,
    title: `line\nbreak ${n} \u2028 "quoted"`,
    content: 'x'.repeat(n % 50),
    views: n,
    published: n % 2 === 0,
  }));
  for (let at = 0; at < rows.length; at += 500) {
    assert.equal((await source.post('/workspaces/blog/tables/posts', rows.slice(at, at + 500))).status, 201);
  }
  const out = await shell(source)(['export', 'posts']);
  assert.equal(out.code, 0, out.stderr);
  const exported = out.stdout.trimEnd().split('\n').map((line) => JSON.parse(line));
  const byViews = (a, b) => a.views - b.views;
  assert.deepEqual(exported.toSorted(byViews), rows.map((row) => ({ ...row, _v: 2 })));

  assert.deepEqual((await shell(source)(['export', 'posts', 'posts.jsonl'])).json, { rows: 2500 });
  assert.equal(readFileSync(path.join(source.folder, 'posts.jsonl'), 'utf8'), out.stdout);

  const target = place();
  const host = shell(target);
  assert.deepEqual((await host(['import', 'posts'], { input: out.bytes })).json, { rows: 2500 });
  const again = (await host(['export', 'posts'])).stdout;
  assert.equal(again, out.stdout);
  // Once more, empty lines among the rows: nothing changes.
  const twice = await host(['import', 'posts', '-'], { input: `\n${out.stdout}\r\n\n` });
  assert.deepEqual(twice.json, { rows: 2500 });
  assert.equal((await host(['rows', 'count', 'posts'])).json, 2500);
  assert.equal((await host(['rows', 'list', 'posts'])).json.length, 2500);
  // A row that comes again replaces the first.
  const input = '{"id":"a","title":"1"}\n{"id":"a","title":"2"}';
  assert.deepEqual((await host(['import', 'posts'], { input })).json, { rows: 2 });
  assert.equal((await host(['rows', 'get', 'posts', 'a'])).json.title, '2');
});

test("a room's document goes out whole and is merged where it comes in", async () => {
  const source = await started();
  await source.post('/workspaces/blog/tables/posts', { id: 'a', title: 'A' });
  // What is not valid is part of the document, too.
  const doc = new Y.Doc();
  doc.getArray('table:posts').push([{ key: 'b', val: { id: 'b', title: '', _v: 2 }, ts: 1 }]);
  doc.getText('free').insert(0, 'not a table');
  const applied = await source.request('POST', '/rooms/blog', Y.encodeStateAsUpdate(doc), {
    'content-type': 'application/octet-stream',
  });
  assert.equal(applied.status, 200);

  const lines = await shell(source)(['export', 'posts']);
  assert.match(lines.stderr, /left out 1 row that is not valid/);
  assert.equal(lines.stdout.trimEnd().split('\n').length, 1);
  const { bytes } = (await shell(source)(['export', 'blog', 'blog.yjs'])).json;
  const file = path.join(source.folder, 'blog.yjs');
  const update = readFileSync(file);
  assert.equal(update.length, bytes);
  assert.deepEqual((await shell(source)(['export', '--room', 'blog'])).bytes, update);
  const copy = new Y.Doc();
  Y.applyUpdate(copy, update);
  assert.equal(copy.getText('free').toString(), 'not a table');

  const target = place();
  const host = shell(target);
  await host(['rows', 'set', 'posts', '--id', 'c', '--title', 'C']);
  assert.deepEqual((await host(['import', 'blog', file])).json, { bytes });
  assert.deepEqual((await host(['rows', 'list', 'posts', '--fields', 'id'])).json, [{ id: 'a' }, { id: 'c' }]);
  const [invalid] = (await host(['rows', 'list', 'posts', '--invalid'])).json;
  assert.equal(invalid.id, 'b');
  assertFails(await host(['rows', 'get', 'posts', 'b']), 1, /title: must not be empty/);
  assertFails(await host(['import', '--room', 'blog'], { input: 'no update' }), 1, /Invalid Yjs update/);
});

test('an import ends at the first batch that is refused, and says what is in', async () => {
  const host = shell(place());
  const line = (id, title = 't') => JSON.stringify({ id, title });
  const good = Array.from({ length: 1000 }, (_, n) => line(`good${n}`));
  const refused = [...good, line('x'), line('y', ''), line('z')].join('\n');
  const answer = await host(['import', 'posts'], { input: refused });
  assertFails(answer, 1, /rows were refused; the 1000 rows before were imported, and nothing after\n\s+line 1002: title: must not be empty/);
  assert.equal((await host(['rows', 'count', 'posts'])).json, 1000);
  const cases = [
    ['{"id":"n","title":"1"}\n{"id":', /line 2: is not JSON.*; the row before was imported/],
    ['[]', /line 1: is not a JSON object, as every row is; nothing was imported/],
    ['\u0000\u0001', /line 1: is not JSON/],
    [`{"id":"n","title":"${'x'.repeat(1024 * 1024)}"}`, /line 1: is longer than 1048576 bytes/],
    ['x'.repeat(3 * 1024 * 1024), /line 1: is longer than 1048576 bytes/],
    ['{"id":7,"title":"x"}', /line 1: id: must be a string/],
    ['{"id":"","title":"x"}', /line 1: id: must not be empty/],
  ];
  for (const [input, text] of cases) assertFails(await host(['import', 'posts'], { input }), 1, text);
});

const object = (properties) => ({ type: 'object', properties: { id: { type: 'string' }, ...properties } });
const text = { type: 'string' };

/** A second workspace, with a table and an action that the blog has, too, and some that it has not. */
const LIBRARY = {
  'workspace.rhai': '//! Books.\n//! ---\n//! version = "1"\n',
  'actions/posts/popular.rhai': '//! None.\n//! ---\n//! kind = "query"\n"none"\n',
  'actions/lend.rhai': '//! Lends.\n//! ---\n//! kind = "query"\n//! input.to = { type = "object" }\ninput.to\n',
  'tables/posts.json': JSON.stringify(object({})),
  'tables/books.json': JSON.stringify(object({
    author: object({ name: text, born: { type: 'integer' } }), title: text,
  })),
  'tables/places.json': JSON.stringify(object({ workspace: text })),
};

/** Commands where there are two workspaces. */
function two() {
  const server = place();
  for (const [name, content] of Object.entries(LIBRARY)) {
    const file = path.join(server.plugins, 'library', name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
  return { server, host: shell(server) };
}

test('with several workspaces one is chosen, where the name alone does not say which', async () => {
  const { server, host } = two();
  const names = (await host(['tables'])).json.map((table) => `${table.workspace}/${table.table}`);
  assert.deepEqual(names, ['blog/posts', 'library/books', 'library/places', 'library/posts']);
  const blog = (await host(['tables', '--workspace', 'blog'])).json;
  assert.deepEqual(blog.map((table) => table.table), ['posts']);

  const both = /2 workspaces have the (table "posts"|action "posts\/popular") \(blog, library\): choose one with --workspace/;
  for (const args of [['rows', 'list', 'posts'], ['rows', 'set', 'posts', '--id', '1'], ['export', 'posts'], ['call', 'posts/popular']]) {
    assertFails(await host(args), 2, both);
  }
  assertFails(await host(['rows', 'list', 'nope']), 1, /no workspace has the table "nope"; there are: blog\/posts, library\/books/);
  assertFails(await host(['call', 'nope']), 1, /no workspace has the action "nope"; there are: blog\/posts\/publish/);
  assertFails(await host(['rows', 'list', 'posts', '--workspace', 'nope']), 1, /no workspace "nope"; there are: blog, library/);
  assertFails(await host(['rows', 'set', 'posts', '--id', '1', '--workspace', 'nope']), 1, /no workspace "nope"/);
  assertFails(await host(['rows', 'set', 'posts', '--id', '1', '--workspace']), 2, /--workspace needs a value/);
  assertFails(await host(['kv', 'get']), 2, /there are 2 workspaces/);

  // Wherever it stands.
  const id = (row) => row.json.id;
  assert.equal(id(await host(['rows', 'set', '--workspace', 'blog', 'posts', '--id', '1', '--title', 'a'])), '1');
  assert.equal(id(await host(['rows', 'set', 'posts', '--workspace', 'blog', '--id', '2', '--title', 'b'])), '2');
  assert.equal(id(await host(['rows', 'set', 'posts', '{"id":"3","title":"c"}', '--workspace=blog'])), '3');
  assert.equal(id(await host(['rows', 'update', 'posts', '3', '--workspace', 'blog', '--views', '9', '--published'])), '3');
  assert.equal(id(await host(['rows', 'get', 'posts', '3', '--workspace', 'blog'])), '3');
  assert.equal((await host(['call', 'posts/popular', '--min', '9', '--workspace', 'blog'])).json[0].id, '3');
  assert.equal((await host(['call', 'posts/popular', '--workspace', 'library'])).json, 'none');
  // As GET / names them.
  assert.equal((await host(['call', 'blog/posts/publish', '--id', '1'])).json.published, true);
  assert.equal((await host(['call', 'library/posts/popular'])).json, 'none');
  assert.equal((await host(['rows', 'list', 'blog/posts'])).json.length, 3);
  // One that only one has.
  assert.equal((await host(['call', 'posts/publish', '--id', '2'])).json.published, true);
  assert.equal(id(await host(['rows', 'set', 'books', '--id', 'b'])), 'b');
  assert.equal((await host(['kv', 'set', 'theme', 'dark'])).json, 'dark');
  // A field of that name is a field; the option stands before.
  const field = { id: 'p', workspace: 'a room' };
  assert.deepEqual((await host(['rows', 'set', 'places', '--id', 'p', '--workspace', 'a room'])).json, field);
  assert.equal(id(await host(['rows', 'set', '--workspace', 'library', 'places', '--id', 'q', '--workspace', 'x'])), 'q');

  // What is left out is found with the workspace that was chosen, where the table alone would not do.
  const doc = new Y.Doc();
  doc.getArray('table:posts').push([{ key: 'b', val: { id: 'b', title: '', _v: 2 }, ts: 1 }]);
  doc.getArray('table:books').push([{ key: 'x', val: { id: 7, _v: 1 }, ts: 1 }]);
  const file = path.join(server.folder, 'some.yjs');
  writeFileSync(file, Y.encodeStateAsUpdate(doc));
  assert.equal((await host(['import', 'blog', file])).code, 0);
  const hint = /`host rows list posts --invalid --workspace blog` shows them.*`host export blog blog\.yjs`/;
  assert.match((await host(['export', 'posts', '--workspace', 'blog'])).stderr, hint);
  assert.equal((await host(['import', 'library', file])).code, 0);
  assert.match((await host(['export', 'books', '--workspace', 'library'])).stderr, /`host rows list books --invalid` shows/);
});

test('a document is no table, and a room is not made by mistake', async () => {
  const { server, host } = two();
  const file = path.join(server.folder, 'lib.yjs');
  writeFileSync(file, Y.encodeStateAsUpdate(new Y.Doc()));
  for (const verb of ['import', 'export']) {
    const meant = new RegExp(`books is a table of the workspace library.*\`host ${verb} library .*lib\\.yjs\`, or with --room`);
    assertFails(await host([verb, 'books', file]), 2, meant);
  }
  assertFails(await host(['export', 'books', 'none.yjs', '--room']), 1, /Room not found: books/);
  assert.equal((await host(['import', 'books', file, '--room'])).code, 0);
  assert.equal((await host(['import', 'library', file])).code, 0);
});

test('fields of fields are flags with a dot, and leave the others as they are', async () => {
  const { host } = two();
  const set = ['rows', 'set', 'books', '--id', 'b', '--author.name', 'Q', '--author.born', '1950', '--title', 't'];
  const row = { id: 'b', author: { name: 'Q', born: 1950 }, title: 't' };
  assert.deepEqual((await host(set)).json, row);
  const update = await host(['rows', 'update', 'books', 'b', '--author.name', 'R']);
  assert.deepEqual(update.json, { ...row, author: { name: 'R', born: 1950 } });
  const whole = await host(['rows', 'update', 'books', 'b', '{"author":{}}', '--author.name=S']);
  assert.deepEqual(whole.json.author, { name: 'S' });
  assert.deepEqual((await host(['call', 'lend', '--to.name', 'T', '--to.at.home'])).code, 2, 'a value is wanted');
  assert.deepEqual((await host(['call', 'lend', '--to.name', 'T', '--to.at.home', 'yes'])).json, { name: 'T', at: { home: 'yes' } });
  const cases = [
    [['--author.nome', 'Q'], /author of table books has no field "nome", it has --author\.id --author\.name --author\.born/],
    [['--author.born', 'then'], /--author\.born must be a number/],
    [['--title.de', 'x'], /title of table books is not an object/],
  ];
  for (const [fields, text] of cases) assertFails(await host(['rows', 'set', 'books', '--id', 'c', ...fields]), 2, text);
});

test('a port that is in use is said once, with what to do', async () => {
  const server = await started();
  const other = place();
  const taken = await command(['--mode', 'local', '--port', `${server.port}`], { cwd: other.folder });
  assertFails(taken, 1, /cannot listen on 127\.0\.0\.1:\d+: .*in use.*choose another port with --port/);
  assert.equal(taken.stderr.match(/in use/gi).length, 1, taken.stderr);
});

test('a server that was killed does not mislead, and commands on one folder wait for each other', async () => {
  const server = await started();
  const announcement = path.join(server.folder, 'data/server.json');
  assert.equal(JSON.parse(readFileSync(announcement)).url, server.url);
  await server.kill9();
  assert.ok(existsSync(announcement), 'the crash left it');
  const host = shell(server);
  const ids = ['a', 'b', 'c', 'd'];
  const all = await Promise.all(ids.map((id) => host(['rows', 'set', 'posts', '--id', id, '--title', id])));
  assert.deepEqual(all.map(({ json }) => json.id), ids);
  assert.ok(!existsSync(announcement));
  assert.equal((await host(['rows', 'count', 'posts'])).json, 4);
  // A server that starts again has what they wrote, and commands find it.
  await server.start();
  assert.equal((await server.get('/workspaces/blog/tables/posts')).data.length, 4);
  await host(['rows', 'delete', 'posts', 'a']);
  assert.equal((await server.get('/workspaces/blog/tables/posts')).data.length, 3);
  await server.stop();
  assert.ok(!existsSync(announcement), 'a server that stops takes it back');
});

test('where there is neither a folder nor a server, that is said, and nothing is made', async () => {
  const away = { cwd: place().folder };
  rmdirSync(path.join(away.cwd, 'data'));
  const nothing = await command(['tables', '--data-dir', 'none', '--url', 'http://127.0.0.1:1'], away);
  assertFails(nothing, 1, /the server at http:\/\/127\.0\.0\.1:1/);
  assertFails(await command(['tables', '--url', 'nope'], away), 2, /invalid value 'nope'/);
  assertFails(await command(['tables', '--url', 'ftp://x'], away), 2, /expected a URL like http:\/\/localhost:3913/);
  assert.deepEqual(readdirSync(away.cwd), ['plugins']);
});

test('the data of a hub is rooms alone', async () => {
  const hub = await started({ mode: 'hub', plugins: [] });
  const doc = new Y.Doc();
  doc.getText('t').insert(0, 'hello');
  const file = path.join(hub.folder, 'note.yjs');
  writeFileSync(file, Y.encodeStateAsUpdate(doc));
  for (const state of ['running', 'stopped']) {
    const host = shell(hub);
    assert.equal((await host(['import', 'note', file])).code, 0, state);
    const copy = new Y.Doc();
    Y.applyUpdate(copy, (await host(['export', '--room', 'note'])).bytes);
    assert.equal(copy.getText('t').toString(), 'hello', state);
    const why = state === 'running' ? /a hub has only rooms/ : /no plugin is loaded/;
    assertFails(await host(['rows', 'list', 'posts']), 1, why);
    if (state === 'running') await hub.stop();
  }
});

test('the token goes to the server that was named, and not where that one points', async () => {
  const seen = [];
  const other = createServer((request, response) => {
    seen.push(request.headers.authorization);
    if (request.url === '/moved/workspaces') {
      response.writeHead(302, { location: '/elsewhere' }).end();
    } else if (request.url === '/denied/workspaces') {
      response.writeHead(401, { 'content-type': 'application/json' });
      response.end('{"error":{"message":"Unauthorized: Bearer token required"}}');
    } else {
      response.end('<html>hello');
    }
  });
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
  try {
    const url = `http://127.0.0.1:${other.address().port}`;
    const tables = (base) => command(['tables', '--url', base], { env: { HOST_TOKEN: 'secret' } });
    assertFails(await tables(url), 1, /does not answer as a server of workspaces/);
    assertFails(await tables(`${url}/moved`), 1, /the server answers 302/);
    assertFails(await tables(`${url}/denied`), 1, /Bearer token required.*HOST_TOKEN/);
    assert.deepEqual(seen, ['Bearer secret', 'Bearer secret', 'Bearer secret']);
  } finally {
    other.close();
  }
});

test('a reader that has seen enough ends a command quietly', async () => {
  const server = place();
  const rows = Array.from({ length: 5000 }, (_, n) => JSON.stringify({ id: `${n}`, title: 'x'.repeat(200) }));
  assert.equal((await shell(server)(['import', 'posts'], { input: rows.join('\n') })).code, 0);
  const child = spawn(BINARY, ['export', 'posts'], {
    cwd: server.folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (text) => (stderr += text));
  child.stdout.once('data', () => child.stdout.destroy());
  let code;
  child.on('close', (status) => (code = status));
  await until('the command ends', () => code !== undefined);
  assert.equal(code, 0, stderr);
  assert.equal(stderr, '');
});
