/**
 * How a value of any version becomes a valid value of the current one.
 *
 * A row of a table with several versions carries the member `_v`, the number of the version that
 * wrote it, counted from 1. A row with `_v` is read as that version and no other. A row without it
 * is read as the newest version that it fits and that has all of its members (libraries pass over
 * members that they do not know, so that a slip in a current row would otherwise turn it into an old
 * one); when there is none, as the current one, whose issues are then reported. A row with a higher
 * `_v` than there are versions was written by a newer plugin: it is invalid rather than guessed at.
 *
 * What a migration makes is validated by the current schema as well. A schema may declare `_v` itself
 * (`_v: z.literal(2)`); one that does not never sees it.
 */

import type { Issue } from './errors.ts';
import { type JsonSchema, type Output, type Parsed, type StandardSchema, jsonSchema, parse } from './schema.ts';

/** The current version's schema. */
export type Last<Versions extends readonly unknown[]> = Versions extends readonly [
  ...unknown[],
  infer Current,
]
  ? Current
  : never;

/** A row of any version, told apart by `_v`. */
export type AnyVersion<
  Versions extends readonly StandardSchema[],
  Before extends readonly unknown[] = [],
> = Versions extends readonly [
  infer First extends StandardSchema,
  ...infer Rest extends readonly StandardSchema[],
]
  ?
      | (Output<First> & { readonly _v: [...Before, unknown]['length'] })
      | AnyVersion<Rest, [...Before, unknown]>
  : never;

interface Version {
  schema: StandardSchema;
  json: JsonSchema;
  /** The members that it names; nothing when it may have any. */
  members: ReadonlySet<string> | undefined;
}

export class Versions {
  readonly #versions: Version[];
  readonly #migrate: ((old: any) => unknown) | undefined;

  constructor(what: string, schemas: readonly StandardSchema[], migrate?: (old: any) => unknown) {
    if (schemas.length > 1 && migrate === undefined) {
      throw new TypeError(
        `${what} has ${schemas.length} versions; say with .migrate(…) what an old one becomes`,
      );
    }
    this.#migrate = migrate;
    this.#versions = schemas.map((schema, index) => {
      const json = jsonSchema(schema, `version ${index + 1} of ${what}`);
      return { schema, json, members: membersOf(json) };
    });
  }

  /** The JSON Schema of each version of a value, oldest first. */
  schemas(): string[] {
    return this.#versions.map(({ json }) => JSON.stringify(json));
  }

  /** The same for rows, which always have an id, and say which version they are of. */
  rowSchemas(): string[] {
    const several = this.#versions.length > 1;
    return this.#versions.map(({ json }, index) => {
      const { _v: _, ...properties } = (json.properties ?? {}) as JsonSchema;
      const required = ((json.required ?? []) as string[]).filter((name) => name !== '_v');
      return JSON.stringify({
        ...json,
        properties: several ? { ...properties, _v: { const: index + 1 } } : properties,
        required: required.includes('id') ? required : ['id', ...required],
      });
    });
  }

  /** The current row for a row of any version, or everything that is wrong with it. */
  parseRow(row: unknown): Parsed<object> {
    if (typeof row !== 'object' || row === null || Array.isArray(row)) {
      return refused([], 'a row must be an object');
    }
    const { _v, ...members } = row as Record<string, unknown>;
    if (typeof members.id !== 'string') {
      return refused(['id'], members.id === undefined ? 'is required' : 'must be a string');
    }
    const count = this.#versions.length;
    if (_v !== undefined && !(Number.isInteger(_v) && (_v as number) >= 1)) {
      return refused(['_v'], `must be a whole number from 1 to ${count}, not ${JSON.stringify(_v)}`);
    }
    if ((_v as number) > count) {
      return refused(
        ['_v'],
        `was written by version ${_v}, but the plugin knows versions up to ${count}; load a newer plugin`,
      );
    }
    const parsed = this.#read(members, _v as number | undefined);
    if (!parsed.ok) return parsed;
    const { _v: _, ...current } = parsed.value as Record<string, unknown>;
    if (current.id !== members.id) {
      return refused(['id'], "the plugin's schema must keep the id that it was given");
    }
    return { ok: true, value: count > 1 ? { ...current, _v: count } : current };
  }

  /** The same for the value of a key, which carries no version. */
  parseValue(value: unknown): Parsed<unknown> {
    return this.#read(value, undefined);
  }

  #read(value: unknown, version: number | undefined): Parsed<unknown> {
    const newest = this.#versions.length;
    if (version !== undefined) return this.#readAs(version, value);
    for (let number = newest; number >= 1 && newest > 1; number--) {
      const members = this.#versions[number - 1]?.members;
      const fits =
        members === undefined ||
        Object.keys(value ?? {}).every((member) => members.has(member));
      const parsed = fits ? this.#readAs(number, value) : undefined;
      if (parsed?.ok) return parsed;
    }
    return this.#readAs(newest, value);
  }

  #readAs(number: number, value: unknown): Parsed<unknown> {
    const old = this.#validate(number, value);
    const newest = this.#versions.length;
    if (!old.ok || number === newest) return old;
    const numbered = isObject(old.value) ? { ...old.value, _v: number } : old.value;
    return this.#validate(newest, this.#migrate?.(numbered));
  }

  #validate(number: number, value: unknown): Parsed<unknown> {
    const { schema, json } = this.#versions[number - 1] as Version;
    if (!isObject(value)) return parse(schema, value);
    const { _v: _, ...members } = value;
    const declares = '_v' in ((json.properties ?? {}) as object);
    return parse(schema, declares ? { ...members, _v: number } : members);
  }
}

function refused(path: string[], message: string): { ok: false; issues: Issue[] } {
  return { ok: false, issues: [{ path, message }] };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function membersOf(json: JsonSchema): ReadonlySet<string> | undefined {
  // `additionalProperties: {}` or a combination of schemas: what it may have is not a plain list.
  const open =
    typeof json.additionalProperties === 'object' ||
    json.additionalProperties === true ||
    ['anyOf', 'oneOf', 'allOf', '$ref'].some((keyword) => keyword in json);
  return open || !isObject(json.properties) ? undefined : new Set(Object.keys(json.properties));
}
