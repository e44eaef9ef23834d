/**
 * A document that is kept equal with its room on the server, over whatever carries the frames.
 *
 * **Saved.** Each edit here counts `version` up. After the edit went out the client sends message 102
 * with the version, and the server sends it back once everything that came before is on its disk.
 * So `acknowledged >= version` means saved. A reconnect sends what the server lacks and asks again;
 * nothing that was acknowledged has to be believed twice.
 *
 * **Alive.** A link that carries nothing for a while is probed with the same message. One that does
 * not answer is closed: a laptop that was asleep has sockets that look open and are not.
 *
 * **Refused.** Close codes 4401, 4403, 4004 and 1008 say that trying again changes nothing. Then the
 * client stops and says why, until `reconnect()` is called. For 4401 a token that is given by a
 * function is asked for once more first. All other ends are temporary: tries are spaced by a delay
 * that doubles up to half a minute, with jitter, so that a server that comes back is not met by all
 * of its clients in the same moment.
 */

import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import { Awareness, applyAwarenessUpdate, encodeAwarenessUpdate, removeAwarenessStates } from 'y-protocols/awareness';
import { readSyncMessage, writeSyncStep1, writeUpdate } from 'y-protocols/sync';
import * as Y from 'yjs';

import { Emitter } from './emitter.ts';
import { DeniedError } from './errors.ts';

export const SYNC = 0;
export const AWARENESS = 1;
export const QUERY_AWARENESS = 3;
export const SYNC_STATUS = 102;

/** Silence after which a link is probed, in ms. */
const PROBE_AFTER = 5_000;
/** How long an answer to a probe may take, in ms. */
const PROBE_FOR = 5_000;
/** The first delay before another try, in ms; it doubles up to the last. */
const FIRST_DELAY = 250;
const LAST_DELAY = 30_000;
/** Close codes that say that trying again changes nothing. */
const DENIED = new Set([4401, 4403, 4004, 1008]);

/**
 * `offline`: no connection, tried again later. `connecting`: on the way. `saving`: connected, and the
 * server does not have all of our edits yet. `saved`: it has. `denied`: it refuses us, see `error`.
 */
export type Status = 'offline' | 'connecting' | 'saving' | 'saved' | 'denied';

/** What carries frames, once it is open. */
export interface Link {
  send(frame: Uint8Array): void;
  close(): void;
}

/** What a link tells. */
export interface LinkEvents {
  open(link: Link): void;
  frame(frame: Uint8Array): void;
  /** It is over; `code` as WebSockets have it. */
  closed(code: number, reason: string): void;
}

/** Opens a link. Whatever happens to it is told by the events; what is given back ends it. */
export type Transport = (events: LinkEvents) => { close(): void };

export class Connection {
  readonly doc: Y.Doc;
  readonly awareness: Awareness;
  readonly #transport: Transport;
  readonly #changed = new Emitter();
  #link: Link | undefined;
  #opening: { close(): void } | undefined;
  #status: Status = 'connecting';
  #error: DeniedError | undefined;
  #synced = false;
  #version = 0;
  #acknowledged = -1;
  /** Whether this link's server has been sent all that it lacked; before, an echo would promise too much. */
  #answered = false;
  /** A request for an acknowledgement that is yet to be sent. */
  #asking = false;
  #tries = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #probe: ReturnType<typeof setTimeout> | undefined;
  #heard = 0;
  #destroyed = false;
  readonly #waiting: { version: number; resolve: () => void; reject: (error: Error) => void }[] = [];

  constructor(doc: Y.Doc, awareness: Awareness, transport: Transport) {
    this.doc = doc;
    this.awareness = awareness;
    this.#transport = transport;
    doc.on('update', this.#onUpdate);
    awareness.on('update', this.#onAwareness);
    if (typeof window !== 'undefined') {
      window.addEventListener('online', this.#onOnline);
      window.addEventListener('pagehide', this.#onPageHide);
    }
    this.#open();
  }

  get status(): Status {
    return this.#status;
  }

  /** Why the server refuses this client, while `status` is `denied`. */
  get error(): DeniedError | undefined {
    return this.#error;
  }

  /** Whether everything that the server had when the connection began is here. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Counts edits made here. */
  get version(): number {
    return this.#version;
  }

  /** The last edit that the server has on disk. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  subscribe(changed: () => void): () => void {
    return this.#changed.subscribe(changed);
  }

  /** Resolves when the server has the edits up to this version on disk; all that were made, if none is named. */
  saved(version = this.#version): Promise<void> {
    if (this.#acknowledged >= version) return Promise.resolve();
    if (this.#error) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ version, resolve, reject });
    });
  }

  /** Connects at once, after a refusal too. */
  reconnect(): void {
    if (this.#destroyed || this.#link) return;
    this.#error = undefined;
    this.#tries = 0;
    this.#open();
  }

  /** Ends the connection. The document stays. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.doc.off('update', this.#onUpdate);
    removeAwarenessStates(this.awareness, [this.awareness.clientID], 'destroyed');
    this.awareness.off('update', this.#onAwareness);
    if (typeof window !== 'undefined') {
      window.removeEventListener('online', this.#onOnline);
      window.removeEventListener('pagehide', this.#onPageHide);
    }
    clearTimeout(this.#retry);
    clearTimeout(this.#probe);
    this.#opening?.close();
    this.#link = undefined;
    for (const { reject } of this.#waiting.splice(0)) reject(new Error('the workspace was closed before the write was saved'));
  }

  #open(): void {
    clearTimeout(this.#retry);
    this.#opening?.close();
    let over = false;
    this.#show('connecting');
    const opening = this.#transport({
      open: (link) => {
        if (over || this.#destroyed) return link.close();
        this.#link = link;
        this.#hello();
      },
      frame: (frame) => {
        if (over) return;
        try {
          this.#receive(frame);
        } catch (error) {
          this.#opening?.close();
          this.#closed(1006, `the server sent what cannot be read: ${String(error)}`);
        }
      },
      closed: (code, reason) => {
        if (over) return;
        over = true;
        this.#closed(code, reason);
      },
    });
    this.#opening = {
      close() {
        over = true;
        opening.close();
      },
    };
  }

  #hello(): void {
    this.#heard = Date.now();
    this.#answered = false;
    this.#send((frame) => {
      encoding.writeVarUint(frame, SYNC);
      writeSyncStep1(frame, this.doc);
    });
    if (this.awareness.getLocalState() !== null) this.#sendAwareness([this.awareness.clientID]);
    this.#show('saving');
    this.#scheduleProbe();
  }

  #receive(frame: Uint8Array): void {
    this.#heard = Date.now();
    const decoder = decoding.createDecoder(frame);
    switch (decoding.readVarUint(decoder)) {
      case SYNC: {
        const answer = encoding.createEncoder();
        encoding.writeVarUint(answer, SYNC);
        const kind = readSyncMessage(decoder, answer, this.doc, this);
        if (encoding.length(answer) > 1) this.#link?.send(encoding.toUint8Array(answer));
        // Its first step asked for what it lacks: with our answer it has all that we have.
        if (kind === 0) {
          this.#answered = true;
          this.#ask();
        }
        if (kind === 1) {
          this.#tries = 0;
          if (!this.#synced) {
            this.#synced = true;
            this.#changed.emit();
          }
        }
        break;
      }
      case AWARENESS:
        applyAwarenessUpdate(this.awareness, decoding.readVarUint8Array(decoder), this);
        break;
      case QUERY_AWARENESS:
        this.#sendAwareness([...this.awareness.getStates().keys()]);
        break;
      case SYNC_STATUS: {
        const payload = decoding.createDecoder(decoding.readVarUint8Array(decoder));
        this.#acknowledge(decoding.readVarUint(payload));
        break;
      }
      default:
        // What newer servers say beside the protocol.
        break;
    }
  }

  #acknowledge(version: number): void {
    if (version <= this.#acknowledged && this.#status === 'saved') return;
    this.#acknowledged = Math.max(this.#acknowledged, version);
    const waiting = this.#waiting.filter((one) => one.version <= this.#acknowledged);
    for (const one of waiting) {
      this.#waiting.splice(this.#waiting.indexOf(one), 1);
      one.resolve();
    }
    if (this.#link) this.#show(this.#acknowledged >= this.#version ? 'saved' : 'saving');
  }

  readonly #onUpdate = (update: Uint8Array, origin: unknown): void => {
    if (origin === this) return;
    this.#version += 1;
    if (!this.#link) return this.#changed.emit();
    this.#send((frame) => {
      encoding.writeVarUint(frame, SYNC);
      writeUpdate(frame, update);
    });
    this.#show('saving');
    // One request for all the edits of a task.
    if (this.#asking) return;
    this.#asking = true;
    queueMicrotask(() => {
      this.#asking = false;
      this.#ask();
    });
  };

  #ask(): void {
    if (!this.#answered) return;
    this.#send((frame) => {
      encoding.writeVarUint(frame, SYNC_STATUS);
      const payload = encoding.encode((inner) => encoding.writeVarUint(inner, this.#version));
      encoding.writeVarUint8Array(frame, payload);
    });
  }

  readonly #onAwareness = ({ added, updated, removed }: { added: number[]; updated: number[]; removed: number[] }, origin: unknown): void => {
    if (origin !== this) this.#sendAwareness([...added, ...updated, ...removed]);
  };

  #sendAwareness(clients: number[]): void {
    if (clients.length === 0) return;
    this.#send((frame) => {
      encoding.writeVarUint(frame, AWARENESS);
      encoding.writeVarUint8Array(frame, encodeAwarenessUpdate(this.awareness, clients));
    });
  }

  #send(write: (frame: encoding.Encoder) => void): void {
    this.#link?.send(encoding.encode(write));
  }

  #closed(code: number, reason: string): void {
    this.#link = undefined;
    clearTimeout(this.#probe);
    // Who is there is not known any more; they come back with the connection.
    const others = [...this.awareness.getStates().keys()].filter((client) => client !== this.awareness.clientID);
    removeAwarenessStates(this.awareness, others, this);
    if (this.#destroyed) return;
    if (DENIED.has(code) && !(code === 4401 && this.#tries === 0)) {
      this.#error = new DeniedError(code, reason);
      for (const { reject } of this.#waiting.splice(0)) reject(this.#error);
      return this.#show('denied');
    }
    this.#show('offline');
    const delay = Math.min(FIRST_DELAY * 2 ** this.#tries, LAST_DELAY);
    this.#tries += 1;
    this.#retry = setTimeout(() => this.#open(), delay * (0.5 + Math.random() / 2));
  }

  #scheduleProbe(): void {
    clearTimeout(this.#probe);
    const silent = Date.now() - this.#heard;
    this.#probe = setTimeout(() => {
      const heard = this.#heard;
      if (Date.now() - heard < PROBE_AFTER) return this.#scheduleProbe();
      this.#ask();
      this.#probe = setTimeout(() => {
        if (this.#heard > heard) return this.#scheduleProbe();
        this.#opening?.close();
        this.#closed(1006, 'the server does not answer');
      }, PROBE_FOR);
    }, Math.max(0, PROBE_AFTER - silent));
  }

  readonly #onOnline = (): void => {
    if (!this.#link && this.#status === 'offline') this.reconnect();
  };

  readonly #onPageHide = (): void => {
    removeAwarenessStates(this.awareness, [this.awareness.clientID], 'page hidden');
  };

  #show(status: Status): void {
    this.#status = status;
    this.#changed.emit();
  }
}
