import { createCollection, createLiveQueryCollection, eq, gte } from '@tanstack/db';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { workspaceCollectionOptions } from '../src/tanstack-db.ts';
import { type Post, blog } from './blog.ts';
import { Server, until } from './server.ts';

let server: Server;
beforeAll(async () => {
  server = await Server.start();
}, 60_000);
afterAll(() => server.dispose());

const post = (id: string, more: Partial<Post> = {}): Post => ({ id, title: id, content: '', views: 0, published: false, ...more });
const migrate = { posts: (old: { id: string; title: string }) => post(old.id, { title: old.title }) };

test('a live query follows what anybody writes, and a write to the collection ends when it is saved', async () => {
  const one = server.connect(blog, { migrate });
  const other = server.connect(blog, { migrate });
  await Promise.all([one.ready(), other.ready()]);
  const posts = createCollection(workspaceCollectionOptions({ workspace: one, table: one.tables.posts }));
  const popular = createLiveQueryCollection((query) =>
    query.from({ post: posts }).where(({ post }) => gte(post.views, 10)).orderBy(({ post }) => post.views, 'desc'),
  );
  await popular.preload();
  other.tables.posts.put(post('theirs', { views: 20 }));
  await until('it is in the query', () => popular.has('theirs'));

  const write = posts.insert(post('mine', { views: 30 }));
  expect(popular.toArray.map(({ id }) => id)).toEqual(['mine', 'theirs']);
  await write.isPersisted.promise;
  expect(one.status).toBe('saved');
  await until('the other has it', () => other.tables.posts.get('mine')?.views === 30);

  await posts.update('mine', (draft) => void (draft.views = 1)).isPersisted.promise;
  expect(popular.toArray.map(({ id }) => id)).toEqual(['theirs']);
  await posts.delete('theirs').isPersisted.promise;
  expect(popular.size).toBe(0);
  await until('the other lacks it', () => !other.tables.posts.has('theirs'));
});

test('a write that the schema refuses is rolled back, and so is all of its transaction', async () => {
  const one = server.connect(blog, { migrate });
  await one.ready();
  const posts = createCollection(workspaceCollectionOptions({ workspace: one, table: one.tables.posts }));
  await posts.preload();
  const write = posts.insert([post('good'), post('bad', { title: '' })]);
  expect(posts.has('bad')).toBe(true);
  await expect(write.isPersisted.promise).rejects.toThrow(/title: must have at least 1 characters/);
  expect(posts.has('bad')).toBe(false);
  expect(posts.has('good')).toBe(false);
});

test('two tables are joined', async () => {
  const one = server.connect(blog, { migrate });
  await one.ready();
  const posts = createCollection(workspaceCollectionOptions({ workspace: one, table: one.tables.posts }));
  one.transact(() => {
    one.tables.posts.put(post('parent', { title: 'Parent' }));
    one.tables.posts.put(post('child', { content: 'parent' }));
  });
  const joined = createLiveQueryCollection((query) =>
    query
      .from({ child: posts })
      .innerJoin({ parent: posts }, ({ child, parent }) => eq(child.content, parent.id))
      .select(({ child, parent }) => ({ id: child.id, of: parent.title })),
  );
  await joined.preload();
  expect(joined.toArray.map(({ id, of }) => ({ id, of }))).toEqual([{ id: 'child', of: 'Parent' }]);
  one.tables.posts.update('parent', { title: 'Renamed' });
  await until('the join follows', () => joined.toArray[0]?.of === 'Renamed');
});
