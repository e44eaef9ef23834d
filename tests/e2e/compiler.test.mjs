// Files are compiled in processes of their own: what a file does to its compiler, the server survives.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';

import { Server, blogThatSays, circularBlog, until } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';

/** The processes that a server has started and that are alive (Linux). */
function compilers(server) {
  return readdirSync('/proc').filter((pid) => {
    try {
      const [, state, parent] = /^.*\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'));
      return state !== 'Z' && Number(parent) === server.child.pid;
    } catch {
      return false;
    }
  }).map(Number);
}

const isAlive = (pid) => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

test('a server starts beside a file on which a parser overflows its stack, and serves the others', async () => {
  const server = new Server();
  writeFileSync(server.file('bad.wasm'), circularBlog());
  await server.start();
  assert.equal((await server.get(POSTS)).status, 200);
  const { body } = await server.get('/');
  const { state, error } = body.plugins.find(({ file }) => file === 'bad.wasm');
  assert.equal(state, 'failed');
  assert.match(error, /^the compiler ran out of stack on it; copy the file again/);
  assert.match(server.logs, /✗ bad\.wasm was not loaded\s+the compiler ran out of stack on it/);
  await server.dispose();
});

test('one compiler is ready, another follows when it was used, and none outlives the server', async () => {
  const server = await Server.start();
  const [ready] = await until('a compiler is ready', () => {
    const found = compilers(server);
    return found.length === 1 && found;
  });
  writeFileSync(server.file('blog.wasm'), blogThatSays('another version..'));
  await until('the new version serves', async () =>
    (await server.post(POSTS, { id: 'x', title: '' })).error?.issues[0].message === 'another version..');
  const [next] = await until('another is ready', () => {
    const found = compilers(server);
    return found.length === 1 && found[0] !== ready && found;
  });
  // The environment has the keys of providers; who reads foreign files does not need them.
  assert.match(readFileSync(`/proc/${next}/environ`, 'utf8'), /^EPICENTER_COMPILER=[^\0]*\0(MIMALLOC_[^\0]*\0)*$/);
  await server.kill9();
  await until('the compiler has ended', () => !isAlive(next));
  await server.start();
  // What is in the cache needs none; one is ready all the same.
  const [last] = await until('a compiler is ready', () => {
    const found = compilers(server);
    return found.length === 1 && found;
  });
  await server.dispose();
  await until('the compiler has ended', () => !isAlive(last));
});

test('a compiler that was killed while it waited is missed by nobody', async () => {
  const server = await Server.start();
  const [ready] = await until('a compiler is ready', () => {
    const found = compilers(server);
    return found.length === 1 && found;
  });
  process.kill(ready, 'SIGKILL');
  await until('it has ended', () => !isAlive(ready));
  writeFileSync(server.file('blog.wasm'), blogThatSays('another version..'));
  await until('the new version serves', async () =>
    (await server.post(POSTS, { id: 'x', title: '' })).error?.issues[0].message === 'another version..');
  await server.dispose();
});
