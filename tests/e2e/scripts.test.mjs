// Scripts in rhai: actions beside a component, and a workspace that is nothing but a folder.

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Client } from './clients.mjs';
import { Neighbour } from './neighbour.mjs';
import { Server, until } from './server.mjs';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
const POSTS = '/workspaces/blog/tables/posts';
const NOTES = '/workspaces/notes/tables/notes';

let server;
/** Another workspace, whose calls run a script. */
const blog = new Neighbour(async () => {
  assert.equal((await server.get('/workspaces/blog/actions/posts/stats')).status, 200);
});
before(async () => {
  server = new Server();
  cpSync(path.join(REPOSITORY, 'plugins/blog'), path.join(server.plugins, 'blog'), { recursive: true });
  const notes = path.join(REPOSITORY, 'examples/notes-rhai/notes');
  cpSync(notes, path.join(server.plugins, 'notes'), { recursive: true });
  await server.start();
});
after(() => server?.dispose());

/** Writes a file of a plugin. */
function save(file, text) {
  const target = path.join(server.plugins, file);
  mkdirSync(path.dirname(target), { recursive: true });
  writeFileSync(target, text);
}

/** What the server knows of a plugin. */
async function status(file) {
  const { data } = await server.get('/plugins');
  return data.find((plugin) => plugin.file === file);
}

const action = (kind, body) => `//! For a test.\n//! ---\n//! kind = "${kind}"\n${body}\n`;

test('a script beside a component is an action of its workspace', async () => {
  await server.post(POSTS, { id: '1', title: 'Read', views: 12 });
  await server.post(POSTS, { id: '2', title: 'Skimmed', views: 3 });
  const stats = await server.get('/workspaces/blog/actions/posts/stats');
  assert.deepEqual(stats.data, { posts: 2, views: 15, most_read: 'Read' });
  const none = await server.get('/workspaces/blog/actions/posts/stats?published=true');
  assert.deepEqual(none.data, { posts: 0, views: 0, most_read: null });
  const { body } = await server.get('/');
  assert.ok(body.actions.includes('blog/posts/stats') && body.actions.includes('blog/posts/publish'));
  const { scripts, state } = await status('blog.wasm');
  assert.deepEqual([scripts, state], [['blog/actions/posts/stats.rhai'], 'serving']);
});

test('a folder with schemas and a script is a workspace, with REST, sync and actions', async () => {
  assert.equal((await server.post(NOTES, { id: 'a', text: 'Buy tea' })).status, 201);
  assert.equal((await server.post(NOTES, { id: 'b', text: '' })).status, 422);
  const long = await server.post(NOTES, { id: 'b', text: 'word '.repeat(101) });
  assert.deepEqual(long.body.error.issues, [{ path: ['text'], message: 'must not have more than 100 words' }]);
  const client = await Client.join(server, 'notes');
  client.table('notes').set('c', { id: 'c', text: 'Drink tea', _v: 1 });
  await until('the row is migrated', async () => (await server.get(`${NOTES}/c`)).data?.pinned === false);
  client.leave();
  const pinned = await server.post('/workspaces/notes/actions/notes/pin', { id: 'c' });
  assert.equal(pinned.data.pinned, true);
  assert.equal((await server.post('/workspaces/notes/actions/notes/pin', { id: 'x' })).status, 404);
  const found = await server.get('/workspaces/notes/actions/notes/search?text=tea');
  assert.deepEqual(found.data.map((note) => note.id), ['c', 'a']);
  const refused = await server.delete(`${NOTES}/c`);
  assert.equal(refused.status, 422);
  assert.match(JSON.stringify(refused.body), /is pinned/);
  assert.equal((await server.put('/workspaces/notes/kv/color', '"blue"')).status < 300, true);
});

test('what is saved is live, and what is broken never replaces what works', async () => {
  const uri = '/workspaces/blog/actions/say';
  save('blog/actions/say.rhai', action('query', '"one"'));
  await until('it is there', async () => (await server.get(uri)).data === 'one');
  save('blog/actions/say.rhai', action('query', '"two"'));
  await until('it is new', async () => (await server.get(uri)).data === 'two');
  save('blog/actions/say.rhai', action('query', 'let x = ;'));
  await until('the error is shown', async () => (await status('blog.wasm')).error);
  const { error, stale } = await status('blog.wasm');
  assert.match(error, /^blog\/actions\/say\.rhai:4:9: /);
  assert.equal(stale, true);
  assert.equal((await server.get(uri)).data, 'two');
  assert.equal((await server.get(POSTS)).status, 200);
  rmSync(path.join(server.plugins, 'blog/actions/say.rhai'));
  await until('it is gone', async () => (await server.get(uri)).status === 404);
  await until('the error is gone, too', async () => (await status('blog.wasm')).error === null);
});

test('a name that is taken is an error that names both', async () => {
  save('blog/actions/posts/publish.rhai', action('query', '1'));
  await until('the error is shown', async () => (await status('blog.wasm')).error);
  assert.match((await status('blog.wasm')).error, /posts\/publish\.rhai.*defined by blog\.wasm already/);
  rmSync(path.join(server.plugins, 'blog/actions/posts/publish.rhai'));
  await until('the error is gone', async () => (await status('blog.wasm')).error === null);
});

const HOSTILE = {
  'an endless loop': ['loop {}', /more than 1000000 steps/],
  'an endless recursion': ['fn f(n) { f(n + 1) } f(0)', /recursed too deeply/],
  'a string that doubles': ['let s = "x"; loop { s += s; }', /too large|out of memory/],
  'an array that doubles': ['let a = [1]; loop { a += a; }', /too large|out of memory/],
  'values beyond the memory': [
    'fn f(n) { let s = ""; s.pad(1000000, \'x\'); s += n; f(n + 1) } f(0)', /out of memory|recursed/,
  ],
  // Its depth is measured anew at each step, which a slow machine may not finish in time.
  'a nest of arrays': ['let a = []; loop { a = [a]; }', /steps|too large|memory|took longer/],
  'a huge range': ['let n = 0; for i in 0..9223372036854775807 { n += 1; }', /steps/],
  'ten million lines': ['for i in 0..10000000 { print(i); }', /called the host more than 2000 times/],
  'a write by way of a loop': [
    'loop { tables::put("posts", #{ id: "x", title: "x" }); }', /called the host more than 2000 times/,
  ],
  'another workspace': ['tables::put("notes", #{ id: "x", text: "x" })', /there is no table \\"notes\\"/],
  'a wait': ['sleep(1000)', /sleep/],
};

test('hostile scripts end in one clear error, and nobody else notices', async () => {
  for (const [n, [name, [script]]] of Object.entries(HOSTILE).entries()) {
    save(`hostile/actions/h${n}.rhai`, `//! ${name}.\n//! ---\n//! kind = "mutation"\n${script}\n`);
  }
  save('hostile/tables/posts.json', '{"type":"object"}');
  save('hostile/workspace.toml', '[limits]\naction = "10s"\nscript-steps = 1000000\nhost-calls = 2000\nscript-memory = "8MiB"\n');
  save('hostile/workspace.rhai', 'fn nothing() {}');
  await until('it is served', async () => (await status('hostile/workspace.rhai'))?.state === 'serving');
  await blog.rest();
  for (const [n, [name, [, expected]]] of Object.entries(HOSTILE).entries()) {
    const attack = server.post(`/workspaces/hostile/actions/h${n}`, null);
    await blog.during(name, attack);
    const { status: code, body } = await attack;
    const expectedCode = /took longer/.test(JSON.stringify(body)) ? 504 : 500;
    assert.equal(code, expectedCode, `${name}: ${JSON.stringify(body)}`);
    assert.match(JSON.stringify(body), expected, name);
  }
  assert.deepEqual((await server.get('/workspaces/hostile/tables/posts')).data, []);
  const { errors, lastError } = await status('hostile/workspace.rhai');
  assert.ok(errors >= 8 && lastError.message.includes('hostile'), `${errors}`);
});

test('many that are slow leave the other workspaces as quick as before', async () => {
  save('slow/workspace.rhai', 'fn nothing() {}');
  save('slow/workspace.toml', '[limits]\nscript-steps = 1000000000000\naction = "3s"\n');
  save('slow/actions/spin.rhai', action('query', 'loop {}'));
  await until('it is served', async () => (await status('slow/workspace.rhai'))?.state === 'serving');
  await blog.rest();
  const slow = Array.from({ length: 500 }, () => server.get('/workspaces/slow/actions/spin'));
  await blog.during('500 that spin', Promise.all(slow));
  const codes = new Set((await Promise.all(slow)).map((answer) => answer.status));
  assert.deepEqual([...codes].filter((code) => code !== 503 && code !== 504), []);
});
