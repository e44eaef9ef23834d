import { defineMutation, defineTable, defineWorkspace } from 'epicenter-workspace';
import * as z from 'zod';

const notes = defineTable(
  z.object({ id: z.string(), text: z.string().min(1, 'must not be empty'), done: z.boolean().default(false) }),
);

export default defineWorkspace({
  id: 'my-workspace',
  tables: { notes },
  actions: ({ tables }) => ({
    notes: {
      finish: defineMutation({
        description: 'Marks a note as done.',
        input: z.object({ id: z.string() }),
        handler: ({ id }) => tables.notes.update(id, { done: true }),
      }),
    },
  }),
});
