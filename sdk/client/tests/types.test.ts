import { expectTypeOf, test } from 'vitest';


import { type Result, connect } from '../src/index.ts';
import { rest } from '../src/rest.ts';
import { type Post, type PostV1, blog } from './blog.ts';

declare const url: string;

test('types follow the workspace', () => {
  // Nothing of this runs: the compiler is the test.
  () => {
    const plain = connect(blog, { url });
    expectTypeOf(plain.tables.posts.get('a')).toEqualTypeOf<(Post | PostV1) | undefined>();
    plain.tables.posts.put({ id: 'a', title: 'A', content: '', views: 1, published: true });
    // @ts-expect-error A row of an old version is not written.
    plain.tables.posts.put({ id: 'a', title: 'A' });
    // @ts-expect-error There is no such field.
    plain.tables.posts.update('a', { titel: 'A' });
    // @ts-expect-error There is no such table.
    plain.tables.people;
    // @ts-expect-error There is no such field to filter by.
    plain.tables.posts.where({ title: { prefix: 'a' }, pages: 1 });
    // @ts-expect-error There is no such field to sort by.
    plain.tables.posts.list({ sort: '-pages' });

    const migrated = connect(blog, {
      url,
      migrate: { posts: (old) => ({ ...old, content: '', views: 0, published: false }) },
    });
    expectTypeOf(migrated.tables.posts.get('a')).toEqualTypeOf<Post | undefined>();

    expectTypeOf(plain.kv.get('theme')).toEqualTypeOf<string | undefined>();
    // @ts-expect-error A theme is a string.
    plain.kv.set('theme', 1);
    // @ts-expect-error There is no such field of presence.
    plain.presence.set('colour', 'red');

    expectTypeOf(plain.actions.posts.popular).parameter(0).toEqualTypeOf<{ min: number }>();
    expectTypeOf(plain.actions.posts.popular({ min: 1 })).toEqualTypeOf<Promise<Result<Post[]>>>();
    // @ts-expect-error An input is wanted.
    void plain.actions.posts.publish();
    // @ts-expect-error There is no such action.
    plain.actions.posts.burn;

    expectTypeOf(rest(blog, { url }).tables.posts.get('a')).toEqualTypeOf<Promise<Result<Post>>>();
  };
});
