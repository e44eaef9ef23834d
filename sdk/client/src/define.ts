/** What a workspace is made of: its types, and what a client has to know of it at run time. */

import { type JsonSchema, type StandardSchema, jsonSchema } from './schema.ts';

/** A row of any table. */
export interface AnyRow {
  readonly id: string;
}

/** An action that only reads; asked for with GET. */
export interface Query<Input = unknown, Output = unknown> {
  readonly type: 'query';
  readonly input: Input;
  readonly output: Output;
}

/** An action that may write; asked for with POST. */
export interface Mutation<Input = unknown, Output = unknown> {
  readonly type: 'mutation';
  readonly input: Input;
  readonly output: Output;
}

/** The types of a workspace, as `host types` writes them. */
export interface WorkspaceTypes {
  /** Rows of the current version, by table. */
  readonly tables: Record<string, AnyRow>;
  /** Rows of the versions before; `never` where there was none. */
  readonly before?: Record<string, unknown>;
  readonly kv?: Record<string, unknown>;
  readonly awareness?: Record<string, unknown>;
  /** By path: `posts/publish`. */
  readonly actions?: Record<string, Query | Mutation>;
  /** The names of the documents of a table's rows. */
  readonly documents?: Record<string, string>;
}

/** A table at run time. */
export interface TableDefinition {
  /** The schema of each version, oldest first. */
  readonly versions: readonly (StandardSchema | JsonSchema)[];
  readonly documents?: Readonly<Record<string, DocumentDefinition>>;
}

/** A document of a table's rows. */
export interface DocumentDefinition {
  /** The column that holds the id of its room. */
  readonly guid: string;
  /** The column that is set to the time, in ms, when the text is edited here. */
  readonly updatedAt?: string;
}

/** A workspace at run time, and its types. */
export interface WorkspaceDefinition<T extends WorkspaceTypes = WorkspaceTypes> {
  readonly id: string;
  readonly tables: { readonly [Name in keyof T['tables']]: TableDefinition };
  readonly kv: { readonly [Key in keyof T['kv']]: StandardSchema | JsonSchema };
  readonly awareness: { readonly [Field in keyof T['awareness']]: StandardSchema | JsonSchema };
  readonly actions: { readonly [Path in keyof T['actions']]: 'query' | 'mutation' };
  /** Carries the types; nothing is there at run time. */
  readonly types?: T;
}

/** A workspace of these types. `host types` writes calls of it. */
export function defineWorkspace<T extends WorkspaceTypes>(definition: Omit<WorkspaceDefinition<T>, 'types'>): WorkspaceDefinition<T> {
  return definition;
}

/** Any schema as a Standard Schema. */
export function standard(schema: StandardSchema | JsonSchema): StandardSchema {
  return '~standard' in schema ? (schema as StandardSchema) : jsonSchema(schema);
}

/** The names of tables, as strings. */
export type TableName<T extends WorkspaceTypes> = keyof T['tables'] & string;

/** What a table gives to readers: current rows; where rows of older versions are not migrated, those too. */
export type RowOf<T extends WorkspaceTypes, Name extends TableName<T>, Migrated> = Name extends Migrated
  ? T['tables'][Name]
  : T['tables'][Name] | Before<T, Name>;

/** Rows of the versions before the current one. */
export type Before<T extends WorkspaceTypes, Name extends string> = T['before'] extends Record<Name, infer Old> ? Extract<Old, AnyRow> : never;
