// The OpenAPI document, held against the server by tools that know it from nowhere else:
// schemathesis, which makes requests of it and holds the answers against it, and a client in
// TypeScript that is generated from it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

import openapiTS, { astToString } from 'openapi-typescript';

import { Client } from './clients.mjs';
import { Server, until } from './server.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));

/** Installed by `cargo xtask test`, which says where. */
const SCHEMATHESIS =
  process.env.SCHEMATHESIS ?? path.join(HERE, '../../target/python-tools/bin/st');

/** All that does not ask for opinions: a server may well refuse what a schema allows. */
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'use_after_free',
  'ensure_resource_availability',
  'unsupported_method',
  'allow_header_conformance',
];

/** Fails on purpose for a text that is no JSON, which its author did not foresee. */
const FAILING = '/workspaces/blog/actions/posts/import';

/** Runs a program, and gives its code and all that it says. */
function run(program, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

let server;
before(async () => {
  server = new Server();
  cpSync(path.join(HERE, 'openapi/desk'), server.file('desk'), { recursive: true });
  await server.start();
});
after(() => server?.dispose());

test('a generated client is typed, and works as its types say', async (t) => {
  const folder = mkdtempSync(path.join(HERE, '.openapi-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const types = astToString(await openapiTS(new URL('/openapi/json', server.url)));
  writeFileSync(path.join(folder, 'schema.d.ts'), types);
  copyFileSync(path.join(HERE, 'openapi/client.ts'), path.join(folder, 'client.ts'));
  const tsc = path.join(HERE, 'node_modules/typescript/bin/tsc');
  const options = ['--strict', '--noUncheckedIndexedAccess', '--exactOptionalPropertyTypes', 'false'];
  options.push('--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022,dom,dom.iterable');
  const compiled = await run(process.execPath, [tsc, ...options, path.join(folder, 'client.ts')]);
  assert.equal(compiled.code, 0, compiled.output);

  const { use, useDesk } = await import(pathToFileURL(path.join(folder, 'client.js')).href);
  assert.deepEqual(await use(server.url), {
    views: 5,
    titles: ['Typed', 'b'],
    count: 3,
    hasNext: true,
    filtered: ['c'],
    ranged: ['Typed'],
    listed: ['b'],
    updated: { title: 'Typed', content: 'new' },
    stale: { status: 412, message: (await stale()).message, paths: undefined },
    known: 304,
    published: true,
    popular: ['Typed'],
    theme: 'dark',
    refused: {
      status: 422,
      message: 'posts: not valid: title: must not be empty',
      paths: ['title'],
    },
    missing: { status: 404, message: 'table posts has no row "none"', paths: undefined },
    deleted: 'a',
    rest: 0,
  });

  const present = await Client.join(server, 'desk');
  present.awareness.setLocalStateField('name', 'Ada');
  present.table('papers').set('bad', { id: 'bad' });
  await present.saved();
  await until('presence is known', async () => {
    const { data } = await server.get('/workspaces/desk/awareness');
    return Object.keys(data).length === 1;
  });
  assert.deepEqual(await useDesk(server.url), {
    created: true,
    again: {
      status: 412,
      message: 'papers: 1.id: row "a" is there already; 2.id: row "b" is there already',
      paths: ['1.id', '2.id'],
    },
    tagged: ['a'],
    nobody: ['b'],
    called: ['a'],
    // One never had a star, and the other has none any more.
    unstarred: ['a', 'b'],
    drafts: ['a'],
    dated: ['b'],
    text: 'Dear',
    sameRoom: true,
    edited: true,
    starred: 200,
    names: ['Ada'],
    lamp: null,
    tidied: 1,
    invalid: 1,
  });
  present.leave();

  async function stale() {
    await server.post('/workspaces/blog/tables/posts', { id: 'a', title: 'again' });
    const answer = await server.patch('/workspaces/blog/tables/posts/a', { views: 1 }, { 'if-match': '"x"' });
    await server.delete('/workspaces/blog/tables/posts/a');
    return answer.error;
  }
});

test('schemathesis finds no answer that the document does not describe', async (t) => {
  assert.ok(
    existsSync(SCHEMATHESIS),
    `there is no ${SCHEMATHESIS}: \`cargo xtask test e2e\` installs it, or name one in SCHEMATHESIS`,
  );
  const { body: document } = await server.get('/openapi/json');
  const { [FAILING]: failing, ...paths } = document.paths;
  assert.ok(failing);
  const operations = Object.values(paths).flatMap((path) => Object.keys(path)).length;
  const { code, output } = await run(
    SCHEMATHESIS,
    [
      '--no-color',
      'run',
      `${server.url}/openapi/json`,
      ...['--checks', CHECKS.join(','), '--exclude-path', FAILING],
      // The same requests each time, a minute's worth.
      ...['--seed', '1', '--max-examples', '20'],
      ...['--request-timeout', '30', '--suppress-health-check', 'all', '--continue-on-failure'],
    ],
    { cwd: server.folder },
  );
  assert.equal(code, 0, output);
  assert.match(output, new RegExp(`Tested: ${operations}\\b`), 'every operation was tested');
  t.diagnostic(/\d+ generated, \d+ passed/.exec(output)?.[0] ?? output);
  assert.equal((await server.get('/')).status, 200);
  assert.doesNotMatch(server.logs, /panicked/);
});

test('an address with a slash at its end is the one without', async () => {
  assert.deepEqual((await server.get('/workspaces/')).body, (await server.get('/workspaces')).body);
});
