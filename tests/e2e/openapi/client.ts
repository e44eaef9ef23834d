// What a program does with a client that off-the-shelf tools make of the OpenAPI document: types by
// openapi-typescript, requests by openapi-fetch. It has to pass the compiler, and then to work.

import createClient from 'openapi-fetch';

import type { components, paths } from './schema.js';

type Post = components['schemas']['blog.posts'];
type Row = components['schemas']['blog.posts.fields'] | components['schemas']['InvalidRow'];
type Paper = components['schemas']['desk.papers'];
type Failure = components['schemas']['Error'];

function isPost(row: Post | Row | Post[]): row is Post {
  return 'id' in row && !('issues' in row);
}

/**
 * A query string as the document describes it: lists with commas, and filters with the operators of
 * each field, for which tools have no serializer of their own.
 */
function querySerializer(query: Record<string, unknown>): string {
  const pairs: [string, string][] = [];
  const text = (value: unknown) => (typeof value === 'object' ? JSON.stringify(value) : String(value));
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue;
    if (name !== 'filter') {
      pairs.push([name, Array.isArray(value) ? value.join(',') : text(value)]);
      continue;
    }
    for (const [field, wanted] of Object.entries(value as Record<string, unknown>)) {
      if (typeof wanted !== 'object' || wanted === null) {
        pairs.push([`filter[${field}]`, text(wanted)]);
        continue;
      }
      for (const [operator, operand] of Object.entries(wanted)) {
        pairs.push([`filter[${field}][${operator}]`, text(operand)]);
      }
    }
  }
  return new URLSearchParams(pairs).toString();
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
  const client = createClient<paths>({ baseUrl, querySerializer });
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
  const ranged = await client.GET(posts, {
    params: { query: { filter: { views: { gte: 1, lt: 10 }, title: { prefix: 'Ty' } } } },
  });
  const listed = await client.GET(posts, {
    params: { query: { filter: { title: { in: ['b', 'with, a comma'] } } } },
  });

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
    ranged: good(ranged).filter(isPost).map((row) => row.title),
    listed: good(listed).filter(isPost).map((row) => row.title),
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

/** The same for a workspace of scripts, with documents, presence and columns that may be null. */
export async function useDesk(baseUrl: string) {
  const client = createClient<paths>({ baseUrl, querySerializer });
  const papers = '/workspaces/desk/tables/papers';
  const body = '/workspaces/desk/tables/papers/{id}/documents/body';
  const ids = (rows: { id?: string }[]) => rows.map((row) => row.id);

  const rows = [
    { id: 'a', title: 'A', due: null, stars: 3, tags: ['tax'], by: 'null', state: 'draft' as const },
    { id: 'b', title: 'B', due: '2026-01-31', stars: null, by: null },
  ];
  const created = await client.POST(papers, { params: { header: { 'If-None-Match': '*' } }, body: rows });
  const again = await client.POST(papers, {
    params: { header: { 'If-None-Match': '*' } },
    body: [{ id: 'c', title: 'C' }, ...rows],
  });
  const select = async (filter: Filter) =>
    ids(good(await client.GET(papers, { params: { query: { filter } } })));

  const path = { path: { id: 'a' } };
  const written = good(await client.PUT(body, { params: path, body: { text: 'Dear' } }));
  const read = (await client.GET(body, { params: path })).data;
  const paper = good(await client.GET('/workspaces/desk/tables/papers/{id}', { params: path }));
  const edited: number | undefined = (paper as Paper).edited;

  const starred = await client.GET('/workspaces/desk/actions/papers/starred', {
    params: { query: { stars: 2 } },
  });
  const there = good(await client.GET('/workspaces/desk/awareness'));
  const names: (string | undefined)[] = Object.values(there).map(({ name }) => name);
  const lamp: number | null = good(await client.PUT('/workspaces/desk/kv/lamp', { body: null }));
  // Its input has no member that must be there, so there need not be one.
  const tidied = good(await client.POST('/workspaces/desk/actions/papers/tidy'));
  const invalid = good(await client.DELETE(papers, { params: { query: { invalid: true } } })).deleted;

  return {
    created: Array.isArray(good(created)),
    again: bad(again),
    tagged: await select({ tags: { contains: 'tax' } }),
    nobody: await select({ by: null }),
    called: await select({ by: { eq: '"null"' } }),
    unstarred: await select({ stars: null }),
    drafts: await select({ state: 'draft' }),
    dated: await select({ due: { exists: true, lte: '2026-12-31' } }),
    text: typeof read === 'object' ? read.data.text : read,
    sameRoom: typeof read === 'object' && read.data.guid === written.guid,
    edited: edited !== undefined,
    starred: starred.response.status,
    names,
    lamp,
    tidied,
    invalid,
  };
}

type Filter = NonNullable<
  NonNullable<paths['/workspaces/desk/tables/papers']['get']['parameters']['query']>['filter']
>;

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
  // @ts-expect-error an operator that makes nothing of the field
  await client.GET('/workspaces/blog/tables/posts', { params: { query: { filter: { views: { contains: 1 } } } } });
  // @ts-expect-error an operand of another type
  await client.DELETE('/workspaces/blog/tables/posts', { params: { query: { filter: { views: { gte: 'x' } } } } });
  // @ts-expect-error a value of another type
  await client.PUT('/workspaces/blog/kv/theme', { body: 7 });
}
