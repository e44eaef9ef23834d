// Manifests: what a plugin may use beyond its own workspace, and how much of it.

import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Server, until } from './server.mjs';

const OUTWARD = '/workspaces/outward/actions';

/** What the other server has, beside what it says of every page. */
const PAGES = {
  '/large': 'Tee, 茶, \u{1f375} & "more"; '.repeat(20_000),
  '/broken': Buffer.from([0x61, 0xff, 0xe2, 0x82, 0x62]),
};

let server;
let other;
before(async () => {
  server = await Server.start({
    plugins: ['outward', 'probe'],
    env: { GRANTED_KEY: 'for plugins', SECRET_KEY: 'for nobody' },
  });
  other = createServer(async (request, response) => {
    const sent = Buffer.concat(await request.toArray());
    const type = request.headers['content-type'] ?? 'nothing';
    response.writeHead(request.method === 'POST' ? 201 : 200, { 'x-seen': `${request.method} ${type}` });
    response.end(request.method === 'POST' ? sent : (PAGES[request.url] ?? `you asked for ${request.url}`));
  });
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

/** How long the largest component may take to compile, when other programs want the processor as well. */
const COMPILING = 300_000;

/** A workspace of scripts that does what the plugins in other languages do. */
const SCRIPTS = {
  'workspace.rhai': `fn check(change) { if change.id == "guarded" { throw denied(\`${'${change.id}'} is nobody's\`); } }`,
  'tables/things.json': '{"type":"object","required":["id"],"properties":{"id":{"type":"string"}}}',
  'actions/variable.rhai': `//! Reads a variable.
//! ---
//! kind = "query"
//! input.name = "string"
environment::get(input.name)`,
  'actions/fetch.rhai': `//! Sends a request, with a text as JSON where there is one.
//! ---
//! kind = "query"
//! input.url = "string"
//! input.text = { type = "string", optional = true }
let answer = if "text" in input {
  http::send(#{ method: "POST", url: input.url, body: #{ text: input.text } })
} else {
  http::get(input.url)
};
#{ status: answer.status, seen: answer.headers["x-seen"], body: answer.body }`,
};

/**
 * A plugin in each language: the table that it has a check for, and what its rows have beside an id. What it
 * makes of bytes that are no text, and whether it can send and read them.
 */
const REACHING = {
  probe: { language: 'Rust', table: 'counters', row: { value: 1 } },
  'reach-js': { language: 'JavaScript', table: 'things' },
  'reach-python': { language: 'Python', table: 'things' },
  'library-go': {
    language: 'Go', table: 'books', row: { authors: [{ name: 'Ada' }] }, mended: 'a\ufffd\ufffd\ufffdb',
  },
  'library-c': { language: 'C', table: 'books', row: { authors: [{ name: 'Ada' }] }, mended: 'a???b' },
  'reach-rhai': { language: 'rhai', table: 'things', manifest: 'reach-rhai/workspace.toml', bytes: false },
};

for (const [name, plugin] of Object.entries(REACHING)) {
  const { language, table, row, mended = 'a\ufffd\ufffdb', manifest = `${name}.toml`, bytes = true } = plugin;
  describe(`a plugin in ${language}`, () => {
    const rows = `/workspaces/${name}/tables/${table}`;
    let reaching;
    const act = (action, input) =>
      reaching.get(`/workspaces/${name}/actions/${action}?${new URLSearchParams(input)}`);
    const page = (route) => `http://${here()}${route}`;

    before(async () => {
      const env = { GRANTED_KEY: 'für Plugins', SECRET_KEY: 'for nobody' };
      reaching = new Server({ plugins: language === 'rhai' ? [] : [name], env });
      for (const [file, text] of Object.entries(language === 'rhai' ? SCRIPTS : {})) {
        const target = reaching.file(`${name}/${file}`);
        mkdirSync(path.dirname(target), { recursive: true });
        writeFileSync(target, text);
      }
      await reaching.start();
      const isServed = async () => (await reaching.get(`/workspaces/${name}`)).status === 200;
      await until(`${name} is served`, isServed, COMPILING);
    });
    after(() => reaching?.dispose());

    test('is denied requests and variables, and told what would grant them', async () => {
      for (const [action, input, grant] of [
        ['fetch', { url: page('/tea') }, `this plugin may not ask ${here()}; \`hosts\` under \`[http]\` in its manifest`],
        ['variable', { name: 'GRANTED_KEY' }, 'may not read GRANTED_KEY; `env = ["GRANTED_KEY"]` in its manifest'],
      ]) {
        const { status, error } = await act(action, input);
        assert.equal(status, 403, JSON.stringify(error));
        assert.ok(error.message.includes(grant), error.message);
      }
    });

    test('is refused a change that its check denies', async () => {
      const { status, error } = await reaching.post(rows, { id: 'guarded', ...row });
      assert.equal(status, 403, JSON.stringify(error));
      assert.equal(error.message, "guarded is nobody's");
      assert.equal((await reaching.get(`${rows}/guarded`)).status, 404);
      assert.equal((await reaching.post(rows, { id: 'free', ...row })).status, 201);
    });

    test('reads the variables that are granted', async () => {
      const http = `[http]\nhosts = ["${here()}"]\nallow-private = true\n`;
      const text = `env = ["GRANTED_KEY", "NOT_SET"]\n${http}[limits]\naction = "20s"\n`;
      writeFileSync(reaching.file(manifest), text);
      const isGranted = async () => (await act('variable', { name: 'NOT_SET' })).status === 200;
      await until('the manifest is in force', isGranted, COMPILING);
      assert.equal((await act('variable', { name: 'NOT_SET' })).data, null);
      assert.equal((await act('variable', { name: 'GRANTED_KEY' })).data, 'für Plugins');
      assert.equal((await act('variable', { name: 'SECRET_KEY' })).status, 403);
    });

    test('sends requests to the hosts that are granted, and reads what they answer', async () => {
      const { data, error } = await act('fetch', { url: page('/tea') });
      assert.deepEqual(data, { status: 200, seen: 'GET nothing', body: 'you asked for /tea' }, JSON.stringify(error));
      const text = 'Grüße, 茶, \u{1f375}, "\\" and\nso on';
      const { data: sent, error: unsent } = await act('fetch', { url: page('/pot'), text });
      assert.deepEqual([sent?.status, sent?.seen], [201, 'POST application/json'], JSON.stringify(unsent));
      assert.deepEqual(JSON.parse(sent.body), { text });
      assert.equal((await act('fetch', { url: 'http://localhost:1/' })).status, 403);
      const { status, error: wrong } = await act('fetch', { url: 'tea' });
      assert.deepEqual([status, wrong.issues[0].path], [422, ['url']]);
    });

    test('reads large answers, and those that are no text', async () => {
      const { data, error } = await act('fetch', { url: page('/large') });
      assert.equal(error, undefined);
      assert.ok(data.body === PAGES['/large'], `${data.body.length} characters, and not the same`);
      assert.equal((await act('fetch', { url: page('/broken') })).data.body, mended);
      if (bytes) assert.deepEqual((await act('part', { url: page('/pot') })).data, [1, 128, 254]);
    });
  });
}
