// Plugins that change while they are used: not one request fails.

import assert from 'node:assert/strict';
import {
  closeSync, copyFileSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync,
} from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { Client } from './clients.mjs';
import { Server, blogThatSays, circularBlog, plugin, until } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';
const ACTIONS = '/workspaces/blog/actions/posts';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.dispose());

/** How a file gets from a build into the plugins folder. */
const WAYS = {
  'written in one go': (file, bytes) => writeFileSync(file, bytes),

  'renamed into place': (file, bytes) => {
    writeFileSync(`${file}.tmp`, bytes);
    renameSync(`${file}.tmp`, file);
  },

  'written in place, in chunks and with pauses': async (file, bytes) => {
    const target = openSync(file, 'w');
    const chunk = Math.ceil(bytes.length / 5);
    for (let at = 0; at < bytes.length; at += chunk) {
      writeSync(target, bytes, at, Math.min(chunk, bytes.length - at));
      // A slow writer: a copy over a network, a linker.
      await pause(20);
    }
    closeSync(target);
  },

  'written in chunks by one who closes it in between': async (file, bytes) => {
    writeFileSync(file, bytes.subarray(0, bytes.length / 2));
    await pause(5);
    writeFileSync(file, bytes.subarray(bytes.length / 2), { flag: 'a' });
  },

  'removed and written again': (file, bytes) => {
    rmSync(file);
    writeFileSync(file, bytes);
  },

  'saved as an editor does': (file, bytes) => {
    copyFileSync(file, `${file}~`);
    writeFileSync(`${file}.swp`, 'not a module');
    writeFileSync(file, bytes);
    rmSync(`${file}.swp`);
    rmSync(`${file}~`);
  },

  'written twice in a row': (file, bytes) => {
    writeFileSync(file, blogThatSays('overtaken at once'));
    writeFileSync(file, bytes);
  },
};

/** Files that are no plugin; the version before goes on serving. */
const BROKEN = {
  'half of a module': (bytes) => bytes.subarray(0, bytes.length / 2),
  'an empty file': () => Buffer.alloc(0),
  'garbage': () => Buffer.from('this is not WebAssembly'),
  'a module with a byte changed': (bytes) => {
    const changed = Buffer.from(bytes);
    changed.fill(0xff, 1000, 1100);
    return changed;
  },
  'a module on which a parser overflows its stack': () => circularBlog(),
  'a module that is no workspace': () => Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]),
};

/** What the rule of the version that serves says. */
async function rule() {
  const { status, error } = await server.post(POSTS, { id: 'rule', title: '' });
  return status === 422 ? error.issues[0].message : `status ${status}`;
}

async function state(file = 'blog.wasm') {
  const { body } = await server.get('/');
  return body.plugins.find((plugin) => plugin.file === file);
}

/** Requests without a pause, until it is told to stop. Gives what failed, and how many there were. */
function load() {
  const failures = [];
  let requests = 0;
  let running = true;
  const expect = async (what, accept, send) => {
    requests += 1;
    try {
      const response = await send();
      if (!accept(response)) failures.push(`${what}: ${response.status} ${JSON.stringify(response.body)}`);
    } catch (error) {
      failures.push(`${what}: ${error.cause ?? error}`);
    }
  };
  const ok = ({ status }) => status === 200;
  const loops = [
    () => expect('list', (r) => ok(r) && r.data.length >= 20, () => server.get(POSTS)),
    () => expect('read', (r) => ok(r) && r.data.id === 'post-3', () => server.get(`${POSTS}/post-3`)),
    (n) => expect('write', (r) => ok(r) && r.data.views === n, () => server.put(`${POSTS}/post-1`, { views: n })),
    () => expect('publish', (r) => ok(r) && r.data.published, () => server.post(`${ACTIONS}/publish`, { id: 'post-2' })),
    () => expect('popular', ok, () => server.get(`${ACTIONS}/popular?min=0`)),
    () => expect('discovery', (r) => ok(r) && r.body.workspaces.includes('blog'), () => server.get('/')),
  ].map(async (request) => {
    for (let n = 1; running; n += 1) await request(n);
    return requests;
  });
  return async () => {
    running = false;
    await Promise.all(loops);
    return { failures, requests };
  };
}

test('a plugin is replaced again and again under load, broken versions among them, without a failed request', async (t) => {
  for (let n = 0; n < 20; n += 1) await server.post(POSTS, { id: `post-${n}`, title: `Post ${n}` });
  const client = await Client.join(server, 'blog');
  const file = server.file('blog.wasm');
  const stop = load();
  t.after(stop);
  let version = 0;
  for (let round = 0; round < 3; round += 1) {
    for (const [way, write] of Object.entries(WAYS)) {
      version += 1;
      const text = `the version is ${String(version).padStart(2, '0')}`;
      await write(file, blogThatSays(text));
      await until(`the version that was ${way} serves`, async () => (await rule()) === text);
    }
    for (const [what, bytes] of Object.entries(BROKEN)) {
      const serving = await rule();
      writeFileSync(file, bytes(blogThatSays('this one is broken'.slice(1))));
      const { error } = await until(`GET / says that ${what} is broken`, async () => {
        const found = await state();
        return found.error && found;
      });
      assert.ok(error.length > 15, `${what}: ${error}`);
      await until('the log says so, too', () => server.logs.includes(`blog.wasm not loaded: ${error}`));
      const { state: still, workspace } = await state();
      assert.equal(still, 'serving');
      assert.equal(workspace, 'blog');
      assert.equal(await rule(), serving, what);
      // The next good version takes away the error.
      version += 1;
      const text = `the version is ${String(version).padStart(2, '0')}`;
      writeFileSync(file, blogThatSays(text));
      await until(`a good version follows ${what}`, async () => (await rule()) === text);
      // It serves a moment before the folder knows that it does.
      await until(`nothing is said of ${what} any more`, async () => (await state()).error === null);
    }
  }
  const { failures, requests } = await stop();
  t.diagnostic(`${version} versions, ${requests} requests`);
  assert.deepEqual(failures.slice(0, 10), []);
  assert.ok(version >= 20 && requests > version * 10);
  // The client was not disturbed, and has what was written meanwhile.
  assert.ok(client.provider.wsconnected);
  const { data } = await server.get(`${POSTS}/post-1`);
  await until('the client has the last write', () =>
    client.table('posts').get('post-1').views === data.views);
  client.leave();
});

test('files that are no plugins are not looked at', async () => {
  for (const name of ['notes.txt', '.blog.wasm', 'blog.wasm~', 'blog.wasm.tmp', '#blog.wasm#']) {
    writeFileSync(server.file(name), 'not a module');
  }
  const marker = blogThatSays('others are there.');
  writeFileSync(server.file('blog.wasm'), marker);
  await until('the next version serves', async () => (await rule()) === 'others are there.');
  const { body } = await server.get('/');
  assert.deepEqual(body.plugins.map((plugin) => plugin.file), ['blog.wasm']);
});

test('a new version parses the rows again: what was valid may be invalid, and the other way round', async () => {
  writeFileSync(server.file('blog.wasm'), readFileSync(plugin('blog')));
  await until('the blog as it is shipped serves', async () => (await rule()) === 'must not be empty');
  const client = await Client.join(server, 'blog');
  const posts = client.table('posts');
  const long = 'A title that is longer than twenty letters';
  await server.post(POSTS, { id: 'long', title: long, views: 3 });
  posts.set('empty', { id: 'empty', title: '', content: '', views: 0, published: false, _v: 2 });
  posts.set('first', { id: 'first', title: 'First', _v: 1 });
  await until('the empty title is invalid', async () => (await server.get(`${POSTS}/empty`)).status === 422);
  const before = posts.get('long');

  copyFileSync(plugin('blog_next'), server.file('blog.wasm'));
  await until('the next blog serves', async () => (await server.get(`${ACTIONS}/titles`)).status === 200);
  assert.equal((await server.get(`${POSTS}/long`)).status, 422);
  assert.equal((await server.get(`${POSTS}/empty`)).data.author, 'unknown');
  assert.deepEqual((await server.get(`${POSTS}/first`)).data, {
    id: 'first', title: 'First', content: '', views: 0, published: false, author: 'unknown', _v: 3,
  });
  const { data: rows } = await server.get(POSTS);
  assert.ok(rows.every((row) => row.author === 'unknown' && row.id !== 'long'));
  assert.equal((await server.post(`${ACTIONS}/publish`, { id: 'first' })).status, 404);
  const { body: root } = await server.get('/');
  assert.deepEqual(root.actions, ['blog/posts/titles']);
  // Nothing of this touched the document.
  assert.deepEqual(posts.get('long'), before);

  copyFileSync(plugin('blog'), server.file('blog.wasm'));
  await until('the blog serves again', async () => (await rule()) === 'must not be empty');
  const { data: again } = await server.get(`${POSTS}/long`);
  assert.deepEqual({ title: again.title, views: again.views }, { title: long, views: 3 });
  assert.equal((await server.get(`${POSTS}/empty`)).status, 422);
  client.leave();
});

test('a removed plugin is 404, its room stays, and it comes back with its data', async () => {
  await server.post(POSTS, { id: 'stays', title: 'Stays' });
  const client = await Client.join(server, 'blog');
  const bytes = readFileSync(server.file('blog.wasm'));
  rmSync(server.file('blog.wasm'));
  await until('the workspace is gone', async () => (await server.get(POSTS)).status === 404);
  const { body } = await server.get('/');
  assert.deepEqual(body.workspaces, []);
  assert.deepEqual(body.actions, []);
  assert.equal((await server.post(`${ACTIONS}/publish`, { id: 'stays' })).status, 404);

  // Clients go on; what they write is there when the plugin is.
  assert.ok(client.provider.wsconnected);
  const row = { id: 'meanwhile', title: 'Meanwhile', content: '', views: 0, published: false, _v: 2 };
  client.table('posts').set('meanwhile', row);
  await client.saved();

  writeFileSync(server.file('blog.wasm'), bytes);
  await until('the workspace is back', async () => (await server.get(POSTS)).status === 200);
  assert.equal((await server.get(`${POSTS}/stays`)).data.title, 'Stays');
  assert.deepEqual((await server.get(`${POSTS}/meanwhile`)).data, row);
  await server.put(`${POSTS}/stays`, { views: 1 });
  await until('the client hears of it', () => client.table('posts').get('stays').views === 1);
  client.leave();
});

test('a plugin that is added is served, and one under another name takes over', async () => {
  copyFileSync(plugin('probe'), server.file('probe.wasm'));
  await until('the probe is served', async () => (await server.get('/workspaces/probe')).status === 200);
  assert.equal((await server.post('/workspaces/probe/actions/add', { id: 'n', by: 3 })).data.value, 3);

  // Two files of one workspace: the first serves, the second says why it does not.
  copyFileSync(plugin('blog_next'), server.file('second.wasm'));
  const second = await until('the second says why', async () => {
    const found = await state('second.wasm');
    return found?.error && found;
  });
  assert.equal(second.state, 'failed');
  assert.match(second.error, /blog\.wasm/);
  assert.equal(await rule(), 'must not be empty');

  rmSync(server.file('blog.wasm'));
  await until('the second takes over', async () => (await server.get(`${ACTIONS}/titles`)).status === 200);
  renameSync(server.file('second.wasm'), server.file('third.wasm'));
  await until('the renamed one serves', async () => (await state('third.wasm'))?.state === 'serving');
  assert.equal((await server.get(`${ACTIONS}/titles`)).status, 200);
});

test('a start with a broken plugin serves the others and says what is wrong', async () => {
  const other = new Server({ plugins: ['blog', 'probe'] });
  try {
    writeFileSync(other.file('broken.wasm'), 'not a module');
    await other.start();
    const { body } = await other.get('/');
    assert.deepEqual(body.workspaces, ['blog', 'probe']);
    const broken = body.plugins.find((plugin) => plugin.file === 'broken.wasm');
    assert.equal(broken.state, 'failed');
    assert.match(broken.error, /not a WebAssembly file/);
    await until('the log names it', () => /broken\.wasm/.test(other.logs));
  } finally {
    await other.dispose();
  }
});
