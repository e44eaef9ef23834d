import { standard } from './define.ts';
import type { Entries } from './entries.ts';
import { InvalidError } from './errors.ts';
import { type JsonSchema, type StandardSchema, check } from './schema.ts';
import type { Write, Writer } from './write.ts';

/** Values by key, each with a schema of its own. */
export class Kv<Values extends object> {
  readonly #entries: Entries;
  readonly #schemas: Readonly<Record<string, StandardSchema | JsonSchema>>;
  readonly #writer: Writer;
  readonly #read = new Map<string, { val: unknown; value: unknown }>();

  /** Use `connect`. */
  constructor(schemas: Readonly<Record<string, StandardSchema | JsonSchema>>, entries: Entries, writer: Writer) {
    this.#schemas = schemas;
    this.#entries = entries;
    this.#writer = writer;
  }

  /** The value of a key; nothing when there is none or it is not valid. */
  get<Key extends keyof Values & string>(key: Key): Values[Key] | undefined {
    const val = this.#entries.get(key)?.val;
    if (val === undefined) return undefined;
    const known = this.#read.get(key);
    if (known?.val === val) return known.value as Values[Key] | undefined;
    const schema = this.#schemas[key];
    const read = schema === undefined ? undefined : check(standard(schema), val);
    const value = read === undefined ? val : read.ok ? read.value : undefined;
    this.#read.set(key, { val, value });
    return value as Values[Key] | undefined;
  }

  /** Sets a key. @throws InvalidError if its schema does not accept the value */
  set<Key extends keyof Values & string>(key: Key, value: Values[Key]): Write<Values[Key]> {
    const schema = this.#schemas[key];
    const read = schema === undefined ? undefined : check(standard(schema), value);
    if (read && !read.ok) throw new InvalidError(`the value of ${JSON.stringify(key)}`, read.issues);
    return this.#writer.write(value, (origin) => this.#entries.set(key, read ? read.value : value, origin));
  }

  delete(key: keyof Values & string): Write<undefined> {
    return this.#writer.write(undefined, (origin) => this.#entries.delete(key, origin));
  }

  /** Calls back when this key changes. */
  observe(key: keyof Values & string, changed: () => void): () => void {
    return this.#entries.observe(({ keys }) => {
      if (keys.has(key)) changed();
    });
  }
}
