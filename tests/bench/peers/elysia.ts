// Tables by REST in TypeScript's manner: Elysia on Bun, rows in a Y.Array, all of it in memory. It does
// what the server does that our specification was written for, the way one writes it with these
// libraries: nothing is held back, and nothing is cached that its authors would not cache.
import cors from '@elysiajs/cors'
import { type } from 'arktype'
import { Elysia, status } from 'elysia'
import * as Y from 'yjs'

type Entry = { key: string; val: unknown; ts: number }

/** Rows by key in a Y.Array of entries, of which the last writer's counts. */
class Entries {
  readonly byKey = new Map<string, Entry>()
  readonly #array: Y.Array<Entry>
  readonly #doc: Y.Doc
  #clock = 0

  constructor(doc: Y.Doc, name: string) {
    this.#doc = doc
    this.#array = doc.getArray(name)
    this.#array.observe((event) => this.#follow(event))
  }

  /** Replaces the entry of a key: an array has no way to change one. */
  set(key: string, val: unknown) {
    this.#clock = Math.max(Date.now(), this.#clock + 1)
    const entry = { key, val, ts: this.#clock }
    this.#doc.transact(() => {
      if (this.byKey.has(key)) this.#remove((other) => other.key === key)
      this.#array.push([entry])
    })
  }

  delete(key: string) {
    this.#doc.transact(() => this.#remove((entry) => entry.key === key))
  }

  #remove(unwanted: (entry: Entry) => boolean) {
    const at = this.#array.toArray().findIndex(unwanted)
    if (at >= 0) this.#array.delete(at)
  }

  /** Keeps the index current, and deletes entries that lost against another of their key. */
  #follow(event: Y.YArrayEvent<Entry>) {
    const entriesOf = (items: Set<Y.Item>) => [...items].flatMap((item) => item.content.getContent() as Entry[])
    for (const entry of entriesOf(event.changes.deleted)) {
      if (this.byKey.get(entry.key) === entry) this.byKey.delete(entry.key)
    }
    const losers: Entry[] = []
    for (const entry of entriesOf(event.changes.added)) {
      this.#clock = Math.max(this.#clock, entry.ts)
      const other = this.byKey.get(entry.key)
      if (other && this.#wins(other, entry)) {
        losers.push(entry)
        continue
      }
      if (other) losers.push(other)
      this.byKey.set(entry.key, entry)
    }
    if (losers.length === 0) return
    this.#doc.transact(() => {
      for (const loser of losers) this.#remove((entry) => entry === loser)
    })
  }

  #wins(one: Entry, other: Entry) {
    if (one.ts !== other.ts) return one.ts > other.ts
    const entries = this.#array.toArray()
    return entries.indexOf(one) > entries.indexOf(other)
  }
}

const PostV1 = type({ id: 'string', title: 'string', _v: '1' })
const PostV2 = type({
  id: 'string',
  title: 'string > 0',
  content: 'string',
  views: 'number.integer >= 0',
  published: 'boolean',
  _v: '2',
})
const AnyPost = PostV1.or(PostV2)
type Post = typeof PostV2.infer

function migrate(post: typeof AnyPost.infer): Post {
  return post._v === 1 ? { ...post, content: '', views: 0, published: false, _v: 2 } : post
}

type Issue = { message: string; path?: unknown }

/** What a client or a document holds is of any version, or wrong. */
function parse(row: unknown): { post: Post } | { issues: Issue[] } {
  // By the interface that all such libraries share: the server does not know which one a schema is of.
  const result = AnyPost['~standard'].validate(row)
  if (result instanceof Promise) throw new TypeError('a schema of rows must not be asynchronous')
  if (result.issues) return { issues: result.issues.map(({ message, path }) => ({ message, path })) }
  return { post: migrate(result.value) }
}

const posts = new Entries(new Y.Doc(), 'table:posts')

const absent = (id: string) => status(404, { error: { message: `there is no row ${id}` } })
const invalid = (issues: Issue[]) => status(422, { error: { message: 'the row is not valid', issues } })

const tables = new Elysia({ prefix: '/workspaces/blog/tables/posts' })
  .get('/', () => {
    const data: Post[] = []
    for (const { val } of posts.byKey.values()) {
      const parsed = parse(val)
      if ('post' in parsed) data.push(parsed.post)
    }
    return { data }
  })
  .get('/:id', ({ params: { id } }) => {
    const entry = posts.byKey.get(id)
    if (!entry) return absent(id)
    const parsed = parse(entry.val)
    return 'post' in parsed ? { data: parsed.post } : invalid(parsed.issues)
  })
  .post('/', ({ body }) => {
    const parsed = parse(body)
    if (!('post' in parsed)) return invalid(parsed.issues)
    posts.set(parsed.post.id, parsed.post)
    return status(201, { data: parsed.post })
  })
  .put('/:id', ({ params: { id }, body }) => {
    const entry = posts.byKey.get(id)
    if (!entry) return absent(id)
    const current = parse(entry.val)
    if (!('post' in current)) return invalid(current.issues)
    const changed = parse({ ...current.post, ...(body as object), id })
    if (!('post' in changed)) return invalid(changed.issues)
    posts.set(id, changed.post)
    return { data: changed.post }
  })
  .delete('/:id', ({ params: { id } }) => {
    if (!posts.byKey.has(id)) return absent(id)
    posts.delete(id)
    return { data: { id } }
  })

const app = new Elysia()
  .use(cors({ origin: ['tauri://localhost'], credentials: true, allowedHeaders: ['Content-Type', 'Authorization'] }))
  .get('/', () => ({ name: 'Epicenter Local', mode: 'local', workspaces: ['blog'] }))
  .use(tables)
  .listen({ hostname: '127.0.0.1', port: 0 })

console.log(`http://127.0.0.1:${app.server?.port}`)
