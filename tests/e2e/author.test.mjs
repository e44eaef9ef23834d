// What authors of plugins do before anybody serves them: `host check` and `host test`.

import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { command, plugin } from './server.mjs';

const SCENARIO = fileURLToPath(new URL('../../examples/blog/scenario.json', import.meta.url));

let folder;
before(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'host-author-'));
  copyFileSync(plugin('blog'), path.join(folder, 'blog.wasm'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

const host = (...args) => command(args, { cwd: folder });

test('check prints what a plugin defines, and leaves nothing behind', async () => {
  const definition = (await host('check', 'blog.wasm')).json;
  assert.equal(definition.id, 'blog');
  assert.deepEqual(definition.tables.map((table) => [table.name, table.versions.length]), [['posts', 2]]);
  assert.deepEqual(definition.kv.map((kv) => kv.key), ['theme']);
  const actions = definition.actions.map((action) => `${action.kind} ${action.path}`);
  assert.deepEqual(actions, ['mutation posts/publish', 'mutation posts/import', 'query posts/popular']);
  assert.deepEqual(readdirSync(folder), ['blog.wasm']);
});

test('check says why a file cannot be served', async () => {
  const bytes = readFileSync(plugin('blog'));
  const cases = [
    ['empty.wasm', '', /the file is empty/],
    ['text.wasm', 'hello', /not a WebAssembly file/],
    ['text-format.wasm', '(module)', /WebAssembly text/],
    ['cut.wasm', bytes.subarray(0, bytes.length / 2), /cut short/],
    ['module.wasm', Buffer.from('0061736d01000000', 'hex'), /does not say which interfaces it implements/],
  ];
  for (const [name, content, text] of cases) {
    writeFileSync(path.join(folder, name), content);
    const { code, stdout, stderr } = await host('check', name);
    assert.equal(code, 1, stderr);
    assert.equal(stdout, '');
    assert.match(stderr, text);
    rmSync(path.join(folder, name));
  }
  const missing = await host('check', 'none.wasm');
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /there is no file none\.wasm/);
});

test("test runs the blog's scenario", async () => {
  const { code, stdout, stderr } = await host('test', SCENARIO);
  assert.equal(code, 0, stdout + stderr);
  const steps = JSON.parse(readFileSync(SCENARIO)).steps.map((step) => step.name);
  assert.deepEqual(stdout.trimEnd().split('\n'), steps.map((name) => `ok      ${name}`));
});

test('test says which steps fail, and how', async () => {
  const scenario = {
    plugin: 'blog.wasm',
    steps: [
      { name: 'wrong', request: 'POST /tables/posts', body: { id: '1', title: 'a' }, data: { title: 'b' } },
      { request: 'GET /tables/posts/1', data: { title: 'a' } },
      { request: 'GET /tables/posts/1', status: 404 },
      { request: 'GET /tables/posts/none', data: {} },
      { request: 'GET /tables/posts/none', error: { message: 'has no row' } },
      { request: 'GET /tables/posts', error: {} },
      { request: 'tables' },
    ],
  };
  writeFileSync(path.join(folder, 'scenario.json'), JSON.stringify(scenario));
  const { code, stdout, stderr } = await host('test', 'scenario.json');
  assert.equal(code, 1);
  assert.match(stderr, /5 of 7 steps failed/);
  const lines = stdout.split('\n').filter((line) => /^(not )?ok/.test(line));
  assert.deepEqual(lines.map((line) => line.startsWith('ok')), [false, true, false, false, true, false, false]);
  assert.match(stdout, /not ok {2}wrong\n +POST \/tables\/posts +data\.title is "a", and expected is "b"/);
  assert.match(stdout, /the answer is 200 OK/);
});

test('a scenario that is none is refused', async () => {
  const cases = [
    ['{', /is no scenario: EOF/],
    ['{"plugin":"blog.wasm","steps":[]}', /has no steps/],
    ['{"plugin":"none.wasm","steps":[{"request":"GET /kv"}]}', /there is no file none\.wasm/],
    ['{"plugin":"blog.wasm","steps":[{"request":"GET /kv","dta":{}}]}', /unknown field `dta`/],
  ];
  for (const [text, expected] of cases) {
    writeFileSync(path.join(folder, 'broken.json'), text);
    const { code, stderr } = await host('test', 'broken.json');
    assert.equal(code, 1);
    assert.match(stderr, expected);
  }
});
