// Rules that hold, whoever writes: the shop, by REST, by actions, and by clients that were offline and return.

import assert from 'node:assert/strict';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import * as decoding from 'lib0/decoding';

import { Client, REFUSALS } from './clients.mjs';
import { Server, command, plugin, until } from './server.mjs';

for (const shop of ['shop', 'shop-js']) {
  describe(shop, () => {
    const W = `/workspaces/${shop}`;
    const T = `${W}/tables`;

    let server;
    before(async () => {
      server = await Server.start({ plugins: [shop] });
    });
    after(() => server?.dispose());

    /** Two clients, of which the first was offline while the second and REST went on. */
    async function two() {
      const [one, other] = [await Client.join(server, shop), await Client.join(server, shop)];
      one.goOffline();
      return [one, other];
    }

    async function refused(table) {
      return (await server.get(`${T}/${table}?refused`)).data;
    }

    /** All see the same entries, and those are the rows that REST shows. */
    async function agree(table, expected, ...clients) {
      const seen = (rows) => JSON.stringify(Object.fromEntries(Object.entries(rows).sort(([a], [b]) => (a < b ? -1 : 1))));
      const rows = (client) => Object.fromEntries(client.table(table).array.toArray().map(({ key, val }) => [key, val]));
      for (const client of clients) {
        await until(`${table} of a client: ${seen(expected)}`, () => seen(rows(client)) === seen(expected));
      }
      await until(`${table} by REST`, async () => {
        const { data } = await server.get(`${T}/${table}`);
        return seen(Object.fromEntries(data.map((row) => [row.id, row]))) === seen(expected);
      });
    }

    test('its scenario passes', async () => {
      const scenario = JSON.parse(readFileSync(new URL('../../examples/shop/scenario.json', import.meta.url), 'utf8'));
      const file = path.join(server.folder, 'scenario.json');
      writeFileSync(file, JSON.stringify({ ...scenario, plugin: plugin(shop) }));
      const { code, stdout, stderr } = await command(['test', file]);
      assert.equal(code, 0, stdout + stderr);
    });

    test('a row that breaks a rule is undone when its client returns, and what is good stays', async () => {
      const tea = { id: 'tea', sku: 'T-1', price: 450, stock: 3 };
      const mint = { id: 'mint', sku: 'M-1', price: 300, stock: 1 };
      const [one, other] = await two();
      const told = [];
      // It says on each connection that it wants to know; the other does not.
      one.provider.messageHandlers[REFUSALS] = (_encoder, decoder) => told.push(JSON.parse(decoding.readVarString(decoder)));
      one.provider.on('sync', (isSynced) => isSynced && one.provider.ws.send(new Uint8Array([REFUSALS])));
      one.table('products').set('copy', { id: 'copy', sku: 'T-1', price: 1, stock: 1 }, 1);
      one.table('products').set('debt', { id: 'debt', sku: 'D-1', price: 1, stock: -5 });
      one.table('products').set('mint', mint);
      assert.equal((await server.post(`${T}/products`, tea)).status, 201);
      await one.goOnline();
      await agree('products', { tea, mint }, one, other);
      const ids = (await refused('products')).map(({ id, issues }) => [id, issues[0].path[0]]).sort();
      assert.deepEqual(ids, [['copy', 'sku'], ['debt', 'stock']]);
      // What is refused from then on is told at once.
      one.table('products').set('again', { id: 'again', sku: 'T-1', price: 1, stock: 1 });
      await until('it is told', () => told.some(({ id }) => id === 'again'));
      const [{ table, reason }] = told.filter(({ id }) => id === 'again');
      assert.equal(table, 'products');
      assert.match(reason, /is already that of row "tea"/);
      const { refusal } = (await refused('products')).find(({ id }) => id === 'again');
      await server.post(`${T}/products?refused`, { discard: [refusal] });
      one.leave();
      other.leave();
    });

    test('an update that is refused gives way to what counted, with its own time', async () => {
      await server.post(`${T}/customers`, { id: 'ada', name: 'Ada' });
      const order = { id: '1', customer: 'ada', paid: true };
      assert.equal((await server.post(`${T}/orders`, order)).status, 201);
      const [one, other] = await two();
      const [{ ts }] = other.table('orders').entries('1');
      one.table('orders').set('1', { ...order, paid: false });
      await one.goOnline();
      await agree('orders', { 1: order }, one, other);
      assert.deepEqual(one.table('orders').entries('1'), [{ key: '1', val: order, ts }]);
      assert.equal((await refused('orders'))[0].reason, 'orders: not valid: paid: an order that is paid stays paid');
      // Nor is it deleted.
      one.table('orders').delete('1');
      await agree('orders', { 1: order }, one, other);
      assert.equal((await refused('orders')).length, 2);
      one.leave();
      other.leave();
    });

    test('a deletion is restricted, cascades, or leaves nothing behind', async () => {
      const [one, other] = await two();
      one.table('customers').delete('ada');
      await one.goOnline();
      await agree('customers', { ada: { id: 'ada', name: 'Ada' } }, one, other);
      one.table('orders').set('2', { id: '2', customer: 'ada', paid: false });
      one.table('lines').set('a', { id: 'a', order: '2', product: 'tea', count: 1 });
      await agree('lines', { a: { id: 'a', order: '2', product: 'tea', count: 1 } }, one, other);
      one.table('products').delete('tea');
      await agree('lines', { a: { id: 'a', order: '2', product: null, count: 1 } }, one, other);
      one.table('orders').delete('2');
      await agree('lines', {}, one, other);
      one.leave();
      other.leave();
    });

    test('what was refused is still there after a crash, and may be tried again or discarded', async () => {
      const before = await refused('products');
      assert.deepEqual(before.map(({ id }) => id).sort(), ['copy', 'debt']);
      await server.kill9();
      await server.start();
      assert.deepEqual(await refused('products'), before);
      const name = Object.fromEntries(before.map(({ id, refusal }) => [id, refusal]));
      // Tea is gone, so its SKU is free.
      const settled = await server.post(`${T}/products?refused`, { retry: [name.copy], discard: [name.debt] });
      assert.deepEqual(settled.data, { accepted: [name.copy], refused: [], discarded: [name.debt] });
      assert.deepEqual(await refused('products'), []);
      assert.equal((await server.get(`${T}/products/copy`)).data.price, 1);
    });
  });
}

test('a plugin that was built for contract 0.1.0 loads for good', async () => {
  const old = new Server({ plugins: [] });
  const file = new URL('../guests/released/blog-0.1.0.wasm', import.meta.url);
  cpSync(fileURLToPath(file), path.join(old.plugins, 'blog.wasm'));
  await old.start();
  try {
    const posts = '/workspaces/blog/tables/posts';
    assert.equal((await old.post(posts, { id: '1', title: 'Hello' })).status, 201);
    assert.equal((await old.post(posts, { id: '2', title: '' })).status, 422);
    assert.equal((await old.post('/workspaces/blog/actions/posts/publish', { id: 'none' })).status, 404);
    const published = await old.post('/workspaces/blog/actions/posts/publish', { id: '1' });
    assert.equal(published.data.published, true);
  } finally {
    await old.dispose();
  }
});
