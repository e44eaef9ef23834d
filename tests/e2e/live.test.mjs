// Live lists: rows as server-sent events, whoever writes them, across reloads of the plugin.

import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { Client, Events } from './clients.mjs';
import { Server, plugin, until } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.dispose());

function post(id, fields) {
  return { id, title: id, content: '', views: 0, published: false, ...fields, _v: 2 };
}

test('a live list begins with the rows that are there, and goes on with what anybody writes', async () => {
  await server.post(POSTS, { id: 'there', title: 'there' });
  const list = await Events.open(server, POSTS);
  assert.equal(list.status, 200);
  await list.next('reset');
  assert.deepEqual((await list.next('put')).data, post('there'));
  await list.next('ready');

  await server.post(POSTS, { id: 'by-rest', title: 'by-rest' });
  assert.deepEqual((await list.next('put')).data, post('by-rest'));

  const client = await Client.join(server, 'blog');
  client.table('posts').set('by-client', post('by-client'));
  assert.deepEqual((await list.next('put')).data, post('by-client'));
  client.table('posts').set('by-client', { id: 'by-client', title: 5, _v: 2 });
  const invalid = await list.next('invalid');
  assert.equal(invalid.data.id, 'by-client');
  assert.deepEqual(invalid.data.issues[0].path, ['title']);
  client.table('posts').delete('by-client');
  await server.delete(`${POSTS}/by-rest`);
  assert.deepEqual((await list.next('delete', ({ id }) => id === 'by-rest')).data, { id: 'by-rest' });
  list.leave();
  client.leave();
});

test('a reader who comes back is told what changed since, and no more', async () => {
  const before = await Events.open(server, POSTS);
  const { id } = await before.next('ready');
  before.leave();
  await server.post(POSTS, { id: 'since', title: 'since' });
  const again = await Events.open(server, POSTS, { 'last-event-id': id });
  await until('everything was told', () => again.seen.some(({ event }) => event === 'ready'));
  const told = again.seen.filter(({ event }) => event !== 'ready');
  assert.deepEqual(told.map(({ event, data }) => [event, data.id]), [['put', 'since']]);
  again.leave();
});

test('a reload of the plugin tells of the rows that it sees otherwise', async () => {
  const list = await Events.open(server, POSTS);
  await list.next('ready');
  await server.post(POSTS, { id: 'long', title: 'A title that is longer than twenty letters' });
  await list.next('put', ({ id }) => id === 'long');
  copyFileSync(plugin('blog_next'), server.file('blog.wasm'));
  await list.next('invalid', ({ id }) => id === 'long');
  copyFileSync(plugin('blog'), server.file('blog.wasm'));
  await list.next('put', ({ id }) => id === 'long');
  list.leave();
});

test('a live list that is open does not hold up a stop', async () => {
  const lists = await Promise.all([1, 2, 3].map(() => Events.open(server, POSTS)));
  for (const list of lists) await list.next('ready');
  await server.stop();
  for (const list of lists) await list.ended;
  await server.start();
  assert.equal((await server.get(POSTS)).status, 200);
});
