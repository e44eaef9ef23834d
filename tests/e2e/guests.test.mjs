// Components that do what they should not: each ends in one clear error, and nobody else notices.
// What a definition may do wrong is in host/plugins/src/tests.rs, with guests written for it.

import assert from 'node:assert/strict';
import { cpSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { Server, plugin } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';
const QUICK = '/workspaces/blog/actions/posts/popular?min=0';
const MISBEHAVE = '/workspaces/probe/actions/misbehave';

let server;
before(async () => {
  server = new Server({ plugins: ['blog'] });
  cpSync(plugin('probe'), server.file('probe.wasm'));
  writeFileSync(server.file('probe.toml'), '[limits]\naction = "2s"\n');
  await server.start();
});
after(() => server?.dispose());

const HOSTILE = {
  spin: [504, /took longer than 2000 ms/],
  devour: [500, /out of memory, an instance may use 128 MiB/],
  recurse: [500, /recursed too deeply/],
  panic: [500, /it panicked/],
  ask: [500, /called the host more than 100000 times|took longer/],
  boast: [500, /out of memory|bytes/],
  chatter: [500, /it has said everything|took longer/],
  trespass: [500, /NotFound/],
};

test('a hostile component ends in one clear error, has written nothing, and nobody waits for it', async () => {
  for (const [how, [expected, text]] of Object.entries(HOSTILE)) {
    const attack = server.post(MISBEHAVE, { id: how, how });
    let over = false;
    let asked = 0;
    attack.finally(() => (over = true));
    while (!over) {
      assert.equal((await server.get(POSTS)).status, 200, how);
      asked += 1;
    }
    const { status, error } = await attack;
    assert.ok(status === expected || status === 504, `${how}: ${status} ${JSON.stringify(error)}`);
    assert.match(error.message, text, how);
    assert.ok(asked >= 1, how);
    assert.equal((await server.get('/workspaces/probe/actions/sum')).data, 0, how);
  }
  assert.deepEqual((await server.get(POSTS)).data, []);
  const { data } = await server.get('/plugins');
  const probe = data.find(({ file }) => file === 'probe.wasm');
  assert.ok(probe.errors >= 5 && probe.lastError.message.includes('probe'), JSON.stringify(probe));
  const lines = server.logs.split('\n').filter((line) => /line \d+/.test(line)).length;
  assert.ok(lines <= 1_001, `${lines} lines of ten million are in the log`);
});

test('thousands of slow calls leave the other workspaces as quick as before', async () => {
  const measure = async (count) => {
    const started = performance.now();
    for (let n = 0; n < count; n += 1) assert.equal((await server.get(QUICK)).status, 200);
    return (performance.now() - started) / count;
  };
  await measure(20);
  const before = await measure(100);
  const slow = Array.from({ length: 2_000 }, () => server.post(MISBEHAVE, { id: 'a', how: 'spin' }));
  const during = await measure(100);
  const answers = await Promise.all(slow);
  const codes = answers.map(({ status }) => status);
  assert.deepEqual(codes.filter((code) => code !== 503 && code !== 504), []);
  assert.ok(codes.includes(503), 'who waits too long is told that it is busy');
  assert.ok(during < before * 40 + 40, `${before} ms before, ${during} ms beside 2,000 that spin`);
  assert.equal((await server.get('/workspaces/probe/actions/sum')).data, 0);
});
