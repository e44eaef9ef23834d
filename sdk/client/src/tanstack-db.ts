/**
 * Tables as collections of TanStack DB: live queries and joins over them, and writes that are optimistic
 * until the server has them on disk.
 *
 * The table's document is the source: what anybody writes comes into the collection, transaction by
 * transaction. A write to the collection is a write to the table, in one Yjs transaction for all of its
 * rows; it ends when the server has saved it, and fails, so that it is rolled back, when the schema
 * or the server refuses it.
 */

import type { CollectionConfig, PendingMutation, SyncConfig } from '@tanstack/db';

import type { AnyRow } from './define.ts';
import type { Table } from './table.ts';
import type { Workspace } from './workspace.ts';

/** Which table of which workspace. */
export interface WorkspaceCollection<Row extends AnyRow> {
  readonly workspace: Pick<Workspace<any>, 'doc' | 'ready' | 'saved' | 'transact'>;
  readonly table: Table<Row, Row>;
  /** Names the collection; the table's name unless it is said. */
  readonly id?: string;
}

/** `createCollection(workspaceCollectionOptions({ workspace: blog, table: blog.tables.posts }))`. */
export function workspaceCollectionOptions<Row extends AnyRow>({
  workspace,
  table,
  id = table.name,
}: WorkspaceCollection<Row>): CollectionConfig<Row, string> {
  const sync: SyncConfig<Row, string>['sync'] = ({ begin, write, commit, markReady, markError }) => {
    const known = new Set<string>();
    const change = (rows: Iterable<readonly [string, Row | undefined]>) => {
      begin();
      for (const [id, value] of rows) {
        if (value !== undefined) {
          write({ type: known.has(id) ? 'update' : 'insert', value });
          known.add(id);
        } else if (known.delete(id)) {
          write({ type: 'delete', key: id });
        }
      }
      commit();
    };
    change(table.all().map((row) => [row.id, row]));
    const end = table.observe(({ rows }) => change(rows));
    workspace.ready().then(markReady, markError);
    return end;
  };
  const persist = async ({ transaction }: { transaction: { mutations: PendingMutation<Row, any, any>[] } }) => {
    workspace.transact(() => {
      for (const { type, key, modified } of transaction.mutations) {
        if (type === 'delete') table.delete(String(key));
        else table.put(modified);
      }
    });
    await workspace.saved();
  };
  return {
    id,
    getKey: (row) => row.id,
    sync: { sync, rowUpdateMode: 'full' },
    onInsert: persist,
    onUpdate: persist,
    onDelete: persist,
  };
}
