// Clients that keep tables as the original's do, with nothing but `yjs`, beside REST: whatever they
// do at the same time, offline or not, across crashes and compactions, all end with the same rows.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import * as Y from 'yjs';

import { Client } from './clients.mjs';
import { Server, random, until } from './server.mjs';

const SEED = Number(process.env.INTEROP_SEED ?? Math.floor(Math.random() * 2 ** 31));
const HISTORIES = Number(process.env.INTEROP_HISTORIES ?? 100);
const TABLE = '/workspaces/blog/tables/posts';
const REPLICAS = 4;
const STEPS = 40;

// Each client of the provider waits for the process to end.
process.setMaxListeners(0);

/**
 * A table as the original keeps it: the newest entry of each key counts, of two of the same time the
 * later in the array, and whoever sees another deletes it.
 */
class Replica {
  /** Entries that this replica wrote: key and time. */
  written = [];
  #latest = 0;
  #entries = new Map();

  /** @param now the device's clock, which may be wrong */
  constructor(doc, now) {
    this.doc = doc;
    this.now = now;
    this.array = doc.getArray('table:posts');
    this.array.observe(() => this.#settle());
    this.#settle();
  }

  /** Finds the entry of each key that counts, and deletes the others. */
  #settle() {
    const entries = new Map();
    const losers = [];
    this.array.toArray().forEach((entry, at) => {
      this.#latest = Math.max(this.#latest, entry.ts);
      const before = entries.get(entry.key);
      if (before === undefined || entry.ts >= before.entry.ts) {
        if (before !== undefined) losers.push(before.at);
        entries.set(entry.key, { entry, at });
      } else {
        losers.push(at);
      }
    });
    this.#entries = entries;
    if (losers.length === 0) return;
    losers.sort((a, b) => b - a);
    this.doc.transact(() => losers.forEach((at) => this.array.delete(at)));
  }

  /** Never goes back, and is beyond all that was seen. */
  #time() {
    this.#latest = Math.max(this.now(), this.#latest + 1);
    return this.#latest;
  }

  keys(prefix) {
    return [...this.#entries.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  get(key) {
    return this.#entries.get(key)?.entry;
  }

  set(key, val) {
    const ts = this.#time();
    this.written.push({ key, ts });
    this.doc.transact(() => {
      this.#remove(key);
      this.array.push([{ key, val, ts }]);
    });
  }

  delete(key) {
    this.doc.transact(() => this.#remove(key));
  }

  #remove(key) {
    const found = this.#entries.get(key);
    if (found) this.array.delete(found.at);
  }

  /** Sends what the server lacks, and takes what it has. */
  async sync(server) {
    const had = await server.get('/rooms/blog');
    if (had.status === 200) Y.applyUpdate(this.doc, had.body, 'server');
    const vector = had.status === 200 ? Y.encodeStateVectorFromUpdate(had.body) : undefined;
    const update = Y.encodeStateAsUpdate(this.doc, vector);
    const sent = await server.request('POST', '/rooms/blog', update, {
      'content-type': 'application/octet-stream',
    });
    assert.equal(sent.status, 200, JSON.stringify(sent.error));
  }

  /** Hears from another device, without the server. */
  hear(other) {
    const vector = Y.encodeStateVector(this.doc);
    Y.applyUpdate(this.doc, Y.encodeStateAsUpdate(other.doc, vector));
  }
}

let server;

before(async () => {
  server = await Server.start();
});

after(() => server.dispose());

async function crash(clients) {
  for (const client of clients) client.provider.disconnect();
  await server.kill9();
  await server.start();
  for (const client of clients) {
    client.provider.serverUrl = server.rooms;
    client.provider.connect();
  }
}

async function history(number, chance) {
  const below = (n) => Math.floor(chance() * n);
  const pick = (list) => list[below(list.length)];
  const prefix = `h${number}-`;
  const kept = [0, 1, 2].map((at) => `${prefix}kept-${at}`);
  const keys = [...kept, `${prefix}gone-0`, `${prefix}gone-1`];
  // Clocks that are wrong, and stand still, so that times tie.
  let clock = 1_700_000_000_000 + number * 100;
  const tick = () => { if (chance() < 0.3) clock += 1; };
  const replicas = [];
  for (let at = 0; at < REPLICAS; at += 1) {
    const skew = chance() < 0.3 ? below(2000) - 1000 : 0;
    const replica = new Replica(new Y.Doc(), () => clock + skew);
    await replica.sync(server);
    replicas.push(replica);
  }
  // Now and then one of them is connected all the time, as applications are, and one only looks.
  const sockets = number % 5 === 0 ? [await Client.join(server, 'blog', { doc: replicas[0].doc })] : [];
  const watcher = number % 5 === 0 ? await Client.join(server, 'blog') : undefined;
  if (watcher) sockets.push(watcher);

  let written = 0;
  const row = (id) => ({
    id,
    title: `${number}.${written += 1}`,
    // Much now and then, so that the log outgrows its snapshot and is compacted.
    content: chance() < 0.02 ? 'x'.repeat(20_000) : '',
    views: below(100),
    published: chance() < 0.5,
    _v: 2,
  });
  for (let step = 0; step < STEPS; step += 1) {
    tick();
    const replica = pick(replicas);
    const key = pick(keys);
    const choice = below(20);
    if (choice < 8) {
      replica.set(key, row(key));
    } else if (choice < 9) {
      const key = pick(keys.slice(kept.length));
      if (chance() < 0.5) replica.delete(key);
      else await server.delete(`${TABLE}/${key}`);
    } else if (choice < 11) {
      const { _v, ...fields } = row(key);
      const done = await server.post(TABLE, fields);
      assert.ok(done.status === 200 || done.status === 201, JSON.stringify(done.error));
    } else if (choice < 12) {
      const done = await server.put(`${TABLE}/${key}`, { title: row(key).title });
      assert.ok(done.status === 200 || done.status === 404, JSON.stringify(done.error));
    } else if (choice < 16) {
      await replica.sync(server);
    } else {
      replica.hear(pick(replicas));
    }
    if (chance() < 0.001 || (number % 25 === 7 && step === 20)) await crash(sockets);
  }

  // Everybody comes back. A cleanup is a change, so it takes some rounds until nothing is left to say.
  const rows = (entries) => Object.fromEntries(entries);
  const of = (replica) => rows(replica.keys(prefix).map((key) => [key, replica.get(key).val.title]));
  const listed = async () => {
    const list = await server.get(`${TABLE}?filter[id][prefix]=${prefix}`);
    assert.equal(list.status, 200, JSON.stringify(list.error));
    return rows(list.data.map((post) => [post.id, post.title]));
  };
  let states;
  await until(`history ${number} converges: ${() => JSON.stringify(states)}`, async () => {
    for (const replica of replicas) await replica.sync(server);
    states = [await listed(), ...replicas.map(of)].map((state) => JSON.stringify(state));
    return states.every((state) => state === states[0]);
  });
  const fresh = new Y.Doc();
  Y.applyUpdate(fresh, (await server.get('/rooms/blog')).body);
  const all = fresh.getArray('table:posts').toArray().filter(({ key }) => key.startsWith(prefix));
  // Exactly the losers are gone: one entry of each key, and the one that counts.
  const expected = JSON.parse(states[0]);
  assert.deepEqual(all.map(({ key }) => key).sort(), Object.keys(expected).sort());
  for (const { key, val, ts } of all) {
    assert.equal(val.title, expected[key]);
    const newest = replicas.flatMap((replica) => replica.written)
      .filter((entry) => entry.key === key)
      .reduce((latest, entry) => Math.max(latest, entry.ts), 0);
    if (kept.includes(key)) assert.ok(ts >= newest, `${key} is of ${ts}, and ${newest} was written`);
  }
  for (const key of kept) {
    const ever = replicas.some((replica) => replica.written.some((entry) => entry.key === key));
    if (ever) assert.ok(key in expected, `${key} was written, and nobody deleted it`);
  }
  if (watcher) {
    const seen = () => watcher.doc.getArray('table:posts').toArray()
      .filter(({ key }) => key.startsWith(prefix)).map(({ key, val }) => [key, val.title]);
    await until('the one who only looks sees the same', () =>
      JSON.stringify(rows(seen().sort())) === states[0] && seen().length === all.length);
  }
  for (const socket of sockets) {
    socket.leave();
  }
}

test(`${HISTORIES} histories of clients like the original's end with the same rows everywhere`, {
  timeout: Math.max(300_000, HISTORIES * 5_000),
}, async (t) => {
  t.diagnostic(`INTEROP_SEED=${SEED}`);
  for (let number = 0; number < HISTORIES; number += 1) {
    try {
      await history(number, random(SEED + number));
    } catch (error) {
      error.message = `history ${number} of INTEROP_SEED=${SEED}: ${error.message}`;
      throw error;
    }
  }
});
