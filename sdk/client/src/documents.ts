/**
 * The documents of rows: texts that have rooms of their own, which any Yjs editor edits.
 *
 * A row names its document by a guid in a column. A row that has none yet gets one when its document
 * is first opened for writing. Whoever opens the same document twice has the same Y.Doc, and one
 * connection; it ends when the last one lets go.
 */

import { Awareness } from 'y-protocols/awareness';
import * as Y from 'yjs';

import { Connection, type Transport } from './connection.ts';
import type { DocumentDefinition } from './define.ts';

/** The root text of a document, as all clients have it. */
const CONTENT = 'content';
/** How often the row's time follows edits of its text, in ms. A key stroke is no reason to write a row. */
const TOUCH_EVERY = 2_000;

/** A text that is open. */
export interface OpenDocument {
  readonly doc: Y.Doc;
  /** What editors bind to. */
  readonly text: Y.Text;
  /** Who has the document open, and where their cursors are. */
  readonly awareness: Awareness;
  readonly connection: Connection;
  /** Resolves when everything that the server has of it is here. */
  ready(): Promise<void>;
  /** Lets go. The document is closed when nobody holds it any more. */
  release(): void;
}

interface Held {
  readonly document: Omit<OpenDocument, 'release'>;
  holders: number;
  close(): void;
}

/** What documents need of the table whose rows they belong to. */
export interface Rows {
  /** The row's value of a column. */
  column(id: string, column: string): unknown;
  /** Sets columns of a row, if it is there and valid. */
  set(id: string, columns: Record<string, unknown>): void;
}

/** How a room is reached, and where it is kept on this device. */
export interface Rooms {
  transport(room: string, doc: Y.Doc, awareness: Awareness): { transport: Transport; attach(connection: Connection): void; close(): void };
  persist(room: string, doc: Y.Doc): () => void;
}

export class Documents {
  readonly #rooms: Rooms;
  readonly #held = new Map<string, Held>();

  constructor(rooms: Rooms) {
    this.#rooms = rooms;
  }

  /** Opens the document of a row. */
  open(rows: Rows, id: string, { guid: column, updatedAt }: DocumentDefinition): OpenDocument {
    let guid = rows.column(id, column);
    if (typeof guid !== 'string' || guid === '') {
      guid = newId();
      rows.set(id, { [column]: guid });
    }
    const room = guid as string;
    let held = this.#held.get(room);
    if (held === undefined) {
      held = this.#open(room, updatedAt === undefined ? undefined : () => rows.set(id, { [updatedAt]: Date.now() }));
      this.#held.set(room, held);
    }
    held.holders += 1;
    const one = held;
    let released = false;
    return {
      ...one.document,
      release: () => {
        if (released) return;
        released = true;
        one.holders -= 1;
        if (one.holders > 0) return;
        this.#held.delete(room);
        one.close();
      },
    };
  }

  /** Closes all documents. */
  destroy(): void {
    for (const held of this.#held.values()) held.close();
    this.#held.clear();
  }

  #open(room: string, touch: (() => void) | undefined): Held {
    const doc = new Y.Doc();
    const awareness = new Awareness(doc);
    const forget = this.#rooms.persist(room, doc);
    const link = this.#rooms.transport(room, doc, awareness);
    const connection = new Connection(doc, awareness, link.transport);
    link.attach(connection);
    let timer: ReturnType<typeof setTimeout> | undefined;
    doc.on('update', (_update: Uint8Array, _origin: unknown, _doc: Y.Doc, transaction: Y.Transaction) => {
      if (!transaction.local || touch === undefined || timer !== undefined) return;
      timer = setTimeout(() => {
        timer = undefined;
        touch();
      }, TOUCH_EVERY);
    });
    const close = () => {
      if (timer !== undefined) {
        clearTimeout(timer);
        touch?.();
      }
      connection.destroy();
      link.close();
      forget();
      awareness.destroy();
      doc.destroy();
    };
    const ready = () =>
      new Promise<void>((resolve) => {
        if (connection.synced) return resolve();
        const end = connection.subscribe(() => {
          if (!connection.synced) return;
          end();
          resolve();
        });
      });
    return { document: { doc, text: doc.getText(CONTENT), awareness, connection, ready }, holders: 0, close };
  }
}

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_';

/** A random id of 21 characters: 126 bits, which nobody guesses and nobody else draws. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(21)), (byte) => ALPHABET[byte & 63]).join('');
}
