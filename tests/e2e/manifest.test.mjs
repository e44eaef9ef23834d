// Manifests: what a plugin may use beyond its own workspace, and how much of it.

import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import { Server, until } from './server.mjs';

const OUTWARD = '/workspaces/outward/actions';

let server;
let other;
before(async () => {
  server = await Server.start({
    plugins: ['outward', 'probe'],
    env: { GRANTED_KEY: 'for plugins', SECRET_KEY: 'for nobody' },
  });
  other = createServer((request, response) => response.end(`you asked for ${request.url}`));
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
});
after(async () => {
  await server?.dispose();
  other?.close();
});

/** What the server knows of a plugin. */
async function status(file) {
  const { data } = await server.get('/plugins');
  return data.find((plugin) => plugin.file === file);
}

/** Writes a plugin's manifest, and waits until it is in force or found wrong. */
async function grant(name, text) {
  const { hash } = (await status(`${name}.wasm`)) ?? {};
  writeFileSync(server.file(`${name}.toml`), text);
  return until(`the manifest of ${name} is read`, async () => {
    const now = await status(`${name}.wasm`);
    return now && (now.hash !== hash || now.error) && now;
  });
}

const fetchFrom = (host) => server.get(`${OUTWARD}/fetch?host=${encodeURIComponent(host)}&path=/tea`);
const here = () => `localhost:${other.address().port}`;

test('without a manifest nothing is granted: no request is sent, and no variable is seen', async () => {
  const { grants } = await status('outward.wasm');
  assert.deepEqual(grants, { env: [], ai: false, http: null });
  const { status: code, error } = await fetchFrom(here());
  assert.equal(code, 500, JSON.stringify(error));
  assert.match(error.message, /HttpRequestDenied/);
  assert.deepEqual((await server.get(`${OUTWARD}/environment`)).data, []);
});

test('variables are granted by name', async () => {
  const { grants } = await grant('outward', 'env = ["GRANTED_KEY", "NOT_SET"]');
  assert.deepEqual(grants.env, ['GRANTED_KEY', 'NOT_SET']);
  assert.deepEqual((await server.get(`${OUTWARD}/environment`)).data, [['GRANTED_KEY', 'for plugins']]);
});

test('requests go to the hosts that are listed, and to private addresses only where that is said', async () => {
  await grant('outward', `[http]\nhosts = ["${here()}"]\n`);
  assert.match((await fetchFrom(here())).error.message, /Denied|Prohibited/i);
  await grant('outward', `[http]\nhosts = ["${here()}"]\nallow-private = true\n`);
  assert.deepEqual((await fetchFrom(here())).data, { status: 200, body: 'you asked for /tea' });
  for (const host of [here().replace('localhost', '127.0.0.1'), 'localhost:1', 'example.com']) {
    const { status: code, error } = await fetchFrom(host);
    assert.equal(code, 500, host);
    assert.match(error.message, /HttpRequestDenied/, host);
  }
});

test('what is granted is gone with the manifest', async () => {
  rmSync(server.file('outward.toml'));
  await until('nothing is granted', async () => (await status('outward.wasm')).grants.http === null);
  assert.match((await fetchFrom(here())).error.message, /HttpRequestDenied/);
});

test('limits are overridden, for that plugin alone', async () => {
  const spin = { id: 'a', how: 'spin' };
  await grant('probe', '[limits]\naction = "200ms"\nresult-bytes = "1KiB"\n');
  const started = performance.now();
  const late = await server.post('/workspaces/probe/actions/misbehave', spin);
  assert.equal(late.status, 504);
  assert.match(late.error.message, /took longer than 200 ms/);
  assert.ok(performance.now() - started < 4_000, 'it ended long before the usual 5 s');
  const large = await server.get('/workspaces/probe/actions/large?bytes=2000');
  assert.equal(large.status, 500);
  assert.match(large.error.message, /the result has 2002 bytes; 1024 is the most/);
  assert.equal((await server.get('/workspaces/probe/actions/large?bytes=1000')).status, 200);
});

test('a broken manifest is an error with its file, line and key, and the version before goes on', async () => {
  const { error, stale, state } = await grant('probe', '\n[limits]\nmemroy = "1MiB"\n');
  assert.match(error, /^probe\.toml:3: memroy: unknown field/);
  assert.deepEqual([stale, state], [true, 'serving']);
  assert.equal((await server.get('/workspaces/probe/actions/sum')).status, 200);
  const worse = await grant('probe', '[http]\nhosts = ["http://x"]\n');
  assert.ok(worse.error);
  rmSync(server.file('probe.toml'));
  await until('it is mended', async () => (await status('probe.wasm')).error === null);
});

test('a manifest without a plugin is an error that names it', async () => {
  writeFileSync(server.file('lost.toml'), 'env = ["KEY"]');
  const lost = await until('it is named', async () => {
    const found = await status('lost.toml');
    return found?.error && found;
  });
  assert.equal(lost.state, 'failed');
  assert.match(lost.error, /there is no lost\.wasm/);
  rmSync(server.file('lost.toml'));
  await until('it is gone', async () => !(await status('lost.toml')));
});
