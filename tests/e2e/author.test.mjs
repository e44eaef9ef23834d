// What authors of plugins do: `host new`, `build`, `check`, `test` and `dev`.

import assert from 'node:assert/strict';
import {
  copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Server, circularBlog, command, plugin, until } from './server.mjs';

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
  assert.ok(imports.includes('epicenter:workspace/tables@0.2.0'), imports.join());
  assert.deepEqual(grants, { env: [], ai: false, http: null });
  assert.deepEqual([limits.action, limits.memory], ['5s', '128MiB']);
  assert.deepEqual(faults, []);
  assert.deepEqual(readdirSync(folder), ['blog.wasm']);
});

/** A workspace in a script, with all that a description has. */
const NOTES = `//! Notes.
//! ---
//! version = "1"
//! awareness.cursor = { type = "integer" }
//! documents.notes.body = { guid = "body", updated_at = "touched" }
`;

test('check prints for people what it prints for programs', async () => {
  writeFileSync(path.join(folder, 'blog.toml'), 'env = ["KEY", "NO_KEY"]\n[limits]\naction = "7s"\n');
  const check = (...args) => command(['check', ...args, '--format', 'text'], { cwd: folder, env: { KEY: 'secret' } });
  const { code, stdout } = await check('blog.wasm');
  rmSync(path.join(folder, 'blog.toml'));
  assert.equal(code, 0);
  for (const text of [
    /blog\.wasm +\d+ KiB/, /posts\/publish +mutation Publishes a post/, /granted +env KEY +set\n +env NO_KEY +not set/,
    /action 7s +from the manifest/,
  ]) {
    assert.match(stdout, text);
  }
  assert.ok(!stdout.includes('secret'));

  const notes = path.join(folder, 'notes');
  mkdirSync(path.join(notes, 'tables'), { recursive: true });
  writeFileSync(path.join(notes, 'tables/notes.json'), JSON.stringify({
    type: 'object',
    properties: { id: { type: 'string' }, body: { type: 'string' }, touched: { type: 'integer' } },
  }));
  writeFileSync(path.join(notes, 'workspace.rhai'), NOTES);
  const { stdout: described, stderr } = await check('notes');
  assert.match(described, /awareness +cursor/, stderr);
  assert.match(described, /tables +notes +document body/);
  rmSync(notes, { recursive: true });
});

test('check says why a file cannot be served', async () => {
  const bytes = readFileSync(plugin('blog'));
  const cases = [
    ['empty.wasm', '', /the file is empty/],
    ['text.wasm', 'hello', /not a WebAssembly file/],
    ['text-format.wasm', '(module)', /WebAssembly text/],
    ['cut.wasm', bytes.subarray(0, bytes.length / 2), /cut short/],
    ['circular.wasm', circularBlog(), /the compiler ran out of stack on it; copy the file again/],
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
  assert.match(stdout, /not ok {2}wrong\n +POST \/tables\/posts +data\.title is "a", expected "b"/);
  assert.match(stdout, /the answer is 200 OK/);
});

test('a scenario that is none is refused', async () => {
  const cases = [
    ['{', /is not a scenario: EOF/],
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
    [['new', 'Tea', '--lang', 'rust'], 1, /"Tea" cannot be a project's name; use up to 64 of a-z 0-9 -/],
    [['new', 'full', '--lang', 'js'], 1, /full already exists and is not empty/],
    [['new', 'x', '--lang', 'cobol'], 2, /possible values: rust, js, python, go, c/],
    [['build', 'full'], 1, /full is not a project: it has none of Cargo\.toml \(Rust\), package\.json/],
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
  const make = path.join(folder, 'make-alone');
  mkdirSync(make);
  // Only what the path names counts; the shell that make calls is not looked up.
  const found = process.env.PATH.split(path.delimiter).map((place) => path.join(place, 'make')).find(existsSync);
  symlinkSync(found, path.join(make, 'make'));
  const debian = /apt-get install (make )?clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc/;
  const wanted = [
    ['js', folder, /nodejs\.org/],
    ['python', folder, /python\.org/],
    ['go', folder, /go\.dev/],
    ['c', folder, /make is not here: on Debian/],
    ['c', folder, debian],
    ['c', make, /there is no clang-19: on Debian/],
    ['c', make, debian],
  ];
  // Debian's compiler is found where it is, path or not. What is said without it is tested in host/toolchain.
  if (!existsSync('/usr/bin/rustc')) wanted.push(['rust', folder, /rustup\.rs/]);
  for (const [n, [lang, PATH, text]] of wanted.entries()) {
    const name = `bare-${lang}-${n}`;
    assert.equal((await host('new', name, '--lang', lang)).code, 0);
    const env = { PATH, WASI_SDK_PATH: undefined };
    const { code, stderr } = await command(['build', name], { cwd: folder, env });
    assert.equal(code, 1, stderr);
    assert.match(stderr, text);
  }
});

/** Where a project has its rule, and what its compiler says of nonsense. */
const LIVE = {
  js: {
    source: 'src/workspace.ts',
    rule: (text) => `'${text}'`,
    nonsense: (text) => text.replace('defineTable(', 'defineTable(nonsense,'),
    failed: /npm run build failed/,
    said: /src\/workspace\.ts.*nonsense/s,
  },
  c: {
    source: 'workspace.c',
    rule: (text) => `"${text}"`,
    nonsense: (text) => text.replace('static void has_text', 'nonsense has_text'),
    failed: /make failed/,
    said: /workspace\.c.*nonsense/s,
  },
};

for (const [lang, { source: file, rule, nonsense, failed, said }] of Object.entries(LIVE)) {
  test(`dev builds what is saved in ${lang}, serves it, and shows why a build failed`, async () => {
    const name = `live-${lang}`;
    const project = path.join(folder, name);
    assert.equal((await host('new', name, '--lang', lang)).code, 0);
    const source = path.join(project, file);
    const text = readFileSync(source, 'utf8');
    assert.ok(text.includes(rule('must not be empty')));
    const saying = (words) => text.replace(rule('must not be empty'), rule(words));
    const server = await Server.start({ plugins: [], dev: [project] });
    try {
      const notes = `/workspaces/${name}/tables/notes`;
      const build = async () => (await server.get('/')).body.builds[0];
      await until('it is served', async () => (await server.get(`/workspaces/${name}`)).status === 200, BUILDING);
      const says = async (words) => {
        const { error } = await server.post(notes, { id: '1', text: '' });
        return error?.issues?.[0].message === words;
      };
      assert.ok(await says('must not be empty'));

      writeFileSync(source, saying('needs words'));
      await until('the new rule holds', () => says('needs words'), BUILDING);
      await until('the build has ended', async () => (await build()).state === 'built');

      writeFileSync(source, nonsense(text));
      await until('the build has failed', async () => (await build()).state === 'failed', BUILDING);
      const { error, output, file: built } = await build();
      assert.match(error, failed);
      assert.match(output, said);
      assert.equal(built, `${name}.wasm`);
      assert.match(server.logs, /nonsense/);
      assert.ok(await says('needs words'), 'the version before is served');

      writeFileSync(source, saying('is mended'));
      await until('it is mended', () => says('is mended'), BUILDING);
      await until('the error is gone', async () => (await build()).state === 'built');
      assert.equal((await build()).error, null);
    } finally {
      await server.dispose();
    }
  });
}
