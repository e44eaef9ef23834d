/** What must and what must not compile; `tsc` is the test. */

import * as z from 'zod';

import { defineMutation, defineQuery, defineTable, defineWorkspace, environment, request } from '../src/index.ts';

const V1 = z.object({ id: z.string(), title: z.string() });
const V2 = z.object({ id: z.string(), title: z.string(), views: z.number() });

// @ts-expect-error A row has a string `id`.
defineTable(z.object({ title: z.string() }));

// @ts-expect-error A migration gives a row of the current version.
defineTable(V1, V2).migrate((row) => ({ id: row.id, title: row.title }));

request('https://example.com', { method: 'PUT', headers: { a: environment('A') ?? '' }, body: new Uint8Array() });

// @ts-expect-error A value is sent as `json`.
request('https://example.com', { body: { a: 1 } });

// @ts-expect-error The host may have none.
const key: string = environment('KEY');

defineWorkspace({
  id: 'types',
  // @ts-expect-error Several versions need a migration.
  tables: { posts: defineTable(V1, V2) },
});

defineWorkspace({
  id: 'types',
  tables: { posts: defineTable(V1, V2).migrate((row) => ({ views: 0, ...row })) },
  actions: ({ tables }) => ({
    get: defineQuery({
      input: z.object({ id: z.string() }),
      output: V2,
      handler: ({ id }) => {
        const { views } = tables.posts.getOrThrow(id);
        const number: number = views;
        // @ts-expect-error Such a table is not there.
        tables.comments;
        // @ts-expect-error Such a field is not there.
        tables.posts.list({ where: { author: 'me' } });
        // @ts-expect-error It is a number.
        tables.posts.list({ where: { views: { gte: '10' } } });
        // @ts-expect-error Nor can it be sorted by.
        tables.posts.list({ sort: '-author' });
        // @ts-expect-error The id of a row stays.
        tables.posts.update(id, { id: 'other' });
        return { id, title: '', views: number };
      },
    }),
    wrong: defineMutation({
      output: z.object({ count: z.number() }),
      // @ts-expect-error The result is not as `output` says.
      handler: () => ({ count: 'many' }),
    }),
  }),
});
