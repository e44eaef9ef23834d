// WebSocket as RFC 6455 says, byte by byte: what a browser never sends, but a proxy, another library
// or somebody hostile may.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { after, before, test } from 'node:test';

import { Client, status, step1 } from './clients.mjs';
import { Server, until, within } from './server.mjs';

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

const MIB = 1024 * 1024;
/** The key and its answer from the RFC, 1.3. */
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.dispose());

/** A frame as a client sends it. */
function frame(opcode, payload = [], { fin = true, masked = true, reserved = 0, width } = {}) {
  const body = Buffer.from(payload);
  const size = width ?? (body.length < 126 ? 7 : body.length < 65_536 ? 16 : 64);
  const mask = masked ? randomBytes(4) : Buffer.alloc(0);
  const first = (fin ? 0x80 : 0) | (reserved << 4) | opcode;
  const bit = masked ? 0x80 : 0;
  let head;
  if (size === 7) head = Buffer.from([first, bit | body.length]);
  if (size === 16) {
    head = Buffer.from([first, bit | 126, 0, 0]);
    head.writeUInt16BE(body.length, 2);
  }
  if (size === 64) {
    head = Buffer.from([first, bit | 127, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.writeBigUInt64BE(BigInt(body.length), 2);
  }
  const sent = masked ? body.map((byte, at) => byte ^ mask[at & 3]) : body;
  return Buffer.concat([head, mask, sent]);
}

/** A connection on which every byte is ours. */
class Raw {
  #buffer = Buffer.alloc(0);

  /** @type {{ opcode: number, payload: Buffer }[]} */
  frames = [];

  static async open(room, { headers = {}, pipelined } = {}) {
    const raw = new Raw();
    raw.socket = net.connect(server.port, '127.0.0.1');
    raw.socket.setNoDelay(true);
    raw.socket.on('error', () => {});
    raw.ended = new Promise((resolve) => raw.socket.on('close', resolve));
    raw.socket.on('data', (bytes) => raw.#take(bytes));
    const all = {
      Host: 'localhost', Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': KEY, ...headers,
    };
    const lines = Object.entries(all).filter(([, value]) => value !== undefined);
    const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
    raw.write(Buffer.from(`GET /rooms/${room} HTTP/1.1\r\n${head}\r\n`), pipelined ?? Buffer.alloc(0));
    await until('the handshake is answered', () => raw.head);
    return raw;
  }

  write(...buffers) {
    this.socket.write(Buffer.concat(buffers));
  }

  #take(bytes) {
    this.#buffer = Buffer.concat([this.#buffer, bytes]);
    if (!this.head) {
      const end = this.#buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.#buffer.subarray(0, end).toString();
      this.#buffer = this.#buffer.subarray(end + 4);
    }
    if (!this.head.startsWith('HTTP/1.1 101 ')) return;
    while (this.#buffer.length >= 2) {
      let [length, at] = [this.#buffer[1] & 127, 2];
      assert.equal(this.#buffer[1] & 128, 0, 'a server does not mask');
      if (length === 126) [length, at] = [this.#buffer.readUInt16BE(2), 4];
      else if (length === 127) [length, at] = [Number(this.#buffer.readBigUInt64BE(2)), 10];
      if (this.#buffer.length < at + length) return;
      assert.equal(this.#buffer[0] & 0xf0, 0x80, 'a server sends whole messages without extensions');
      this.frames.push({ opcode: this.#buffer[0] & 15, payload: this.#buffer.subarray(at, at + length) });
      this.#buffer = this.#buffer.subarray(at + length);
    }
  }

  /** Waits for a frame with that opcode and payload. */
  got(opcode, payload) {
    const expected = Buffer.from(payload);
    return until(`a frame of opcode ${opcode} comes`, () =>
      this.frames.some((one) => one.opcode === opcode && one.payload.equals(expected)));
  }

  /** Waits for the close, and for the end of the connection. */
  async closed() {
    const close = await until('a close comes', () => this.frames.find(({ opcode }) => opcode === CLOSE));
    await within('the connection to end', this.ended);
    const { payload } = close;
    return {
      code: payload.length < 2 ? undefined : payload.readUInt16BE(0),
      reason: payload.subarray(2).toString(),
    };
  }
}

function closing(code, reason = '') {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  return Buffer.concat([payload, Buffer.from(reason)]);
}

/** A message that comes back, so that its arrival can be seen. */
function echo(size = 8) {
  return Buffer.from(status(randomBytes(size)));
}

test('the handshake is answered as the RFC says, and offers of extensions are not taken', async () => {
  const raw = await Raw.open('framing', {
    headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits', connection: undefined,
      Connection: 'keep-alive, Upgrade', Upgrade: 'WebSocket' },
  });
  assert.match(raw.head, /^HTTP\/1\.1 101 /);
  assert.match(raw.head, new RegExp(`sec-websocket-accept: ${ACCEPT.replaceAll('+', '\\+')}`, 'i'));
  assert.doesNotMatch(raw.head, /sec-websocket-extensions/i);
  raw.socket.destroy();
});

test('a handshake that is none is refused', async () => {
  const cases = [
    { 'Sec-WebSocket-Key': undefined }, { 'Sec-WebSocket-Version': '8' },
    { 'Sec-WebSocket-Version': undefined }, { Connection: 'close' }, { Upgrade: 'h2c' },
  ];
  for (const headers of cases) {
    const raw = await Raw.open('framing', { headers });
    assert.match(raw.head, /^HTTP\/1\.1 (4\d\d) /, JSON.stringify(headers));
    raw.socket.destroy();
  }
});

test('frames that come with the handshake are read', async () => {
  const message = echo();
  const raw = await Raw.open('framing', { pipelined: frame(BINARY, message) });
  await raw.got(BINARY, message);
  raw.socket.destroy();
});

test('messages of every size come whole, in each encoding of a length', async () => {
  const raw = await Raw.open('framing');
  for (const size of [0, 1, 100, 120, 122, 123, 124, 125, 126, 127, 1000, 65_529, 65_530, 65_535, 65_536, 300_000, 2 * MIB]) {
    const message = echo(size);
    raw.write(frame(BINARY, message));
    await raw.got(BINARY, message);
  }
  raw.socket.destroy();
});

test('a message in fragments is one message, with pings in between', async () => {
  const raw = await Raw.open('framing');
  const message = echo(50);
  const parts = [...message].map((byte, at) =>
    frame(at === 0 ? BINARY : CONTINUATION, [byte], { fin: at === message.length - 1 }));
  raw.write(...parts.flatMap((part, at) => [part, frame(PING, [at])]));
  await raw.got(BINARY, message);
  for (let at = 0; at < message.length; at += 1) await raw.got(PONG, [at]);

  const empty = echo(20);
  raw.write(
    frame(BINARY, [], { fin: false }), frame(CONTINUATION, empty, { fin: false }),
    frame(CONTINUATION, [], { fin: true }),
  );
  await raw.got(BINARY, empty);
  raw.socket.destroy();
});

test('frames may come byte by byte, and many at once', async () => {
  const raw = await Raw.open('framing');
  const slow = echo(200);
  for (const byte of frame(BINARY, slow)) raw.write(Buffer.from([byte]));
  await raw.got(BINARY, slow);
  const many = Array.from({ length: 1000 }, () => echo(10));
  raw.write(...many.map((message) => frame(BINARY, message)));
  for (const message of many) await raw.got(BINARY, message);
  const order = raw.frames.filter(({ payload }) => many.some((one) => one.equals(payload)));
  assert.ok(order.every(({ payload }, at) => payload.equals(many[at])), 'in order');
  raw.socket.destroy();
});

test('a ping is answered with its payload, and a pong nobody asked for is ignored', async () => {
  const raw = await Raw.open('framing');
  for (const size of [0, 1, 125]) {
    const payload = randomBytes(size);
    raw.write(frame(PING, payload), frame(PONG, payload));
    await raw.got(PONG, payload);
  }
  const message = echo();
  raw.write(frame(BINARY, message));
  await raw.got(BINARY, message);
  raw.socket.destroy();
});

test('a close is answered with a close, and then the connection ends', async () => {
  for (const [payload, code] of [
    [closing(1000), 1000], [closing(1001, 'going away'), 1001], [closing(3000, 'ü'), 3000], [closing(4999), 4999],
    [Buffer.alloc(0), undefined],
  ]) {
    const raw = await Raw.open('framing');
    const message = echo();
    raw.write(frame(BINARY, message), frame(CLOSE, payload));
    const closed = await raw.closed();
    assert.ok([code, 1000].includes(closed.code), `${code}: ${closed.code}`);
  }
});

test('nothing that comes after a close is read', async () => {
  const raw = await Raw.open('framing');
  const message = echo();
  raw.write(frame(CLOSE, closing(1000)), frame(BINARY, message));
  await raw.closed();
  assert.ok(!raw.frames.some(({ payload }) => payload.equals(message)));
});

test('what breaks the protocol ends that connection with the code for it', async () => {
  const message = echo();
  const cases = {
    'a frame that is not masked': [[frame(BINARY, message, { masked: false })], 1002],
    'reserved bits': [[frame(BINARY, message, { reserved: 4 })], 1002],
    'a reserved opcode for data': [[frame(3, message)], 1002],
    'a reserved opcode for control': [[frame(11)], 1002],
    'a continuation of nothing': [[frame(CONTINUATION, message)], 1002],
    'a message within a message': [[frame(BINARY, [102], { fin: false }), frame(BINARY, message)], 1002],
    'a ping in fragments': [[frame(PING, [1], { fin: false })], 1002],
    'a ping that is too long': [[frame(PING, Buffer.alloc(126))], 1002],
    'a close with half a code': [[frame(CLOSE, [3])], 1002],
    'a close with a code that is not to be sent': [[frame(CLOSE, closing(1005))], 1002],
    'a close with a code of nobody': [[frame(CLOSE, closing(999))], 1002],
    'a close whose reason is no text': [[frame(CLOSE, Buffer.from([3, 232, 0xff, 0xfe]))], 1007],
    'text': [[frame(TEXT, Buffer.from('hello'))], 1003],
    'a length with the highest bit': [[Buffer.from('82ffffffffffffffffff00000000', 'hex')], [1002, 1009]],
    'a frame that is too large': [[Buffer.from('82ff000000010000000000000000', 'hex')], 1009],
  };
  const honest = await Client.join(server, 'framing');
  for (const [what, [frames, expected]] of Object.entries(cases)) {
    const raw = await Raw.open('framing');
    raw.write(...frames);
    const { code } = await raw.closed();
    assert.ok([expected].flat().includes(code), `${what}: ${code}`);
  }
  await honest.saved();
  assert.ok(honest.provider.wsconnected);
  honest.leave();
});

test('fragments that are too large together are left out, and what follows is read', async () => {
  const raw = await Raw.open('framing');
  raw.write(
    frame(BINARY, Buffer.alloc(17 * MIB, 102), { fin: false }),
    frame(CONTINUATION, Buffer.alloc(17 * MIB)),
    frame(PING, Buffer.from('here')),
  );
  await raw.got(PONG, Buffer.from('here'));
  const why = raw.frames.find(({ opcode, payload }) => opcode === BINARY && payload[0] === 2);
  assert.match(why.payload.toString(), /larger than 33554432 bytes/);
  raw.socket.destroy();
});

test('fragments without an end are bounded, however many', async () => {
  const raw = await Raw.open('framing');
  let open = true;
  raw.ended.then(() => (open = false));
  raw.write(frame(BINARY, [102], { fin: false }));
  const fragments = Buffer.concat(Array.from({ length: 1000 }, () => frame(CONTINUATION, [], { fin: false })));
  for (let n = 0; n < 50 && open; n += 1) raw.write(fragments);
  // Sixteen times what a message may have is passed over, and then no more.
  const large = frame(CONTINUATION, Buffer.alloc(8 * MIB), { fin: false });
  for (let n = 0; n < 66 && open; n += 1) raw.socket.write(large);
  const { code } = await raw.closed();
  assert.equal(code, 1009);
});

test('one who closes its half of the connection is let go', async () => {
  const raw = await Raw.open('half');
  raw.write(frame(BINARY, Buffer.from(step1())));
  await until('it is answered', () => raw.frames.length >= 2);
  raw.socket.end();
  await within('the connection to end', raw.ended);
  await until('it has left the room', async () => {
    const { rooms } = (await server.get('/rooms/')).body;
    return !rooms.some(({ id, connections }) => id === 'half' && connections > 0);
  });
});

test('a close arrives also when much of what was sent is not read', async () => {
  const raw = await Raw.open('unread');
  const flood = Buffer.concat(Array.from({ length: 64 }, () => frame(BINARY, Buffer.alloc(60_000, 9))));
  // A reset would overtake the close, since the server has not read what comes after it.
  raw.write(frame(TEXT, 'no'), flood);
  assert.equal((await raw.closed()).code, 1003);
});
