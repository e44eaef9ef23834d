import type { Awareness } from 'y-protocols/awareness';

import { standard } from './define.ts';
import { Emitter } from './emitter.ts';
import { InvalidError } from './errors.ts';
import { type JsonSchema, type StandardSchema, check } from './schema.ts';

/** Somebody who is in the workspace now. */
export interface Person<Fields> {
  /** Names the document of a device, for as long as it is open. */
  readonly client: number;
  readonly isMe: boolean;
  /** The fields that are valid. */
  readonly fields: Partial<Fields>;
}

/** Who is in the workspace now, and what each says of themselves. It is never stored. */
export class Presence<Fields extends object> {
  /** For editors, which show cursors by it. */
  readonly awareness: Awareness;
  readonly #schemas: Readonly<Record<string, StandardSchema | JsonSchema>>;
  readonly #changed = new Emitter();
  #people: readonly Person<Fields>[] | undefined;

  /** Use `connect`. */
  constructor(schemas: Readonly<Record<string, StandardSchema | JsonSchema>>, awareness: Awareness) {
    this.#schemas = schemas;
    this.awareness = awareness;
    awareness.on('change', () => {
      this.#people = undefined;
      this.#changed.emit();
    });
  }

  /** Everybody, oneself included. The same array until something changes. */
  people(): readonly Person<Fields>[] {
    this.#people ??= [...this.awareness.getStates()].map(([client, state]) => ({
      client,
      isMe: client === this.awareness.clientID,
      fields: this.#valid(state),
    }));
    return this.#people;
  }

  /** Says something of oneself. @throws InvalidError if the field's schema does not accept it */
  set<Field extends keyof Fields & string>(field: Field, value: Fields[Field] | null): void {
    const schema = this.#schemas[field];
    const read = schema === undefined || value === null ? undefined : check(standard(schema), value);
    if (read && !read.ok) throw new InvalidError(`the presence field ${JSON.stringify(field)}`, read.issues);
    this.awareness.setLocalStateField(field, value);
  }

  /** Calls back when somebody comes, goes, or says something else. */
  subscribe(changed: () => void): () => void {
    return this.#changed.subscribe(changed);
  }

  #valid(state: Record<string, unknown>): Partial<Fields> {
    const valid: Record<string, unknown> = {};
    for (const [field, value] of Object.entries(state)) {
      const schema = this.#schemas[field];
      const read = schema === undefined ? undefined : check(standard(schema), value);
      if (read === undefined || read.ok) valid[field] = read ? read.value : value;
    }
    return valid as Partial<Fields>;
  }
}
