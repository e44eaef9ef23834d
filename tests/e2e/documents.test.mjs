// Documents of rows: rooms that any Yjs client edits, whose text REST and actions read and write.

import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import * as Y from 'yjs';

import { Client, Socket } from './clients.mjs';
import { Server, random, until } from './server.mjs';

const NOTES = '/workspaces/probe/tables/notes';
const PAPERS = '/workspaces/desk/tables/papers';
/** A workspace of scripts whose papers have a body. */
const DESK = fileURLToPath(new URL('openapi/desk', import.meta.url));
const SEED = Number(process.env.DOCUMENTS_SEED ?? Math.floor(Math.random() * 2 ** 31));
const HISTORIES = Number(process.env.DOCUMENTS_HISTORIES ?? 100);

// Each client of the provider waits for the process to end.
process.setMaxListeners(0);

let server;

before(async () => {
  server = new Server({ plugins: ['probe'] });
  cpSync(DESK, server.file('desk'), { recursive: true });
  await server.start();
});

after(() => server.dispose());

async function note(id) {
  const made = await server.post(NOTES, { id, body: `body-of-${id}`, edited: 0 });
  assert.equal(made.status, 201, JSON.stringify(made.error));
  return `${NOTES}/${id}/documents/body`;
}

test('what a client types is read by REST, and what REST writes is typed before its eyes', async () => {
  const body = await note('typed');
  const client = await Client.join(server, 'body-of-typed');
  const text = client.doc.getText('content');
  text.insert(0, 'one three');
  text.format(4, 5, { bold: true });
  await client.saved();
  const read = await server.get(body);
  assert.deepEqual(read.data, { text: 'one three', guid: 'body-of-typed' });
  const row = await server.get(`${NOTES}/typed`);
  assert.equal(row.data.edited, 0, 'an edit of another device is for that device to note');

  const cursor = Y.createRelativePositionFromTypeIndex(text, 6);
  const written = await server.put(body, { text: 'one 🙂 two three' });
  assert.equal(written.status, 200);
  await until('the client sees it', () => text.toString() === 'one 🙂 two three');
  assert.deepEqual(text.toDelta().at(-1), { insert: 'three', attributes: { bold: true } });
  const place = Y.createAbsolutePositionFromRelativePosition(cursor, client.doc);
  assert.equal(text.toString().slice(place.index), 'ree', 'the cursor is where it was');
  const edited = (await server.get(`${NOTES}/typed`)).data.edited;
  assert.ok(Math.abs(edited - Date.now()) < 600_000, `the row says when: ${edited}`);
  client.leave();
});

test('an action reads and writes a text, all of it or nothing', async () => {
  const body = await note('acted');
  const append = (text) => server.post('/workspaces/probe/actions/append', { id: 'acted', text });
  assert.equal((await append('a')).data, 'a');
  assert.equal((await append('b')).data, 'ab');
  assert.equal((await append('fail')).status, 500);
  assert.equal((await server.get(body)).data.text, 'ab');
  const missing = await server.post('/workspaces/probe/actions/append', { id: 'nobody', text: 'x' });
  assert.equal(missing.status, 404);
});

test('deleting a row sends those away who are in its document, and its text stays on disk', async () => {
  const body = await note('closed');
  await server.put(body, { text: 'kept' });
  const socket = await Socket.open(server, 'body-of-closed');
  assert.equal((await server.delete(`${NOTES}/closed`)).status, 200);
  const { code, reason } = await socket.end();
  assert.equal(code, 4004);
  assert.match(reason, /row of this document was deleted/);
  assert.equal((await server.get(body)).status, 404);
  await note('closed');
  assert.equal((await server.get(body)).data.text, 'kept', 'a row that comes back finds its text');
});

test('whoever deletes a row, and however, its document is closed, and no other is', async () => {
  const rows = ['sync', 'action', 'filter-1', 'filter-2', 'stays'];
  const made = await server.post(PAPERS, rows.map((id) => ({ id, title: id, body: `paper-${id}` })));
  assert.equal(made.status, 201, JSON.stringify(made.error));
  const sockets = new Map();
  for (const id of rows) sockets.set(id, await Socket.open(server, `paper-${id}`));
  const closed = async (id) => {
    const { code, reason } = await sockets.get(id).end();
    assert.deepEqual([code, reason], [4004, 'the row of this document was deleted'], id);
  };

  const client = await Client.join(server, 'desk');
  client.table('papers').delete('sync');
  await closed('sync');
  client.leave();

  const discard = await server.post('/workspaces/desk/actions/papers/discard', { id: 'action' });
  assert.equal(discard.data, true, JSON.stringify(discard.error));
  await closed('action');

  const deleted = await server.delete(`${PAPERS}?filter[id][prefix]=filter-`);
  assert.equal(deleted.data.deleted, 2);
  await closed('filter-1');
  await closed('filter-2');

  const left = sockets.get('stays');
  await left.saved();
  assert.equal(left.ending, undefined);
  left.leave();
});

test('a text that was acknowledged survives a crash', async () => {
  const body = await note('crashed');
  await server.put(body, { text: 'durable' });
  await server.kill9();
  await server.start();
  assert.equal((await server.get(body)).data.text, 'durable');
});

test(`what ${HISTORIES} random histories of Yjs say is what REST says`, {
  timeout: Math.max(300_000, HISTORIES * 3_000),
}, async (t) => {
  t.diagnostic(`DOCUMENTS_SEED=${SEED}`);
  const chance = random(SEED);
  const below = (n) => Math.floor(chance() * n);
  const pick = (list) => list[below(list.length)];
  const words = ['a', 'word', 'ö', '日本', '🙂', 'line\n', ' '];
  for (let number = 0; number < HISTORIES; number += 1) {
    const id = `h${number}`;
    const room = `/rooms/body-of-${id}`;
    const body = await note(id);
    const docs = Array.from({ length: 3 }, () => new Y.Doc());
    const send = async (doc) => {
      const sent = await server.request('POST', room, Y.encodeStateAsUpdate(doc), {
        'content-type': 'application/octet-stream',
      });
      assert.equal(sent.status, 200);
    };
    const take = async (doc) => {
      const whole = await server.get(room);
      if (whole.status === 200) Y.applyUpdate(doc, whole.body);
    };
    for (let step = 0; step < 25; step += 1) {
      const doc = pick(docs);
      const text = doc.getText('content');
      // Between characters: clients of Yjs that cut one in half end with different texts.
      const places = [0];
      for (const { insert } of text.toDelta()) {
        const characters = typeof insert === 'string' ? [...insert] : ['x'];
        for (const character of characters) places.push(places.at(-1) + character.length);
      }
      const [from, to] = [pick(places), pick(places)].sort((a, b) => a - b);
      const choice = below(12);
      if (choice < 5) text.insert(from, pick(words), pick([undefined, { bold: true }, {}]));
      else if (choice < 6) text.insertEmbed(from, { image: number });
      else if (choice < 8) text.delete(from, to - from);
      else if (choice < 9 && to > from) text.format(from, to - from, { em: pick([true, null]) });
      else if (choice < 10) await send(doc);
      else if (choice < 11) await take(doc);
      else {
        const before = (await server.get(body)).data.text;
        const characters = [...before];
        const at = below(characters.length + 1);
        characters.splice(at, below(3), pick(words));
        const written = await server.put(body, { text: characters.join('') });
        assert.equal(written.status, 200, JSON.stringify(written.error));
        assert.equal((await server.get(body)).data.text, characters.join(''));
      }
    }
    for (const doc of docs) await send(doc);
    for (const doc of docs) await take(doc);
    const says = docs.map((doc) => doc.getText('content').toString());
    assert.deepEqual(says, says.map(() => says[0]), `history ${number}: the clients agree`);
    assert.equal((await server.get(body)).data.text, says[0], `history ${number}`);
  }
});
