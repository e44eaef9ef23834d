/** A blog: posts that are drafts until they are published, and a theme. */

import { defineKv, defineMutation, defineQuery, defineTable, defineWorkspace } from 'epicenter-workspace';
import * as z from 'zod';

/** What a post was before it had content; old rows are migrated as they are read. */
const PostV1 = z.object({ id: z.string(), title: z.string() });

const Post = z.object({
  id: z.string(),
  title: z.string().min(1, 'must not be empty'),
  content: z.string().default(''),
  views: z.int().nonnegative().default(0),
  published: z.boolean().default(false),
});

const posts = defineTable(PostV1, Post).migrate((old) => ({
  content: '',
  views: 0,
  published: false,
  ...old,
}));

export default defineWorkspace({
  id: 'blog-js',
  title: 'Blog in TypeScript',
  tables: { posts },
  kv: { theme: defineKv(z.string()) },

  actions: ({ tables }) => ({
    posts: {
      publish: defineMutation({
        description: 'Publishes a post.',
        input: z.object({ id: z.string() }),
        output: Post,
        handler: ({ id }) => {
          console.log(`publishing ${id}`);
          return tables.posts.update(id, { published: true });
        },
      }),

      import: defineMutation({
        description: 'Adds posts from a JSON text, all or none.',
        input: z.object({ json: z.string() }),
        output: z.int(),
        handler: ({ json }) => {
          const imported: z.infer<typeof Post>[] = JSON.parse(json);
          for (const post of imported) tables.posts.put(post);
          return imported.length;
        },
      }),

      popular: defineQuery({
        description: 'The most viewed first.',
        input: z.object({ min: z.int().nonnegative() }),
        output: z.array(Post),
        handler: ({ min }) =>
          tables.posts.list({ where: { published: true, views: { gte: min } }, sort: '-views' }),
      }),
    },
  }),
});
