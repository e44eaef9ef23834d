/** Filters and order of lists, with the meaning that they have by REST. */

import { same } from './schema.ts';

/** Conditions on one field; all must hold. */
export interface Condition<V> {
  eq?: V | null;
  /** Also true when the field is missing. */
  ne?: V | null;
  gt?: V;
  gte?: V;
  lt?: V;
  lte?: V;
  in?: readonly (V | null)[];
  /** A string that contains another, or an array that contains a value. */
  contains?: V extends readonly (infer One)[] ? One : string;
  /** A string that begins with another. */
  prefix?: string;
  /** Present and not null, or not. */
  exists?: boolean;
}

/** Which rows: a value that a field equals, or conditions on it. All fields must fit. */
export type Where<Row> = { [Field in FieldOf<Row>]?: ValueOf<Row, Field> | Condition<ValueOf<Row, Field>> };

/** The fields of a row, or of rows of several versions. */
type FieldOf<Row> = Row extends unknown ? keyof Row & string : never;
type ValueOf<Row, Field extends string> = Row extends { readonly [Name in Field]?: infer Value } ? Value : never;

/** A field to sort by: `views` is smallest first, `-views` largest first. */
export type Sort<Row> = `${'' | '-'}${FieldOf<Row>}`;

/** Which rows, in which order; without an order by id. */
export interface Select<Row> {
  where?: Where<Row>;
  sort?: Sort<Row> | readonly Sort<Row>[];
  limit?: number;
}

type Operator = keyof Condition<unknown>;

/** One condition, as REST spells it: `filter[field][operator]=value`. */
export interface Filter {
  readonly field: string;
  readonly operator: Operator;
  readonly value: unknown;
}

const OPERATORS: { readonly [Name in Operator]-?: (field: unknown, wanted: any) => boolean } = {
  eq: equal,
  ne: (field, wanted) => !equal(field, wanted),
  gt: (field, wanted) => rank(field) === rank(wanted) && compare(field, wanted) > 0,
  gte: (field, wanted) => rank(field) === rank(wanted) && compare(field, wanted) >= 0,
  lt: (field, wanted) => rank(field) === rank(wanted) && compare(field, wanted) < 0,
  lte: (field, wanted) => rank(field) === rank(wanted) && compare(field, wanted) <= 0,
  in: (field, wanted: readonly unknown[]) => wanted.some((one) => equal(field, one)),
  contains: (field, wanted) =>
    typeof field === 'string'
      ? typeof wanted === 'string' && field.includes(wanted)
      : Array.isArray(field) && field.some((one) => equal(one, wanted)),
  prefix: (field, wanted) => typeof field === 'string' && field.startsWith(wanted),
  exists: (field, wanted) => (field ?? null) !== null === wanted,
};

/** The conditions of a `where`, one by one. */
export function filtersOf(where: object = {}): Filter[] {
  return Object.entries(where).flatMap(([field, wanted]): Filter[] => {
    if (wanted === undefined) return [];
    if (!isCondition(wanted)) return [{ field, operator: 'eq', value: wanted }];
    return Object.entries(wanted)
      .filter(([, value]) => value !== undefined)
      .map(([operator, value]) => ({ field, operator: operator as Operator, value }));
  });
}

/** Whether a row fulfils all conditions. */
export function holds(filters: readonly Filter[], row: object): boolean {
  return filters.every(({ field, operator, value }) => OPERATORS[operator]((row as Record<string, unknown>)[field], value));
}

/** The order of rows: by the fields named, then by id. */
export function orderOf<Row extends { readonly id: string }>(sort: string | readonly string[] = []): (a: Row, b: Row) => number {
  const fields = [sort].flat().map((name) =>
    name.startsWith('-') ? { name: name.slice(1), sign: -1 } : { name, sign: 1 },
  );
  return (a, b) => {
    for (const { name, sign } of fields) {
      const order = sign * compare(a[name as keyof Row], b[name as keyof Row]);
      if (order !== 0) return order;
    }
    return compareText(a.id, b.id);
  };
}

/** A total order of JSON values: by kind first, then by value. */
function compare(a: unknown, b: unknown): number {
  const difference = rank(a) - rank(b);
  if (difference !== 0) return difference;
  if (typeof a === 'string') return compareText(a, b as string);
  if (typeof a === 'number' || typeof a === 'boolean') return Number(a) - Number(b);
  if (typeof a === 'object' && a !== null) return compareText(JSON.stringify(a), JSON.stringify(b));
  return 0;
}

function rank(value: unknown): number {
  if (value === null || value === undefined) return 0;
  if (typeof value === 'boolean') return 1;
  if (typeof value === 'number') return 2;
  if (typeof value === 'string') return 3;
  return Array.isArray(value) ? 4 : 5;
}

/** By code points, as the server compares; JavaScript's own order puts some emoji before some letters. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  const shorter = Math.min(a.length, b.length);
  for (let at = 0; at < shorter; at += 1) {
    const one = a.charCodeAt(at);
    const other = b.charCodeAt(at);
    if (one === other) continue;
    const surrogate = (unit: number) => unit >= 0xd800 && unit <= 0xdfff;
    if (surrogate(one) !== surrogate(other)) {
      // A surrogate stands for a code point beyond all that one unit can name.
      return surrogate(one) ? 1 : -1;
    }
    return one - other;
  }
  return a.length - b.length;
}

function equal(field: unknown, wanted: unknown): boolean {
  return same(field ?? null, wanted ?? null);
}

function isCondition(wanted: unknown): wanted is Record<string, unknown> {
  if (typeof wanted !== 'object' || wanted === null || Array.isArray(wanted)) return false;
  const names = Object.keys(wanted);
  return names.length > 0 && names.every((name) => name in OPERATORS);
}
