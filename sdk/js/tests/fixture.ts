/** Workspaces that the tests ask: the same notes by three schema libraries, and one that misbehaves. */

// First, as in a plugin: libraries look for some of the globals while they load.
export { guestOf } from '../src/guest.ts';

import { type } from 'arktype';
import * as z from 'zod';

import {
  Denied, Invalid, type StandardSchema, defineKv, defineMutation, defineQuery, defineTable,
  defineWorkspace, withJsonSchema,
} from '../src/index.ts';

const withZod = defineTable(
  z.object({ id: z.string(), title: z.string() }),
  z.object({ id: z.string(), title: z.string().min(1, 'must not be empty'), stars: z.int().default(0) }),
).migrate((note) => ({ stars: 0, ...note }));

const withArktype = defineTable(
  type({ id: 'string', title: 'string', _v: '1' }),
  type({ id: 'string', title: 'string > 0', stars: 'number.integer', _v: '2' }),
).migrate((note) => {
  switch (note._v) {
    case 1:
      return { ...note, stars: 0, _v: 2 };
    case 2:
      return note;
  }
});

/** A library of our own, which knows no JSON Schema. */
const byHand: StandardSchema<{ id: string }> = {
  '~standard': {
    version: 1,
    vendor: 'hand',
    validate: (value) =>
      Object.hasOwn(value as object, 'tags')
        ? { issues: [{ message: 'too many', path: ['tags', { key: 0 }] }] }
        : { value: value as { id: string } },
  },
};

export const notes = defineWorkspace({
  id: 'notes',
  tables: {
    zod: withZod.withDocument('body', { guid: 'id', updatedAt: 'stars' }),
    arktype: withArktype,
    hand: defineTable(withJsonSchema(byHand, { type: 'object' })),
  },
  kv: { theme: defineKv(z.enum(['dark', 'light'])) },
  awareness: { cursor: z.object({ line: z.int() }) },
  checks: ({ tables }) => ({
    zod: ({ operation, old, new: next }) => {
      if (operation === 'delete' && old?.stars === 5) throw new Denied('a favourite stays');
      if (next && tables.zod.count({ title: next.title }) > 0) throw new Invalid('title', 'is taken');
    },
  }),
  actions: ({ tables, kv }) => ({
    double: defineQuery({
      input: z.object({ number: z.int() }),
      output: z.int(),
      handler: ({ number }) => number * 2,
    }),
    best: defineQuery({
      handler: () =>
        tables.zod.page({
          where: { stars: { gte: 3, lt: 5 }, title: 'tea' },
          sort: ['-stars', 'id'],
          limit: 2,
        }),
    }),
    deep: {
      er: {
        fail: defineMutation({ handler: () => (undefined as unknown as { x: 1 }).x }),
        later: defineMutation({ handler: async () => kv.theme.get() }),
        nothing: defineMutation({ handler: () => kv.theme.set('dark') }),
        write: defineMutation({
          handler: () => tables.zod.setText('1', 'body', `${tables.zod.text('1', 'body')} upon a time`),
        }),
      },
    },
  }),
});

export { chat, chatStream, environment, request } from '../src/index.ts';

export const undescribed = defineWorkspace({ id: 'x', tables: { hand: defineTable(byHand) } });
