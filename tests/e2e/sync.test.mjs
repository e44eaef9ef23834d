// Rooms with real Yjs clients, beside REST on the same rows.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import * as Y from 'yjs';

import {
  AWARENESS, Client, QUERY_AWARENESS, SYNC, SYNC_STATUS, Socket, documentOf, presence, status, step1,
  update,
} from './clients.mjs';
import { Server, until } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';
const KV = '/workspaces/blog/kv';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.dispose());

function join(room) {
  return Client.join(server, room);
}

function socket(room) {
  return Socket.open(server, room);
}

/** A post as it lies in the document. */
function post(id, fields) {
  return { id, title: id, content: '', views: 0, published: false, ...fields, _v: 2 };
}

/** Waits until REST answers what is expected. */
function untilRead(id, accept) {
  return until(`REST reads ${id} as expected`, async () => {
    const response = await server.get(`${POSTS}/${id}`);
    return accept(response) && response;
  });
}

describe('a workspace and its clients', () => {
  test('what a client writes, REST reads', async () => {
    const client = await join('blog');
    const posts = client.table('posts');
    posts.set('from-client', post('from-client', { title: 'From a client' }));
    const { data } = await untilRead('from-client', ({ status }) => status === 200);
    assert.deepEqual(data, post('from-client', { title: 'From a client' }));

    posts.set('from-client', post('from-client', { title: 'Changed', views: 3 }));
    await untilRead('from-client', ({ data }) => data?.title === 'Changed' && data.views === 3);
    const { data: rows } = await server.get(POSTS);
    assert.equal(rows.filter((row) => row.id === 'from-client').length, 1);

    posts.delete('from-client');
    await untilRead('from-client', ({ status }) => status === 404);
  });

  test('what REST writes, clients see as one transaction in the layout of the original', async () => {
    const client = await join('blog');
    const posts = client.table('posts');
    const transactions = [];
    posts.array.observe((event) => {
      const deltas = event.changes.delta;
      const inserted = deltas.flatMap((delta) => delta.insert ?? []);
      const deleted = event.changes.deleted.size;
      transactions.push({ inserted, deleted, first: deltas });
    });
    const before = Date.now();
    const { data: created } = await server.post(POSTS, { id: 'from-rest', title: 'From REST' });
    await until('the client has the row', () => posts.get('from-rest'));
    assert.deepEqual(posts.get('from-rest'), created);
    assert.equal(transactions.length, 1);
    const [entry] = transactions[0].inserted;
    assert.deepEqual(Object.keys(entry).toSorted(), ['key', 'ts', 'val']);
    assert.equal(entry.key, 'from-rest');
    assert.equal(typeof entry.ts, 'number');
    assert.ok(Number.isInteger(entry.ts) && entry.ts >= before - 1 && entry.ts <= Date.now() + 1000);

    const { data: updated } = await server.put(`${POSTS}/from-rest`, { views: 1 });
    await until('the client has the change', () => posts.get('from-rest').views === 1);
    assert.deepEqual(posts.get('from-rest'), updated);
    assert.equal(posts.entries('from-rest').length, 1);
    assert.equal(transactions.length, 2, 'a set is one transaction');
    assert.equal(transactions[1].inserted.length, 1);
    assert.equal(transactions[1].deleted, 1);
    assert.equal(posts.array.toArray().at(-1)?.key, 'from-rest', 'it is pushed at the end');
    assert.ok(posts.entries('from-rest')[0].ts > entry.ts, 'time goes on');

    await server.delete(`${POSTS}/from-rest`);
    await until('the row is gone', () => posts.entries('from-rest').length === 0);
    assert.equal(transactions.length, 3);
  });

  test('an action is one transaction for those who watch', async () => {
    const client = await join('blog');
    const posts = client.table('posts');
    await server.post(POSTS, { id: 'watched', title: 'Watched' });
    await until('the client has the row', () => posts.get('watched'));
    let transactions = 0;
    client.doc.on('afterTransaction', ({ changed }) => (transactions += changed.size > 0 ? 1 : 0));
    const { status, data } = await server.post('/workspaces/blog/actions/posts/publish', { id: 'watched' });
    assert.equal(status, 200);
    assert.equal(data.published, true);
    await until('the client sees it published', () => posts.get('watched').published);
    assert.equal(transactions, 1);
  });

  test('two clients see what the other writes', async () => {
    const [one, two] = [await join('blog'), await join('blog')];
    one.table('posts').set('shared', post('shared', { title: 'One' }));
    await until('two has it', () => two.table('posts').get('shared')?.title === 'One');
    two.table('posts').set('shared', post('shared', { title: 'Two' }));
    await until('one has it', () => one.table('posts').get('shared')?.title === 'Two');
    assert.equal(one.table('posts').entries('shared').length, 1);
    await untilRead('shared', ({ data }) => data?.title === 'Two');
  });

  test('a client that comes later gets everything', async () => {
    const writer = await join('blog');
    for (let n = 0; n < 100; n += 1) writer.table('posts').set(`late-${n}`, post(`late-${n}`));
    await writer.saved();
    const late = await join('blog');
    for (let n = 0; n < 100; n += 1) assert.deepEqual(late.table('posts').get(`late-${n}`), post(`late-${n}`));
    assert.deepEqual(late.table('posts').array.toArray(), writer.table('posts').array.toArray());
  });

  test('a number that REST writes is a number for clients, however large', async () => {
    const client = await join('blog');
    for (const views of [0, 1, 2 ** 31, 2 ** 40, Number.MAX_SAFE_INTEGER]) {
      assert.ok((await server.post(POSTS, { id: 'large', title: 'x', views })).status < 300);
      const row = () => client.table('posts').get('large');
      await until('the client has the row', () => row()?.views === views);
    }
  });

  test('key-values are seen by clients and by REST', async () => {
    const client = await join('blog');
    const kv = client.doc.getArray('kv');
    const theme = () => kv.toArray().filter((entry) => entry.key === 'theme');
    kv.push([{ key: 'theme', val: 'dark', ts: Date.now() }]);
    await until('REST reads it', async () => (await server.get(KV)).data?.theme === 'dark');
    assert.equal((await server.put(`${KV}/theme`, '"light"')).status, 200);
    await until('the client has the change', () => theme()[0].val === 'light');
    assert.equal(theme().length, 1);
    kv.push([{ key: 'theme', val: 5, ts: Date.now() + 1000 }]);
    await until('it is invalid', async () => (await server.get(`${KV}/theme`)).status === 422);
    assert.equal((await server.delete(`${KV}/theme`)).status, 200);
    await until('the client has no value', () => theme().length === 0);
    assert.equal((await server.get(`${KV}/theme`)).status, 404);
  });
});

describe('rows that are not as they should be', () => {
  test('an invalid row of a client is neither lost nor listed, and says what is wrong', async () => {
    const client = await join('blog');
    const posts = client.table('posts');
    const rows = {
      'invalid-type': { id: 'invalid-type', title: 5, _v: 2 },
      'invalid-rule': post('invalid-rule', { title: '' }),
      'invalid-newer': { ...post('invalid-newer'), _v: 99 },
      'invalid-text': 'not even an object',
    };
    for (const [id, row] of Object.entries(rows)) posts.set(id, row);
    posts.set('valid', post('valid'));
    await client.saved();
    await untilRead('valid', ({ status }) => status === 200);

    const check = async () => {
      const { status, data: listed } = await server.get(POSTS);
      assert.equal(status, 200);
      assert.ok(listed.some((row) => row.id === 'valid'));
      for (const [id, row] of Object.entries(rows)) {
        assert.ok(!listed.some((other) => other.id === id), id);
        const { status, error } = await untilRead(id, ({ status }) => status === 422);
        assert.equal(status, 422, id);
        assert.ok(error.issues.length > 0, id);
        assert.deepEqual(error.row, row, id);
      }
      const { error } = await server.get(`${POSTS}/invalid-rule`);
      assert.deepEqual(error.issues, [{ path: ['title'], message: 'must not be empty' }]);
    };
    await check();

    // Fields cannot be laid over a row that is not valid.
    assert.equal((await server.put(`${POSTS}/invalid-rule`, { views: 1 })).status, 422);

    const other = await join('blog');
    for (const [id, row] of Object.entries(rows)) assert.deepEqual(other.table('posts').get(id), row);

    client.goOffline();
    other.goOffline();
    await server.stop();
    await server.start();
    await check();
    const fresh = await join('blog');
    for (const [id, row] of Object.entries(rows)) assert.deepEqual(fresh.table('posts').get(id), row);

    // It is mended by writing it whole, and can be deleted.
    assert.equal((await server.post(POSTS, post('invalid-rule', { title: 'Mended' }))).status, 200);
    assert.equal((await server.get(`${POSTS}/invalid-rule`)).data.title, 'Mended');
    assert.equal((await server.delete(`${POSTS}/invalid-type`)).status, 200);
    await until('it is gone for clients', () => !fresh.table('posts').get('invalid-type'));
  });

  test('a row of an old version reads migrated, and stays as it is in the document', async () => {
    const client = await join('blog');
    const posts = client.table('posts');
    posts.set('old', { id: 'old', title: 'Old', _v: 1 });
    posts.set('unversioned', { id: 'unversioned', title: 'Older' });
    await untilRead('old', ({ status }) => status === 200);
    await untilRead('unversioned', ({ status }) => status === 200);
    const migrated = post('old', { title: 'Old' });
    assert.deepEqual((await server.get(`${POSTS}/old`)).data, migrated);
    const { data: rows } = await server.get(POSTS);
    assert.deepEqual(rows.find((row) => row.id === 'old'), migrated);
    assert.deepEqual(rows.find((row) => row.id === 'unversioned'), post('unversioned', { title: 'Older' }));

    const other = await join('blog');
    assert.deepEqual(other.table('posts').get('old'), { id: 'old', title: 'Old', _v: 1 });
    assert.deepEqual(other.table('posts').get('unversioned'), { id: 'unversioned', title: 'Older' });

    // Rewritten, it is of the current version.
    await server.put(`${POSTS}/old`, { views: 1 });
    await until('the document has it rewritten', () => posts.get('old').views === 1);
    assert.deepEqual(posts.get('old'), { ...migrated, views: 1 });
  });

  test('entries that are no entries are left alone and break nothing', async () => {
    const client = await join('blog');
    const array = client.doc.getArray('table:posts');
    const odd = [
      5, 'text', null, true, [], {}, { key: 'odd' }, { key: 7, val: {}, ts: 1 }, { key: 'odd', ts: 1 },
      new Uint8Array([1, 2, 3]),
    ];
    array.push(odd);
    await client.saved();
    assert.equal((await server.get(`${POSTS}/odd`)).status, 404);
    assert.equal((await server.get(POSTS)).status, 200);
    assert.equal((await server.post(POSTS, { id: 'odd', title: 'Now it is one' })).status, 201);
    const other = await join('blog');
    const kept = other.doc.getArray('table:posts').toArray();
    for (const value of odd) {
      assert.ok(kept.some((entry) => isEqual(entry, value)), JSON.stringify(value));
    }
  });

  test('an entry without a time is an invalid row, and nobody deletes it until the row is written', async () => {
    const client = await join('blog');
    const array = client.doc.getArray('table:posts');
    const untimed = [{ key: 'untimed', val: 1 }, { key: 'untimed', val: {}, ts: 'now' }];
    array.push(untimed);
    await client.saved();
    const { status, error } = await server.get(`${POSTS}/untimed`);
    assert.equal(status, 422);
    assert.deepEqual(error.issues[0].path, ['ts']);
    const of = async () => (await join('blog')).doc.getArray('table:posts').toArray().filter((e) => e?.key === 'untimed');
    assert.equal((await of()).length, 2);
    assert.equal((await server.post(POSTS, { id: 'untimed', title: 'Now it has a time' })).status, 200);
    assert.equal((await of()).length, 1);
  });

  test('a time from the far future does not stop the clock', async () => {
    // On a server of its own, because its clock goes on from that time.
    const server = await Server.start();
    try {
      const client = await Client.join(server, 'blog');
      const posts = client.table('posts');
      const titled = (id, title) => until(`REST reads ${title}`, async () =>
        (await server.get(`${POSTS}/${id}`)).data?.title === title);
      const future = Date.now() + 10 * 365 * 24 * 3600 * 1000;
      const times = { future, absurd: Number.MAX_VALUE, negative: -1, fraction: 0.5 };
      for (const [id, time] of Object.entries(times)) {
        posts.set(id, post(id, { title: 'From another time' }), time);
        await titled(id, 'From another time');
        const { status } = await server.put(`${POSTS}/${id}`, { title: 'Now' });
        assert.equal(status, 200);
        await titled(id, 'Now');
        await until('the later write counts', () => posts.get(id).title === 'Now');
        assert.equal(posts.entries(id).length, 1);
      }
      assert.ok(posts.entries('future')[0].ts > future);
    } finally {
      await server.dispose();
    }
  });
});

function isEqual(one, other) {
  try {
    assert.deepEqual(one, other);
    return true;
  } catch {
    return false;
  }
}

describe('conflicts', () => {
  /** Two clients set keys while neither knows of the other; then both come back. */
  async function conflict(times) {
    const [one, two] = [await join('blog'), await join('blog')];
    one.goOffline();
    two.goOffline();
    for (const [id, [first, second]] of Object.entries(times)) {
      one.table('posts').set(id, post(id, { title: 'one' }), first);
      two.table('posts').set(id, post(id, { title: 'two' }), second);
    }
    // The one who waited longer is not always the same.
    const order = Math.random() < 0.5 ? [one, two] : [two, one];
    for (const client of order) await client.goOnline();
    await until('one entry of each key is left, everywhere', () =>
      [one, two].every((client) =>
        Object.keys(times).every((id) => client.table('posts').entries(id).length === 1)));
    return [one, two];
  }

  test('the write with the higher time counts everywhere, and the loser is deleted', async () => {
    const now = Date.now();
    const times = {};
    for (let n = 0; n < 10; n += 1) times[`conflict-${n}`] = [now + (n % 2), now + ((n + 1) % 2)];
    const [one, two] = await conflict(times);
    for (const [id, [first, second]] of Object.entries(times)) {
      const expected = first > second ? 'one' : 'two';
      assert.equal(one.table('posts').get(id).title, expected);
      assert.equal(two.table('posts').get(id).title, expected);
      await untilRead(id, ({ data }) => data?.title === expected);
    }
  });

  test('of two writes with the same time the later in the array counts', async () => {
    const now = Date.now();
    for (let round = 0; round < 5; round += 1) {
      const times = {};
      for (let n = 0; n < 4; n += 1) times[`tie-${round}-${n}`] = [now, now];
      // What the original's rule makes of both entries, before anybody deletes one.
      const seen = new Map();
      const witness = await join('blog');
      witness.doc.on('afterTransaction', () => {
        for (const id of Object.keys(times)) {
          const entries = witness.table('posts').entries(id);
          if (entries.length === 2) seen.set(id, witness.table('posts').get(id).title);
        }
      });
      const [one, two] = await conflict(times);
      await witness.saved();
      const titles = new Set();
      for (const id of Object.keys(times)) {
        const winner = one.table('posts').get(id).title;
        titles.add(winner);
        assert.equal(two.table('posts').get(id).title, winner);
        assert.equal(witness.table('posts').get(id)?.title, winner);
        if (seen.has(id)) assert.equal(winner, seen.get(id), 'the rule of the original');
        await untilRead(id, ({ data }) => data?.title === winner);
      }
      // Yjs puts what one client pushed together, so that one client is later with all of them.
      assert.equal(titles.size, 1);
      const [first, second] = [one, two].toSorted((a, b) => a.doc.clientID - b.doc.clientID);
      const later = second === one ? 'one' : 'two';
      assert.equal([...titles][0], later, `clients ${first.doc.clientID} and ${second.doc.clientID}`);
    }
  });

  test('a client that was away long keeps its newer writes and takes the others', async () => {
    const away = await join('blog');
    away.goOffline();
    const now = Date.now();
    for (let n = 0; n < 50; n += 1) {
      await server.post(POSTS, { id: `away-${n}`, title: 'server' });
      if (n % 2 === 0) {
        away.table('posts').set(`away-${n}`, post(`away-${n}`, { title: 'away' }), now + 60_000);
      }
    }
    await away.goOnline();
    for (let n = 0; n < 50; n += 1) {
      const expected = n % 2 === 0 ? 'away' : 'server';
      await untilRead(`away-${n}`, ({ data }) => data?.title === expected);
      await until('the client agrees', () => away.table('posts').get(`away-${n}`)?.title === expected);
    }
  });
});

describe('awareness', () => {
  const stateOf = (watcher, client) => watcher.awareness.getStates().get(client.doc.clientID);

  test('clients see who is there, and that one has left, also when it vanishes', async () => {
    for (const room of ['blog', 'a free room']) {
      const [one, two] = [await join(room), await join(room)];
      one.awareness.setLocalState({ name: 'One', cursor: { at: 3 } });
      await until('two sees one', () => stateOf(two, one)?.name === 'One');
      assert.deepEqual(stateOf(two, one), { name: 'One', cursor: { at: 3 } });
      one.awareness.setLocalStateField('cursor', { at: 4 });
      await until('two sees one move', () => stateOf(two, one)?.cursor.at === 4);

      // One who comes later sees who is there.
      const late = await join(room);
      await until('a later one sees one', () => stateOf(late, one)?.cursor.at === 4);

      one.vanish();
      // Clients forget silent ones after 30 s by themselves; this is the server's word.
      await until('two sees that one is gone', () => stateOf(two, one) === undefined, 15_000);
      await until('so does the later one', () => stateOf(late, one) === undefined, 15_000);
    }
  });

  test('one who leaves politely is gone at once, and may come back', async () => {
    const [one, two] = [await join('polite'), await join('polite')];
    one.awareness.setLocalState({ name: 'One' });
    await until('two sees one', () => stateOf(two, one));
    one.goOffline();
    await until('two sees that one is gone', () => stateOf(two, one) === undefined, 15_000);
    await one.goOnline();
    one.awareness.setLocalState({ name: 'One again' });
    await until('two sees one again', () => stateOf(two, one)?.name === 'One again');
  });

  test('a query is answered with all states', async () => {
    const one = await join('query');
    one.awareness.setLocalState({ name: 'One' });
    const asking = await socket('query');
    await until('the state is known', async () => {
      asking.send(new Uint8Array([QUERY_AWARENESS]));
      return asking.frames.some(
        (frame) => frame[0] === AWARENESS && Buffer.from(frame).includes('{"name":"One"}'),
      );
    });
  });

  test('a removal has a clock that is one higher', async () => {
    const watcher = await socket('clock');
    const one = await socket('clock');
    one.send(presence([[77, 5, { here: true }]]));
    await watcher.frame(AWARENESS);
    one.leave();
    const removal = presence([[77, 6, null]]);
    await watcher.frame(AWARENESS, (frame) => Buffer.compare(frame, removal) === 0);
  });
});

describe('the protocol', () => {
  test('the server begins with step 1, and answers step 1 with step 2', async () => {
    for (const room of ['blog', 'steps']) {
      const one = await socket(room);
      const first = await one.frame(SYNC);
      assert.equal(one.frames[0], first);
      assert.equal(first[1], 0, 'step 1');
      one.send(step1());
      const second = await one.frame(SYNC, (frame) => frame[1] === 1);
      const bytes = second.subarray(2);
      const length = lengthOf(bytes);
      documentOf(bytes.subarray(length.read, length.read + length.value));
    }
  });

  test('SYNC_STATUS comes back byte for byte', async () => {
    for (const room of ['blog', 'status']) {
      const one = await socket(room);
      for (const payload of [[], [0], [1], [255, 255, 3], Array(1000).fill(7)]) {
        const sent = status(new Uint8Array(payload));
        const before = one.frames.length;
        one.send(sent);
        const echo = await until('the echo comes', () =>
          one.frames.slice(before).find((frame) => frame[0] === SYNC_STATUS));
        assert.deepEqual(Buffer.from(echo), Buffer.from(sent));
      }
    }
  });

  test('SYNC_STATUS is a word between one client and the server', async () => {
    const [one, two] = [await socket('private'), await socket('private')];
    await one.saved();
    await two.saved(new Uint8Array([42]));
    assert.equal(two.frames.filter((frame) => frame[0] === SYNC_STATUS).length, 1);
  });

  test('a client does not get its own updates back', async () => {
    for (const room of ['blog', 'origin']) {
      const [one, two] = [await socket(room), await socket(room)];
      const doc = new Y.Doc();
      doc.getArray('table:posts').push([{ key: 'origin', val: post('origin'), ts: 1 }]);
      const sent = update(Y.encodeStateAsUpdate(doc));
      one.send(sent);
      await two.frame(SYNC, (frame) => frame[1] === 2);
      await one.saved();
      assert.equal(one.frames.filter((frame) => frame[0] === SYNC && frame[1] === 2).length, 0);
    }
  });

  test('messages of unknown types are ignored', async () => {
    const one = await socket('unknown');
    for (const frame of [[2], [4, 1, 1], [99], [200, 1, 1, 2, 3], [2, 0, 0]]) one.send(new Uint8Array(frame));
    await one.saved();
  });

  test('a malformed message closes that socket with a reason, and nobody else is disturbed', async () => {
    const doc = new Y.Doc();
    doc.getText('t').insert(0, 'hello');
    const good = Y.encodeStateAsUpdate(doc);
    const cases = {
      'an empty frame': [new Uint8Array(0), 1007],
      'half a message': [new Uint8Array([0]), 1007],
      'an unknown step': [new Uint8Array([0, 9, 0]), 1007],
      'a length beyond the end': [new Uint8Array([0, 2, 200, 1, 1]), 1007],
      'bytes after the end': [new Uint8Array([3, 0]), 1007],
      'an endless number': [new Uint8Array(20).fill(255), 1007],
      'an update that is none': [update(new Uint8Array([1, 2, 3, 4, 5])), 1007],
      'half an update': [update(good.subarray(0, good.length - 3)), 1007],
      'a state vector that is none': [step1(new Uint8Array([5, 1])), 1007],
      'text': ['hello', 1003],
    };
    for (const room of ['blog', 'malformed']) {
      const [bystander, witness] = [await join(room), await join(room)];
      bystander.awareness.setLocalState({ name: 'Bystander' });
      for (const [name, [frame, code]] of Object.entries(cases)) {
        const bad = await socket(room);
        bad.send(frame);
        const closed = await bad.end();
        assert.equal(closed.code, code, `${name}: ${closed.code} ${closed.reason}`);
        assert.ok(closed.reason.length > 5, `${name}: ${closed.reason}`);
        bystander.doc.getArray('table:posts').push([{ key: `by-${name}`, val: post('by'), ts: 1 }]);
      }
      await bystander.saved();
      const length = bystander.doc.getArray('table:posts').length;
      await until('the witness has all', () => witness.doc.getArray('table:posts').length === length);
      assert.ok(bystander.provider.wsconnected && witness.provider.wsconnected);
      assert.ok(witness.awareness.getStates().has(bystander.doc.clientID));
    }
  });

  function lengthOf(bytes) {
    let value = 0;
    let read = 0;
    do value += (bytes[read] & 127) * 2 ** (7 * read); while (bytes[read++] & 128);
    return { value, read };
  }
});

describe('free rooms', () => {
  test('text, maps and XML sync between clients', async () => {
    const [one, two] = [await join('free'), await join('free')];
    one.doc.getText('text').insert(0, 'Hello world');
    one.doc.getText('text').format(0, 5, { bold: true });
    one.doc.getMap('map').set('nested', new Y.Map([['list', Y.Array.from([1, 'two', null])]]));
    const paragraph = new Y.XmlElement('p');
    paragraph.insert(0, [new Y.XmlText('In a paragraph')]);
    paragraph.setAttribute('class', 'lead');
    one.doc.getXmlFragment('xml').insert(0, [paragraph]);
    await until('two has the XML', () => two.doc.getXmlFragment('xml').length === 1);
    assert.deepEqual(two.doc.getText('text').toDelta(), one.doc.getText('text').toDelta());
    assert.deepEqual(two.doc.getMap('map').toJSON(), { nested: { list: [1, 'two', null] } });
    assert.equal(two.doc.getXmlFragment('xml').toString(), '<p class="lead">In a paragraph</p>');

    two.doc.getText('text').delete(0, 6);
    await until('one has the deletion', () => one.doc.getText('text').toString() === 'world');
  });

  test('clients that edited the same text offline come to the same text', async () => {
    const clients = [await join('offline'), await join('offline'), await join('offline')];
    clients[0].doc.getText('t').insert(0, 'shared');
    await until('all have it', () => clients.every((c) => c.doc.getText('t').length === 6));
    for (const client of clients) client.goOffline();
    clients.forEach((client, n) => {
      for (let at = 0; at < 50; at += 1) client.doc.getText('t').insert((at * 7) % 6, `${n}`);
      client.doc.getText('t').delete(0, 3);
    });
    await Promise.all(clients.map((client) => client.goOnline()));
    await until('all agree', () => {
      const vectors = clients.map((c) => Buffer.from(Y.encodeStateVector(c.doc)).toString('hex'));
      const texts = clients.map((client) => client.doc.getText('t').toString());
      return new Set(texts).size === 1 && new Set(vectors.map((v) => v.length)).size === 1 &&
        texts[0].length > 100;
    });
  });

  test('GET gives the whole document as an update that applies', async () => {
    const client = await join('read');
    client.doc.getText('t').insert(0, 'Hello');
    await client.saved();
    const { status, headers, body } = await server.get('/rooms/read');
    assert.equal(status, 200);
    assert.equal(headers.get('content-type'), 'application/octet-stream');
    assert.equal(documentOf(body).getText('t').toString(), 'Hello');
  });

  test('POST applies an update, makes the room, and reaches those who are in it', async () => {
    const doc = new Y.Doc();
    doc.getText('t').insert(0, 'Posted');
    const octets = { 'content-type': 'application/octet-stream' };
    const made = await server.post('/rooms/made', Y.encodeStateAsUpdate(doc), octets);
    assert.equal(made.status, 200);
    assert.deepEqual(made.body, { ok: true });
    assert.equal(documentOf((await server.get('/rooms/made')).body).getText('t').toString(), 'Posted');

    const client = await join('made');
    const before = Y.encodeStateVector(doc);
    doc.getText('t').insert(6, ' again');
    await server.post('/rooms/made', Y.encodeStateAsUpdate(doc, before), octets);
    await until('the client has it', () => client.doc.getText('t').toString() === 'Posted again');
  });

  test('POST into the room of a workspace writes rows, and GET reads them', async () => {
    const doc = new Y.Doc();
    doc.getArray('table:posts').push([{ key: 'posted', val: post('posted'), ts: 1 }]);
    const octets = { 'content-type': 'application/octet-stream' };
    const { status } = await server.post('/rooms/blog', Y.encodeStateAsUpdate(doc), octets);
    assert.equal(status, 200);
    await untilRead('posted', ({ status }) => status === 200);
    const { body } = await server.get('/rooms/blog');
    assert.ok(documentOf(body).getArray('table:posts').toArray().some((e) => e?.key === 'posted'));
  });

  test('a room that does not exist is 404, and asking does not make it', async () => {
    for (let n = 0; n < 2; n += 1) {
      const { status, error } = await server.get('/rooms/nobody%20was%20here');
      assert.equal(status, 404);
      assert.deepEqual(error, { message: 'Room not found: nobody was here' });
    }
  });

  test('an empty or broken update is 400 and says so', async () => {
    const octets = { 'content-type': 'application/octet-stream' };
    const empty = await server.post('/rooms/broken', new Uint8Array(0), octets);
    assert.equal(empty.status, 400);
    assert.equal(empty.error.message, 'Empty update body');
    for (const bytes of [[1], [1, 2, 3], [255, 255, 255, 255, 15], [0, 0, 0]]) {
      const { status, error } = await server.post('/rooms/broken', new Uint8Array(bytes), octets);
      assert.equal(status, 400);
      assert.match(error.message, /^Invalid Yjs update/);
    }
    assert.equal((await server.get('/rooms/broken')).status, 404);
  });

  test('the list of rooms counts who is in them', async () => {
    await join('counted');
    const two = await join('counted');
    const count = async () => {
      const { rooms } = (await server.get('/rooms/')).body;
      return rooms.find((room) => room.id === 'counted')?.connections;
    };
    assert.equal(await count(), 2);
    assert.deepEqual(
      (await server.get('/rooms/')).body.rooms.find((room) => room.id === 'counted'),
      { id: 'counted', connections: 2 },
    );
    two.goOffline();
    await until('one has left', async () => (await count()) === 1);
  });

  test('the id of a room is one percent-encoded segment', async () => {
    for (const room of ['a b', 'a/b', 'ü✓🎉', '100%', 'a?b#c', '%2F']) {
      const [one, two] = [await join(room), await join(room)];
      one.doc.getText('t').insert(0, room);
      await until('two has it', () => two.doc.getText('t').toString() === room);
      const { rooms } = (await server.get('/rooms/')).body;
      assert.equal(rooms.find(({ id }) => id === room)?.connections, 2, room);
    }
  });
});

describe('rooms come and go', () => {
  test('a room that nobody is in is let go, and comes back with all that was in it', async () => {
    const brief = await Server.start({ args: ['--room-idle-timeout', '1'] });
    try {
      const writer = await Client.join(brief, 'brief');
      writer.doc.getText('t').insert(0, 'Remember');
      await writer.saved();
      writer.leave();
      await until('the room is let go', async () => {
        const { rooms } = (await brief.get('/rooms/')).body;
        return !rooms.some((room) => room.id === 'brief');
      });
      const { status, body } = await brief.get('/rooms/brief');
      assert.equal(status, 200);
      assert.equal(documentOf(body).getText('t').toString(), 'Remember');
      const reader = await Client.join(brief, 'brief');
      assert.equal(reader.doc.getText('t').toString(), 'Remember');
      reader.leave();
      // A workspace is in use as long as it is served.
      await brief.post(POSTS, { id: 'stays', title: 'Stays' });
      assert.equal((await brief.get(`${POSTS}/stays`)).status, 200);
    } finally {
      await brief.dispose();
    }
  });

  test('ten thousand rooms opened in turn leave memory flat', async () => {
    const many = await Server.start({ plugins: [], args: ['--room-idle-timeout', '0.05'] });
    try {
      const doc = new Y.Doc();
      doc.getText('t').insert(0, 'x'.repeat(2000));
      const bytes = Y.encodeStateAsUpdate(doc);
      const rooms = async (from, to) => {
        let next = from;
        const open = async () => {
          while (next < to) {
            const { status } = await many.post(`/rooms/many-${next++}`, bytes, {
              'content-type': 'application/octet-stream',
            });
            assert.equal(status, 200);
          }
        };
        await Promise.all(Array.from({ length: 16 }, open));
        await until('the rooms are let go', async () => (await many.get('/rooms/')).body.rooms.length === 0);
        return many.memory();
      };
      // What the allocator and the storage keep is there after the first.
      const before = await rooms(0, 2000);
      const after = await rooms(2000, 10_000);
      // 8,000 rooms that stayed would be 40 MB and more.
      assert.ok(after - before < 16e6, `${before} bytes after 2,000 rooms, ${after} after 10,000`);
      const { body } = await many.get('/rooms/many-7');
      assert.equal(documentOf(body).getText('t').length, 2000);
    } finally {
      await many.dispose();
    }
  });

  test('a stop closes every socket with 1001, keeps everything, and ends with success', async () => {
    const stopping = await Server.start();
    try {
      const sockets = await Promise.all(
        ['blog', 'free', 'free', 'other'].map((room) => Socket.open(stopping, room)),
      );
      const doc = new Y.Doc();
      doc.getText('t').insert(0, 'Last words');
      sockets[1].send(update(Y.encodeStateAsUpdate(doc)));
      await sockets[1].saved();
      const ends = Promise.all(sockets.map((socket) => socket.end()));
      await stopping.stop();
      for (const { code, reason } of await ends) assert.equal(code, 1001, reason);
      await stopping.start();
      const { body } = await stopping.get('/rooms/free');
      assert.equal(documentOf(body).getText('t').toString(), 'Last words');
    } finally {
      await stopping.dispose();
    }
  });

  test('clients find their way back after a restart, and bring what they wrote meanwhile', async () => {
    const restarted = await Server.start({ args: [] });
    try {
      const client = await Client.join(restarted, 'blog');
      client.table('posts').set('before', post('before'));
      await client.saved();
      client.goOffline();
      await restarted.stop();
      client.table('posts').set('meanwhile', post('meanwhile'));
      await restarted.start();
      // Port 0 means another port each time, which a real client would not see.
      client.provider.serverUrl = restarted.rooms;
      await client.goOnline();
      await until('REST has both', async () => {
        const { data } = await restarted.get(POSTS);
        return ['before', 'meanwhile'].every((id) => data.some((row) => row.id === id));
      });
      client.leave();
    } finally {
      await restarted.dispose();
    }
  });
});
