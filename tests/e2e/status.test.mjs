// What the server tells of its plugins: at GET /plugins, in its log, and on the terminal while it starts.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Client } from './clients.mjs';
import { Server, command, plugin, until } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';
const ACTIONS = '/workspaces/blog/actions';
const NEW_ID = /^[\w-]{21}$/;

let server;
before(async () => {
  server = new Server({ args: ['--log-format', 'json'] });
  mkdirSync(server.file('blog/actions'), { recursive: true });
  writeFileSync(server.file('blog/actions/say.rhai'), '//! Says it.\n//! ---\n//! kind = "query"\nlog::info("said"); "it"\n');
  writeFileSync(server.file('blog.toml'), '[limits]\nresult-bytes = 40\n');
  await server.start();
});
after(() => server?.dispose());

async function status(of, file) {
  return (await of.get('/plugins')).data.find((plugin) => plugin.file === file);
}

/** The log as programs read it. */
const events = () => server.logs.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));

/** The event of a request that says something. */
const event = (id, text) =>
  until(`the log has ${text} of ${id}`, () =>
    events().find((event) => event.request_id === id && text.test(event.message)));

test("a plugin's log line has its workspace, its action and the request, by the name that the client gave", async () => {
  const answer = await server.request('GET', `${ACTIONS}/say`, undefined, { 'x-request-id': 'from-the_client-1' });
  assert.equal(answer.headers.get('x-request-id'), 'from-the_client-1');
  const { level, target, workspace, plugin, action, message } = await event('from-the_client-1', /said/);
  assert.deepEqual(
    { level, target, workspace, plugin, action, message },
    { level: 'INFO', target: 'plugin', workspace: 'blog', plugin: 'blog.wasm', action: 'action say', message: 'said' },
  );
});

test('a fault has the same, so that an answer leads to it', async () => {
  assert.equal((await server.post(POSTS, { id: '1', title: 'One', published: true })).status, 201);
  const answer = await server.get(`${ACTIONS}/posts/popular?min=0`);
  assert.equal(answer.status, 500);
  const id = answer.headers.get('x-request-id');
  assert.match(id, NEW_ID);
  const { level, target, workspace, plugin, action, message } = await event(id, /bytes/);
  assert.deepEqual(
    { level, target, workspace, plugin, action, message },
    { level: 'WARN', target: 'plugin', workspace: 'blog', plugin: 'blog.wasm', action: 'action posts/popular', message: answer.error.message },
  );
  await server.delete(`${POSTS}/1`);
});

test('every answer names its request', async () => {
  const answers = {
    'a list': await server.get(POSTS),
    'no row': await server.get(`${POSTS}/none`),
    'no workspace': await server.get('/workspaces/none'),
    'a row that is refused': await server.post(POSTS, { id: '1', title: '' }),
    'no JSON': await server.post(POSTS, '{'),
    'the plugins': await server.get('/plugins'),
    'nothing': await server.get('/nothing'),
  };
  const ids = Object.entries(answers).map(([what, { headers }]) => {
    assert.match(headers.get('x-request-id') ?? '', NEW_ID, what);
    return headers.get('x-request-id');
  });
  assert.equal(new Set(ids).size, ids.length);
  for (const id of ['x'.repeat(65), 'a b', 'a="b"', '']) {
    const { headers } = await server.request('GET', POSTS, undefined, { 'x-request-id': id });
    assert.match(headers.get('x-request-id'), NEW_ID, `${id} is no name for a log`);
  }
});

test('GET /plugins says what a plugin is, does and has, now', async () => {
  const plain = new Server();
  const before = Date.now();
  try {
    await plain.start();
    const started = Date.now();
    const first = await status(plain, 'blog.wasm');
    const { state, workspace, version, hash, size, loadedAt, tookMs, loading, stale, error } = first;
    const bytes = readFileSync(plugin('blog'));
    assert.deepEqual(
      { state, workspace, version, hash, size, loading, stale, error },
      {
        state: 'serving', workspace: 'blog', version: '0.1.0', size: bytes.length, loading: false, stale: false, error: null,
        hash: createHash('sha256').update(bytes).digest('hex'),
      },
    );
    assert.ok(loadedAt >= before && loadedAt <= started, `${loadedAt}`);
    assert.ok(tookMs > 0 && tookMs <= started - before, `${tookMs}`);
    assert.deepEqual([first.rows, first.invalid, first.errors, first.lastError], [0, 0, 0, null]);

    await plain.post(POSTS, [{ id: '1', title: 'One', published: true }, { id: '2', title: 'Two' }]);
    const client = await Client.join(plain, 'blog');
    client.table('posts').set('3', { id: '3', title: '', _v: 2 });
    const then = await until('the rows are counted', async () => {
      const now = await status(plain, 'blog.wasm');
      return now.rows === 3 && now.invalid === 1 && now;
    });
    client.leave();
    assert.ok(then.calls > first.calls && then.memory > 0, JSON.stringify(then));
    assert.deepEqual([then.loadedAt, then.errors], [loadedAt, 0]);

    writeFileSync(plain.file('blog.toml'), '[limits]\nresult-bytes = 40\n');
    await until('the limit holds', async () => (await status(plain, 'blog.wasm')).hash !== hash);
    assert.equal((await plain.get(`${ACTIONS}/posts/popular?min=0`)).status, 500);
    const last = await status(plain, 'blog.wasm');
    assert.deepEqual([last.errors, last.rows, last.invalid], [1, 3, 1]);
    assert.match(last.lastError.message, /action posts\/popular broke the contract: the result has \d+ bytes; 40 is the most/);
    assert.ok(last.lastError.at >= last.loadedAt && last.lastError.at <= Date.now());
  } finally {
    await plain.dispose();
  }
});

test('a start that takes long says what it is at, and each plugin has its own time', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'host-slow-'));
  const slow = new Server();
  try {
    assert.equal((await command(['new', 'slow', '--lang', 'c'], { cwd: folder })).code, 0);
    const source = path.join(folder, 'slow/workspace.c');
    // Each instance takes a second and a half to begin, and a definition is asked for in two.
    writeFileSync(source, `#include <time.h>
${readFileSync(source, 'utf8')}
__attribute__((constructor)) static void wait(void) {
    struct timespec from, now;
    clock_gettime(CLOCK_MONOTONIC, &from);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - from.tv_sec) * 1000 + (now.tv_nsec - from.tv_nsec) / 1000000 < 1500);
}
`);
    const built = await command(['build', 'slow', '--plugins', slow.plugins], { cwd: folder });
    assert.equal(built.code, 0, built.stderr);
    await slow.start();
    assert.match(slow.logs, /loading slow\.wasm; 1 of 2 plugins are ready/);
    const [blog, other] = (await slow.get('/plugins')).data;
    assert.ok(other.tookMs >= 3000 && blog.tookMs < other.tookMs - 1000, `${blog.tookMs} ms, ${other.tookMs} ms`);

    const bytes = readFileSync(slow.file('slow.wasm'));
    const at = bytes.indexOf('must not be empty');
    bytes.write('has to say a word', at);
    writeFileSync(slow.file('slow.wasm'), bytes);
    const meanwhile = await until('a newer version is loaded', async () => {
      const now = await status(slow, 'slow.wasm');
      return now.loading && now;
    });
    assert.deepEqual([meanwhile.state, meanwhile.stale, meanwhile.hash], ['serving', false, other.hash]);
    await until('it serves', async () => {
      const now = await status(slow, 'slow.wasm');
      return !now.loading && now.hash !== other.hash;
    });
  } finally {
    await slow.dispose();
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a server whose output nobody reads any more runs on, and ends as it should', async () => {
  const server = await Server.start();
  after(() => server.dispose());
  server.child.stdout.destroy();
  server.child.stderr.destroy();
  // Each of these is logged.
  for (const id of ['a', 'b', 'c']) {
    writeFileSync(server.file(`${id}.wasm`), 'no component');
  }
  const told = () => server.get('/plugins').then(({ data }) => data.filter((plugin) => plugin.error).length === 3);
  await until('the broken files are known', told);
  server.child.kill('SIGTERM');
  assert.deepEqual(await server.exited, { code: 0, signal: null });
});
