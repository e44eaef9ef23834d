// What becomes of the data when a disk takes nothing, and when files are not what they were.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, readdirSync, renameSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import * as Y from 'yjs';

import { Client, documentOf } from './clients.mjs';
import { Server, until, within } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';
const post = (id) => ({ id, title: id, content: 'x'.repeat(20_000) });

const OCTETS = { 'content-type': 'application/octet-stream' };

/** From now on no file of the server may grow beyond this many bytes: every write to its log fails. */
function limitFiles(server, bytes) {
  execFileSync('prlimit', ['--pid', `${server.child.pid}`, `--fsize=${bytes}:`]);
}

const dataOf = (server) => path.join(server.folder, 'data');
const file = (server, name) => path.join(dataOf(server), name);

/** The error with which a server does not start. */
async function refused(server) {
  const error = await server.start().then(
    () => assert.fail('the server started'),
    (error) => error,
  );
  return error.message;
}

/** A document with a text, as an update. */
function update(text) {
  const doc = new Y.Doc();
  doc.getText('t').insert(0, text);
  return Y.encodeStateAsUpdate(doc);
}

describe('a disk that takes nothing', () => {
  test('reads go on, writes are refused, sockets stay, and all recovers by itself', async (t) => {
    const server = await Server.start();
    t.after(() => server.dispose());
    const write = (text) => server.post('/rooms/texts', update(text), OCTETS);
    const texts = async () => documentOf((await server.get('/rooms/texts')).body).getText('t').toString();
    assert.equal((await write('before ')).status, 200);
    const client = await Client.join(server, 'diary');
    client.doc.getText('t').insert(0, 'saved');
    await client.saved();

    limitFiles(server, 1);
    const asked = Date.now();
    const unsaved = await write('unsaved ');
    const took = Date.now() - asked;
    assert.equal(unsaved.status, 503, unsaved.error?.message);
    assert.match(unsaved.error.message, /not on disk yet/);
    assert.ok(took > 2000 && took < 10_000, `${took} ms`);
    const refusal = await write('refused ');
    assert.equal(refusal.status, 503, refusal.error?.message);

    client.doc.getText('t').insert(0, 'un');
    let saved = false;
    const wait = client.saved().then(() => (saved = true));
    for (const route of [POSTS, '/rooms/', '/rooms/texts', '/rooms/diary', '/rooms/blog', '/plugins']) {
      assert.equal((await server.get(route)).status, 200, route);
    }
    const other = await Client.join(server, 'diary');
    assert.equal(other.doc.getText('t').toString(), 'unsaved');
    await pause(1000);
    assert.ok(client.provider.wsconnected);
    assert.ok(!saved, 'nothing is acknowledged that is not on disk');

    limitFiles(server, 'unlimited');
    await within('what was written to be saved', wait);
    await until('writes are taken again', async () => (await write('after ')).status === 200);
    await server.kill9();
    client.leave();
    other.leave();
    await server.start();
    assert.deepEqual((await texts()).trim().split(' ').sort(), ['after', 'before', 'unsaved']);
    const { body } = await server.get('/rooms/diary');
    assert.equal(documentOf(body).getText('t').toString(), 'unsaved');
  });

  test('a stop ends in time and says what is not on disk', async (t) => {
    const server = await Server.start();
    t.after(() => server.dispose());
    const client = await Client.join(server, 'diary');
    limitFiles(server, 1);
    client.doc.getText('t').insert(0, 'lost');
    await until('the failure is in the log', () => server.logs.includes('a write failed'));
    const asked = Date.now();
    await server.stop();
    client.leave();
    assert.ok(Date.now() - asked < 10_000);
    assert.match(server.logs.replaceAll(/\x1b\[[0-9;]*m/g, ''), /updates that are not on disk.*room=diary updates=1 bytes=\d+/);
  });

  test('a room that cannot be saved can be read after it would have left memory', async (t) => {
    const server = await Server.start({ args: ['--room-idle-timeout', '1'] });
    t.after(() => server.dispose());
    const client = await Client.join(server, 'diary');
    limitFiles(server, 1);
    client.doc.getText('t').insert(0, 'still here');
    await until('the failure is in the log', () => server.logs.includes('a write failed'));
    client.leave();
    await pause(3000);
    const { status, body } = await server.get('/rooms/diary');
    assert.equal(status, 200);
    assert.equal(documentOf(body).getText('t').toString(), 'still here');
    limitFiles(server, 'unlimited');
    await until('the room is let go', async () => {
      const { rooms } = (await server.get('/rooms/')).body;
      return !rooms.some((room) => room.id === 'diary');
    });
    assert.equal(documentOf((await server.get('/rooms/diary')).body).getText('t').toString(), 'still here');
  });
});

describe('files that are not what they were', () => {
  test('nothing is acknowledged into a file that was removed', async (t) => {
    const server = await Server.start();
    t.after(() => server.dispose());
    await server.post(POSTS, post('before'));
    renameSync(file(server, 'rooms.db'), file(server, 'aside.db'));
    const { status, error } = await server.post(POSTS, post('lost'));
    assert.equal(status, 503);
    assert.match(error.message, /rooms\.db was removed while the server runs/);
    assert.equal((await server.get(`${POSTS}/before`)).status, 200);
    renameSync(file(server, 'aside.db'), file(server, 'rooms.db'));
    await until('writes are taken again', async () => (await server.post(POSTS, post('after'))).status === 201);
  });

  test('a damaged room is an error with its name, and the others are served', async (t) => {
    const server = await Server.start();
    t.after(() => server.dispose());
    await server.post(POSTS, post('fine'));
    for (const room of ['first', 'second']) {
      const { status } = await server.post(`/rooms/${room}`, update(`the text of ${room}`));
      assert.equal(status, 200);
    }
    await server.stop();
    const bytes = readFileSync(file(server, 'rooms.db'));
    const at = bytes.indexOf('the text of first');
    assert.ok(at > 0);
    bytes[at] = 'T'.charCodeAt(0);
    writeFileSync(file(server, 'rooms.db'), bytes);
    await server.start();
    const damaged = await server.get('/rooms/first');
    assert.equal(damaged.status, 500);
    assert.match(damaged.error.message, /room first: .*damaged/);
    const { body } = await server.get('/rooms/second');
    assert.equal(documentOf(body).getText('t').toString(), 'the text of second');
    assert.equal((await server.get(`${POSTS}/fine`)).status, 200);
  });

  test('a database that is empty or cut stops the start, which says what to do', async (t) => {
    const server = await Server.start({ mode: 'hub', args: ['--auth', 'required'] });
    t.after(() => server.dispose());
    await server.stop();
    for (const name of ['rooms.db', 'members.db', 'ai.db', 'auth.db']) {
      const whole = readFileSync(file(server, name));
      for (const length of [0, 50, whole.length - 4096]) {
        truncateSync(file(server, name), length);
        const message = await refused(server);
        assert.match(message, new RegExp(`${name.replace('.', '\\.')}: .*(is empty|was cut)`), message);
        assert.match(message, /put a backup in its place/);
        assert.equal(statSync(file(server, name)).size, length, 'it is left alone');
        writeFileSync(file(server, name), whole);
      }
    }
    // Nobody has signed up, so nothing depends on them.
    for (const name of ['auth.secret', 'room-tokens.key']) truncateSync(file(server, name), 0);
    await server.start();
    for (const name of ['auth.secret', 'room-tokens.key']) {
      assert.ok(statSync(file(server, name)).size >= 32, name);
      assert.match(server.logs, new RegExp(`${name} was empty; a new one was made`));
    }
    const person = { name: 'A', email: 'a@example.com', password: 'correct horse' };
    const origin = { origin: server.url };
    assert.equal((await server.post('/auth/sign-up/email', person, origin)).status, 200);
    await server.stop();
    truncateSync(file(server, 'auth.secret'), 0);
    assert.match(await refused(server), /auth\.secret.*empty.*still needed/);
  });

  test('files are for this account alone, whatever the umask and whatever they were', async (t) => {
    const before = process.umask(0);
    t.after(() => process.umask(before));
    const server = await Server.start({ mode: 'hub', args: ['--auth', 'required'] });
    t.after(() => server.dispose());
    const names = () => readdirSync(dataOf(server)).filter((name) => name !== 'cache');
    const wide = () => names().filter((name) => statSync(file(server, name)).mode & 0o077);
    const wanted = ['ai.db', 'auth.db', 'auth.secret', 'lock', 'members.db', 'room-tokens.key', 'rooms.db', 'rooms.db-wal'];
    for (const name of wanted) assert.ok(names().includes(name), name);
    assert.deepEqual(wide(), []);
    await server.kill9();
    for (const name of names()) chmodSync(file(server, name), 0o644);
    await server.start();
    assert.deepEqual(wide(), []);
    assert.match(server.logs, /other accounts could open .*rooms\.db \(mode 0644\); its mode is 0600 now/);
  });

  test('a server waits for the one before it to end', async (t) => {
    const server = await Server.start();
    t.after(() => server.dispose());
    const next = new Server();
    t.after(() => next.dispose());
    next.arguments[next.arguments.indexOf('--data-dir') + 1] = dataOf(server);
    const starting = next.start();
    await until('it waits', () => next.logs.includes('another process uses the data folder'));
    await server.stop();
    await starting;
    assert.equal((await next.get('/rooms/')).status, 200);
  });
});
