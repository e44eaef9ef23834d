/**
 * Keys and values in a Y.Array, as every client and server of a workspace keeps them.
 *
 * An entry is the plain object `{ key, val, ts }`. To set a key, the old entry is deleted and a new
 * one is pushed, in one transaction. When two devices do so at once, two entries of one key remain:
 * the higher `ts` counts, and where they are equal the later in the array. Whoever sees the loser
 * deletes it. The clock is monotonic for the whole document: a write is later than all that was seen.
 *
 * **Cost.** Yjs describes a change by walking the array, which at 100,000 rows takes longer than a
 * frame lasts. So nothing here walks. What is new is read from the structs that a transaction added
 * (`beforeState` to `afterState`), what is gone from its delete set, both by id; and an entry is
 * deleted by its id. An edit costs what it changes, however long the array is.
 */

import * as Y from 'yjs';

/** Times beyond this are not believed: a clock could not go on from there. */
const LATEST_TIME = 2 ** 52;

/** The origin of transactions that delete entries which lost against another. */
export const CLEANUP = Symbol('conflict cleanup');

/** An entry that is in the document. */
export interface Live {
  readonly client: number;
  readonly clock: number;
  readonly ts: number;
  readonly val: unknown;
}

/** What happened to keys in one transaction, and who made it. */
export interface Change {
  readonly keys: ReadonlySet<string>;
  /** Whether it was made on this device, in this document. */
  readonly local: boolean;
  readonly origin: unknown;
}

type Listener = (change: Change) => void;

/** All tables and key-values of one document: reads each transaction once, for all of them. */
export class Layout {
  readonly doc: Y.Doc;
  readonly #arrays = new Map<unknown, Entries>();
  #latest = 0;
  readonly #now: () => number;
  /** What stood at the keys that the open transaction has written, before it did. */
  #journal: Map<Entries, Map<string, Live | undefined>> | undefined;

  constructor(doc: Y.Doc, now: () => number = Date.now) {
    this.doc = doc;
    this.#now = now;
    doc.on('afterTransaction', this.#follow);
  }

  /** The entries of a root array. */
  entries(name: string): Entries {
    const array = this.doc.getArray<unknown>(name);
    let entries = this.#arrays.get(array);
    if (entries === undefined) {
      entries = new Entries(array, this);
      this.#arrays.set(array, entries);
      entries.read();
    }
    return entries;
  }

  /** How far the newest entry is ahead of this device's clock, in ms. More than a minute says that a clock is wrong. */
  get ahead(): number {
    return Math.max(0, this.#latest - this.#now());
  }

  /** The time of the next write. */
  time(): number {
    this.#latest = Math.max(this.#now(), this.#latest + 1);
    return this.#latest;
  }

  /**
   * Does work as one transaction. If it throws, what it had written is taken back: Yjs alone would keep
   * the half that was done.
   */
  transact<Result>(work: () => Result, origin: unknown): Result {
    if (this.#journal !== undefined) return work();
    const journal = new Map<Entries, Map<string, Live | undefined>>();
    this.#journal = journal;
    try {
      return this.doc.transact((transaction) => {
        try {
          return work();
        } catch (error) {
          for (const [entries, keys] of journal) {
            for (const [key, live] of keys) entries.restore(transaction, key, live);
          }
          throw error;
        }
      }, origin);
    } finally {
      this.#journal = undefined;
    }
  }

  /** Notes what stands at a key that is about to be written. */
  writes(entries: Entries, key: string): void {
    if (this.#journal === undefined) return;
    const keys = this.#journal.get(entries) ?? new Map<string, Live | undefined>();
    this.#journal.set(entries, keys);
    if (!keys.has(key)) keys.set(key, entries.get(key));
  }

  /** Takes note of the time of an entry. */
  saw(ts: number): void {
    if (ts > this.#latest && ts < LATEST_TIME) this.#latest = ts;
  }

  destroy(): void {
    this.doc.off('afterTransaction', this.#follow);
  }

  readonly #follow = (transaction: Y.Transaction): void => {
    const touched = new Map<Entries, Set<string>>();
    const note = (entries: Entries, key: string) => {
      const keys = touched.get(entries);
      if (keys === undefined) touched.set(entries, new Set([key]));
      else keys.add(key);
    };
    for (const entries of this.#arrays.values()) {
      if (!transaction.changed.has(entries.array as never)) continue;
      for (const [client, ranges] of transaction.deleteSet.clients) {
        for (const { clock, len } of ranges) {
          for (const key of entries.forget(client, clock, len)) note(entries, key);
        }
      }
    }
    for (const [client, after] of transaction.afterState) {
      const before = transaction.beforeState.get(client) ?? 0;
      if (after === before) continue;
      const structs = this.doc.store.clients.get(client) ?? [];
      for (let at = Y.findIndexSS(structs, before); at < structs.length; at += 1) {
        const struct = structs[at];
        if (!(struct instanceof Y.Item) || struct.deleted) continue;
        const entries = this.#arrays.get(struct.parent);
        if (entries === undefined) continue;
        for (const key of entries.insert(struct)) note(entries, key);
      }
    }
    for (const [entries, keys] of touched) {
      entries.settle(keys, { keys, local: transaction.local, origin: transaction.origin });
    }
  };
}

/** The entries of one array by key. */
export class Entries {
  readonly array: Y.Array<unknown>;
  readonly layout: Layout;
  /** The entry that counts. */
  readonly #winners = new Map<string, Live>();
  /** All entries of a key, while there are several. */
  readonly #rivals = new Map<string, Live[]>();
  readonly #keys = new Map<number, Map<number, string>>();
  readonly #listeners = new Set<Listener>();
  #version = 0;

  /** Use `Layout.entries`. */
  constructor(array: Y.Array<unknown>, layout: Layout) {
    this.array = array;
    this.layout = layout;
  }

  /** Counts changes. */
  get version(): number {
    return this.#version;
  }

  get size(): number {
    return this.#winners.size;
  }

  get(key: string): Live | undefined {
    return this.#winners.get(key);
  }

  keys(): IterableIterator<string> {
    return this.#winners.keys();
  }

  /** Sets a key: one transaction, or a part of the one that is open. */
  set(key: string, val: unknown, origin: unknown): void {
    this.layout.writes(this, key);
    this.layout.doc.transact((transaction) => {
      this.#remove(transaction, key);
      this.#push({ key, val, ts: this.layout.time() });
    }, origin);
  }

  /** Deletes a key. */
  delete(key: string, origin: unknown): void {
    if (!this.#winners.has(key)) return;
    this.layout.writes(this, key);
    this.layout.doc.transact((transaction) => this.#remove(transaction, key), origin);
  }

  /** Puts back what stood at a key, with its time. */
  restore(transaction: Y.Transaction, key: string, live: Live | undefined): void {
    this.#remove(transaction, key);
    if (live !== undefined) this.#push({ key, val: live.val, ts: live.ts });
  }

  /** Tells of each transaction that changed keys, once it is over. */
  observe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Reads what is in the array already. */
  read(): void {
    const keys = new Set<string>();
    for (let item = (this.array as unknown as { _start: Y.Item | null })._start; item !== null; item = item.right) {
      if (!item.deleted) for (const key of this.insert(item)) keys.add(key);
    }
    if (keys.size > 0) this.settle(keys, { keys, local: false, origin: null });
  }

  /** Notes the entries of a struct that came; returns their keys. */
  *insert(item: Y.Item): Generator<string> {
    if (!item.countable || item.parentSub !== null) return;
    const { client, clock } = item.id;
    for (const [offset, entry] of item.content.getContent().entries()) {
      if (!isEntry(entry)) continue;
      const ts = typeof entry.ts === 'number' ? entry.ts : Number.NEGATIVE_INFINITY;
      // An entry of ours was noted when it was written.
      if (this.#keys.get(client)?.has(clock + offset)) {
        yield entry.key;
        continue;
      }
      this.layout.saw(ts);
      this.#place(client, clock + offset, entry.key);
      const live = { client, clock: clock + offset, ts, val: entry.val };
      const rivals = this.#rivals.get(entry.key);
      const winner = this.#winners.get(entry.key);
      if (rivals !== undefined) rivals.push(live);
      else if (winner !== undefined) this.#rivals.set(entry.key, [winner, live]);
      else this.#winners.set(entry.key, live);
      yield entry.key;
    }
  }

  /** Forgets entries by the range of ids that was deleted; returns their keys. */
  *forget(client: number, clock: number, len: number): Generator<string> {
    const keys = this.#keys.get(client);
    if (keys === undefined) return;
    // A range may be far longer than what we have of that client.
    const clocks = len > keys.size ? [...keys.keys()].filter((at) => at >= clock && at < clock + len) : range(clock, len);
    for (const at of clocks) {
      const key = keys.get(at);
      if (key === undefined) continue;
      keys.delete(at);
      const isIt = (live: Live) => live.client === client && live.clock === at;
      const rivals = this.#rivals.get(key)?.filter((live) => !isIt(live));
      const winner = this.#winners.get(key);
      if (rivals !== undefined) {
        if (rivals.length > 1) this.#rivals.set(key, rivals);
        else this.#rivals.delete(key);
        const [first] = rivals;
        if (first === undefined) this.#winners.delete(key);
        else if (winner !== undefined && isIt(winner)) this.#winners.set(key, first);
      } else if (winner !== undefined && isIt(winner)) {
        this.#winners.delete(key);
      }
      yield key;
    }
  }

  /** Decides between rivals, deletes the losers, and tells what changed. */
  settle(keys: ReadonlySet<string>, change: Change): void {
    const losers: Live[] = [];
    for (const key of keys) {
      const rivals = this.#rivals.get(key);
      if (rivals === undefined) continue;
      rivals.sort((a, b) => b.ts - a.ts || (this.#isLater(a, b) ? -1 : 1));
      const [winner, ...others] = rivals;
      this.#winners.set(key, winner as Live);
      losers.push(...others);
    }
    this.#version += 1;
    for (const listener of [...this.#listeners]) listener(change);
    if (losers.length === 0) return;
    this.layout.doc.transact((transaction) => {
      for (const loser of losers) this.#deleteEntry(transaction, loser);
      this.#forgetPositions();
    }, CLEANUP);
  }

  /** Pushes an entry and notes it: what follows in the same transaction sees it. */
  #push(pushed: { key: string; val: unknown; ts: number }): void {
    this.array.push([pushed]);
    const client = this.layout.doc.clientID;
    const item = this.layout.doc.store.clients.get(client)?.at(-1);
    if (!(item instanceof Y.Item)) return;
    const content = item.content.getContent();
    const entry = content.at(-1);
    if (!isEntry(entry)) return;
    const live = { client, clock: item.id.clock + content.length - 1, ts: entry.ts as number, val: entry.val };
    this.#winners.set(entry.key, live);
    this.#rivals.delete(entry.key);
    this.#place(client, live.clock, entry.key);
  }

  /** Deletes all entries of a key. */
  #remove(transaction: Y.Transaction, key: string): void {
    const winner = this.#winners.get(key);
    const live = this.#rivals.get(key) ?? (winner === undefined ? [] : [winner]);
    for (const entry of live) this.#deleteEntry(transaction, entry);
    if (live.length > 0) this.#forgetPositions();
    this.#winners.delete(key);
    this.#rivals.delete(key);
  }

  #deleteEntry(transaction: Y.Transaction, { client, clock }: Live): void {
    const { store } = this.layout.doc;
    if (Y.getState(store, client) <= clock) return;
    const item = Y.getItemCleanStart(transaction, Y.createID(client, clock));
    if (!(item instanceof Y.Item) || item.deleted) return;
    if (item.length > 1) Y.getItemCleanStart(transaction, Y.createID(client, clock + 1));
    item.delete(transaction);
  }

  /** Yjs remembers where some indexes of an array are, which deletions by id make wrong. */
  #forgetPositions(): void {
    const array = this.array as unknown as { _searchMarker: unknown[] | null };
    if (array._searchMarker) array._searchMarker = [];
  }

  #place(client: number, clock: number, key: string): void {
    const keys = this.#keys.get(client);
    if (keys === undefined) this.#keys.set(client, new Map([[clock, key]]));
    else keys.set(clock, key);
  }

  /** Whether one entry stands behind another. Walks from both, so it costs what lies between them. */
  #isLater(a: Live, b: Live): boolean {
    const { store } = this.layout.doc;
    const one = Y.getItem(store, Y.createID(a.client, a.clock));
    const other = Y.getItem(store, Y.createID(b.client, b.clock));
    if (one === other) return a.clock > b.clock;
    let afterOne: Y.Item | null = one;
    let afterOther: Y.Item | null = other;
    while (afterOne !== null || afterOther !== null) {
      afterOne = afterOne?.right ?? null;
      if (afterOne === other) return false;
      afterOther = afterOther?.right ?? null;
      if (afterOther === one) return true;
    }
    return false;
  }
}

function isEntry(value: unknown): value is { key: string; val: unknown; ts: unknown } {
  return typeof value === 'object' && value !== null && 'val' in value && typeof (value as { key?: unknown }).key === 'string';
}

function* range(from: number, len: number): Generator<number> {
  for (let at = from; at < from + len; at += 1) yield at;
}
