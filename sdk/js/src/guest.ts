/** What the host calls (`wit/workspace.wit`, interface `guest`), on top of the author's workspace. */

import { flatten } from './action.ts';
import type { Caller } from './context.ts';
import { describe } from './describe.ts';
import { Failed, type HostError, Invalid, type Issue, WorkspaceError } from './errors.ts';
import { beginServing } from './globals.ts';
import { type Parsed, jsonSchema, parse } from './schema.ts';
import type { Workspace } from './workspace.ts';

/** The contract's `result`, where it stands inside of another value. */
type Result = { tag: 'ok'; val: string } | { tag: 'err'; val: Issue[] };

/** A change as the host tells it. */
interface HostChange {
  table: string;
  operation: 'create' | 'update' | 'delete';
  id: string;
  old?: string | null;
  new?: string | null;
  caller?: Caller | null;
  source: 'rest' | 'action' | 'sync';
}

/**
 * The exports of the plugin. All that can be wrong with the definition is found out here, which runs
 * while the plugin is built.
 */
export function guestOf(workspace: Workspace, version: string): object {
  const tables = new Map(
    Object.entries(workspace.tables).map(([name, table]) => [name, table.versions(name)]),
  );
  const keys = new Map(Object.entries(workspace.kv).map(([key, kv]) => [key, kv.versions(key)]));
  const actions = new Map(flatten(workspace.actions));

  const definition = {
    id: workspace.id,
    title: workspace.title,
    version,
    tables: [...tables].map(([name, versions]) => ({
      name,
      versions: versions.rowSchemas(),
      documents: workspace.tables[name]?.documents ?? [],
      checksChanges: workspace.checks[name] !== undefined,
      unique: workspace.tables[name]?.rules.unique ?? [],
      references: workspace.tables[name]?.rules.references ?? [],
      enforce: workspace.tables[name]?.rules.enforce ?? false,
    })),
    kv: [...keys].map(([key, versions]) => ({ key, versions: versions.schemas() })),
    awareness: Object.entries(workspace.awareness).map(([name, schema]) => ({
      name,
      schema: JSON.stringify(jsonSchema(schema, `awareness field ${name}`)),
    })),
    actions: [...actions].map(([path, { kind, description, input, output }]) => ({
      path,
      kind,
      description,
      input: input ? JSON.stringify(jsonSchema(input, `input of ${path}`)) : null,
      output: output ? JSON.stringify(jsonSchema(output, `output of ${path}`, 'output')) : null,
    })),
  };

  return {
    define() {
      beginServing();
      return definition;
    },

    parseRows(table: string, rows: string[]): Result[] {
      beginServing();
      const versions = tables.get(table);
      return rows.map((row) => {
        const parsed = attempt(() => versions?.parseRow(JSON.parse(row)) ?? unknown('table', table));
        return parsed.ok
          ? { tag: 'ok', val: JSON.stringify(parsed.value) }
          : { tag: 'err', val: parsed.issues };
      });
    },

    parseKv(key: string, value: string): string {
      beginServing();
      const parsed = attempt(() => keys.get(key)?.parseValue(JSON.parse(value)) ?? unknown('key', key));
      if (!parsed.ok) throw parsed.issues;
      return JSON.stringify(parsed.value);
    },

    checkChange({ table, operation, id, old, new: next, caller, source }: HostChange): void {
      beginServing();
      const row = (json: string | null | undefined) => (json == null ? {} : JSON.parse(json));
      try {
        workspace.checks[table]?.({
          operation,
          id,
          source,
          ...(old == null ? {} : { old: row(old) }),
          ...(next == null ? {} : { new: row(next) }),
          ...(caller == null ? {} : { caller }),
        } as never);
      } catch (thrown) {
        throw refusal(thrown).toHost();
      }
    },

    runAction(path: string, input: string): string {
      beginServing();
      const action = actions.get(path);
      if (action === undefined) throw { tag: 'not-found', val: '' } satisfies HostError;
      try {
        const parsed = action.input ? parse(action.input, JSON.parse(input)) : undefined;
        if (parsed?.ok === false) throw new Invalid(parsed.issues);
        const result = action.handler(parsed?.value);
        if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function') {
          throw new Failed(`${path} returned a promise; an action must be done when it returns`);
        }
        return JSON.stringify(result) ?? 'null';
      } catch (thrown) {
        throw refusal(thrown).toHost();
      }
    },
  };
}

/** What the caller is told. What the author did not mean to throw is written to the log first. */
function refusal(thrown: unknown): WorkspaceError {
  if (thrown instanceof WorkspaceError) return thrown;
  console.error(describe(thrown));
  return new Failed(thrown instanceof Error ? thrown.message : describe(thrown));
}

/** A row on which the author's code fails is invalid; its neighbours are not concerned. */
function attempt<T>(read: () => Parsed<T>): Parsed<T> {
  try {
    return read();
  } catch (thrown) {
    const { message } = refusal(thrown);
    return { ok: false, issues: [{ path: [], message: `the plugin failed on it: ${message}` }] };
  }
}

function unknown(what: string, name: string): { ok: false; issues: Issue[] } {
  return { ok: false, issues: [{ path: [], message: `the workspace has no ${what} ${name}` }] };
}
