/**
 * A workspace by REST: for servers, scripts, and whatever holds no document. `fetch` and nothing else.
 *
 * What can fail for reasons that a program must deal with is a value: `{ ok: true, data }` or
 * `{ ok: false, error }`. `unwrap` makes an exception of an error where that is easier.
 */

import type { AnyRow, Mutation, Query, TableName, WorkspaceDefinition, WorkspaceTypes } from './define.ts';
import type { Issue } from './errors.ts';
import { sayIssue } from './errors.ts';
import { type Select, filtersOf } from './query.ts';

/** What the server said, or why it did not. */
export type Result<Data> = { readonly ok: true; readonly data: Data } | { readonly ok: false; readonly error: RequestError };

/** A request that was not carried out. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  /**
   * What kind of failure: `invalid` (422, see `issues`), `unauthorized` (401), `denied` (403), `missing`
   * (404), `conflict` (409, 412), `limited` (429, see `retryAfter`), `full` (507), `unreachable` (no answer came), `failed`
   * (anything else).
   */
  readonly kind: 'invalid' | 'unauthorized' | 'denied' | 'missing' | 'conflict' | 'limited' | 'full' | 'unreachable' | 'failed';
  /** The HTTP status; 0 where no answer came. */
  readonly status: number;
  readonly issues: readonly Issue[];
  /** When to try again, in seconds, where the server said so. */
  readonly retryAfter: number | undefined;
  /** The id by which the server's log names the request. */
  readonly requestId: string | undefined;

  constructor(status: number, message: string, issues: readonly Issue[] = [], headers?: Headers) {
    super(message);
    this.status = status;
    this.kind = KINDS[status] ?? 'failed';
    this.issues = issues;
    const after = Number(headers?.get('retry-after') ?? Number.NaN);
    this.retryAfter = Number.isFinite(after) ? after : undefined;
    this.requestId = headers?.get('x-request-id') ?? undefined;
  }

  /** The message, and each issue. */
  override toString(): string {
    return [this.message, ...this.issues.map(sayIssue)].join('\n');
  }
}

const KINDS: Readonly<Record<number, RequestError['kind']>> = {
  0: 'unreachable',
  401: 'unauthorized',
  403: 'denied',
  404: 'missing',
  409: 'conflict',
  412: 'conflict',
  422: 'invalid',
  429: 'limited',
  507: 'full',
};

/** The data of a result. @throws RequestError if there is none */
export function unwrap<Data>(result: Result<Data>): Data {
  if (result.ok) return result.data;
  throw result.error;
}

/** Where a workspace is, and as whom it is asked. */
export interface RestOptions {
  /** The server: `https://host`. */
  readonly url: string;
  /** A session's token, or where to get one; without one the browser's cookies count. */
  readonly token?: string | (() => string | undefined | Promise<string | undefined>) | undefined;
  /** The account whose workspace it is, where it was shared. */
  readonly owner?: string | undefined;
  readonly fetch?: typeof globalThis.fetch | undefined;
}

type Call<Action> = Action extends { input: infer Input; output: infer Output }
  ? Record<never, never> extends Input
    ? (input?: Input, options?: CallOptions) => Promise<Result<Output>>
    : (input: Input, options?: CallOptions) => Promise<Result<Output>>
  : never;

/** Actions as they are called: `actions.posts.publish({ id })`. */
export type Actions<A> = Tree<A>;

type Tree<A> = { [Head in Heads<A>]: Branch<A, Head> };
type Heads<A> = keyof A extends infer Path ? (Path extends `${infer Head}/${string}` ? Head : Path & string) : never;
type Branch<A, Head extends string> = (Head extends keyof A ? Call<A[Head]> : unknown) &
  ([Extract<keyof A, `${Head}/${string}`>] extends [never]
    ? unknown
    : Tree<{ [Path in keyof A as Path extends `${Head}/${infer Rest}` ? Rest : never]: A[Path] }>);

/** What goes along with a request. */
export interface CallOptions {
  readonly signal?: AbortSignal;
}

/** A list as it changes, event by event. */
export type ListEvent<Row> =
  | { readonly type: 'reset' }
  | { readonly type: 'put'; readonly row: Row }
  | { readonly type: 'delete'; readonly id: string }
  | { readonly type: 'invalid'; readonly id: string; readonly issues: readonly Issue[]; readonly row: unknown }
  /** Everything until here is known. */
  | { readonly type: 'ready' };

/** A workspace by REST. */
export interface RestWorkspace<T extends WorkspaceTypes> {
  readonly tables: { readonly [Name in TableName<T>]: RestTable<T['tables'][Name]> };
  readonly actions: Actions<T['actions']>;
  readonly kv: RestKv<NonNullable<T['kv']>>;
}

/** A workspace by REST, with the types that `host types` wrote. */
export function rest<T extends WorkspaceTypes>(definition: WorkspaceDefinition<T>, options: RestOptions): RestWorkspace<T> {
  const client = new Client(definition.id, options);
  const tables = Object.keys(definition.tables).map((name) => [name, new RestTable(client, name)]);
  return {
    tables: Object.fromEntries(tables) as RestWorkspace<T>['tables'],
    actions: actionsOf(definition, client),
    kv: new RestKv(client),
  };
}

/** The tree of a workspace's actions. */
export function actionsOf<T extends WorkspaceTypes>(definition: WorkspaceDefinition<T>, client: Client): Actions<T['actions']> {
  const tree: Record<string, unknown> = {};
  for (const [path, type] of Object.entries<'query' | 'mutation'>(definition.actions)) {
    const call = (input?: unknown, { signal }: CallOptions = {}) =>
      type === 'query'
        ? client.ask('GET', `actions/${encodePath(path)}`, { query: queryOf(input), signal })
        : client.ask('POST', `actions/${encodePath(path)}`, { body: input ?? {}, signal });
    const names = path.split('/');
    let branch: any = tree;
    for (const name of names.slice(0, -1)) branch = branch[name] ??= {};
    const last = names.at(-1) as string;
    // `posts` may be an action and hold others.
    branch[last] = Object.assign(call, branch[last]);
  }
  return tree as Actions<T['actions']>;
}

interface Request {
  readonly query?: URLSearchParams | undefined;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal | undefined;
}

/** Sends requests to one workspace. */
export class Client {
  readonly #base: string;
  readonly #options: RestOptions;

  constructor(workspace: string, options: RestOptions) {
    this.#base = `${options.url.replace(/\/$/, '')}/workspaces/${encodeURIComponent(workspace)}/`;
    this.#options = options;
  }

  /** The `data` of an answer. */
  async ask<Data>(method: string, path: string, request: Request = {}): Promise<Result<Data>> {
    const answer = await this.whole<{ data: Data }>(method, path, request);
    return answer.ok ? { ok: true, data: answer.data.data } : answer;
  }

  /** The whole body of an answer. */
  async whole<Body>(method: string, path: string, request: Request = {}): Promise<Result<Body>> {
    try {
      const response = await this.fetch(method, path, request);
      const text = await response.text();
      const body = text === '' ? {} : (JSON.parse(text) as { error?: { message?: string; issues?: Issue[] } });
      if (response.ok) return { ok: true, data: body as Body };
      const message = body.error?.message ?? `the server answered ${response.status}`;
      return { ok: false, error: new RequestError(response.status, message, body.error?.issues, response.headers) };
    } catch (error) {
      if (request.signal?.aborted) throw error;
      return { ok: false, error: new RequestError(0, `no answer from ${this.#base}: ${String(error)}`) };
    }
  }

  async fetch(method: string, path: string, { query, body, headers, signal }: Request): Promise<Response> {
    const { token, owner, fetch = globalThis.fetch } = this.#options;
    const bearer = typeof token === 'function' ? await token() : token;
    const parameters = new URLSearchParams(query);
    if (owner !== undefined) parameters.set('owner', owner);
    return fetch(`${this.#base}${path}${parameters.size > 0 ? `?${parameters}` : ''}`, {
      method,
      credentials: bearer === undefined ? 'include' : 'omit',
      headers: {
        ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
  }
}

/** A part of a list. */
export interface Page<Row> {
  readonly rows: readonly Row[];
  /** Where the next one begins; nothing on the last. */
  readonly next: string | undefined;
}

/** A table by REST. */
export class RestTable<Row extends AnyRow> {
  readonly #client: Client;
  readonly #path: string;

  constructor(client: Client, name: string) {
    this.#client = client;
    this.#path = `tables/${encodeURIComponent(name)}`;
  }

  get(id: string, options: CallOptions = {}): Promise<Result<Row>> {
    return this.#client.ask('GET', this.#row(id), options);
  }

  /** Creates or replaces a row. */
  put(row: Row, options: CallOptions = {}): Promise<Result<Row>> {
    return this.#client.ask('POST', this.#path, { ...options, body: row });
  }

  /** Creates or replaces rows, all or none. */
  putAll(rows: readonly Row[], options: CallOptions = {}): Promise<Result<Row[]>> {
    return this.#client.ask('POST', this.#path, { ...options, body: rows });
  }

  update(id: string, fields: Partial<Omit<Row, 'id'>>, options: CallOptions = {}): Promise<Result<Row>> {
    return this.#client.ask('PATCH', this.#row(id), { ...options, body: fields });
  }

  delete(id: string, options: CallOptions = {}): Promise<Result<unknown>> {
    return this.#client.ask('DELETE', this.#row(id), options);
  }

  /** One page of a list. */
  async page(select: Select<Row> & { cursor?: string | undefined } = {}, options: CallOptions = {}): Promise<Result<Page<Row>>> {
    const query = listQuery(select);
    query.set('limit', String(select.limit ?? 1_000));
    if (select.cursor !== undefined) query.set('cursor', select.cursor);
    const answer = await this.#client.whole<{ data: Row[]; next?: string }>('GET', this.#path, { ...options, query });
    return answer.ok ? { ok: true, data: { rows: answer.data.data, next: answer.data.next ?? undefined } } : answer;
  }

  /** All rows that are selected, page by page as they are wanted. @throws RequestError if a page cannot be had */
  async *list(select: Select<Row> = {}, options: CallOptions = {}): AsyncGenerator<Row, void, undefined> {
    let left = select.limit ?? Number.POSITIVE_INFINITY;
    let cursor: string | undefined;
    do {
      const page = unwrap(await this.page({ ...select, limit: Math.min(left, 1_000), cursor }, options));
      yield* page.rows;
      left -= page.rows.length;
      cursor = page.next;
    } while (cursor !== undefined && left > 0);
  }

  /**
   * The rows, and then every change to them, until the loop ends or the signal aborts. A connection that
   * is lost is made again, and goes on where it was; what was missed in between is told.
   *
   * @throws RequestError if the server refuses it
   */
  async *watch(select: Pick<Select<Row>, 'where'> = {}, { signal }: CallOptions = {}): AsyncGenerator<ListEvent<Row>, void, undefined> {
    let last: string | undefined;
    let tries = 0;
    while (!signal?.aborted) {
      const over = new AbortController();
      const abort = () => over.abort();
      signal?.addEventListener('abort', abort);
      try {
        const response = await this.#client.fetch('GET', this.#path, {
          query: listQuery(select),
          headers: { accept: 'text/event-stream', ...(last === undefined ? {} : { 'last-event-id': last }) },
          signal: over.signal,
        });
        if (response.status >= 400 && response.status < 500 && response.status !== 429) {
          const body = (await response.json().catch(() => ({}))) as { error?: { message?: string; issues?: Issue[] } };
          throw new RequestError(response.status, body.error?.message ?? `the server answered ${response.status}`, body.error?.issues, response.headers);
        }
        if (response.ok && response.body) {
          for await (const { event, data, id } of eventsOf(response.body)) {
            tries = 0;
            if (id !== undefined) last = id;
            const parsed = JSON.parse(data) as any;
            if (event === 'put') yield { type: 'put', row: parsed };
            else if (event === 'reset' || event === 'ready') yield { type: event };
            else if (event === 'delete' || event === 'invalid') yield { type: event, ...parsed };
          }
        }
      } catch (error) {
        if (error instanceof RequestError) throw error;
      } finally {
        signal?.removeEventListener('abort', abort);
        over.abort();
      }
      await pause(Math.min(250 * 2 ** tries++, 30_000) * (0.5 + Math.random() / 2), signal);
    }
  }

  /** The text of a row's document. */
  document(id: string, name: string, options: CallOptions = {}): Promise<Result<string>> {
    return this.#client.ask('GET', `${this.#row(id)}/documents/${encodeURIComponent(name)}`, options);
  }

  #row(id: string): string {
    return `${this.#path}/${encodeURIComponent(id)}`;
  }
}

/** Key-values by REST. */
export class RestKv<Values extends object> {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  get<Key extends keyof Values & string>(key: Key, options: CallOptions = {}): Promise<Result<Values[Key]>> {
    return this.#client.ask('GET', `kv/${encodeURIComponent(key)}`, options);
  }

  set<Key extends keyof Values & string>(key: Key, value: Values[Key], options: CallOptions = {}): Promise<Result<unknown>> {
    return this.#client.ask('PUT', `kv/${encodeURIComponent(key)}`, { ...options, body: value });
  }

  delete(key: keyof Values & string, options: CallOptions = {}): Promise<Result<unknown>> {
    return this.#client.ask('DELETE', `kv/${encodeURIComponent(key)}`, options);
  }
}

function listQuery<Row>({ where, sort }: Select<Row>): URLSearchParams {
  const query = new URLSearchParams();
  for (const { field, operator, value } of filtersOf(where)) {
    const name = operator === 'eq' ? `filter[${field}]` : `filter[${field}][${operator}]`;
    query.append(name, textOf(value));
  }
  const order = [sort ?? []].flat().join(',');
  if (order !== '') query.set('sort', order);
  return query;
}

function queryOf(input: unknown): URLSearchParams {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(input ?? {})) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) query.append(name, textOf(one));
  }
  return query;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

interface ServerEvent {
  readonly event: string;
  readonly data: string;
  readonly id: string | undefined;
}

/** Reads server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html. */
async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent, void, undefined> {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let text = '';
  let [event, data, id]: [string, string[], string | undefined] = ['message', [], undefined];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    text = lines.pop() as string;
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { event, data: data.join('\n'), id };
        [event, data, id] = ['message', [], undefined];
        continue;
      }
      const [, field, content = ''] = /^([^:]*)(?::\s?(.*))?$/.exec(line) ?? [];
      if (field === 'event') event = content;
      else if (field === 'data') data.push(content);
      else if (field === 'id') id = content;
    }
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

export type { Mutation, Query };
