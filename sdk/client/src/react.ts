/**
 * React hooks. Each renders only when what it shows has changed: lists and rows are the same objects
 * until then, and are read by `useSyncExternalStore`, so that no render sees two states at once.
 */

import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';

import type { Status } from './connection.ts';
import type { AnyRow, WorkspaceDefinition, WorkspaceTypes } from './define.ts';
import type { OpenDocument } from './documents.ts';
import type { Kv } from './kv.ts';
import type { Person, Presence } from './presence.ts';
import type { Select } from './query.ts';
import type { RequestError, Result } from './rest.ts';
import type { Table } from './table.ts';
import { type ConnectOptions, type Migrations, type Workspace, connect } from './workspace.ts';

const NOTHING: readonly never[] = Object.freeze([]);

/**
 * Holds a workspace for as long as the component is there. Nothing is given while the server renders,
 * and in the first render of the browser. The options of the first render count: give the component
 * another `key` for another url or owner.
 */
export function useWorkspace<T extends WorkspaceTypes, const M extends Migrations<T> = Record<never, never>>(
  definition: WorkspaceDefinition<T>,
  options: ConnectOptions<T, M>,
): Workspace<T, M> | undefined {
  const [workspace, setWorkspace] = useState<Workspace<T, M>>();
  const first = useRef({ definition, options });
  useEffect(() => {
    const held = connect<T, M>(first.current.definition, first.current.options);
    setWorkspace(held);
    return () => held.destroy();
  }, []);
  return workspace;
}

/** The valid rows of a table, by a filter and in an order. */
export function useTable<Row extends AnyRow, Current extends AnyRow>(
  table: Table<Row, Current> | undefined,
  select: Select<Row> = {},
): readonly Row[] {
  // A `select` that is written in the component is another object in each render.
  const text = JSON.stringify(select);
  const list = useMemo(() => table?.list(JSON.parse(text) as Select<Row>), [table, text]);
  return useSyncExternalStore(
    useCallback((changed) => list?.subscribe(changed) ?? nothing, [list]),
    () => list?.rows ?? NOTHING,
    () => NOTHING,
  );
}

/** One row; nothing while there is none, or it is not valid. */
export function useRow<Row extends AnyRow, Current extends AnyRow>(table: Table<Row, Current> | undefined, id: string): Row | undefined {
  return useSyncExternalStore(
    useCallback((changed) => table?.observeRow(id, changed) ?? nothing, [table, id]),
    () => table?.get(id),
    () => undefined,
  );
}

/** The value of a key, and what sets it. */
export function useKv<Values extends object, Key extends keyof Values & string>(
  kv: Kv<Values> | undefined,
  key: Key,
): readonly [Values[Key] | undefined, (value: Values[Key]) => void] {
  const value = useSyncExternalStore(
    useCallback((changed) => kv?.observe(key, changed) ?? nothing, [kv, key]),
    () => kv?.get(key),
    () => undefined,
  );
  return [value, useCallback((value) => void kv?.set(key, value), [kv, key])];
}

/** Who is in the workspace. */
export function usePresence<Fields extends object>(presence: Presence<Fields> | undefined): readonly Person<Fields>[] {
  return useSyncExternalStore(
    useCallback((changed) => presence?.subscribe(changed) ?? nothing, [presence]),
    () => presence?.people() ?? NOTHING,
    () => NOTHING,
  );
}

/** Whether edits are with the server. */
export function useStatus(workspace: Pick<Workspace<WorkspaceTypes>, 'status' | 'subscribe'> | undefined): Status {
  return useSyncExternalStore(
    useCallback((changed) => workspace?.subscribe(changed) ?? nothing, [workspace]),
    () => workspace?.status ?? 'connecting',
    () => 'connecting',
  );
}

/** A run of an action. */
export interface ActionState<Data> {
  readonly pending: boolean;
  readonly data: Data | undefined;
  readonly error: RequestError | undefined;
}

/** Runs an action and shows how it went: `const [publish, { pending, error }] = useAction(blog.actions.posts.publish)`. */
export function useAction<Arguments extends unknown[], Data>(
  action: ((...input: Arguments) => Promise<Result<Data>>) | undefined,
): readonly [(...input: Arguments) => Promise<Result<Data> | undefined>, ActionState<Data>] {
  const [state, setState] = useState<ActionState<Data>>({ pending: false, data: undefined, error: undefined });
  const latest = useRef(0);
  useEffect(() => () => void (latest.current += 1), []);
  const run = useCallback(
    async (...input: Arguments) => {
      const run = ++latest.current;
      setState((before) => ({ ...before, pending: true, error: undefined }));
      const result = await action?.(...input);
      // Only the latest run counts, and none once the component is gone.
      if (run === latest.current && result) {
        setState(
          result.ok
            ? { pending: false, data: result.data, error: undefined }
            : (before) => ({ pending: false, data: before.data, error: result.error }),
        );
      }
      return result;
    },
    [action],
  );
  return [run, state];
}

/** The text of a row, open for as long as the component is there. */
export function useDocument(open: (() => OpenDocument) | undefined, key: string): OpenDocument | undefined {
  const [document, setDocument] = useState<OpenDocument>();
  const latest = useRef(open);
  latest.current = open;
  const canOpen = open !== undefined;
  useEffect(() => {
    const held = latest.current?.();
    setDocument(held);
    return () => held?.release();
  }, [key, canOpen]);
  return document;
}

function nothing(): void {}
