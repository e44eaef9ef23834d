import { afterAll, beforeAll, expect, test } from 'vitest';
import WebSocket from 'ws';

import { DeniedError, InvalidError, MissingError, unwrap } from '../src/index.ts';
import { rest } from '../src/rest.ts';
import { blog } from './blog.ts';
import { Server, until } from './server.ts';

let server: Server;
beforeAll(async () => {
  server = await Server.start();
}, 60_000);
afterAll(() => server.dispose());

const post = (id: string, more: object = {}) => ({ id, title: id, content: '', views: 0, published: false, ...more });
const clear = async () => {
  const api = rest(blog, { url: server.url });
  for await (const { id } of api.tables.posts.list()) unwrap(await api.tables.posts.delete(id));
};

test('a row is there at once, and saved when the server has it on disk', async () => {
  const one = server.connect(blog);
  await one.ready();
  const write = one.tables.posts.put(post('first'));
  expect(one.tables.posts.get('first')).toEqual({ ...post('first'), _v: 2 });
  expect(write.status).toBe('saving');
  expect(one.status).toBe('saving');
  await write.saved();
  expect(write.status).toBe('saved');
  expect(one.status).toBe('saved');
  const listed = await rest(blog, { url: server.url }).tables.posts.get('first');
  expect(unwrap(listed)).toMatchObject({ id: 'first', title: 'first' });
});

test('edits of one are seen by the other, and only what changed is told', async () => {
  const [one, other] = [server.connect(blog), server.connect(blog)];
  await Promise.all([one.ready(), other.ready()]);
  const told: string[] = [];
  other.tables.posts.observe(({ rows, local }) => told.push(...[...rows].map(([id, row]) => `${id} ${row?.title} ${local}`)));
  one.transact(() => {
    one.tables.posts.put(post('a', { title: 'A' }));
    one.tables.posts.put(post('b', { title: 'B' }));
  });
  await until('the other sees both', () => other.tables.posts.has('b'));
  one.tables.posts.update('a', { title: 'AA' });
  one.tables.posts.delete('b');
  await until('the other sees the changes', () => !other.tables.posts.has('b'));
  expect(told).toEqual(['a A false', 'b B false', 'a AA false', 'b undefined false']);
});

test('what the schema does not accept is not written, and says why', async () => {
  const one = server.connect(blog);
  await one.ready();
  expect(() => one.tables.posts.put(post('bad', { title: '' }))).toThrow(InvalidError);
  expect(() => one.tables.posts.put(post('bad', { views: 1.5 }))).toThrow(/views: must be an integer/);
  expect(() => one.tables.posts.update('nowhere', { title: 'x' })).toThrow(MissingError);
  expect(one.tables.posts.has('bad')).toBe(false);
});

test('rows of old versions are read as they are, or as the app says', async () => {
  const one = server.connect(blog);
  await one.ready();
  one.doc.getArray('table:posts').push([{ key: 'old', val: { id: 'old', title: 'Old', _v: 1 }, ts: Date.now() }]);
  expect(one.tables.posts.get('old')).toEqual({ id: 'old', title: 'Old', _v: 1 });
  await one.saved();
  const other = server.connect(blog, { migrate: { posts: (old) => post(old.id, { title: `${old.title}, migrated` }) } });
  await until('the other has it', () => other.tables.posts.has('old'));
  expect(other.tables.posts.get('old')).toMatchObject({ title: 'Old, migrated', views: 0, _v: 2 });
});

test('rows that no version accepts are listed with their issues, and can be mended', async () => {
  const one = server.connect(blog);
  await one.ready();
  one.doc.getArray('table:posts').push([{ key: 'odd', val: { id: 'odd', title: 7 }, ts: Date.now() }]);
  expect(one.tables.posts.get('odd')).toBeUndefined();
  expect(one.tables.posts.invalid()).toEqual([
    { id: 'odd', row: { id: 'odd', title: 7 }, issues: [{ path: ['title'], message: 'must be a string' }] },
  ]);
  one.tables.posts.put(post('odd'));
  expect(one.tables.posts.invalid()).toEqual([]);
});

test('a client that was cut off goes on, and what it wrote meanwhile is saved when it is back', async () => {
  const [one, other] = [server.connect(blog), server.connect(blog)];
  await Promise.all([one.ready(), other.ready()]);
  await one.saved();
  server.cut();
  await until('it is offline', () => one.status === 'offline');
  const write = one.tables.posts.put(post('offline'));
  expect(one.tables.posts.has('offline')).toBe(true);
  expect(write.status).toBe('saving');
  server.mend();
  one.reconnect();
  await write.saved();
  await until('the other has it', () => other.tables.posts.has('offline'));
});

test('a write that was answered for survives a crash of the server', async () => {
  const one = server.connect(blog);
  await one.ready();
  await one.tables.posts.put(post('durable')).saved();
  await server.server.kill9();
  const unsaved = one.tables.posts.put(post('during'));
  await server.server.start();
  one.reconnect();
  await unsaved.saved();
  const other = server.connect(blog);
  await until('another has both', () => other.tables.posts.has('durable') && other.tables.posts.has('during'));
}, 60_000);

test('actions give data, or an error with its issues', async () => {
  const one = server.connect(blog);
  await one.ready();
  await one.tables.posts.put(post('draft', { views: 12 })).saved();
  expect(unwrap(await one.actions.posts.publish({ id: 'draft' }))).toMatchObject({ id: 'draft', published: true });
  expect(unwrap(await one.actions.posts.popular({ min: 10 })).map(({ id }) => id)).toContain('draft');
  const refused = await one.actions.posts.popular({ min: -1 });
  expect(refused.ok).toBe(false);
  if (!refused.ok) {
    expect(refused.error.kind).toBe('invalid');
    expect(refused.error.issues[0]?.path).toEqual(['min']);
  }
  const missing = await one.actions.posts.publish({ id: 'nowhere' });
  expect(!missing.ok && missing.error.kind).toBe('missing');
});

test('lists by filter and order agree with those of the server', async () => {
  await clear();
  const one = server.connect(blog);
  await one.ready();
  await until('it is empty', () => one.tables.posts.all().length === 0);
  const rows = ['é', 'a', 'Z', 'ab', '🦊', '\u{fb01}'].map((title, at) => post(`p${at}`, { title, views: (at * 7) % 4, published: at % 2 === 0 }));
  one.transact(() => rows.forEach((row) => one.tables.posts.put(row)));
  await one.saved();
  const api = rest(blog, { url: server.url });
  // Saved is on disk; the server lists a row once the plugin has parsed it.
  await until('the server lists them', async () => {
    let listed = 0;
    for await (const _ of api.tables.posts.list()) listed += 1;
    return listed === rows.length;
  });
  const cases = [
    {},
    { where: { published: true } },
    { where: { views: { gte: 1, lt: 3 } }, sort: '-views' },
    { where: { views: { in: [0, 3] } }, sort: ['views', '-title'] },
    { where: { title: { prefix: 'a' } }, sort: 'title' },
    { where: { title: { contains: 'b' } } },
    { where: { views: { ne: 0 } }, sort: 'title' },
    { sort: '-title', limit: 4 },
  ] as const;
  for (const select of cases) {
    const theirs = [];
    for await (const { id } of api.tables.posts.list(select as never)) theirs.push(id);
    const { where = {}, ...rest } = select as any;
    expect(one.tables.posts.where(where, rest).map(({ id }) => id), JSON.stringify(select)).toEqual(theirs);
    expect(one.tables.posts.list(select as never).rows.map(({ id }) => id)).toEqual(theirs);
  }
});

test('a live list is the same array until one of its rows changes', async () => {
  const one = server.connect(blog);
  await one.ready();
  const list = one.tables.posts.list({ where: { views: { gte: 100 } }, sort: '-views' });
  let changes = 0;
  const end = list.subscribe(() => (changes += 1));
  const empty = list.rows;
  one.tables.posts.put(post('low', { views: 1 }));
  expect(list.rows).toBe(empty);
  one.tables.posts.put(post('high', { views: 100 }));
  one.tables.posts.put(post('higher', { views: 200 }));
  expect(list.rows.map(({ id }) => id)).toEqual(['higher', 'high']);
  one.tables.posts.update('high', { views: 300 });
  expect(list.rows.map(({ id }) => id)).toEqual(['high', 'higher']);
  one.tables.posts.update('high', { views: 1 });
  expect(list.rows.map(({ id }) => id)).toEqual(['higher']);
  expect(changes).toBe(4);
  end();
});

test('undo takes back what was written here, and nothing of others', async () => {
  const [one, other] = [server.connect(blog), server.connect(blog)];
  await Promise.all([one.ready(), other.ready()]);
  const undo = one.undoManager(['posts']);
  one.tables.posts.put(post('mine', { title: 'before' }));
  undo.stopCapturing();
  one.tables.posts.update('mine', { title: 'after' });
  await until('the other has it', () => other.tables.posts.get('mine')?.title === 'after');
  other.tables.posts.put(post('theirs'));
  await until('theirs is here', () => one.tables.posts.has('theirs'));
  undo.undo();
  expect(one.tables.posts.get('mine')?.title).toBe('before');
  undo.undo();
  expect(one.tables.posts.has('mine')).toBe(false);
  expect(one.tables.posts.has('theirs')).toBe(true);
  undo.redo();
  await until('the other sees it again', () => other.tables.posts.get('mine')?.title === 'before');
});

test('key-values are validated, kept and told', async () => {
  const [one, other] = [server.connect(blog), server.connect(blog)];
  await Promise.all([one.ready(), other.ready()]);
  let told = 0;
  other.kv.observe('theme', () => (told += 1));
  await one.kv.set('theme', 'dark').saved();
  await until('the other has it', () => other.kv.get('theme') === 'dark');
  expect(told).toBe(1);
  expect(() => one.kv.set('theme', 7 as never)).toThrow(InvalidError);
  one.kv.delete('theme');
  await until('it is gone', () => other.kv.get('theme') === undefined);
});

test('people come, say who they are, and go', async () => {
  const [one, other] = [server.connect(blog), server.connect(blog)];
  await Promise.all([one.ready(), other.ready()]);
  one.presence.set('name', 'Ada');
  await until('the other sees Ada', () => other.presence.people().some(({ isMe, fields }) => !isMe && fields.name === 'Ada'));
  one.destroy();
  await until('Ada is gone', () => !other.presence.people().some(({ fields }) => fields.name === 'Ada'));
});

test('a live list by REST goes on where it was after a cut', async () => {
  await clear();
  const api = rest(blog, { url: server.url });
  const over = new AbortController();
  const seen: string[] = [];
  const watching = (async () => {
    for await (const event of api.tables.posts.watch({}, { signal: over.signal })) {
      seen.push(event.type === 'put' ? `put ${event.row.id}` : event.type === 'delete' ? `delete ${event.id}` : event.type);
    }
  })();
  await until('it is ready', () => seen.includes('ready'));
  unwrap(await api.tables.posts.put(post('live')));
  await until('it is told', () => seen.includes('put live'));
  server.cut();
  server.mend();
  // Not through the relay, where a connection that was cut may be used once more.
  unwrap(await rest(blog, { url: server.server.url }).tables.posts.put(post('later')));
  await until('it is told of what came meanwhile', () => seen.includes('put later'));
  expect(seen.filter((event) => event === 'reset')).toHaveLength(1);
  over.abort();
  await watching;
});

test('a list by REST goes on over all pages', async () => {
  await clear();
  const api = rest(blog, { url: server.url });
  const rows = Array.from({ length: 2_500 }, (_, n) => post(`r${String(n).padStart(4, '0')}`, { views: n }));
  unwrap(await api.tables.posts.putAll(rows));
  let sum = 0;
  for await (const { views } of api.tables.posts.list({ where: { views: { gte: 10 } } })) sum += views;
  expect(sum).toBe((2_499 * 2_500) / 2 - 45);
});

test('a server that is not there is an error of its own kind', async () => {
  const api = rest(blog, { url: 'http://127.0.0.1:9' });
  const result = await api.tables.posts.get('x');
  expect(!result.ok && result.error.kind).toBe('unreachable');
});

test('a client that is refused says so, and does not try again until it is told to', async () => {
  await using guarded = Object.assign(await Server.start({ mode: 'hub', args: ['--sync-token', 'secret'] }), {
    [Symbol.asyncDispose]() {
      return (this as unknown as Server).dispose();
    },
  });
  let token = 'wrong';
  let asked = 0;
  const one = guarded.connect(blog, {
    token: () => {
      asked += 1;
      return token;
    },
  });
  const write = one.tables.posts.put(post('kept'));
  await expect(write.saved()).rejects.toThrow(DeniedError);
  expect(one.status).toBe('denied');
  expect(one.error?.code).toBe(4401);
  // The token may have ended: it is asked for once more.
  expect(asked).toBe(2);
  token = 'secret';
  one.reconnect();
  await write.saved();
  expect(one.status).toBe('saved');
}, 60_000);
