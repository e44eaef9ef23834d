// What nobody honest sends. After each attack the server answers as before, and those who share the
// room of the attacker have noticed nothing.

import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';

import * as encoding from 'lib0/encoding';
import * as Y from 'yjs';

import { AUTH, Client, SYNC, Socket, documentOf, presence, status, step1, update } from './clients.mjs';
import { Server, random, until, within } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';
const MIB = 1024 * 1024;

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.dispose());

let turn = 0;

/** Asserts that the server and the honest clients of a room go on after an attack on it. */
async function undisturbed(room, attack) {
  const [one, two] = [await Client.join(server, room), await Client.join(server, room)];
  one.awareness.setLocalState({ name: 'One' });
  let disconnects = 0;
  for (const client of [one, two]) client.provider.on('connection-close', () => (disconnects += 1));
  turn += 1;
  await attack();
  const posts = one.table('posts');
  const key = `honest-${turn}`;
  posts.set(key, { id: key, title: 'Honest', content: '', views: turn, published: false, _v: 2 });
  await within('an honest write to be saved', one.saved());
  await until('the other honest client has it', () => two.table('posts').get(key)?.views === turn);
  await until('presence works', () => two.awareness.getStates().get(one.doc.clientID)?.name === 'One');
  assert.equal((await server.get('/')).status, 200);
  const written = await server.post(POSTS, { id: 'alive', title: 'Alive', views: turn });
  assert.ok(written.status < 300, JSON.stringify(written.body));
  if (room === 'blog') {
    await until('REST reads it', async () => (await server.get(`${POSTS}/${key}`)).data?.views === turn);
  }
  assert.equal(disconnects, 0, 'nobody else was disconnected');
  one.leave();
  two.leave();
}

/** Sends frames on a socket of their own; the server may close it, and must not do worse. */
async function throwAt(room, ...frames) {
  const socket = await Socket.open(server, room);
  for (const frame of frames) socket.send(frame);
  const survived = socket.saved().then(() => undefined, () => undefined);
  const closed = await within('an answer to hostile frames', Promise.race([survived, socket.closed]));
  socket.leave();
  return closed;
}

/** The same, for what must be left out, with a word about why; the socket goes on. */
async function leavesOut(room, why, frame) {
  const socket = await Socket.open(server, room);
  socket.send(frame);
  await until(`it hears ${why}`, () => socket.frames.some((heard) => heard[0] === AUTH && why.test(Buffer.from(heard))));
  assert.equal(socket.ws.readyState, 1, 'it is still open');
  socket.leave();
}

/** The same, for what must end with a close of that code. */
async function refuses(room, code, frame) {
  const socket = await Socket.open(server, room);
  socket.send(frame);
  const closed = await socket.end();
  assert.equal(closed.code, code, closed.reason);
  assert.ok(closed.reason.length > 5, closed.reason);
}

function bytes(hex) {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

/** Updates that crash a library which integrates them without looking. */
const CRASHERS = {
  'a skip that wraps the clock': bytes('010228feffffff0f0a03007800'),
  'a pending item without an end': bytes('01010500820900010161016200'),
  'a claim of 2^28 clients': bytes('ffffff7f000000'),
  'nested arrays, 10,000 deep': (() => {
    const any = new Uint8Array(20_000);
    for (let at = 0; at < any.length; at += 2) any.set([117, 1], at);
    return Uint8Array.from([1, 1, 5, 0, 8, 1, 1, 0x74, 1, ...any, 126, 0]);
  })(),
  'nested types, 20,000 deep': encoding.encode((encoder) => {
    const depth = 20_000;
    encoding.writeVarUint(encoder, 1);
    encoding.writeVarUint(encoder, depth);
    encoding.writeVarUint(encoder, 9);
    encoding.writeVarUint(encoder, 0);
    for (let at = 0; at < depth; at += 1) {
      encoding.writeUint8(encoder, 7);
      if (at === 0) {
        encoding.writeVarUint(encoder, 1);
        encoding.writeVarString(encoder, 'table:posts');
      } else {
        encoding.writeVarUint(encoder, 0);
        encoding.writeVarUint(encoder, 9);
        encoding.writeVarUint(encoder, at - 1);
      }
      encoding.writeVarUint(encoder, 0);
    }
    encoding.writeVarUint(encoder, 0);
  }),
  'a deletion of 2^31 structs': bytes('000105010 0ffffffff07'.replace(' ', '')),
  'a struct of 2^53 items': bytes('0101050000ffffffffffffff0f00'),
};

for (const room of ['blog', 'free']) {
  test(`crafted updates harm nobody in the room ${room}`, async () => {
    // Entries by client 40, which one of them needs.
    const doc = new Y.Doc();
    doc.clientID = 40;
    for (let n = 0; n < 3; n += 1) doc.getArray('table:posts').push([{ key: `f-${n}`, val: {}, ts: n }]);
    await throwAt(room, update(Y.encodeStateAsUpdate(doc)));
    for (const [name, crasher] of Object.entries(CRASHERS)) {
      await undisturbed(room, async () => {
        await throwAt(room, update(crasher));
        await throwAt(room, update(crasher), update(crasher), step1());
        const octets = { 'content-type': 'application/octet-stream' };
        const { status } = await server.post(`/rooms/${room}`, crasher, octets);
        assert.ok([200, 400, 413, 507].includes(status), `${name}: ${status}`);
        assert.equal((await server.get(`/rooms/${room}`)).status, 200, name);
      });
    }
  });

  test(`mutated updates harm nobody in the room ${room}`, async (t) => {
    const seed = Number(process.env.HOSTILE_SEED ?? Math.floor(Math.random() * 2 ** 31));
    t.diagnostic(`HOSTILE_SEED=${seed}`);
    const chance = random(seed);
    const doc = new Y.Doc();
    doc.getArray('table:posts').push([{ key: 'm', val: { nested: [1, 'two', null, 2.5] }, ts: 1 }]);
    doc.getText('t').insert(0, 'some text');
    doc.getText('t').delete(2, 3);
    doc.getMap('m').set('k', new Y.XmlElement('p'));
    const honest = update(Y.encodeStateAsUpdate(doc));
    await undisturbed(room, async () => {
      for (let n = 0; n < 300; n += 1) {
        const mutated = Uint8Array.from(honest);
        for (let flips = 1 + Math.floor(chance() * 3); flips > 0; flips -= 1) {
          mutated[1 + Math.floor(chance() * (mutated.length - 1))] = Math.floor(chance() * 256);
        }
        await throwAt(room, mutated.subarray(0, chance() < 0.2 ? Math.floor(chance() * mutated.length) : undefined));
      }
    });
  });

  test(`thousands of presence states harm nobody in the room ${room}`, async () => {
    await undisturbed(room, async () => {
      const many = Array.from({ length: 20_000 }, (_, n) => [n + 1, 1, { n }]);
      await leavesOut(room, /4096 awareness states/, presence(many));
    });
    await undisturbed(room, async () => {
      await leavesOut(room, /65536 is the limit/, presence([[30_000, 1, 'x'.repeat(MIB)]]));
      await refuses(room, 1007, presence([[1, 2 ** 53 - 1, {}]]));
      // One state of client 1, `{oop`.
      await refuses(room, 1007, Uint8Array.from([1, 8, 1, 1, 1, 4, 0x7b, 0x6f, 0x6f, 0x70]));
    });
  });
}

test('a frame beyond the limit is left out, and its socket goes on', async () => {
  await undisturbed('blog', async () => {
    await leavesOut('blog', /larger than 33554432 bytes/, new Uint8Array(33 * MIB));
  });
});

test('a claim of a huge frame costs nothing, and half a frame holds nobody up', async () => {
  await undisturbed('blog', async () => {
    const upgrade =
      'GET /rooms/blog HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
    // Masked binary frames: one that claims 2^62 bytes, one that ends in its header, one in its body.
    const starts = ['82ff4000000000000000', '82', '82ff', '82fe01', '82850102', '828501020304aa'];
    const sockets = [];
    for (const start of [...starts, ...starts, ...starts]) {
      const socket = net.connect(server.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.on('data', () => {});
      socket.write(upgrade);
      socket.write(Buffer.from(start, 'hex'));
      sockets.push(socket);
    }
    await until('they are in the room', async () => {
      const { rooms } = (await server.get('/rooms/')).body;
      return rooms.find((room) => room.id === 'blog').connections >= 2 + 15;
    });
    const late = await Client.join(server, 'blog');
    late.leave();
    for (const socket of sockets) socket.destroy();
  });
});

test('requests that stop in the middle hold nobody up', async () => {
  await undisturbed('blog', async () => {
    const starts = [
      'G', 'GET / HTTP/1.1\r\nHost', `POST ${POSTS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{`,
      `POST ${POSTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`,
      'POST /rooms/blog HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx',
    ];
    const sockets = Array.from({ length: 200 }, (_, n) => {
      const socket = net.connect(server.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(starts[n % starts.length]);
      return socket;
    });
    assert.equal((await server.get(POSTS)).status, 200);
    for (const socket of sockets) socket.destroy();
  });
});

test('nonsense instead of HTTP is answered or cut off', async () => {
  await undisturbed('blog', async () => {
    for (const text of ['\0\0\0\0\r\n\r\n', 'GET\r\n\r\n', `GET /${'x'.repeat(200_000)} HTTP/1.1\r\n\r\n`,
      `GET / HTTP/1.1\r\n${'X-Y: z\r\n'.repeat(5000)}\r\n`, 'GET /rooms/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /rooms/a%00b HTTP/1.1\r\nHost: localhost\r\n\r\n']) {
      const socket = net.connect(server.port, '127.0.0.1');
      const ended = new Promise((resolve) => {
        socket.on('error', resolve);
        socket.on('close', resolve);
        socket.on('data', resolve);
      });
      socket.write(text);
      await within('an end to nonsense', ended);
      socket.destroy();
    }
  });
});

test('JSON that is nested deep is refused', async () => {
  for (const depth of [65, 1000, 100_000]) {
    for (const [open, shut] of [['[', ']'], ['{"a":', '}']]) {
      const body = `{"id":"deep","title":"x","content":${open.repeat(depth)}1${shut.repeat(depth)}}`;
      const { status } = await server.post(POSTS, body);
      assert.ok(status === 400 || status === 422 || status === 413, `${depth}: ${status}`);
    }
  }
  assert.equal((await server.get(`${POSTS}/deep`)).status, 404);
  assert.equal((await server.get(POSTS)).status, 200);
});

test('a body that claims to be huge is refused before it is read', async () => {
  const socket = net.connect(server.port, '127.0.0.1');
  const answer = new Promise((resolve) => socket.once('data', resolve));
  socket.on('error', () => {});
  socket.write(
    `POST ${POSTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
      'Content-Length: 100000000000\r\n\r\n{',
  );
  const text = String(await within('an answer', answer));
  assert.match(text, /^HTTP\/1\.1 413 /);
  socket.destroy();
});

test('an update that says it is too large is refused before it is sent', async () => {
  const socket = net.connect(server.port, '127.0.0.1');
  const answer = new Promise((resolve) => socket.once('data', resolve));
  socket.on('error', () => {});
  socket.write('POST /rooms/big HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000\r\n\r\n\0');
  assert.match(String(await within('an answer', answer)), /^HTTP\/1\.1 413 /);
  socket.destroy();
});

test('an update beyond the limit is 413', async () => {
  const octets = { 'content-type': 'application/octet-stream' };
  const { status, headers } = await server.post('/rooms/big', new Uint8Array(33 * MIB), octets);
  assert.equal(status, 413);
  // Else a client might send its next request on a connection that ends.
  assert.equal(headers.get('connection'), 'close');
  assert.equal((await server.get('/rooms/big')).status, 404);
});

test('ids of rooms have a limit', async () => {
  const long = 'x'.repeat(600);
  const octets = { 'content-type': 'application/octet-stream' };
  assert.equal((await server.post(`/rooms/${long}`, Y.encodeStateAsUpdate(new Y.Doc()), octets)).status, 400);
  const socket = new Socket(server, long);
  const { code } = await socket.end();
  assert.notEqual(code, 1000);
});

test('a client that never reads does not hold up the others', async () => {
  await undisturbed('blog', async () => {
    const deaf = await Socket.open(server, 'blog');
    const doc = documentOf((await server.get('/rooms/blog')).body);
    deaf.ws._socket.pause();
    const writer = await Client.join(server, 'blog');
    const content = 'x'.repeat(200_000);
    for (let n = 0; n < 60; n += 1) {
      const row = { id: 'flood', title: 'Flood', content: `${n}${content}`, views: n, published: false, _v: 2 };
      writer.table('posts').set('flood', row);
      await within('a write to be saved', writer.saved());
    }
    // Once it reads again, it gets all that it lacks.
    deaf.ws._socket.resume();
    await until('the deaf one has caught up', () => {
      for (const frame of deaf.frames.splice(0)) {
        // What it missed comes as a step 2, what is new as an update.
        if (frame[0] === SYNC && frame[1] !== 0) applyFrame(doc, frame);
      }
      const entries = doc.getArray('table:posts').toArray();
      return entries.some((entry) => entry?.key === 'flood' && entry.val.views === 59);
    });
    deaf.leave();
    writer.leave();
  });
});

function applyFrame(doc, frame) {
  let at = 2;
  while (frame[at] & 128) at += 1;
  Y.applyUpdate(doc, frame.subarray(at + 1));
}

test('a flood of small messages is taken as fast as it can be, and no faster', async () => {
  await undisturbed('flood', async () => {
    const flooding = await Socket.open(server, 'flood');
    for (let n = 0; n < 20_000; n += 1) flooding.send(step1());
    for (let n = 0; n < 5000; n += 1) flooding.send(status(new Uint8Array([n & 127])));
    await flooding.saved();
    flooding.leave();
  });
});

test('many rooms and many sockets are opened and left', async () => {
  await undisturbed('blog', async () => {
    const open = (n) => Socket.open(server, `many-${n}`);
    for (let batch = 0; batch < 10; batch += 1) {
      const sockets = await Promise.all(Array.from({ length: 100 }, (_, n) => open(batch * 100 + n)));
      for (const socket of sockets) socket.leave();
    }
    const together = await Promise.all(Array.from({ length: 200 }, () => Socket.open(server, 'crowd')));
    together[0].send(presence([[1, 1, { hello: true }]]));
    await together[199].frame(1);
    for (const socket of together) socket.leave();
    await until('all have left', async () => {
      const { rooms } = (await server.get('/rooms/')).body;
      return rooms.every((room) => room.id === 'blog' || room.connections === 0);
    });
  });
});

test('after all of this the server stops and starts with what honest clients wrote', async () => {
  const { data: before } = await server.get(POSTS);
  assert.ok(before.some((row) => row.id.startsWith('honest-')));
  await server.stop();
  await server.start();
  assert.deepEqual((await server.get(POSTS)).data, before);
  assert.doesNotMatch(server.logs, /panicked/);
});
