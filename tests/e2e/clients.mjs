// Clients of rooms: the provider from npm as applications use it, and a bare socket for what no
// honest client sends.

import WebSocket from 'ws';
import { WebsocketProvider } from 'y-websocket';
import * as Y from 'yjs';
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';

import { until, within } from './server.mjs';

export const SYNC = 0;
export const AWARENESS = 1;
export const AUTH = 2;
export const QUERY_AWARENESS = 3;
export const SYNC_STATUS = 102;
export const REFUSALS = 103;

/** A Yjs client in a room, with `yjs` and `y-websocket` as they come from npm. */
export class Client {
  #statuses = 0;
  #echoes = new Map();

  constructor(server, room, { doc = new Y.Doc(), params = {} } = {}) {
    this.doc = doc;
    this.provider = new WebsocketProvider(server.rooms, encodeURIComponent(room), doc, {
      WebSocketPolyfill: WebSocket,
      // Two clients in one process would find each other without the server.
      disableBc: true,
      maxBackoffTime: 200,
      params,
    });
    this.awareness = this.provider.awareness;
    this.server = server;
    server.guests.add(this);
    // The extension of the protocol, as the original's own client adds it.
    this.provider.messageHandlers[SYNC_STATUS] = (_encoder, decoder) => {
      const version = decoding.readVarUint(decoding.createDecoder(decoding.readVarUint8Array(decoder)));
      this.#echoes.get(version)?.();
      this.#echoes.delete(version);
    };
  }

  static async join(server, room, options) {
    const client = new Client(server, room, options);
    await client.synced();
    return client;
  }

  async synced() {
    const { provider } = this;
    await until(`a client of ${provider.roomname} is synced`, () => provider.synced);
  }

  /** Resolves when the server says that everything which was sent before is saved. */
  saved() {
    const version = ++this.#statuses;
    const echo = new Promise((resolve) => this.#echoes.set(version, resolve));
    this.provider.ws.send(encoding.encode((encoder) => {
      encoding.writeVarUint(encoder, SYNC_STATUS);
      const payload = encoding.encode((inner) => encoding.writeVarUint(inner, version));
      encoding.writeVarUint8Array(encoder, payload);
    }));
    return echo;
  }

  table(name) {
    return new Table(this.doc, name);
  }

  goOffline() {
    this.provider.disconnect();
  }

  async goOnline() {
    this.provider.connect();
    await this.synced();
  }

  /** Drops the connection as a crash does, and does not come back. */
  vanish() {
    const { ws } = this.provider;
    this.provider.shouldConnect = false;
    ws.terminate();
  }

  leave() {
    this.server.guests.delete(this);
    this.provider.destroy();
    this.awareness.destroy();
    this.doc.destroy();
  }
}

/** A table as the original's clients read and write it. */
export class Table {
  constructor(doc, name) {
    this.doc = doc;
    this.array = doc.getArray(`table:${name}`);
  }

  /** Deletes the entry of that key and pushes the new one, in one transaction. */
  set(key, val, ts = Date.now()) {
    this.doc.transact(() => {
      this.#remove(key);
      this.array.push([{ key, val, ts }]);
    });
  }

  delete(key) {
    this.doc.transact(() => this.#remove(key));
  }

  #remove(key) {
    const entries = this.array.toArray();
    for (let at = entries.length - 1; at >= 0; at -= 1) {
      if (entries[at]?.key === key) this.array.delete(at);
    }
  }

  entries(key) {
    return this.array.toArray().filter((entry) => entry?.key === key);
  }

  /** The entry that counts: the highest time, and of equal ones the last in the array. */
  get(key) {
    let winner;
    for (const entry of this.entries(key)) {
      if (winner === undefined || entry.ts >= winner.ts) winner = entry;
    }
    return winner?.val;
  }
}

/** A socket without a provider. It sends what it is told and keeps what it receives. */
export class Socket {
  constructor(server, room, { query = '', ...options } = {}) {
    this.frames = [];
    this.server = server;
    server.guests.add(this);
    this.ws = new WebSocket(`${server.rooms}/${encodeURIComponent(room)}${query}`, options);
    this.ws.on('message', (bytes) => this.frames.push(new Uint8Array(bytes)));
    this.ws.on('error', () => {});
    this.closed = new Promise((resolve) => {
      this.ws.on('close', (code, reason) => {
        this.ending = { code, reason: reason.toString() };
        resolve(this.ending);
      });
    });
  }

  static async open(server, room, options) {
    const socket = new Socket(server, room, options);
    const opened = new Promise((resolve) => socket.ws.once('open', resolve));
    const refused = socket.closed.then(({ code, reason }) => {
      throw new Error(`the socket was closed before it was open: ${code} ${reason}`);
    });
    refused.catch(() => {});
    await within(`a socket in ${room}`, Promise.race([opened, refused]));
    // The server begins to speak once it has let the socket into the room.
    await within(`a word from ${room}`, Promise.race([socket.frame(SYNC), refused]));
    return socket;
  }

  send(bytes) {
    this.ws.send(bytes);
  }

  /** The first frame of a type that has come or comes. */
  frame(type, accept = () => true) {
    return until(`a frame of type ${type} comes`, () => {
      const frame = this.frames.find((one) => one[0] === type && accept(one));
      if (!frame && this.ending) {
        throw new Error(`the socket ended with ${this.ending.code} before a frame of type ${type} came`);
      }
      return frame;
    });
  }

  /** Resolves with the payload when everything sent before is saved. */
  async saved(payload = crypto.getRandomValues(new Uint8Array(8))) {
    const sent = status(payload);
    this.send(sent);
    return this.frame(SYNC_STATUS, (frame) => Buffer.compare(frame, sent) === 0);
  }

  /** How the server closed it. */
  end() {
    return within('the server to close a socket', this.closed);
  }

  leave() {
    this.server.guests.delete(this);
    this.ws.terminate();
  }
}

/** A live list: the events that a server sends. */
export class Events {
  #stop = new AbortController();

  /** @type {{ event: string, data: any, id?: string }[]} */
  seen = [];

  static async open(server, route, headers = {}) {
    const events = new Events();
    events.server = server;
    const response = await fetch(server.url + route, {
      headers: { accept: 'text/event-stream', ...headers },
      signal: events.#stop.signal,
    });
    events.status = response.status;
    server.guests.add(events);
    /** Resolves when the stream is over: true when the server ended it. */
    events.ended = events.#read(response.body).then(() => true, () => false);
    return events;
  }

  async #read(body) {
    let text = '';
    for await (const piece of body.pipeThrough(new TextDecoderStream())) {
      text += piece;
      const blocks = text.split('\n\n');
      text = blocks.pop();
      for (const block of blocks) {
        const fields = new Map(block.split('\n').map((line) => {
          const at = line.indexOf(':');
          return [line.slice(0, at), line.slice(at + 1).trim()];
        }));
        if (!fields.has('event')) continue;
        const data = fields.get('data');
        this.seen.push({ event: fields.get('event'), data: data && JSON.parse(data), id: fields.get('id') });
      }
    }
  }

  /** The first event of that name that has come or comes, behind those of earlier calls. */
  async next(event, accept = () => true) {
    const index = await until(`the event ${event} comes`, () => {
      const found = this.seen.findIndex((one) => one.event === event && accept(one.data));
      return found < 0 ? false : { found };
    });
    return this.seen.splice(0, index.found + 1).at(-1);
  }

  leave() {
    this.server.guests.delete(this);
    this.#stop.abort();
  }
}

/** A frame that carries an update. */
export function update(bytes) {
  return sync(2, bytes);
}

/** A frame that asks for what a state vector lacks. */
export function step1(stateVector = new Uint8Array([0])) {
  return sync(0, stateVector);
}

function sync(step, bytes) {
  return encoding.encode((encoder) => {
    encoding.writeVarUint(encoder, SYNC);
    encoding.writeVarUint(encoder, step);
    encoding.writeVarUint8Array(encoder, bytes);
  });
}

/** A frame that asks to be sent back once everything before it is saved. */
export function status(payload) {
  return encoding.encode((encoder) => {
    encoding.writeVarUint(encoder, SYNC_STATUS);
    encoding.writeVarUint8Array(encoder, payload);
  });
}

/** A frame with presence states: `[client, clock, state]`. */
export function presence(states) {
  return encoding.encode((encoder) => {
    encoding.writeVarUint(encoder, AWARENESS);
    encoding.writeVarUint8Array(encoder, encoding.encode((inner) => {
      encoding.writeVarUint(inner, states.length);
      for (const [client, clock, state] of states) {
        encoding.writeVarUint(inner, client);
        encoding.writeVarUint(inner, clock);
        encoding.writeVarString(inner, JSON.stringify(state));
      }
    }));
  });
}

/** A document from the whole-document answer of a room. */
export function documentOf(bytes) {
  const doc = new Y.Doc();
  Y.applyUpdate(doc, bytes);
  return doc;
}
