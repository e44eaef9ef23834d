// What authors of plugins do: `host new`, `build`, `check`, `test` and `dev`.

import assert from 'node:assert/strict';
import {
  copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Server, command, plugin, until } from './server.mjs';

const SCENARIO = fileURLToPath(new URL('../../examples/blog/scenario.json', import.meta.url));

let folder;
before(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'host-author-'));
  copyFileSync(plugin('blog'), path.join(folder, 'blog.wasm'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

const host = (...args) => command(args, { cwd: folder });

test('check prints what a plugin is, and leaves nothing behind', async () => {
  const { file, definition, imports, grants, limits, faults } = (await host('check', 'blog.wasm')).json;
  assert.equal(file, 'blog.wasm');
  assert.equal(definition.id, 'blog');
  assert.deepEqual(definition.tables.map((table) => [table.name, table.versions.length]), [['posts', 2]]);
  assert.deepEqual(definition.kv.map((kv) => kv.key), ['theme']);
  const actions = definition.actions.map((action) => `${action.kind} ${action.path}`);
  assert.deepEqual(actions, ['mutation posts/publish', 'mutation posts/import', 'query posts/popular']);
  assert.ok(imports.includes('epicenter:workspace/tables@0.1.0'), imports.join());
  assert.deepEqual(grants, { env: [], ai: false, http: null });
  assert.deepEqual([limits.action, limits.memory], ['5s', '128MiB']);
  assert.deepEqual(faults, []);
  assert.deepEqual(readdirSync(folder), ['blog.wasm']);
});

test('check prints for people what it prints for programs', async () => {
  writeFileSync(path.join(folder, 'blog.toml'), 'env = ["KEY"]\n[limits]\naction = "7s"\n');
  const { code, stdout } = await host('check', 'blog.wasm', '--format', 'text');
  rmSync(path.join(folder, 'blog.toml'));
  assert.equal(code, 0);
  for (const text of [/blog\.wasm +\d+ KiB/, /posts\/publish +mutation Publishes a post/, /granted +env KEY/, /action 7s +from the manifest/]) {
    assert.match(stdout, text);
  }
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
    assert.match(JSON.parse(stdout).faults[0], text);
    assert.match(stderr, text);
    rmSync(path.join(folder, name));
  }
  const missing = await host('check', 'none.wasm');
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /there is no file none\.wasm/);
});

test('check finds every fault, of a manifest, of scripts and of schemas', async () => {
  const place = mkdtempSync(path.join(tmpdir(), 'host-check-'));
  const files = {
    'blog.wasm': readFileSync(plugin('blog')),
    'blog.toml': 'ev = ["KEY"]',
    'blog/actions/a.rhai': 'let x = ;',
    'blog/actions/b.rhai': '//! B.\n//! ---\n//! kind = "wish"\n1',
    'notes/workspace.rhai': 'fn validate(table, row) { }\nlet y = ;',
    'notes/tables/one.json': '{"type":5}',
    'notes/tables/two.json': '{',
  };
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(place, name)), { recursive: true });
    writeFileSync(path.join(place, name), content);
  }
  const { code, stdout, stderr } = await command(['check', place]);
  assert.equal(code, 1);
  const [blog, notes] = JSON.parse(stdout);
  const expected = [
    [blog, [/^blog\.toml:1: ev: unknown field/, /^blog\/actions\/a\.rhai:1:9: /, /^blog\/actions\/b\.rhai:3: unknown variant/]],
    [notes, [/^notes\/workspace\.rhai:2:9: /, /^notes\/tables\/one\.json: not a JSON Schema/, /^notes\/tables\/two\.json:1:1: not JSON/]],
  ];
  for (const [{ file, faults }, texts] of expected) {
    assert.equal(faults.length, texts.length, `${file}: ${faults.join('\n')}`);
    texts.forEach((text, n) => assert.match(faults[n], text));
  }
  assert.match(stderr, /2 of 2 cannot be served/);
  const one = await command(['check', path.join(place, 'notes')]);
  assert.equal(JSON.parse(one.stdout).faults.length, 3, one.stderr);
  rmSync(place, { recursive: true });
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

/** How long a toolchain may take that builds its language's library first. */
const BUILDING = 400_000;

for (const lang of ['rust', 'js', 'python', 'go', 'c']) {
  test(`a new project in ${lang} is built, checked and tested`, async () => {
    const name = `tea-${lang}`;
    const made = await host('new', name, '--lang', lang);
    assert.equal(made.code, 0, made.stderr);
    const cwd = path.join(folder, name);
    const built = await command(['build'], { cwd, patience: BUILDING });
    assert.equal(built.code, 0, built.stderr);
    assert.deepEqual(readdirSync(path.join(cwd, 'plugins')).sort(), [`${name}.toml`, `${name}.wasm`]);
    const checked = await command(['check', `dist/${name}.wasm`], { cwd });
    assert.equal(checked.json.definition.id, name);
    const tested = await command(['test', 'scenario.json'], { cwd });
    assert.equal(tested.code, 0, tested.stdout + tested.stderr);
  });
}

test('new and build say what is wrong with what they are asked', async () => {
  mkdirSync(path.join(folder, 'full'));
  writeFileSync(path.join(folder, 'full/notes.txt'), 'mine');
  const cases = [
    [['new', 'Tea', '--lang', 'rust'], 1, /"Tea" is no name for a project; use up to 64 of a-z 0-9 -/],
    [['new', 'full', '--lang', 'js'], 1, /full is there already, and not empty/],
    [['new', 'x', '--lang', 'cobol'], 2, /possible values: rust, js, python, go, c/],
    [['build', 'full'], 1, /full is no project: it has none of Cargo\.toml \(Rust\), package\.json/],
    [['build', 'nowhere'], 1, /there is no folder nowhere/],
    [['dev', 'nowhere'], 1, /there is no folder nowhere/],
  ];
  for (const [args, expected, text] of cases) {
    const { code, stderr } = await host(...args);
    assert.equal(code, expected, stderr);
    assert.match(stderr, text);
  }
  assert.deepEqual(readdirSync(path.join(folder, 'full')), ['notes.txt']);
});

test('without a toolchain, build says what to install', async () => {
  const wanted = { js: /nodejs\.org/, python: /python\.org/, go: /go\.dev/ };
  for (const [lang, text] of Object.entries(wanted)) {
    const name = `bare-${lang}`;
    assert.equal((await host('new', name, '--lang', lang)).code, 0);
    // A path with nothing on it.
    const { code, stderr } = await command(['build', name], { cwd: folder, env: { PATH: folder } });
    assert.equal(code, 1, stderr);
    assert.match(stderr, text);
  }
});

test('dev builds what is saved, serves it, and shows why a build failed', async () => {
  const project = path.join(folder, 'live');
  assert.equal((await host('new', 'live', '--lang', 'js')).code, 0);
  const source = path.join(project, 'src/workspace.ts');
  const text = readFileSync(source, 'utf8');
  const server = await Server.start({ plugins: [], dev: [project] });
  try {
    const notes = '/workspaces/live/tables/notes';
    const build = async () => (await server.get('/')).body.builds[0];
    await until('it is served', async () => (await server.get('/workspaces/live')).status === 200, BUILDING);
    const says = async (words) => {
      const { error } = await server.post(notes, { id: '1', text: '' });
      return error?.issues?.[0].message === words;
    };
    assert.ok(await says('must not be empty'));

    writeFileSync(source, text.replace("'must not be empty'", "'needs words'"));
    await until('the new rule holds', () => says('needs words'), BUILDING);
    await until('the build has ended', async () => (await build()).state === 'built');

    writeFileSync(source, text.replace('defineTable(', 'defineTable(nonsense,'));
    await until('the build has failed', async () => (await build()).state === 'failed', BUILDING);
    const { error, output, file } = await build();
    assert.match(error, /npm run build failed/);
    assert.match(output, /src\/workspace\.ts.*nonsense/s);
    assert.equal(file, 'live.wasm');
    assert.match(server.logs, /nonsense/);
    assert.ok(await says('needs words'), 'the version before is served');

    writeFileSync(source, text.replace("'must not be empty'", "'is mended'"));
    await until('it is mended', () => says('is mended'), BUILDING);
    await until('the error is gone', async () => (await build()).state === 'built');
    assert.equal((await build()).error, null);
  } finally {
    await server.dispose();
  }
});
