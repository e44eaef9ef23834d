// What a program does with a client that off-the-shelf tools make of the OpenAPI document: types by
// openapi-typescript, requests by openapi-fetch. It has to pass the compiler, and then to work.

import createClient from 'openapi-fetch';

import type { components, paths } from './schema.js';

type Post = components['schemas']['blog.posts'];
type Row = components['schemas']['blog.posts.fields'] | components['schemas']['InvalidRow'];
type Failure = components['schemas']['Error'];

function isPost(row: Post | Row | Post[]): row is Post {
  return 'id' in row && !('issues' in row);
}

/** The data of an answer, which has to be one of success. */
function good<T>(answer: { data?: { data: T }; error?: Failure }): T {
  if (answer.data) return answer.data.data;
  throw new Error(answer.error?.error.message ?? 'neither data nor an error');
}

/** The error of an answer, which has to be one. */
function bad(answer: { error?: Failure; response: Response }) {
  if (!answer.error) throw new Error(`${answer.response.status} is no error`);
  const { message, issues } = answer.error.error;
  return { status: answer.response.status, message, paths: issues?.map(({ path }) => path.join('.')) };
}

export async function use(baseUrl: string) {
  const client = createClient<paths>({
    baseUrl,
    querySerializer: { array: { style: 'form', explode: false } },
  });
  const posts = '/workspaces/blog/tables/posts';
  const post = '/workspaces/blog/tables/posts/{id}';

  const created = good(await client.POST(posts, { body: { id: 'a', title: 'Typed', views: 5 } }));
  if (!isPost(created)) throw new Error('one row was sent, and one comes back');
  const views: number = created.views;
  await client.POST(posts, { body: [{ title: 'b' }, { title: 'c', published: true }] });

  const top = await client.GET(posts, {
    params: {
      query: { sort: ['-views', 'title'], limit: 2, count: true, fields: ['id', 'title', 'views'] },
    },
  });
  const titles = good(top).filter(isPost).map((row: Post) => row.title);
  const count: number | undefined = top.data?.count;
  const next: string | undefined = top.data?.next;
  const filtered = await client.GET(posts, { params: { query: { filter: { published: true } } } });

  const id = { path: { id: 'a' } };
  const updated = good(await client.PUT(post, { params: id, body: { content: 'new' } }));
  const tag = (await client.GET(post, { params: id })).response.headers.get('etag') ?? '';
  const stale = await client.PATCH(post, {
    params: { ...id, header: { 'If-Match': '"other"' } },
    body: { views: 6 },
  });
  const known = await client.GET(post, { params: { ...id, header: { 'If-None-Match': tag } } });

  const published = good(
    await client.POST('/workspaces/blog/actions/posts/publish', { body: { id: 'a' } }),
  );
  const popular = good(
    await client.GET('/workspaces/blog/actions/posts/popular', { params: { query: { min: 5 } } }),
  );
  const theme: string = good(await client.PUT('/workspaces/blog/kv/theme', { body: 'dark' }));

  const refused = await client.POST(posts, { body: { id: 'x', title: '' } });
  const missing = await client.GET(post, { params: { path: { id: 'none' } } });

  const deleted: string = good(await client.DELETE(post, { params: id })).id;
  const rest = await client.DELETE(posts, { params: { query: { filter: { id: 'b' } } } });

  return {
    views,
    titles,
    count,
    hasNext: next !== undefined,
    filtered: good(filtered).filter(isPost).map((row) => row.title),
    updated: { title: updated.title, content: updated.content },
    stale: bad(stale),
    known: known.response.status,
    published: published.published,
    popular: popular.map((row) => row.title),
    theme,
    refused: bad(refused),
    missing: bad(missing),
    deleted,
    rest: good(rest).deleted,
  };
}

/** What must not pass the compiler. */
export async function misuse(client: ReturnType<typeof createClient<paths>>) {
  // @ts-expect-error there is no such table
  await client.GET('/workspaces/blog/tables/nope');
  // @ts-expect-error a field of another type
  await client.POST('/workspaces/blog/tables/posts', { body: { title: 'a', views: 'many' } });
  // @ts-expect-error a sort by what is no field
  await client.GET('/workspaces/blog/tables/posts', { params: { query: { sort: ['nope'] } } });
  // @ts-expect-error an input that lacks what it must have
  await client.POST('/workspaces/blog/actions/posts/publish', { body: {} });
  // @ts-expect-error deleting rows without saying which
  await client.DELETE('/workspaces/blog/tables/posts');
  // @ts-expect-error a value of another type
  await client.PUT('/workspaces/blog/kv/theme', { body: 7 });
}
