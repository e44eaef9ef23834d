// A provider of AI that is a stub: it answers with what a test gives it, byte for byte, in pieces
// cut at random, and keeps all that reached it.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { setImmediate as turn } from 'node:timers/promises';

import { WebSocketServer } from 'ws';

import { random } from './server.mjs';

/** A stub that listens. `answer(seen, response)` answers requests, `session(socket, seen)` WebSockets. */
export class Provider {
  static async start(answer, session) {
    const provider = new Provider();
    /** @type {{ method: string, url: string, headers: object, body: Buffer, left: Promise }[]} */
    provider.seen = [];
    provider.random = random(42);
    provider.server = createServer(async (request, response) => {
      const seen = provider.#record(request);
      seen.left = once(response, 'close');
      const pieces = [];
      try {
        for await (const piece of request) pieces.push(piece);
      } catch {
        return;
      }
      seen.body = Buffer.concat(pieces);
      await answer(seen, response, provider);
    });
    const sockets = new WebSocketServer({ noServer: true });
    provider.server.on('upgrade', (request, socket, head) => {
      const seen = provider.#record(request);
      if (!session) return socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n');
      sockets.handleUpgrade(request, socket, head, (client) => session(client, seen));
    });
    provider.server.listen(0, '127.0.0.1');
    await once(provider.server, 'listening');
    provider.url = `http://127.0.0.1:${provider.server.address().port}`;
    return provider;
  }

  #record({ method, url, headers, rawHeaders }) {
    const seen = { method, url, headers, rawHeaders, body: Buffer.alloc(0) };
    this.seen.push(seen);
    return seen;
  }

  get last() {
    return this.seen.at(-1);
  }

  /** Sends a whole answer in pieces cut at random. */
  async send(response, status, headers, body) {
    const bytes = Buffer.from(body);
    response.writeHead(status, headers);
    let at = 0;
    while (at < bytes.length) {
      const most = bytes.length > 4096 ? bytes.length : 40;
      const end = at + 1 + Math.floor(this.random() * most);
      response.write(bytes.subarray(at, end));
      at = end;
      await turn();
    }
    response.end();
  }

  /** Sends JSON. */
  json(response, value, status = 200, headers = {}) {
    const all = { 'content-type': 'application/json', ...headers };
    return this.send(response, status, all, JSON.stringify(value));
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** Server-sent events: of objects, named by their `type` where they have one. */
export function events(list, end = '') {
  const event = (data) => `${data.type ? `event: ${data.type}\n` : ''}data: ${JSON.stringify(data)}\n\n`;
  return list.map(event).join('') + end;
}
