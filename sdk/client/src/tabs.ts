/**
 * Several tabs of one browser, one socket.
 *
 * The tabs of a workspace agree by a lock of the browser (Web Locks) on one that holds the socket. The
 * others speak the same protocol with it over a BroadcastChannel, so for a tab the leader is just
 * another server: it answers step 1, passes on edits and presence, and echoes 102 when *its* server
 * has echoed. "Saved" therefore means the same in each tab. When the leader goes, the browser gives
 * its lock to the next in line, which opens a socket of its own; the others begin anew with it, and
 * what they had sent and not seen saved is sent again.
 *
 * Where a runtime has no Web Locks, each document has a socket of its own.
 */

import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import { type Awareness, applyAwarenessUpdate, encodeAwarenessUpdate, removeAwarenessStates } from 'y-protocols/awareness';
import { readSyncMessage, writeSyncStep1, writeUpdate } from 'y-protocols/sync';
import * as Y from 'yjs';

import { AWARENESS, type Connection, type Link, type LinkEvents, QUERY_AWARENESS, SYNC, SYNC_STATUS, type Transport } from './connection.ts';

/** What tabs say to each other. Tabs are named by random ids; `*` is everybody. */
type Message =
  | { readonly kind: 'join' | 'leader' | 'leave'; readonly from: string }
  | { readonly kind: 'closed'; readonly from: string; readonly code: number; readonly reason: string }
  | { readonly kind: 'frame'; readonly from: string; readonly to: string; readonly frame: Uint8Array };

/** Whether tabs of this browser can share a socket. */
export function tabsCanShare(): boolean {
  return typeof BroadcastChannel !== 'undefined' && typeof navigator !== 'undefined' && navigator.locks !== undefined;
}

/** The part of a tab in sharing one socket. */
export class Tabs {
  readonly transport: Transport;
  readonly #name: string;
  readonly #me = crypto.randomUUID();
  readonly #channel: BroadcastChannel;
  readonly #over = new AbortController();
  readonly #doc: Y.Doc;
  readonly #awareness: Awareness;
  #leads = false;
  #release: (() => void) | undefined;
  #connection: Connection | undefined;
  /** The link of a tab that follows: where frames of the leader go. */
  #events: LinkEvents | undefined;
  #restart: (() => void) | undefined;
  /** Tabs that follow us, with the presence that came from each. */
  readonly #followers = new Map<string, Set<number>>();

  /** `name` is the same for the documents that share a socket. */
  constructor(name: string, doc: Y.Doc, awareness: Awareness, socket: Transport) {
    this.#name = `epicenter ${name}`;
    this.#doc = doc;
    this.#awareness = awareness;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => this.#hear(data);
    this.transport = (events) => (this.#leads ? socket(events) : this.#follow(events));
    doc.on('update', this.#onUpdate);
    awareness.on('update', this.#onAwareness);
    void navigator.locks
      .request(this.#name, { signal: this.#over.signal }, () => this.#lead())
      .catch(() => {
        // Closed before it was our turn.
      });
  }

  /** The connection over `transport`, which tells when edits are saved. */
  serve(connection: Connection): void {
    this.#connection = connection;
  }

  destroy(): void {
    this.#say({ kind: 'leave', from: this.#me });
    this.#over.abort();
    this.#release?.();
    this.#doc.off('update', this.#onUpdate);
    this.#awareness.off('update', this.#onAwareness);
    this.#channel.close();
  }

  /** Holds the lock for as long as the tab lives. */
  #lead(): Promise<void> {
    this.#leads = true;
    const held = new Promise<void>((resolve) => {
      this.#release = resolve;
    });
    this.#events = undefined;
    this.#restart?.();
    this.#say({ kind: 'leader', from: this.#me });
    return held;
  }

  /** A link to whoever leads. It opens when the leader says its first word to us. */
  #follow(events: LinkEvents): { close(): void } {
    this.#events = events;
    this.#restart = () => events.closed(1001, 'this tab holds the socket now');
    this.#say({ kind: 'join', from: this.#me });
    return {
      close: () => {
        if (this.#events === events) this.#events = undefined;
      },
    };
  }

  #hear(message: Message): void {
    switch (message.kind) {
      case 'join':
        if (this.#leads) this.#welcome(message.from);
        break;
      case 'leave':
        this.#forget(message.from);
        break;
      case 'leader':
        // Another one leads now: what we are in the middle of is begun anew with it.
        if (!this.#leads) this.#events?.closed(1001, 'another tab holds the socket now');
        break;
      case 'closed':
        if (!this.#leads) this.#events?.closed(message.code, message.reason);
        break;
      case 'frame':
        if (message.to !== this.#me) break;
        if (this.#leads) this.#answer(message.from, message.frame);
        else this.#take(message);
        break;
    }
  }

  #take({ from, frame }: Message & { kind: 'frame' }): void {
    const events = this.#events;
    if (events === undefined) return;
    if (frame.length === 0) {
      const link: Link = {
        send: (frame) => this.#say({ kind: 'frame', from: this.#me, to: from, frame }),
        close: () => {},
      };
      events.open(link);
      return;
    }
    events.frame(frame);
  }

  /** What a server does when a socket opens: an empty frame says that it is open. */
  #welcome(tab: string): void {
    this.#followers.set(tab, this.#followers.get(tab) ?? new Set());
    this.#send(tab, () => {});
    this.#send(tab, (frame) => {
      encoding.writeVarUint(frame, SYNC);
      writeSyncStep1(frame, this.#doc);
    });
    this.#sendPresence(tab);
  }

  #sendPresence(tab: string): void {
    const clients = [...this.#awareness.getStates().keys()];
    if (clients.length === 0) return;
    this.#send(tab, (frame) => {
      encoding.writeVarUint(frame, AWARENESS);
      encoding.writeVarUint8Array(frame, encodeAwarenessUpdate(this.#awareness, clients));
    });
  }

  #answer(tab: string, frame: Uint8Array): void {
    const follower = this.#followers.get(tab);
    if (follower === undefined) return;
    const decoder = decoding.createDecoder(frame);
    switch (decoding.readVarUint(decoder)) {
      case SYNC: {
        const answer = encoding.createEncoder();
        encoding.writeVarUint(answer, SYNC);
        readSyncMessage(decoder, answer, this.#doc, follower);
        if (encoding.length(answer) > 1) {
          this.#say({ kind: 'frame', from: this.#me, to: tab, frame: encoding.toUint8Array(answer) });
        }
        break;
      }
      case AWARENESS: {
        const update = decoding.readVarUint8Array(decoder);
        const clients = decoding.createDecoder(update);
        for (let left = decoding.readVarUint(clients); left > 0; left -= 1) {
          follower.add(decoding.readVarUint(clients));
          decoding.readVarUint(clients);
          decoding.readVarString(clients);
        }
        applyAwarenessUpdate(this.#awareness, update, follower);
        break;
      }
      case QUERY_AWARENESS:
        this.#sendPresence(tab);
        break;
      case SYNC_STATUS:
        // In order: what it sent before is applied here already, and counted as an edit of ours.
        this.#connection?.saved().then(
          () => this.#say({ kind: 'frame', from: this.#me, to: tab, frame }),
          (error: unknown) => {
            const code = (error as { code?: number }).code;
            if (code !== undefined) this.#say({ kind: 'closed', from: this.#me, code, reason: String(error) });
          },
        );
        break;
    }
  }

  readonly #onUpdate = (update: Uint8Array, origin: unknown): void => {
    if (!this.#leads) return;
    for (const [tab, follower] of this.#followers) {
      if (follower === origin) continue;
      this.#send(tab, (frame) => {
        encoding.writeVarUint(frame, SYNC);
        writeUpdate(frame, update);
      });
    }
  };

  readonly #onAwareness = ({ added, updated, removed }: { added: number[]; updated: number[]; removed: number[] }, origin: unknown): void => {
    if (!this.#leads) return;
    const clients = [...added, ...updated, ...removed];
    for (const [tab, follower] of this.#followers) {
      if (follower === origin) continue;
      this.#send(tab, (frame) => {
        encoding.writeVarUint(frame, AWARENESS);
        encoding.writeVarUint8Array(frame, encodeAwarenessUpdate(this.#awareness, clients));
      });
    }
  };

  #forget(tab: string): void {
    const follower = this.#followers.get(tab);
    if (follower === undefined) return;
    this.#followers.delete(tab);
    removeAwarenessStates(this.#awareness, [...follower], 'tab closed');
  }

  #send(tab: string, write: (frame: encoding.Encoder) => void): void {
    this.#say({ kind: 'frame', from: this.#me, to: tab, frame: encoding.encode(write) });
  }

  #say(message: Message): void {
    this.#channel.postMessage(message);
  }
}
