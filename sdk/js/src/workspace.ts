/** A workspace: what its author says it has. */

import type { Actions } from './action.ts';
import type { Caller } from './context.ts';
import { Kv, type KvDefinition } from './kv.ts';
import type { StandardSchema } from './schema.ts';
import { Table, type TableDefinition } from './table.ts';

type Tables = { readonly [name: string]: TableDefinition<any> };
type Keys = { readonly [key: string]: KvDefinition<any> };

/** The tables and keys of a workspace, as its actions and checks use them. */
export interface Client<T extends Tables, K extends Keys> {
  readonly tables: { readonly [name in keyof T]: Table<T[name]['row']> };
  readonly kv: { readonly [key in keyof K]: Kv<K[key]['value']> };
}

/**
 * One change to a table, about to happen or, with the source `sync`, about to count. `old` is absent when the row in the
 * document is invalid.
 */
export type Change<R> = {
  readonly id: string;
  readonly caller?: Caller;
  /** How it came: by a REST request for the row, from an action, or from a client that syncs. */
  readonly source: 'rest' | 'action' | 'sync';
} & (
  | { readonly operation: 'create'; readonly old?: undefined; readonly new: R }
  | { readonly operation: 'update'; readonly old?: R; readonly new: R }
  | { readonly operation: 'delete'; readonly old?: R; readonly new?: undefined }
);

/** Everything that a workspace has. */
export interface WorkspaceOptions<T extends Tables, K extends Keys> {
  /** Names the workspace in URLs and names its room. */
  id: string;
  /** What people call it; the id unless said. */
  title?: string;
  tables?: T;
  /** Single values under keys. */
  kv?: K;
  /** Fields of the presence states that clients share (cursors, names), by their schemas. */
  awareness?: { readonly [field: string]: StandardSchema };
  /**
   * For tables: asked before each change that REST or an action makes; throws to refuse it, with what the
   * caller is answered: `Invalid` for a row that is not good, `Denied` for who may not. Unlike a schema it
   * sees the row before, may read other rows, and knows who asks. Changes that arrive by sync are asked about in
   * tables that `enforce()` their rules.
   */
  checks?: (client: Client<T, K>) => {
    readonly [name in keyof T]?: (change: Change<T[name]['row']>) => void;
  };
  actions?: (client: Client<T, K>) => Actions;
}

/** A workspace, as the plugin's entry exports it. */
export interface Workspace {
  readonly id: string;
  readonly title: string;
  readonly tables: Tables;
  readonly kv: Keys;
  readonly awareness: { readonly [field: string]: StandardSchema };
  readonly checks: { readonly [table: string]: ((change: Change<any>) => void) | undefined };
  readonly actions: Actions;
}

/** Defines the workspace; the plugin's entry exports it as default. */
export function defineWorkspace<T extends Tables = {}, K extends Keys = {}>(
  options: WorkspaceOptions<T, K>,
): Workspace {
  const { id, title = '', awareness = {} } = options;
  const tables: Tables = options.tables ?? {};
  const kv: Keys = options.kv ?? {};
  const client = {
    tables: map(tables, (name) => new Table(name)),
    kv: map(kv, (key) => new Kv(key)),
  } as Client<T, K>;
  const checks = (options.checks?.(client) ?? {}) as Workspace['checks'];
  return { id, title, tables, kv, awareness, checks, actions: options.actions?.(client) ?? {} };
}

function map<V>(of: object, make: (name: string) => V): { [name: string]: V } {
  return Object.fromEntries(Object.keys(of).map((name) => [name, make(name)]));
}
