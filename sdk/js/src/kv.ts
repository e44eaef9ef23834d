/** Key-values: single values of the workspace, under keys that it declares. */

import * as host from 'epicenter:workspace/kv@0.2.0';

import { ask } from './errors.ts';
import type { Output, StandardSchema } from './schema.ts';
import { type Last, Versions } from './versions.ts';

/** What the value under a key is; made by `defineKv`. */
export class KvDefinition<T> {
  /** For the type checker only: the type of the value. */
  declare readonly value: T;
  readonly #schemas: readonly StandardSchema[];
  readonly #migrate: ((old: any) => unknown) | undefined;

  /** @internal */
  constructor(schemas: readonly StandardSchema[], migrate?: (old: any) => unknown) {
    this.#schemas = schemas;
    this.#migrate = migrate;
  }

  /** @internal */
  versions(key: string): Versions {
    return new Versions(`key ${key}`, this.#schemas, this.#migrate);
  }
}

/** A key with several versions, before it is said what an old value becomes. */
export interface VersionedKv<V extends readonly StandardSchema[]> {
  /**
   * Says what a value of an older version becomes. A value carries no version: it is tried as the
   * current one, then as the older ones.
   */
  migrate(migrate: (value: Output<V[number]>) => Output<Last<V> & StandardSchema>): KvDefinition<
    Output<Last<V> & StandardSchema>
  >;
}

/** Defines the value under a key by its schema, or by the schemas of its versions, oldest first. */
export function defineKv<S extends StandardSchema>(schema: S): KvDefinition<Output<S>>;
export function defineKv<V extends readonly [StandardSchema, StandardSchema, ...StandardSchema[]]>(
  ...versions: V
): VersionedKv<V>;
export function defineKv(...schemas: StandardSchema[]): unknown {
  if (schemas.length < 2) return new KvDefinition(schemas);
  return { migrate: (migrate: (old: any) => unknown) => new KvDefinition(schemas, migrate) };
}

/** The value under a key, as actions and checks use it. Writing is for mutations. */
export class Kv<T> {
  readonly #key: string;

  /** @internal */
  constructor(key: string) {
    this.#key = key;
  }

  /** The value; nothing when it was never set. */
  get(): T | undefined {
    const value = ask(() => host.get(this.#key));
    return value == null ? undefined : JSON.parse(value);
  }

  /** Sets the value. Throws `Invalid` when its schema refuses it. */
  set(value: T): void {
    ask(() => host.set(this.#key, JSON.stringify(value)));
  }

  /** Forgets the value; false when there was none. */
  delete(): boolean {
    return ask(() => host.delete(this.#key));
  }
}
