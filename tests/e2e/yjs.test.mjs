// Whatever Yjs makes, in any order, merged, after long offline periods, across restarts and
// compactions: all clients end with the same document, and so does one who comes later.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';

import * as Y from 'yjs';

import { Client, documentOf } from './clients.mjs';
import { Server, random, until } from './server.mjs';

// Each client of the provider waits for the process to end.
process.setMaxListeners(0);

const SEED = Number(process.env.YJS_SEED ?? 1);
const HISTORIES = Number(process.env.YJS_HISTORIES ?? 4);
const CLIENTS = 4;
const STEPS = 60;

let server;

before(async () => {
  // A short idle time, so that rooms are compacted, let go and loaded in the middle of a history.
  server = await Server.start({ mode: 'hub', args: ['--room-idle-timeout', '0.1'] });
});

after(() => server.dispose());

const WORDS = ['a', 'word', 'ö', '日本', '🙂', '👩‍👩‍👧', 'line\n', ' '];

/**
 * Where a text may be cut: between its characters. Editors do not cut a character of two code units
 * in half, and clients of Yjs that do so end with different texts, whatever the server.
 */
function places(text) {
  const found = [0];
  for (const { insert } of text.toDelta()) {
    const characters = typeof insert === 'string' ? [...insert] : ['x'];
    for (const character of characters) found.push(found.at(-1) + character.length);
  }
  return found;
}

/** Everything that a document shows, in a form that can be compared. */
function content(doc) {
  return {
    text: doc.getText('text').toDelta(),
    map: doc.getMap('map').toJSON(),
    array: doc.getArray('array').toJSON(),
    xml: doc.getXmlFragment('xml').toString(),
    subdocuments: [...doc.getMap('subdocuments').entries()].map(([k, d]) => [k, d.guid]).sort(),
  };
}

/** One random edit of every kind that Yjs knows. */
function edit(doc, undo, rng) {
  const below = (n) => Math.floor(rng() * n);
  const pick = (list) => list[below(list.length)];
  const text = doc.getText('text');
  const map = doc.getMap('map');
  const array = doc.getArray('array');
  const xml = doc.getXmlFragment('xml');
  const range = (most) => {
    const all = places(text);
    const from = below(all.length);
    const to = Math.min(from + below(most + 1), all.length - 1);
    return [all[from], all[to] - all[from]];
  };
  const kinds = [
    () => text.insert(pick(places(text)), pick(WORDS).repeat(1 + below(3))),
    () => text.delete(...range(1)),
    () => text.delete(...range(6)),
    () => text.format(...range(4), { [pick(['bold', 'em'])]: pick([true, null]) }),
    () => text.insertEmbed(pick(places(text)), { image: pick(WORDS) }),
    () => map.set(pick(['a', 'b', 'c']), pick([1, -2.5, true, null, 'x', [1, { y: 2 }], 2 ** 40, new Uint8Array([1, 2])])),
    () => map.delete(pick(['a', 'b', 'c'])),
    () => {
      const nested = new Y.Map();
      nested.set('inner', new Y.Array());
      map.set('nested', nested);
    },
    () => map.get('nested')?.get('inner')?.push([below(100), 'deep']),
    () => array.insert(below(array.length + 1), [below(1000), pick(WORDS)]),
    () => array.push([{ key: pick(WORDS), val: { n: below(10) } }]),
    () => array.length && array.delete(below(array.length), 1),
    () => array.insert(below(array.length + 1), [new Y.Text(pick(WORDS))]),
    () => {
      const element = new Y.XmlElement(pick(['p', 'h1']));
      element.setAttribute('class', pick(WORDS));
      element.insert(0, [new Y.XmlText(pick(WORDS)), new Y.XmlElement('br')]);
      xml.insert(below(xml.length + 1), [element]);
    },
    () => xml.length && xml.delete(below(xml.length), 1),
    () => {
      const element = xml.length ? xml.get(below(xml.length)) : undefined;
      element?.setAttribute?.('id', pick(WORDS));
    },
    () => doc.getMap('subdocuments').set(pick(['one', 'two']), new Y.Doc()),
    () => undo.undo(),
    () => undo.undo(),
    () => undo.redo(),
  ];
  const edits = 1 + below(5);
  if (rng() < 0.5) {
    for (let n = 0; n < edits; n += 1) pick(kinds)();
  } else {
    doc.transact(() => {
      for (let n = 0; n < edits; n += 1) pick(kinds.slice(0, -3))();
    });
  }
}

function follow(client) {
  const { doc } = client;
  const roots = [doc.getText('text'), doc.getMap('map'), doc.getArray('array'), doc.getXmlFragment('xml')];
  return new Y.UndoManager(roots, { captureTimeout: 0 });
}

async function history(room, seed) {
  const rng = random(seed);
  const clients = [];
  for (let n = 0; n < CLIENTS; n += 1) {
    // One keeps its deleted content, as those do who take snapshots.
    const doc = new Y.Doc({ gc: n !== 0 });
    clients.push({ client: await Client.join(server, room, { doc }), online: true });
  }
  for (const each of clients) each.undo = follow(each.client);
  for (let step = 0; step < STEPS; step += 1) {
    const one = clients[Math.floor(rng() * CLIENTS)];
    edit(one.client.doc, one.undo, rng);
    if (rng() < 0.12) {
      if (one.online) one.client.goOffline();
      else await one.client.goOnline();
      one.online = !one.online;
    }
    if (rng() < 0.04) {
      // Everybody leaves: the room is compacted and let go, and loaded again by who comes first.
      for (const each of clients) {
        each.client.goOffline();
        each.online = false;
      }
      const id = encodeURIComponent(room);
      await until(`room ${room} is let go`, async () => {
        const { rooms } = (await server.get('/rooms/')).body;
        return !rooms.some((open) => open.id === decodeURIComponent(id));
      });
    }
    if (rng() < 0.2) await new Promise(setImmediate);
  }
  for (const each of clients) {
    if (!each.online) await each.client.goOnline();
  }
  await until(`all clients of ${room} (seed ${seed}) agree`, () => {
    const expected = content(clients[0].client.doc);
    return clients.every(({ client }) => isDeepStrictEqual(content(client.doc), expected));
  });
  await Promise.all(clients.map(({ client }) => client.saved()));
  return { clients, expected: content(clients[0].client.doc) };
}

for (let n = 0; n < HISTORIES; n += 1) {
  test(`clients with every shared type of Yjs end with the same document (seed ${SEED + n})`, async () => {
    const room = `history ${n}`;
    const { clients, expected } = await history(room, SEED + n);

    const later = await Client.join(server, room);
    await until('one who comes later agrees', () => isDeepStrictEqual(content(later.doc), expected));
    const route = `/rooms/${encodeURIComponent(room)}`;
    const { body } = await server.get(route);
    assert.deepEqual(content(documentOf(body)), expected, 'the whole document by HTTP');
    for (const { doc, store } of clients.map(({ client }) => ({ doc: client.doc, store: client.doc.store }))) {
      assert.equal(store.pendingStructs, null, `client ${doc.clientID} waits for structs`);
      assert.equal(store.pendingDs, null, `client ${doc.clientID} waits for deletions`);
    }
    for (const { client } of [...clients, { client: later }]) client.leave();

    await server.kill9();
    await server.start();
    const again = await server.get(route);
    assert.deepEqual(content(documentOf(again.body)), expected, 'the same after a crash');
  });
}

test('a snapshot of a document that keeps its history can be restored by one who comes later', async () => {
  const writer = await Client.join(server, 'snapshots', { doc: new Y.Doc({ gc: false }) });
  writer.doc.getText('text').insert(0, 'first');
  const snapshot = Y.encodeSnapshot(Y.snapshot(writer.doc));
  writer.doc.getText('text').delete(0, 5);
  writer.doc.getText('text').insert(0, 'second');
  await writer.saved();
  const reader = await Client.join(server, 'snapshots', { doc: new Y.Doc({ gc: false }) });
  const restored = Y.createDocFromSnapshot(reader.doc, Y.decodeSnapshot(snapshot));
  assert.equal(restored.getText('text').toString(), 'first');
  assert.equal(reader.doc.getText('text').toString(), 'second');
  writer.leave();
  reader.leave();
});

test('updates that arrive in any order, twice, merged or cut make the same document', async () => {
  const rng = random(SEED);
  const doc = new Y.Doc();
  const undo = new Y.UndoManager([doc.getText('text'), doc.getMap('map'), doc.getArray('array')]);
  const updates = [];
  doc.on('update', (bytes) => updates.push(bytes));
  for (let n = 0; n < 80; n += 1) edit(doc, undo, rng);
  const shuffled = updates
    .flatMap((bytes) => (rng() < 0.2 ? [bytes, bytes] : [bytes]))
    .map((bytes) => [rng(), bytes])
    .sort(([a], [b]) => a - b)
    .map(([, bytes]) => bytes);
  while (shuffled.length > 0) {
    const some = shuffled.splice(0, 1 + Math.floor(rng() * 4));
    const { status } = await server.post('/rooms/any%20order', Y.mergeUpdates(some), {
      'content-type': 'application/octet-stream',
    });
    assert.equal(status, 200);
  }
  const { body } = await server.get('/rooms/any%20order');
  const copy = documentOf(body);
  assert.deepEqual(content(copy), content(doc));
  assert.equal(copy.store.pendingStructs, null);
});
