// The SDK on the author's own machine: what the host is told of a workspace and what it would answer.
// What the real host makes of it is tested in the end-to-end tests.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

import { rolldown } from 'rolldown';

const SDK = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'epicenter-sdk-'));
after(() => rmSync(folder, { recursive: true }));

/** What the SDK asked of the host, and what it is answered. */
const asked = [];
const answers = { count: () => 0, list: () => ({ rows: [], next: null }), now: () => 86_400_000 };

/** The globals of the plugin, which are not those of this test: QuickJS's, of what the SDK uses. */
const globals = vm.createContext({
  atob,
  btoa,
  toBase64: (bytes) => Buffer.from(bytes).toString('base64'),
  fromBase64: (text) => [...Buffer.from(text, 'base64')],
  host: (name, args) => {
    asked.push(structuredClone([name, ...args]));
    return answers[name]?.(...args);
  },
});

vm.runInContext(
  `Uint8Array.prototype.toBase64 = function () { return toBase64(this); };
   Uint8Array.fromBase64 = (text) => Uint8Array.from(fromBase64(text));`,
  globals,
);

let fixture;
let guest;
before(async () => {
  const names = ['get', 'list', 'count', 'put', 'update', 'delete', 'set', 'write', 'caller', 'now'];
  names.push('randomId', 'randomU64', 'requestId', 'getText', 'setText', 'chat', 'chatStream', 'send');
  const functions = names.map(
    (name) => `const _${name} = (...args) => host('${name}', args); export { _${name} as ${name} };`,
  );
  const bundle = await rolldown({
    input: path.join(SDK, 'tests/fixture.ts'),
    plugins: [
      {
        name: 'host',
        resolveId: (id) => (id.startsWith('epicenter:') ? id : undefined),
        load: (id) => (id.startsWith('epicenter:') ? functions.join('\n') : undefined),
      },
    ],
  });
  const { output } = await bundle.generate({ format: 'iife', name: 'fixture', codeSplitting: false });
  await bundle.close();
  fixture = vm.runInContext(`${output[0].code}\nfixture`, globals);
  guest = fixture.guestOf(fixture.notes, '1.2.3');
  guest.define();
});

function parse(table, ...rows) {
  const parsed = structuredClone(guest.parseRows(table, rows.map((row) => JSON.stringify(row))));
  return parsed.map(({ tag, val }) =>
    tag === 'ok' ? JSON.parse(val) : val.map(({ path, message }) => `${path.join('.')}: ${message}`),
  );
}

test('the definition says all that the author said', () => {
  const { id, version, tables, kv, awareness, actions } = structuredClone(guest.define());
  assert.deepEqual([id, version], ['notes', '1.2.3']);
  assert.deepEqual(tables.map(({ name }) => name), ['zod', 'arktype', 'hand']);
  const [zod, arktype, hand] = tables;
  assert.deepEqual([zod.checksChanges, arktype.checksChanges], [true, false]);
  assert.deepEqual(zod.documents, [{ name: 'body', guidColumn: 'id', updatedAtColumn: 'stars' }]);
  for (const { versions } of [zod, arktype]) {
    const [first, second] = versions.map((json) => JSON.parse(json));
    assert.deepEqual(Object.keys(first.properties).sort(), ['_v', 'id', 'title']);
    assert.deepEqual(Object.keys(second.properties).sort(), ['_v', 'id', 'stars', 'title']);
    assert.deepEqual([first.properties._v, second.properties._v], [{ const: 1 }, { const: 2 }]);
    assert.ok(!second.required.includes('_v') && second.$schema === undefined);
  }
  assert.deepEqual(JSON.parse(hand.versions[0]), { type: 'object', properties: {}, required: ['id'] });
  assert.deepEqual(JSON.parse(kv[0].versions[0]).enum, ['dark', 'light']);
  assert.equal(JSON.parse(awareness[0].schema).properties.line.type, 'integer');
  assert.deepEqual(
    actions.map(({ kind, path, input, output }) => [kind, path, input !== null, output !== null]),
    [
      ['query', 'double', true, true], ['query', 'best', false, false],
      ['mutation', 'deep/er/fail', false, false], ['mutation', 'deep/er/later', false, false],
      ['mutation', 'deep/er/nothing', false, false], ['mutation', 'deep/er/write', false, false],
    ],
  );
});

for (const table of ['zod', 'arktype']) {
  test(`rows are read as the version that wrote them, by ${table}`, () => {
    const current = { id: '1', title: 'Tea', stars: 3, _v: 2 };
    assert.deepEqual(
      parse(
        table,
        current,
        { id: '1', title: 'Tea', stars: 3 },
        { id: '1', title: 'Tea', _v: 1 },
      ),
      [current, current, { ...current, stars: 0 }],
    );
    const [[future], [notOne], [noId], [wrongId], [none], [empty]] = parse(
      table,
      { ...current, _v: 3 }, { ...current, _v: 'x' }, { title: 'Tea' }, { ...current, id: 5 }, 7,
      { id: '1', title: '', _v: 1 },
    );
    assert.match(future, /^_v: was written by version 3/);
    assert.match(notOne, /^_v: must be a whole number from 1 to 2/);
    assert.deepEqual([noId, wrongId, none], ['id: is required', 'id: must be a string', ': a row must be an object']);
    // A row that is migrated must be valid as well.
    assert.match(empty, /^title: /);
    // A slip in a current row does not turn it into an old one.
    assert.match(parse(table, { id: '1', title: 'Tea', stars: 'many' })[0][0], /^stars: /);
  });
}

test('an issue says where, however its library names the steps', () => {
  assert.deepEqual(parse('hand', { id: '1', tags: [] }), [['tags.0: too many']]);
});

test('a schema that knows no JSON Schema is refused with what would mend it', () => {
  assert.throws(() => fixture.guestOf(fixture.undescribed, ''), {
    message: /version 1 of table hand: hand gives no JSON Schema .* withJsonSchema/,
  });
});

test('a key has the values that its schema has', () => {
  assert.equal(guest.parseKv('theme', '"dark"'), '"dark"');
  assert.throws(() => guest.parseKv('theme', '"grey"'), (issues) => issues[0].message.length > 0);
});

test('an action reads its input and writes its output as JSON', () => {
  assert.equal(guest.runAction('double', '{"number":21}'), '42');
  assert.throws(() => guest.runAction('double', '{"number":"x"}'), ({ tag, val }) => {
    assert.deepEqual([tag, val[0].path.join('.')], ['invalid', 'number']);
    return true;
  });
  assert.equal(guest.runAction('deep/er/nothing', 'null'), 'null');
  assert.throws(() => guest.runAction('nowhere', 'null'), (error) => error.tag === 'not-found');
  assert.throws(() => guest.runAction('deep/er/later', 'null'), ({ val }) => /a promise/.test(val));
});

test('an action reads and writes the document of a row', () => {
  answers.getText = () => 'Once';
  asked.length = 0;
  guest.runAction('deep/er/write', 'null');
  assert.deepEqual(asked.filter(([name]) => /Text$/.test(name)), [
    ['getText', 'zod', '1', 'body'],
    ['setText', 'zod', '1', 'body', 'Once upon a time'],
  ]);
});

test('a selection becomes the query of the contract', () => {
  asked.length = 0;
  assert.equal(guest.runAction('best', 'null'), '{"rows":[]}');
  assert.deepEqual(asked, [
    [
      'list',
      'zod',
      {
        filters: [
          { field: 'stars', operator: 'gte', value: '3' },
          { field: 'stars', operator: 'lt', value: '5' },
          { field: 'title', operator: 'eq', value: '"tea"' },
        ],
        sort: [{ field: 'stars', descending: true }, { field: 'id', descending: false }],
        limit: 2,
        cursor: null,
      },
    ],
  ]);
});

test('a check sees the change, may read, and refuses with an error', () => {
  const note = (stars) => JSON.stringify({ id: '1', title: 'Tea', stars, _v: 2 });
  const change = (operation, old, next) =>
    guest.checkChange({ table: 'zod', operation, id: '1', old, new: next, caller: null });
  change('create', null, note(1));
  change('delete', note(1), null);
  const refused = (...of) => {
    try {
      change(...of);
    } catch (error) {
      return structuredClone(error);
    }
  };
  assert.deepEqual(refused('delete', note(5), null), { tag: 'denied', val: 'a favourite stays' });
  answers.count = () => 1;
  const issues = [{ path: ['title'], message: 'is taken' }];
  assert.deepEqual(refused('create', null, note(1)), { tag: 'invalid', val: issues });
  answers.count = vm.runInContext("() => { throw new Error('the abacus fell'); }", globals);
  assert.deepEqual(refused('create', null, note(1)), { tag: 'failed', val: 'the abacus fell' });
});

test('the time, chance and the console are the host’s', () => {
  const { Date, console, crypto, random } = vm.runInContext(
    '({ Date, console, crypto, random: Math.random })',
    globals,
  );
  assert.equal(new Date().toISOString(), '1970-01-02T00:00:00.000Z');
  assert.equal(Date.now(), 86_400_000);
  assert.equal(new Date(0).getTime(), 0);
  assert.ok(new Date() instanceof Date);
  answers.randomU64 = () => 2 ** 64;
  assert.ok(random() < 1);
  answers.randomU64 = () => 0xffff_ffff_ffff_ffffn;
  assert.ok(random() < 1);
  assert.match(crypto.randomUUID(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  asked.length = 0;
  console.warn('so', { many: 3 });
  assert.deepEqual(asked, [['write', 'warn', 'so {"many":3}']]);
});

/** A project as it is made from the template, with a copy of the SDK in it. */
function project(name) {
  const project = path.join(folder, name);
  cpSync(path.join(SDK, 'template'), project, { recursive: true });
  for (const part of ['package.json', 'src', 'bin']) {
    cpSync(path.join(SDK, part), path.join(project, 'epicenter-workspace', part), { recursive: true });
  }
  cpSync(path.join(SDK, '../../wit/0.2.0'), path.join(project, 'epicenter-workspace/wit'), { recursive: true });
  // What `npm install` would do.
  mkdirSync(path.join(project, 'node_modules'));
  for (const name of readdirSync(path.join(SDK, 'node_modules'))) {
    symlinkSync(path.join(SDK, 'node_modules', name), path.join(project, 'node_modules', name));
  }
  symlinkSync('../epicenter-workspace', path.join(project, 'node_modules/epicenter-workspace'));
  return project;
}

test('a project made from the template builds, and says what is wrong when it does not', () => {
  const cwd = project('fresh');
  const build = [path.join(cwd, 'epicenter-workspace/bin/epicenter-build.mjs')];
  execFileSync(path.join(cwd, 'node_modules/.bin/tsc'), { cwd, stdio: 'pipe' });
  execFileSync(process.execPath, build, { cwd, stdio: 'pipe' });
  assert.ok(statSync(path.join(cwd, 'dist/my-workspace.wasm')).size > 100_000);

  writeFileSync(path.join(cwd, 'src/workspace.ts'), "export default (() => { throw new Error('no such luck'); })();");
  const { status, stderr } = spawnSync(process.execPath, build, { cwd, encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /no such luck/);
});

test('a model is asked in the contract’s words, and answers in the author’s', () => {
  const call = { id: 'c1', name: 'sum', arguments: '{}', signature: '' };
  const said = { thinking: [], text: 'Hi', calls: [call] };
  const usage = { input: 1n, output: 2n, total: 3n };
  const end = { model: 'm-1', message: said, reason: 'tool-calls', usage };
  answers.chat = () => end;
  const events = [{ tag: 'text', val: 'Hi' }, { tag: 'tool-call', val: call }, { tag: 'end', val: end }];
  answers.chatStream = () => ({ next: () => events.shift() });
  const answer = {
    model: 'm-1',
    message: { role: 'assistant', ...said },
    reason: 'tool-calls',
    usage: { input: 1, output: 2, total: 3 },
  };
  const parameters = { type: 'object', properties: {} };
  const request = {
    provider: 'openai',
    model: 'm',
    messages: [{ role: 'user', content: 'Hello' }, answer.message, { role: 'tool', call, content: '7' }],
    tools: [{ name: 'sum', description: 'Adds up.', parameters }],
    options: { temperature: 0 },
  };
  assert.deepEqual(structuredClone(fixture.chat(request)), answer);
  assert.deepEqual(asked.at(-1), [
    'chat',
    {
      provider: 'openai',
      model: 'm',
      system: '',
      messages: [
        { tag: 'user', val: 'Hello' },
        { tag: 'assistant', val: said },
        { tag: 'tool-result', val: { id: 'c1', name: 'sum', content: '7' } },
      ],
      tools: [{ name: 'sum', description: 'Adds up.', parameters: JSON.stringify(parameters) }],
      options: '{"temperature":0}',
    },
  ]);
  assert.deepEqual(structuredClone([...fixture.chatStream(request)]), [
    { type: 'text', text: 'Hi' }, { type: 'tool-call', call }, { type: 'end', answer },
  ]);
});

/** What a request was sent as, and what is made of its answer. */
function send(answer, ...request) {
  answers.send = () => ({ status: 200, headers: [], body: [], ...answer });
  const given = fixture.request(...request);
  const [, sent] = asked.at(-1);
  return { given, sent: { ...sent, body: Buffer.from(sent.body).toString() } };
}

test('a request is sent as it is meant', () => {
  const url = 'https://example.com/tea';
  const json = { name: 'content-type', value: 'application/json' };
  for (const [options, expected] of [
    [undefined, { method: 'GET', headers: [], body: '' }],
    [{ headers: { accept: 'text/plain' } }, { method: 'GET', headers: [{ name: 'accept', value: 'text/plain' }], body: '' }],
    [{ body: 'Tee, 茶, \u{1f375}' }, { method: 'POST', headers: [], body: 'Tee, 茶, \u{1f375}' }],
    [{ body: '\ud83c half' }, { method: 'POST', headers: [], body: '\ufffd half' }],
    [{ method: 'PUT', body: new Uint8Array([0x68, 0x69]) }, { method: 'PUT', headers: [], body: 'hi' }],
    [{ method: 'DELETE' }, { method: 'DELETE', headers: [], body: '' }],
    [{ json: { tea: '茶' } }, { method: 'POST', headers: [json], body: '{"tea":"茶"}' }],
    [{ json: null }, { method: 'POST', headers: [json], body: 'null' }],
    [
      { json: 1, headers: { 'Content-Type': 'application/tea+json' } },
      { method: 'POST', headers: [{ name: 'Content-Type', value: 'application/tea+json' }], body: '1' },
    ],
  ]) {
    assert.deepEqual(send({}, url, options).sent, { url, ...expected }, JSON.stringify(options));
  }
});

test('an answer is read as text, as JSON or as bytes', () => {
  const headers = [['content-type', 'text/x'], ['vary', 'a'], ['vary', 'b']].map(([name, value]) => ({ name, value }));
  const { given } = send({ status: 404, headers, body: [...Buffer.from('\ufeff{"tea":"茶"}')] }, 'https://example.com');
  assert.deepEqual([given.status, given.ok, { ...given.headers }], [404, false, { 'content-type': 'text/x', vary: 'a, b' }]);
  assert.equal(given.text(), '{"tea":"茶"}');
  assert.equal(given.json().tea, '茶');
  assert.equal(given.bytes().length, 16);
  const { given: broken } = send({ status: 200, body: [...Buffer.from('<html>')] }, 'https://example.com/a');
  assert.ok(broken.ok);
  assert.throws(() => broken.json(), ({ name, message }) => {
    assert.match(message, /^the answer to GET https:\/\/example\.com\/a \(200\) is not JSON: /);
    return name === 'Failed';
  });
});

test('bytes are read as browsers read them, whether they are UTF-8 or not', () => {
  const read = (bytes) => send({ body: Uint8Array.from(bytes) }, 'https://example.com').given.text();
  const decoder = new TextDecoder();
  for (const text of ['', 'plain', 'Tee, 茶, \u{1f375}', '\0\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\u{10000}\u{10ffff}']) {
    assert.equal(read(Buffer.from(text)), text);
  }
  // The edges of what may follow what; a fixed seed makes them the same each time.
  const edges = [0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff];
  let seed = 1;
  const next = () => (seed = (seed * 48271) % 2147483647);
  for (let round = 0; round < 20_000; round++) {
    const bytes = Array.from({ length: 1 + (next() % 8) }, () => edges[next() % edges.length]);
    assert.equal(read(bytes), decoder.decode(Uint8Array.from(bytes)), Buffer.from(bytes).toString('hex'));
  }
  // One wrong byte in a megabyte.
  const large = Buffer.from(`${'茶 tea '.repeat(100_000)}x`);
  large[large.length - 1] = 0xff;
  assert.equal(read(large), decoder.decode(large));
});

test('what the host refuses is an error of the SDK, and what it does not have is not there', () => {
  answers.send = () => {
    throw { tag: 'denied', val: 'not that one' };
  };
  assert.throws(() => fixture.request('https://example.com'), ({ name, message }) => name === 'Denied' && message === 'not that one');
  answers.get = (name) => (name === 'KEY' ? 'secret' : null);
  assert.deepEqual([fixture.environment('KEY'), fixture.environment('NONE')], ['secret', undefined]);
  delete answers.get;
});
