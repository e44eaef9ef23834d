// Presence with the providers as they come from npm, of each version that applications have.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import WebSocket from 'ws';
import { WebsocketProvider as First } from 'y-websocket-1';
import { WebsocketProvider as Second } from 'y-websocket-2';
import { WebsocketProvider as Third } from 'y-websocket';
import * as Y from 'yjs';

import { Server, until } from './server.mjs';

const VERSIONS = { '1.5': First, '2': Second, '3': Third };

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.dispose());

/** A client that counts how often its connection ends. */
function join(Provider, room) {
  const doc = new Y.Doc();
  const provider = new Provider(server.rooms, room, doc, {
    WebSocketPolyfill: WebSocket, disableBc: true, maxBackoffTime: 300,
  });
  const client = { doc, provider, ends: 0 };
  provider.on('status', ({ status }) => (client.ends += status === 'disconnected'));
  const leave = () => {
    provider.destroy();
    provider.awareness.destroy();
  };
  server.guests.add({ leave });
  return client;
}

for (const [version, Provider] of Object.entries(VERSIONS)) {
  test(`y-websocket ${version}: one who was cut off and returns is seen again within a second`, async () => {
    const room = `returns-${version}`;
    const [watcher, client] = [join(Provider, room), join(Provider, room)];
    const seen = () => watcher.provider.awareness.getStates().has(client.doc.clientID);
    await until('both are there', () => watcher.provider.synced && client.provider.synced);
    client.provider.awareness.setLocalState({ name: 'Client' });
    await until('it is seen', seen);
    for (let cut = 1; cut <= 3; cut += 1) {
      client.provider.ws.terminate();
      await until('it is gone', () => client.ends === cut && !seen());
      await until('it is connected', () => client.provider.wsconnected);
      await until('it is seen again', seen, 1000);
      await pause(200);
      assert.ok(seen(), 'and stays');
    }
    assert.equal(client.ends, 3, 'it was not cut off besides');
    client.provider.destroy();
    await until('it is gone for good', () => !seen());
    await pause(500);
    assert.ok(!seen(), 'no echo brings it back');
  });
}

test('one who is alone stays connected, whatever its presence and its version', async () => {
  const clients = [];
  for (const [version, Provider] of Object.entries(VERSIONS)) {
    for (const state of [null, { name: 'Alone' }]) {
      const client = join(Provider, `alone-${version}-${state?.name}`);
      clients.push(client);
      await until('it is there', () => client.provider.synced);
      client.provider.awareness.setLocalState(state);
      if (state) {
        client.provider.ws.terminate();
        await until('it is back', () => client.ends === 1 && client.provider.synced);
        client.ends = 0;
      }
    }
  }
  // The provider gives up when it heard nothing for 30 seconds, and looks every three.
  await pause(40_000);
  assert.deepEqual(clients.map(({ ends }) => ends), clients.map(() => 0));
});
