/**
 * A table: rows by id, validated by its schemas, kept in the document.
 *
 * A row is parsed when it is first read and remembered until its entry changes, so a table of a
 * hundred thousand rows costs what is looked at. A row with `_v` is read as that version and no
 * other; one without as the newest version that it fits. Where the app says how, rows of older
 * versions are migrated as they are read; else they are given as they are. Rows that no version
 * accepts are never given as rows, and are listed with what is wrong with them.
 */

import type { AnyRow, TableDefinition } from './define.ts';
import { standard } from './define.ts';
import { type Change, type Entries, type Live } from './entries.ts';
import { InvalidError, type Issue, MissingError } from './errors.ts';
import { type Select, compareText, filtersOf, holds, orderOf } from './query.ts';
import { type Checked, type StandardSchema, check } from './schema.ts';
import type { Write, Writer } from './write.ts';

/** A row that no version of the schema accepts. */
export interface InvalidRow {
  readonly id: string;
  readonly issues: readonly Issue[];
  /** As it is in the document. */
  readonly row: unknown;
}

/** What one transaction did to a table. */
export interface TableChange<Row> {
  /** The rows that changed: what is there now, or nothing where a row is gone or no longer valid. */
  readonly rows: ReadonlyMap<string, Row | undefined>;
  /** Whether it was made in this document, and not by others. */
  readonly local: boolean;
}

/** A live list of rows: the same array until one of its rows changes. */
export interface List<Row> {
  /** The rows now. */
  readonly rows: readonly Row[];
  /** Calls back when `rows` is another array; ends with the function that it gives. */
  subscribe(changed: () => void): () => void;
}

/** How rows of older versions become current ones. */
export type Migrate = (old: never) => AnyRow;

interface Parsed<Row> {
  readonly live: Live;
  readonly read: Checked<Row>;
}

export class Table<Row extends AnyRow, Current extends AnyRow = Row> {
  readonly name: string;
  readonly #entries: Entries;
  readonly #versions: readonly StandardSchema[];
  readonly #migrate: Migrate | undefined;
  readonly #writer: Writer;
  readonly #parsed = new Map<string, Parsed<Row>>();
  readonly #all: List<Row>;

  /** Use `connect`. */
  constructor(name: string, definition: TableDefinition, entries: Entries, writer: Writer, migrate: Migrate | undefined) {
    this.name = name;
    this.#entries = entries;
    this.#versions = definition.versions.map(standard);
    this.#migrate = migrate;
    this.#writer = writer;
    this.#all = this.list();
  }

  /** A valid row; nothing when there is none. */
  get(id: string): Row | undefined {
    const read = this.#read(id);
    return read?.ok ? read.value : undefined;
  }

  has(id: string): boolean {
    return this.get(id) !== undefined;
  }

  /** All valid rows, by id. The same array until one changes. */
  all(): readonly Row[] {
    return this.#all.rows;
  }

  /** The valid rows that fulfil all conditions. */
  where(where: NonNullable<Select<Row>['where']>, select: Omit<Select<Row>, 'where'> = {}): Row[] {
    const filters = filtersOf(where);
    const rows = this.#rows().filter((row) => holds(filters, row));
    rows.sort(orderOf<Row>(select.sort));
    return select.limit === undefined ? rows : rows.slice(0, select.limit);
  }

  /** The rows that no version of the schema accepts. */
  invalid(): InvalidRow[] {
    const invalid: InvalidRow[] = [];
    for (const id of this.#entries.keys()) {
      const read = this.#read(id);
      if (read && !read.ok) invalid.push({ id, issues: read.issues, row: this.#entries.get(id)?.val });
    }
    return invalid.sort((a, b) => compareText(a.id, b.id));
  }

  /**
   * Creates or replaces a row. It is there at once; `saved()` tells when the server has it on disk.
   *
   * @throws InvalidError if the schema does not accept it. Nothing is written then.
   */
  put(row: Current): Write<Current> {
    const valid = this.#valid(row);
    return this.#writer.write(valid, (origin) => this.#entries.set(valid.id, valid, origin));
  }

  /**
   * Changes fields of a row, and leaves the others as they are.
   *
   * @throws MissingError if there is no such row
   * @throws InvalidError if the row is not valid, before or after
   */
  update(id: string, fields: Partial<Omit<Current, 'id'>>): Write<Current> {
    const read = this.#read(id);
    if (read === undefined) throw new MissingError(`there is no row ${JSON.stringify(id)} in ${this.name}`);
    if (!read.ok) throw new InvalidError(`row ${JSON.stringify(id)} of ${this.name}, as it is stored,`, read.issues);
    return this.put({ ...(read.value as unknown as Current), ...fields, id });
  }

  /** Deletes a row, valid or not. One that is not there stays so. */
  delete(id: string): Write<undefined> {
    return this.#writer.write(undefined, (origin) => this.#entries.delete(id, origin));
  }

  /** Tells of each transaction that changed rows. Ends with the function that it gives. */
  observe(observer: (change: TableChange<Row>) => void): () => void {
    return this.#entries.observe(({ keys, local }: Change) => {
      observer({ rows: new Map([...keys].map((id) => [id, this.get(id)])), local });
    });
  }

  /** Calls back when this row changes; costs nothing while others do. */
  observeRow(id: string, changed: () => void): () => void {
    return this.#entries.observe(({ keys }) => {
      if (keys.has(id)) changed();
    });
  }

  /** A live list: `all()` or `where()` that is kept up to date by what changes. */
  list(select: Select<Row> = {}): List<Row> {
    return new LiveList(this.#entries, (id) => this.get(id), select);
  }

  /** Whether a row is valid, and if so as it would be read. */
  check(row: unknown): Checked<Row> {
    return this.#parse(row);
  }

  #rows(): Row[] {
    const rows: Row[] = [];
    for (const id of this.#entries.keys()) {
      const row = this.get(id);
      if (row !== undefined) rows.push(row);
    }
    return rows;
  }

  #read(id: string): Checked<Row> | undefined {
    const live = this.#entries.get(id);
    if (live === undefined) {
      this.#parsed.delete(id);
      return undefined;
    }
    const known = this.#parsed.get(id);
    if (known?.live === live) return known.read;
    const read = this.#parse(live.val);
    this.#parsed.set(id, { live, read });
    return read;
  }

  #parse(row: unknown): Checked<Row> {
    if (typeof row !== 'object' || row === null || Array.isArray(row)) return refused([], 'must be an object');
    const { _v: version, id } = row as { _v?: unknown; id?: unknown };
    if (typeof id !== 'string') return refused(['id'], id === undefined ? 'is required' : 'must be a string');
    const newest = this.#versions.length;
    if (newest === 0) return { ok: true, value: row as Row };
    if (version !== undefined && newest > 1) {
      if (!Number.isInteger(version) || (version as number) < 1 || (version as number) > newest) {
        return refused(['_v'], `is version ${JSON.stringify(version)}, and this app knows versions 1 to ${newest}`);
      }
      return this.#parseAs(version as number, row);
    }
    for (let number = newest; number >= 1 && newest > 1; number -= 1) {
      // Libraries pass over members that they do not know: a slip in a current row must not make it an old one.
      const members = membersOf(this.#versions[number - 1] as StandardSchema);
      if (members !== undefined && !Object.keys(row).every((member) => members.has(member))) continue;
      const read = this.#parseAs(number, row);
      if (read.ok) return read;
    }
    return this.#parseAs(newest, row);
  }

  #parseAs(number: number, row: object): Checked<Row> {
    const newest = this.#versions.length;
    const read = check(this.#versions[number - 1] as StandardSchema, newest > 1 ? { ...row, _v: number } : row);
    if (!read.ok || number === newest || this.#migrate === undefined) return read as Checked<Row>;
    const migrated = this.#migrate(read.value as never);
    return check(this.#versions[newest - 1] as StandardSchema<Row>, { ...migrated, id: (row as AnyRow).id, _v: newest });
  }

  /** A row that may be written, which is of the current version and no other. */
  #valid(row: Current): Current {
    const newest = this.#versions.length;
    if (newest === 0) return row;
    const current = newest > 1 ? { ...row, _v: newest } : row;
    const read = check(this.#versions[newest - 1] as StandardSchema<Current>, current);
    if (!read.ok) throw new InvalidError(`row ${JSON.stringify(row.id)} of ${this.name}`, read.issues);
    return newest > 1 ? { ...read.value, _v: newest } : read.value;
  }
}

/** Keeps a sorted list by what changes: a change costs a search, and a copy of the list once it is read. */
class LiveList<Row extends AnyRow> implements List<Row> {
  readonly #entries: Entries;
  readonly #get: (id: string) => Row | undefined;
  readonly #filters;
  readonly #order;
  readonly #limit: number;
  #sorted: Row[] | undefined;
  readonly #members = new Map<string, Row>();
  #version = -1;
  #rows: readonly Row[] = [];
  readonly #subscribers = new Set<() => void>();
  #unobserve: (() => void) | undefined;

  constructor(entries: Entries, get: (id: string) => Row | undefined, { where, sort, limit }: Select<Row>) {
    this.#entries = entries;
    this.#get = get;
    this.#filters = filtersOf(where);
    this.#order = orderOf<Row>(sort);
    this.#limit = limit ?? Number.POSITIVE_INFINITY;
  }

  get rows(): readonly Row[] {
    if (this.#version !== this.#entries.version || this.#sorted === undefined) this.#rebuild();
    return this.#rows;
  }

  subscribe(changed: () => void): () => void {
    this.#subscribers.add(changed);
    if (this.#unobserve === undefined) {
      void this.rows;
      this.#unobserve = this.#entries.observe(({ keys }) => this.#follow(keys));
    }
    return () => {
      this.#subscribers.delete(changed);
      if (this.#subscribers.size > 0) return;
      this.#unobserve?.();
      this.#unobserve = undefined;
    };
  }

  /** Makes the list anew, as the same array if it has the same rows. */
  #rebuild(): void {
    this.#version = this.#entries.version;
    const sorted: Row[] = [];
    this.#members.clear();
    for (const id of this.#entries.keys()) {
      const row = this.#get(id);
      if (row === undefined || !holds(this.#filters, row)) continue;
      sorted.push(row);
      this.#members.set(id, row);
    }
    this.#sorted = sorted.sort(this.#order);
    this.#show();
  }

  #follow(keys: ReadonlySet<string>): void {
    if (this.#sorted === undefined || this.#version !== this.#entries.version - 1) {
      this.#rebuild();
    } else {
      this.#version = this.#entries.version;
      // Many changes at once are cheaper to sort than to put in their places one by one.
      if (keys.size > 64 && keys.size > this.#sorted.length / 8) this.#rebuild();
      else for (const id of keys) this.#place(id, this.#sorted);
    }
    if (this.#show()) for (const changed of [...this.#subscribers]) changed();
  }

  #place(id: string, sorted: Row[]): void {
    const before = this.#members.get(id);
    const row = this.#get(id);
    const now = row !== undefined && holds(this.#filters, row) ? row : undefined;
    if (before === now) return;
    if (before !== undefined) sorted.splice(this.#find(before, sorted), 1);
    if (now === undefined) this.#members.delete(id);
    else {
      sorted.splice(this.#find(now, sorted), 0, now);
      this.#members.set(id, now);
    }
  }

  /** Where a row is, or would be: ids make the order total. */
  #find(row: Row, sorted: Row[]): number {
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#order(sorted[middle] as Row, row) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Takes the sorted rows over, if they are others; says whether they are. */
  #show(): boolean {
    const sorted = this.#sorted ?? [];
    const length = Math.min(sorted.length, this.#limit);
    let differs = length !== this.#rows.length;
    for (let at = 0; at < length && !differs; at += 1) differs = sorted[at] !== this.#rows[at];
    if (differs) this.#rows = Object.freeze(sorted.slice(0, length));
    return differs;
  }
}

/** The members that a schema names, where that can be known. */
function membersOf(schema: StandardSchema): ReadonlySet<string> | undefined {
  const { properties } = (schema as { json?: { properties?: object } }).json ?? {};
  return properties && new Set(Object.keys(properties));
}

function refused(path: string[], message: string): { ok: false; issues: Issue[] } {
  return { ok: false, issues: [{ path, message }] };
}
