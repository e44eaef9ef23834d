// Clients that keep tables as the original's do, with nothing but `yjs`, beside `epicenter-client` and
// REST: whatever they do at the same time, offline or not, across crashes and compactions, all end with
// the same rows.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import * as Y from 'yjs';

import { Client } from './clients.mjs';
import { shareYjs } from './one-yjs.mjs';
import { Server, random, until } from './server.mjs';

shareYjs();
const { CLEANUP, Layout } = await import('../../sdk/client/dist/entries.js');

const SEED = Number(process.env.INTEROP_SEED ?? Math.floor(Math.random() * 2 ** 31));
const HISTORIES = Number(process.env.INTEROP_HISTORIES ?? 100);
const TABLE = '/workspaces/blog/tables/posts';
const THEME = '/workspaces/blog/kv/theme';
const REPLICAS = 4;
const STEPS = 40;

// Each client of the provider waits for the process to end.
process.setMaxListeners(0);

/** The ids of what a transaction deletes: `client:clock`. */
function* deletedBy(deletes) {
  for (const [client, ranges] of deletes.clients) {
    for (const { clock, len } of ranges) {
      for (let at = clock; at < clock + len; at += 1) yield `${client}:${at}`;
    }
  }
}

/** A device: a document, and how often each thing in it was seen to be deleted. */
class Device {
  deletions = new Map();

  constructor() {
    this.doc = new Y.Doc();
    this.doc.on('afterTransaction', ({ deleteSet }) => {
      for (const id of deletedBy(deleteSet)) this.deletions.set(id, (this.deletions.get(id) ?? 0) + 1);
    });
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

/** The entries of an array that are there, with the id of each and its place. */
function* entriesOf(array) {
  let at = 0;
  for (let item = array._start; item !== null; item = item.right) {
    if (item.deleted || !item.countable) continue;
    for (const [n, entry] of item.content.getContent().entries()) {
      yield { entry, at: at + n, id: `${item.id.client}:${item.id.clock + n}` };
    }
    at += item.length;
  }
}

/**
 * A table or the key-values, as the original keeps them: the newest entry of each key counts, of two
 * of the same time the later in the array, and whoever sees another deletes it.
 */
class Replica {
  /** Entries that this replica wrote: key, time and id. */
  written = [];
  /** The ids of all entries that it ever saw, by key. */
  seen = new Map();
  /** The ids of the entries that it deleted because another counted. */
  cleaned = [];
  #latest = 0;
  #entries = new Map();

  /** @param now the device's clock, which may be wrong */
  constructor(device, now, array) {
    this.device = device;
    this.doc = device.doc;
    this.now = now;
    this.name = array;
    this.array = this.doc.getArray(array);
    this.array.observe(() => this.#settle());
    this.#settle();
  }

  /** Finds the entry of each key that counts, and deletes the others. */
  #settle() {
    const entries = new Map();
    const losers = [];
    for (const one of entriesOf(this.array)) {
      const { entry, id } = one;
      this.#latest = Math.max(this.#latest, entry.ts);
      this.seen.set(id, entry.key);
      const before = entries.get(entry.key);
      if (before === undefined || entry.ts >= before.entry.ts) {
        if (before !== undefined) losers.push(before);
        entries.set(entry.key, one);
      } else {
        losers.push(one);
      }
    }
    this.#entries = entries;
    if (losers.length === 0) return;
    losers.sort((a, b) => b.at - a.at);
    this.cleaned.push(...losers.map(({ id }) => id));
    this.doc.transact(() => losers.forEach(({ at }) => this.array.delete(at)));
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
    const id = `${this.doc.clientID}:${Y.getState(this.doc.store, this.doc.clientID)}`;
    this.written.push({ key, ts, id });
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
}

/** The same, as `epicenter-client` keeps them. A device has one layout for all its arrays. */
class ClientReplica {
  written = [];
  seen = new Map();
  cleaned = [];
  #entries;

  constructor(device, now, array) {
    this.device = device;
    this.doc = device.doc;
    this.name = array;
    const watched = this.doc.getArray(array);
    const look = () => {
      for (const { entry, id } of entriesOf(watched)) this.seen.set(id, entry.key);
    };
    watched.observe(look);
    look();
    this.doc.on('afterTransaction', ({ origin, deleteSet }) => {
      if (origin !== CLEANUP) return;
      for (const id of deletedBy(deleteSet)) if (this.seen.has(id)) this.cleaned.push(id);
    });
    device.layout ??= new Layout(this.doc, now);
    this.#entries = device.layout.entries(array);
  }

  keys(prefix) {
    return [...this.#entries.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  get(key) {
    return this.#entries.get(key);
  }

  set(key, val) {
    const id = `${this.doc.clientID}:${Y.getState(this.doc.store, this.doc.clientID)}`;
    this.#entries.set(key, val, this);
    this.written.push({ key, ts: this.get(key).ts, id });
  }

  delete(key) {
    this.#entries.delete(key, this);
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
  // The key-values of each device, beside its table.
  const values = [];
  for (let at = 0; at < REPLICAS; at += 1) {
    const skew = chance() < 0.3 ? below(2000) - 1000 : 0;
    const device = new Device();
    const now = () => clock + skew;
    await device.sync(server);
    const Kind = at % 2 === 0 ? Replica : ClientReplica;
    replicas.push(new Kind(device, now, 'table:posts'));
    values.push(new Kind(device, now, 'kv'));
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
    const choice = below(24);
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
      await replica.device.sync(server);
    } else if (choice < 20) {
      replica.device.hear(pick(replicas).device);
    } else if (choice < 23) {
      pick(values).set('theme', `${number}.${written += 1}`);
    } else {
      const done = await server.put(THEME, `"${number}.${written += 1}"`);
      assert.equal(done.status, 200, JSON.stringify(done.error));
    }
    if (chance() < 0.001 || (number % 25 === 7 && step === 20)) await crash(sockets);
  }

  // Everybody comes back. A cleanup is a change, so it takes some rounds until nothing is left to say.
  const rows = (entries) => Object.fromEntries(entries);
  const of = (replica, at) => ({
    rows: rows(replica.keys(prefix).map((key) => [key, replica.get(key).val.title])),
    theme: values[at].get('theme')?.val,
  });
  const listed = async () => {
    const list = await server.get(`${TABLE}?filter[id][prefix]=${prefix}`);
    assert.equal(list.status, 200, JSON.stringify(list.error));
    const theme = await server.get(THEME);
    return { rows: rows(list.data.map((post) => [post.id, post.title])), theme: theme.data };
  };
  let states;
  await until(`history ${number} converges: ${() => JSON.stringify(states)}`, async () => {
    for (const { device } of replicas) await device.sync(server);
    states = [await listed(), ...replicas.map(of)].map((state) => JSON.stringify(state));
    return states.every((state) => state === states[0]);
  });
  const fresh = new Y.Doc();
  Y.applyUpdate(fresh, (await server.get('/rooms/blog')).body);
  const all = fresh.getArray('table:posts').toArray().filter(({ key }) => key.startsWith(prefix));
  // Exactly the losers are gone: one entry of each key, and the one that counts.
  const { rows: expected, theme } = JSON.parse(states[0]);
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
  const themes = fresh.getArray('kv').toArray();
  assert.deepEqual(themes.map(({ key, val }) => [key, val]), theme === undefined ? [] : [['theme', theme]]);
  const set = values.flatMap(({ written }) => written);
  if (set.length > 0) {
    const newest = Math.max(...set.map(({ ts }) => ts));
    assert.ok(themes[0].ts >= newest, `the theme is of ${themes[0].ts}, and ${newest} was written`);
  }
  if (watcher) {
    const seen = () => watcher.doc.getArray('table:posts').toArray()
      .filter(({ key }) => key.startsWith(prefix)).map(({ key, val }) => [key, val.title]);
    await until('the one who only looks sees the same', () =>
      JSON.stringify(rows(seen().sort())) === JSON.stringify(expected) && seen().length === all.length);
  }
  // Each entry that does not count was deleted once, as each device saw it, and none that counts.
  const counts = new Map(['table:posts', 'kv'].map((array) => [
    array, new Set([...entriesOf(fresh.getArray(array))].map(({ id }) => id)),
  ]));
  let cleaned = 0;
  for (const replica of [...replicas, ...values]) {
    const alive = counts.get(replica.name);
    for (const [id, key] of replica.seen) {
      const deletions = replica.device.deletions.get(id) ?? 0;
      const what = `the entry ${id} of ${key} was deleted ${deletions} times`;
      assert.equal(deletions, alive.has(id) ? 0 : 1, what);
    }
    for (const { id } of replica.written) assert.ok(replica.seen.has(id), `${id} was written`);
    assert.equal(new Set(replica.cleaned).size, replica.cleaned.length, 'a loser was removed twice');
    cleaned += replica.cleaned.length;
  }
  for (const socket of sockets) {
    socket.leave();
  }
  return cleaned;
}

test(`${HISTORIES} histories of clients like the original's and of ours end with the same rows everywhere`, {
  timeout: Math.max(300_000, HISTORIES * 5_000),
}, async (t) => {
  t.diagnostic(`INTEROP_SEED=${SEED}`);
  let cleaned = 0;
  for (let number = 0; number < HISTORIES; number += 1) {
    try {
      cleaned += await history(number, random(SEED + number));
    } catch (error) {
      error.message = `history ${number} of INTEROP_SEED=${SEED}: ${error.message}`;
      throw error;
    }
  }
  t.diagnostic(`${cleaned} losers of conflicts were removed by clients`);
  assert.ok(cleaned >= HISTORIES, 'there were conflicts to settle');
});
