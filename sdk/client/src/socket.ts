import type { Transport } from './connection.ts';

/** A token, or where to get one each time it is wanted: tokens end. */
export type TokenSource = string | (() => string | undefined | Promise<string | undefined>);

/** Where a room is, and how one gets in. */
export interface SocketOptions {
  /** `wss://host/rooms/blog`, without a query. */
  readonly url: string;
  readonly token?: TokenSource | undefined;
  /** Parameters of the query beside the token. */
  readonly params?: Readonly<Record<string, string | undefined>>;
  /** Where there is no global one. */
  readonly WebSocket?: typeof globalThis.WebSocket | undefined;
}

/** Frames over a WebSocket of the browser, or one that is like it. */
export function socketTransport({ url, token, params = {}, WebSocket = globalThis.WebSocket }: SocketOptions): Transport {
  if (WebSocket === undefined) {
    throw new TypeError("this runtime has no WebSocket; pass one to connect: { WebSocket } from 'ws'");
  }
  return (events) => {
    let socket: WebSocket | undefined;
    let closed = false;
    const end = (code: number, reason: string) => {
      if (closed) return;
      closed = true;
      events.closed(code, reason);
    };
    const open = async () => {
      const value = typeof token === 'function' ? await token() : token;
      if (closed) return;
      const query = new URLSearchParams();
      for (const [name, one] of Object.entries({ ...params, token: value })) {
        if (one !== undefined) query.set(name, one);
      }
      const opened = new WebSocket(query.size > 0 ? `${url}?${query}` : url);
      socket = opened;
      opened.binaryType = 'arraybuffer';
      opened.onopen = () => {
        events.open({
          send: (frame) => {
            if (opened.readyState === opened.OPEN) opened.send(frame as Uint8Array<ArrayBuffer>);
          },
          close: () => opened.close(),
        });
      };
      opened.onmessage = ({ data }) => {
        if (data instanceof ArrayBuffer) events.frame(new Uint8Array(data));
      };
      opened.onclose = ({ code, reason }) => end(code, reason);
      opened.onerror = () => {};
    };
    open().catch((error: unknown) => end(1006, `the token cannot be had: ${String(error)}`));
    return {
      close() {
        closed = true;
        socket?.close();
      },
    };
  };
}
