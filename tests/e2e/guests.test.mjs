// Components that do what they should not: each ends in one clear error, and nobody else notices.
// What a definition may do wrong is in host/plugins/src/tests.rs, with guests written for it.

import assert from 'node:assert/strict';
import { cpSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { Neighbour } from './neighbour.mjs';
import { Server, plugin } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';
const QUICK = '/workspaces/blog/actions/posts/popular?min=0';
const MISBEHAVE = '/workspaces/probe/actions/misbehave';

let server;
/** Another workspace, whose calls run in its component. */
const blog = new Neighbour(async () => assert.equal((await server.get(QUICK)).status, 200));
before(async () => {
  server = new Server({ plugins: ['blog'] });
  cpSync(plugin('probe'), server.file('probe.wasm'));
  writeFileSync(server.file('probe.toml'), '[limits]\naction = "2s"\nhost-calls = 5000\n');
  await server.start();
  await blog.rest();
});
after(() => server?.dispose());

const HOSTILE = {
  spin: [504, /took longer than 2000 ms/],
  devour: [500, /out of memory, an instance may use 128 MiB/],
  recurse: [500, /recursed too deeply/],
  panic: [500, /it panicked/],
  ask: [500, /called the host more than 5000 times/],
  boast: [500, /out of memory/],
  chatter: [500, /called the host more than 5000 times/],
  trespass: [500, /NotFound/],
};

for (const [how, [expected, text]] of Object.entries(HOSTILE)) {
  test(`a component that tries to ${how} ends in one clear error, has written nothing, and nobody waits for it`, async () => {
    const attack = server.post(MISBEHAVE, { id: how, how });
    await blog.during(how, attack);
    const { status, error } = await attack;
    assert.equal(status, expected, JSON.stringify(error));
    assert.match(error.message, text);
    assert.equal((await server.get('/workspaces/probe/actions/sum')).data, 0);
  });
}

test('what they did is told, and has changed nothing', async () => {
  assert.deepEqual((await server.get(POSTS)).data, []);
  const { data } = await server.get('/plugins');
  const probe = data.find(({ file }) => file === 'probe.wasm');
  assert.ok(probe.errors >= 7 && probe.lastError.message.includes('probe'), JSON.stringify(probe));
  const lines = server.logs.split('\n').filter((line) => /line \d+/.test(line)).length;
  assert.ok(lines >= 900 && lines <= 1_001, `${lines} lines of ten million are in the log`);
});

test('thousands of slow calls leave the other workspaces as quick as before', async () => {
  const slow = Array.from({ length: 2_000 }, () => server.post(MISBEHAVE, { id: 'a', how: 'spin' }));
  await blog.during('2,000 that spin', Promise.all(slow));
  const codes = (await Promise.all(slow)).map(({ status }) => status);
  assert.deepEqual(codes.filter((code) => code !== 503 && code !== 504), []);
  assert.ok(codes.includes(503), 'who waits too long is told that it is busy');
  assert.equal((await server.get('/workspaces/probe/actions/sum')).data, 0);
});
