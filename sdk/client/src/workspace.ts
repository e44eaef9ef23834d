/** `connect`: a workspace of the server, held here. */

import { Awareness } from 'y-protocols/awareness';
import * as Y from 'yjs';

import { Connection, type Status, type Transport } from './connection.ts';
import type { AnyRow, Before, RowOf, TableDefinition, TableName, WorkspaceDefinition, WorkspaceTypes } from './define.ts';
import { Documents, type OpenDocument, type Rooms } from './documents.ts';
import { Layout } from './entries.ts';
import type { DeniedError } from './errors.ts';
import { Kv } from './kv.ts';
import { Presence } from './presence.ts';
import { type Actions, Client, actionsOf } from './rest.ts';
import { type TokenSource, socketTransport } from './socket.ts';
import { type Migrate, Table } from './table.ts';
import { Tabs, tabsCanShare } from './tabs.ts';
import type { Write, Writer } from './write.ts';

/** Keeps a document on this device; gives back what ends that. See `epicenter-client/indexeddb`. */
export type Persist = (name: string, doc: Y.Doc) => { readonly loaded: Promise<void>; close(): void };

/** How rows of older versions become current ones, by table. */
export type Migrations<T extends WorkspaceTypes> = {
  readonly [Name in TableName<T>]?: (old: Before<T, Name>) => T['tables'][Name];
};

/** How a workspace is reached and held. */
export interface ConnectOptions<T extends WorkspaceTypes, M extends Migrations<T> = Migrations<T>> {
  /** The server: `https://host`. */
  readonly url: string;
  /** A session's or a room's token, or where to get one each time a connection begins. */
  readonly token?: TokenSource;
  /** The account whose workspace it is, where it was shared with us. */
  readonly owner?: string;
  /** The document, if the app has one already. */
  readonly doc?: Y.Doc;
  readonly migrate?: M & Migrations<T>;
  /** Keeps the workspace on this device: `indexedDB()` of `epicenter-client/indexeddb`. */
  readonly persist?: Persist;
  /** Whether the tabs of a browser share a socket; they do unless this is `false`. */
  readonly shareSocket?: boolean;
  readonly WebSocket?: typeof globalThis.WebSocket;
  readonly fetch?: typeof globalThis.fetch;
}

/** A table of a workspace, with the documents of its rows. */
export type WorkspaceTable<T extends WorkspaceTypes, Name extends TableName<T>, M> = Table<
  Extract<RowOf<T, Name, keyof M>, AnyRow>,
  T['tables'][Name]
> & {
  /** Opens the text of a row. Let go of it with `release()`. */
  document(id: string, name: T['documents'] extends Record<Name, infer Names> ? Names & string : string): OpenDocument;
};

/** The origin of all edits that a workspace makes here, by which undo knows them. */
const LOCAL = Symbol('workspace');

export class Workspace<T extends WorkspaceTypes, M = unknown> {
  readonly definition: WorkspaceDefinition<T>;
  readonly doc: Y.Doc;
  readonly tables: { readonly [Name in TableName<T>]: WorkspaceTable<T, Name, M> };
  readonly kv: Kv<NonNullable<T['kv']>>;
  readonly presence: Presence<NonNullable<T['awareness']>>;
  /** Asks the server: results are values, with the issues of what it refuses. */
  readonly actions: Actions<T['actions']>;
  readonly connection: Connection;
  readonly #layout: Layout;
  readonly #documents: Documents;
  readonly #link: { close(): void };
  readonly #persisted: { readonly loaded: Promise<void>; close(): void } | undefined;
  readonly #awareness: Awareness;
  readonly #ownsDoc: boolean;

  /** Use `connect`. */
  constructor(definition: WorkspaceDefinition<T>, options: ConnectOptions<T, never>) {
    const { url, token, owner, WebSocket, fetch, persist, migrate = {} } = options;
    this.definition = definition;
    this.#ownsDoc = options.doc === undefined;
    this.doc = options.doc ?? new Y.Doc();
    this.#awareness = new Awareness(this.doc);
    this.#layout = new Layout(this.doc);
    const writer: Writer = { write: (value, change) => this.#write(value, change) };

    const base = url.replace(/\/$/, '');
    const sockets = base.replace(/^http/, 'ws');
    const place = `${base} ${owner ?? ''}`;
    const rooms: Rooms = {
      transport: (room, doc, awareness) => {
        const socket = socketTransport({ url: `${sockets}/rooms/${encodeURIComponent(room)}`, token, params: { owner }, WebSocket });
        return share(options.shareSocket !== false, `${place} ${room}`, doc, awareness, socket);
      },
      persist: (room, doc) => {
        const kept = persist?.(`${place} ${room}`, doc);
        return () => kept?.close();
      },
    };
    this.#persisted = persist?.(`${place} ${definition.id}`, this.doc);
    this.#documents = new Documents(rooms);

    const tables = Object.entries<TableDefinition>(definition.tables).map(([name, table]) => {
      const entries = this.#layout.entries(`table:${name}`);
      const made = new Table(name, table, entries, writer, (migrate as Record<string, Migrate | undefined>)[name]);
      const document = (id: string, document: string) => {
        const known = table.documents?.[document];
        if (known === undefined) throw new TypeError(`rows of ${name} have no document ${JSON.stringify(document)}`);
        const rows = {
          column: (id: string, column: string) => (made.get(id) as Record<string, unknown> | undefined)?.[column],
          set: (id: string, columns: Record<string, unknown>) => {
            if (made.has(id)) made.update(id, columns as never);
          },
        };
        return this.#documents.open(rows, id, known);
      };
      return [name, Object.assign(made, { document })];
    });
    this.tables = Object.fromEntries(tables) as typeof this.tables;
    this.kv = new Kv(definition.kv, this.#layout.entries('kv'), writer);
    this.presence = new Presence(definition.awareness, this.#awareness);
    this.actions = actionsOf(definition, new Client(definition.id, { url: base, token, owner, fetch }));

    const link = rooms.transport(definition.id, this.doc, this.#awareness);
    this.#link = link;
    this.connection = new Connection(this.doc, this.#awareness, link.transport);
    link.attach(this.connection);
  }

  /** Whether our edits are with the server. */
  get status(): Status {
    return this.connection.status;
  }

  /** Why the server refuses us, while `status` is `denied`. */
  get error(): DeniedError | undefined {
    return this.connection.error;
  }

  /** How far the newest row is ahead of this device's clock, in ms: much of it says that a clock is wrong. */
  get clockAhead(): number {
    return this.#layout.ahead;
  }

  /** Calls back when `status` changes. */
  subscribe(changed: () => void): () => void {
    return this.connection.subscribe(changed);
  }

  /** Resolves when there is something to show: what this device has kept, or else what the server has. */
  async ready(): Promise<void> {
    await this.#persisted?.loaded;
    if (this.doc.store.clients.size > 0 || this.connection.synced) return;
    await new Promise<void>((resolve, reject) => {
      const end = this.connection.subscribe(() => {
        const { synced, error } = this.connection;
        if (!synced && error === undefined) return;
        end();
        if (error === undefined) resolve();
        else reject(error);
      });
    });
  }

  /** Resolves when the server has everything that was written until now on disk. */
  saved(): Promise<void> {
    return this.connection.saved();
  }

  /** Does many writes as one: others see all of them or none, and none is left if the work throws. */
  transact<Result>(work: () => Result): Result {
    return this.#layout.transact(work, LOCAL);
  }

  /** Undoes and redoes what was written here, in the tables named, or in all and in the key-values. Others' writes stay. */
  undoManager(tables: readonly TableName<T>[] = Object.keys(this.definition.tables) as TableName<T>[]): Y.UndoManager {
    const names = tables.map((name) => `table:${name}`);
    const arrays = [...names, 'kv'].map((name) => this.doc.getArray(name));
    return new Y.UndoManager(arrays, { trackedOrigins: new Set([LOCAL]), captureTimeout: 500 });
  }

  /** Tries again at once: when a token is new, or the network is back. */
  reconnect(): void {
    this.connection.reconnect();
  }

  /** Leaves the workspace. What was not saved yet is lost unless the device keeps it. */
  destroy(): void {
    this.#documents.destroy();
    this.connection.destroy();
    this.#link.close();
    this.#persisted?.close();
    this.#layout.destroy();
    this.#awareness.destroy();
    if (this.#ownsDoc) this.doc.destroy();
  }

  #write<Value>(value: Value, change: (origin: unknown) => void): Write<Value> {
    change(LOCAL);
    const { connection } = this;
    // A part of a transaction is sent when that ends, as the next edit.
    const version = connection.version + (this.doc._transaction === null ? 0 : 1);
    return {
      value,
      get status() {
        return connection.acknowledged >= version ? 'saved' : 'saving';
      },
      saved: () => connection.saved(version),
    };
  }
}

/** Holds a workspace of the server: its rows are here, edits are made at once and sent. */
export function connect<T extends WorkspaceTypes, const M extends Migrations<T> = Record<never, never>>(
  definition: WorkspaceDefinition<T>,
  options: ConnectOptions<T, M>,
): Workspace<T, M> {
  return new Workspace<T, M>(definition, options as ConnectOptions<T, never>);
}

function share(wanted: boolean, name: string, doc: Y.Doc, awareness: Awareness, socket: Transport): ReturnType<Rooms['transport']> {
  if (!wanted || !tabsCanShare()) return { transport: socket, attach: () => {}, close: () => {} };
  const tabs = new Tabs(name, doc, awareness, socket);
  return { transport: tabs.transport, attach: (connection) => tabs.serve(connection), close: () => tabs.destroy() };
}
