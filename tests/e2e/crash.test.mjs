// What was acknowledged is there after `kill -9`, at whatever moment it comes.
//
// Writers by REST and by WebSocket note for each key what they sent and what was acknowledged. After
// the kill, each key must hold what was acknowledged last, or something that was sent after it. The
// check is made before any client of the round before comes back, because a Yjs client brings what
// the server lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { Client, documentOf } from './clients.mjs';
import { Server, random } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';
const ROUNDS = Number(process.env.CRASH_ROUNDS ?? 24);
const SEED = Number(process.env.CRASH_SEED ?? Math.floor(Math.random() * 2 ** 31));

/** What a key may hold: the last acknowledged value, or one that was sent after it. */
class Ledger {
  #keys = new Map();
  acknowledged = 0;

  /** Notes that a value is on its way. Call what it returns when it is acknowledged. */
  sent(key, value) {
    const possible = this.#keys.get(key) ?? [{ value: undefined }];
    const write = { value };
    possible.push(write);
    this.#keys.set(key, possible);
    return () => {
      this.acknowledged += 1;
      possible.splice(0, possible.indexOf(write));
    };
  }

  /** Holds every key against what was found, and goes on from there. */
  check(find, where) {
    for (const [key, possible] of this.#keys) {
      const found = find(key);
      const values = possible.map((write) => write.value);
      assert.ok(
        values.includes(found),
        `${where}: ${key} is ${found}, and must be one of ${values.join(', ')}`,
      );
      this.#keys.set(key, [{ value: found }]);
    }
  }
}

test(`nothing acknowledged is lost in ${ROUNDS} crashes`, { timeout: 300_000 }, async (t) => {
  t.diagnostic(`CRASH_SEED=${SEED}`);
  const chance = random(SEED);
  const server = new Server();
  t.after(() => server.dispose());
  const [byRest, bySocket, inText] = [new Ledger(), new Ledger(), new Ledger()];
  let value = 0;
  /** Now and then enough to make the log outgrow its snapshot, so that crashes meet compaction. */
  const content = () => (chance() < 0.1 ? 'x'.repeat(20_000) : '');

  for (let round = 0; round < ROUNDS; round += 1) {
    await server.start();
    await check(round);
    const clients = await Promise.all(
      ['blog', 'blog', 'diary'].map((room) => Client.join(server, room)),
    );
    let alive = true;
    const writers = [
      ...[0, 1, 2, 3].map((n) => restWriter(`rest-${n}`)),
      ...[0, 1].map((n) => socketWriter(clients[n], `socket-${n}`)),
      textWriter(clients[2]),
    ];
    const moment = Math.floor(20 + chance() * 500);
    await pause(moment);
    // Before the process is gone, so that whatever fails from here on was not acknowledged.
    alive = false;
    await server.kill9();
    for (const client of clients) client.leave();
    await Promise.all(writers);

    async function restWriter(name) {
      while (alive) {
        const key = `${name}-${Math.floor(chance() * 5)}`;
        const deletes = chance() < 0.2;
        const next = deletes ? undefined : (value += 1);
        const done = byRest.sent(key, next);
        try {
          const { status } = deletes
            ? await server.delete(`${POSTS}/${key}`)
            : await server.post(POSTS, { id: key, title: name, views: next, content: content() });
          assert.ok([200, 201, 404].includes(status), `${status}`);
          done();
        } catch (error) {
          if (alive) throw error;
        }
      }
    }

    async function socketWriter(client, name) {
      const posts = client.table('posts');
      while (alive) {
        const acknowledgements = [];
        for (let n = 0; n < 3; n += 1) {
          const key = `${name}-${Math.floor(chance() * 5)}`;
          const views = (value += 1);
          acknowledgements.push(bySocket.sent(key, views));
          const row = { id: key, title: name, content: content(), views, published: false, _v: 2 };
          posts.set(key, row);
        }
        if (!(await savedOrGone(client))) return;
        for (const done of acknowledgements) done();
      }
    }

    async function textWriter(client) {
      const text = client.doc.getText('t');
      while (alive) {
        const length = text.length + 10;
        const done = inText.sent('length', length);
        text.insert(text.length, `${value}`.padStart(10, '.'));
        if (!(await savedOrGone(client))) return;
        done();
      }
    }

    /** True once the server said that everything is saved; false when it is gone. */
    function savedOrGone(client) {
      if (!client.provider.wsconnected) return false;
      const gone = new Promise((resolve) => client.provider.once('connection-close', () => resolve(false)));
      return Promise.race([client.saved().then(() => true), gone]);
    }
  }
  await server.start();
  await check(ROUNDS);
  await server.stop();
  // A clean stop keeps it all, too.
  await server.start();
  await check(ROUNDS + 1);
  const acknowledged = byRest.acknowledged + bySocket.acknowledged + inText.acknowledged;
  t.diagnostic(`${acknowledged} writes were acknowledged`);
  assert.ok(byRest.acknowledged > ROUNDS, `only ${byRest.acknowledged} by REST`);
  assert.ok(bySocket.acknowledged > ROUNDS, `only ${bySocket.acknowledged} by WebSocket`);
  assert.ok(inText.acknowledged > ROUNDS, `only ${inText.acknowledged} in a free room`);

  /** Compares REST, the whole documents and what a fresh client gets with what was acknowledged. */
  async function check(round) {
    const where = `before round ${round} (CRASH_SEED=${SEED})`;
    const { status, data: rows } = await server.get(POSTS);
    assert.equal(status, 200, where);
    const views = new Map(rows.map((row) => [row.id, row.views]));
    byRest.check((key) => views.get(key), where);
    bySocket.check((key) => views.get(key), where);
    for (const key of views.keys()) {
      assert.equal((await server.get(`${POSTS}/${key}`)).data.views, views.get(key), where);
    }
    const fresh = await Client.join(server, 'blog');
    const posts = fresh.table('posts');
    assert.equal(posts.array.length, rows.length, `${where}: one entry for each row`);
    for (const [key, expected] of views) assert.equal(posts.get(key).views, expected, where);
    fresh.leave();

    const diary = await server.get('/rooms/diary');
    if (diary.status === 404) {
      inText.check(() => undefined, where);
    } else {
      const { length } = documentOf(diary.body).getText('t').toString();
      inText.check(() => (length === 0 ? undefined : length), where);
    }
  }
});
