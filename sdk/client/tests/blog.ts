/** The blog of the repository, as `host types` writes it. */

import { type Mutation, type Query, defineWorkspace, jsonSchema } from '../src/index.ts';

export interface Post {
  id: string;
  title: string;
  content: string;
  views: number;
  published: boolean;
}

export interface PostV1 {
  id: string;
  title: string;
}

export const blog = defineWorkspace<{
  tables: { posts: Post };
  before: { posts: PostV1 };
  kv: { theme: string };
  awareness: { name: string };
  actions: {
    'posts/publish': Mutation<{ id: string }, Post>;
    'posts/popular': Query<{ min: number }, Post[]>;
  };
}>({
  id: 'blog',
  tables: {
    posts: {
      versions: [
        jsonSchema({
          type: 'object',
          properties: { id: { type: 'string' }, title: { type: 'string' }, _v: { const: 1 } },
          required: ['id', 'title'],
        }),
        jsonSchema({
          type: 'object',
          properties: {
            id: { type: 'string' },
            title: { type: 'string', minLength: 1 },
            content: { type: 'string', default: '' },
            views: { type: 'integer', minimum: 0, default: 0 },
            published: { type: 'boolean', default: false },
            _v: { const: 2 },
          },
          required: ['id', 'title'],
        }),
      ],
    },
  },
  kv: { theme: jsonSchema({ type: 'string' }) },
  awareness: { name: jsonSchema({ type: 'string' }) },
  actions: { 'posts/publish': 'mutation', 'posts/popular': 'query' },
});
