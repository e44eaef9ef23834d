/** Tables: what their rows are, and the handle by which actions read and write them. */

import * as documents from 'epicenter:workspace/documents@0.2.0';
import * as host from 'epicenter:workspace/tables@0.2.0';

import { NotFound, ask } from './errors.ts';
import type { Output, StandardSchema } from './schema.ts';
import { type AnyVersion, type Last, Versions } from './versions.ts';

/** A schema whose values can be rows: objects with a string `id`. */
export type RowSchema = StandardSchema<any, { id: string }>;

/** The current row of a table with these versions. */
export type Row<V extends readonly RowSchema[]> = Output<Last<V> & RowSchema>;

/** Columns of a Yjs document that is attached to each row. */
export interface DocumentColumns<R> {
  /** The column with the id of the document's room. */
  guid: keyof R & string;
  /** The column that the host sets to the time (in ms) of the last local edit. */
  updatedAt: keyof R & string;
}

/** What becomes of a row when the one that it refers to is deleted: it keeps that from happening, goes as well, or refers to nothing. */
export type OnDelete = 'restrict' | 'cascade' | 'set-null';

/** Rules about several rows. */
interface Rules {
  unique: string[][];
  references: { field: string; table: string; onDelete: OnDelete }[];
  enforce: boolean;
}

/** What a table is; made by `defineTable`. */
export class TableDefinition<R extends { id: string }> {
  /** For the type checker only: the type of a row. */
  declare readonly row: R;
  /** @internal */
  readonly documents: { name: string; guidColumn: string; updatedAtColumn: string }[];
  /** @internal */
  readonly rules: Rules;
  readonly #schemas: readonly RowSchema[];
  readonly #migrate: ((old: any) => unknown) | undefined;

  /** @internal */
  constructor(
    schemas: readonly RowSchema[],
    migrate?: (old: any) => unknown,
    documents: TableDefinition<R>['documents'] = [],
    rules: Rules = { unique: [], references: [], enforce: false },
  ) {
    this.#schemas = schemas;
    this.#migrate = migrate;
    this.documents = documents;
    this.rules = rules;
  }

  /** No two rows may have the same value in this field; of several fields, all together. `null` is no value. */
  unique(...fields: [keyof R & string, ...(keyof R & string)[]]): TableDefinition<R> {
    return this.#with({ unique: [...this.rules.unique, fields] });
  }

  /** A field holds ids of rows of a table. */
  references(field: keyof R & string, table: string, onDelete: OnDelete = 'restrict'): TableDefinition<R> {
    return this.#with({ references: [...this.rules.references, { field, table, onDelete }] });
  }

  /**
   * Makes all of the table's rules, its check included, hold for sync as well: what a client wrote offline is
   * checked when it arrives, and what is refused is undone and kept for whoever wrote it.
   */
  enforce(): TableDefinition<R> {
    return this.#with({ enforce: true });
  }

  #with(rules: Partial<Rules>): TableDefinition<R> {
    return new TableDefinition(this.#schemas, this.#migrate, this.documents, { ...this.rules, ...rules });
  }

  /** Attaches a Yjs document to each row, under a name. */
  withDocument(name: string, { guid, updatedAt }: DocumentColumns<R>): TableDefinition<R> {
    const document = { name, guidColumn: guid, updatedAtColumn: updatedAt };
    return new TableDefinition(this.#schemas, this.#migrate, [...this.documents, document], this.rules);
  }

  /** @internal */
  versions(name: string): Versions {
    return new Versions(`table ${name}`, this.#schemas, this.#migrate);
  }
}

/** A table with several versions, before it is said what an old row becomes. */
export interface Versioned<V extends readonly RowSchema[]> {
  /**
   * Says what a row of an older version becomes. `row._v` tells the versions apart. It is called for
   * older rows only, and its result is validated by the current schema. Rows in the document stay as
   * they are until they are rewritten; every read migrates them. Never take a version out again: the
   * numbers of those after it would change.
   */
  migrate(migrate: (row: AnyVersion<V>) => Row<V>): TableDefinition<Row<V>>;
}

/**
 * Defines a table by the schema of its rows: a schema of any Standard Schema library, for an object
 * with a string `id`. When rows change shape, keep the old schema, add the new one after it, and say
 * with `.migrate(…)` how a row of the one becomes a row of the other.
 *
 * What a schema makes of a row is what is stored, so it must be JSON, and the schema must accept it
 * again.
 */
export function defineTable<S extends RowSchema>(schema: S): TableDefinition<Output<S>>;
export function defineTable<V extends readonly [RowSchema, RowSchema, ...RowSchema[]]>(
  ...versions: V
): Versioned<V>;
export function defineTable(...schemas: RowSchema[]): unknown {
  if (schemas.length < 2) return new TableDefinition(schemas);
  return { migrate: (migrate: (old: any) => any) => new TableDefinition(schemas, migrate) };
}

/** What a field may be compared with. All that are named must hold. */
export interface Comparison<T> {
  eq?: T;
  ne?: T;
  gt?: T;
  gte?: T;
  lt?: T;
  lte?: T;
  /** Equal to one of these. */
  in?: readonly T[];
  /** A string has this in it, or an array has this among its members. */
  contains?: T extends readonly (infer Member)[] ? Member : T & string;
  /** A string begins with this. */
  prefix?: T & string;
  /** Whether the row has the field at all; `null` counts as a value. */
  exists?: boolean;
}

/** Conditions on fields: a value that the field equals, or a comparison. All must hold. */
export type Where<R> = {
  [F in keyof R & string]?: (R[F] extends object | undefined ? never : R[F]) | Comparison<NonNullable<R[F]>>;
};

/** A field to sort by: `views` is smallest first, `-views` largest first. */
export type Sort<R> = (keyof R & string) | `-${keyof R & string}`;

/** Which rows, in which order. */
export interface Select<R> {
  where?: Where<R>;
  /** One or more; without any, by id. */
  sort?: Sort<R> | readonly Sort<R>[];
  /** At most so many rows; 1,000 unless said, and 10,000 is the most. */
  limit?: number;
  /** Where a page before said that it goes on. */
  cursor?: string;
}

/** A part of the rows that a selection stands for. */
export interface Page<R> {
  rows: R[];
  /** The cursor of the next page; absent on the last. */
  next?: string;
}

/** The rows of a table, as actions and checks use them. Writing is for mutations. */
export class Table<R extends { id: string }> {
  readonly #name: string;

  /** @internal */
  constructor(name: string) {
    this.#name = name;
  }

  /** The row with this id, if there is one. Throws `Invalid` when the row in the document is. */
  get(id: string): R | undefined {
    const row = ask(() => host.get(this.#name, id));
    return row == null ? undefined : JSON.parse(row);
  }

  /** The row with this id. Throws `NotFound` when there is none. */
  getOrThrow(id: string): R {
    const row = this.get(id);
    if (row === undefined) throw new NotFound(`${this.#name} has no row ${id}`);
    return row;
  }

  /** The valid rows that are selected. */
  list(select: Select<R> = {}): R[] {
    return this.page(select).rows;
  }

  /** The same, with where they go on. */
  page(select: Select<R> = {}): Page<R> {
    const { sort = [], limit = null, cursor = null } = select;
    const query = {
      filters: filters(select.where),
      sort: [sort].flat().map((field) => ({
        field: field.replace(/^-/, ''),
        descending: field.startsWith('-'),
      })),
      limit,
      cursor,
    };
    const { rows, next } = ask(() => host.list(this.#name, query));
    const page: Page<R> = { rows: rows.map((row) => JSON.parse(row)) };
    return next == null ? page : { ...page, next };
  }

  /** How many valid rows fulfil the conditions. */
  count(where: Where<R> = {}): number {
    return Number(ask(() => host.count(this.#name, filters(where))));
  }

  /** Creates the row or replaces it whole. Returns it as it is stored; throws `Invalid`. */
  put(row: R): R {
    return JSON.parse(ask(() => host.put(this.#name, JSON.stringify(row))));
  }

  /** Sets the given members of a row and leaves the others. Returns the row as it is stored. */
  update(id: string, fields: Partial<Omit<R, 'id'>>): R {
    return JSON.parse(ask(() => host.update(this.#name, id, JSON.stringify(fields))));
  }

  /** Deletes a row; false when there was none. */
  delete(id: string): boolean {
    return ask(() => host.delete(this.#name, id));
  }

  /** The text of a document that is attached to a row; empty when it was never written. */
  text(id: string, document: string): string {
    return ask(() => documents.getText(this.#name, id, document));
  }

  /**
   * Replaces the text of a document that is attached to a row. What old and new text have in common
   * stays, so that clients who edit it at the same time are not in the way.
   */
  setText(id: string, document: string, text: string): void {
    ask(() => documents.setText(this.#name, id, document, text));
  }
}

function filters(where: object = {}): host.Filter[] {
  return Object.entries(where).flatMap(([field, condition]) => {
    if (condition === undefined) return [];
    const compares = typeof condition === 'object' && condition !== null;
    return Object.entries(compares ? condition : { eq: condition })
      .filter(([, value]) => value !== undefined)
      .map(([operator, value]) => ({ field, operator, value: JSON.stringify(value) }));
  });
}
