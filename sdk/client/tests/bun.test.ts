/** Bun, whose WebSocket and module loader are its own. */

import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { Server } from './server.ts';

let server: Server;
beforeAll(async () => {
  server = await Server.start();
});
afterAll(() => server.dispose());

test('a script in Bun reads what is there, and its write is saved', async () => {
  await server.server.post('/workspaces/blog/tables/posts', { id: '1', title: 'from REST' });
  const bun = path.join(import.meta.dirname, '../node_modules/.bin/bun');
  const { stdout } = await promisify(execFile)(bun, ['run', path.join(import.meta.dirname, 'bun.script.ts'), server.url]);
  expect(stdout).toBe('from REST\n');
  const { data } = await server.server.get('/workspaces/blog/tables/posts/2');
  expect(data.title).toBe('from Bun');
});
