/** The real server, by the harness of the end-to-end tests, behind a relay that can be cut. */

import { type Server as TcpServer, type Socket, connect as dial, createServer } from 'node:net';

import WebSocket from 'ws';

import { type ConnectOptions, type Migrations, type Workspace, type WorkspaceDefinition, type WorkspaceTypes, connect } from '../src/index.ts';
// @ts-expect-error It is JavaScript, for node's own test runner.
import * as harness from '../../../tests/e2e/server.mjs';

export const until: (what: string, condition: () => unknown) => Promise<void> = harness.until;

/** A server whose clients end with it. */
export class Server {
  readonly server: any;
  readonly #relay: TcpServer;
  readonly #sockets = new Set<Socket>();
  readonly #workspaces = new Set<{ destroy(): void }>();
  #isCut = false;
  url = '';

  private constructor(server: any) {
    this.server = server;
    this.#relay = createServer((near) => {
      if (this.#isCut) return near.destroy();
      const far = dial(this.server.port, '127.0.0.1');
      for (const [one, other] of [[near, far], [far, near]] as const) {
        this.#sockets.add(one);
        one.on('error', () => {});
        one.on('close', () => {
          this.#sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
  }

  static async start(options?: object): Promise<Server> {
    const one = new Server(await harness.Server.start(options));
    await new Promise<void>((resolve) => one.#relay.listen(0, '127.0.0.1', resolve));
    one.url = `http://127.0.0.1:${(one.#relay.address() as { port: number }).port}`;
    return one;
  }

  /** Cuts all connections, and lets none through until `mend`. */
  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#isCut = false;
  }

  /** How many connections there are. */
  get connections(): number {
    return this.#sockets.size / 2;
  }

  connect<T extends WorkspaceTypes, const M extends Migrations<T> = Record<never, never>>(
    definition: WorkspaceDefinition<T>,
    options: Partial<ConnectOptions<T, M>> = {},
  ): Workspace<T, M> {
    const workspace = connect<T, M>(definition, {
      url: this.url,
      WebSocket: WebSocket as unknown as typeof globalThis.WebSocket,
      ...options,
    });
    this.#workspaces.add(workspace);
    return workspace;
  }

  async dispose(): Promise<void> {
    for (const workspace of this.#workspaces) workspace.destroy();
    this.#relay.close();
    for (const socket of this.#sockets) socket.destroy();
    await this.server.dispose();
  }
}
