/**
 * Requests to other servers, for plugins whose manifest names them under `[http]`, in actions.
 *
 * An action has five seconds, which the other server may take for itself: let the manifest say more, as
 * `action = "30s"` under `[limits]`. A mutation may be run again, and then sends again.
 */

import * as host from 'epicenter:workspace/http@0.2.0';

import { Failed, ask } from './errors.ts';
import { decode, encode } from './utf8.ts';

/** What is sent, beside the URL. */
export interface RequestOptions {
  /** `POST` where something is sent, and otherwise `GET`, unless said. */
  method?: string;
  headers?: Readonly<Record<string, string>>;
  /** A text, sent as UTF-8, or bytes. */
  body?: string | Uint8Array;
  /** Instead of a body: a value, sent as JSON. */
  json?: unknown;
}

/** What came back, whatever its status says. */
export interface Response {
  readonly status: number;
  /** Whether the status is of the two hundreds. */
  readonly ok: boolean;
  /** By their names in lower case. Those of one name are joined by `, `. */
  readonly headers: Readonly<Record<string, string>>;
  bytes(): Uint8Array;
  /** What came, read as UTF-8. */
  text(): string;
  /** What came, read as JSON. Throws `Failed` when it is none. */
  json(): any;
}

/**
 * Sends a request to an absolute URL, and waits for the whole answer. A redirect is an answer, and not
 * followed. Throws `Denied` for a host that was not granted, `Invalid` for what is no request, `Failed`
 * when there is no answer.
 */
export function request(url: string, options: RequestOptions = {}): Response {
  const { json } = options;
  const body = json === undefined ? options.body : JSON.stringify(json);
  const method = options.method ?? (body === undefined ? 'GET' : 'POST');
  const headers = Object.entries(options.headers ?? {}).map(([name, value]) => ({ name, value: String(value) }));
  if (json !== undefined && !headers.some(({ name }) => name.toLowerCase() === 'content-type')) {
    headers.push({ name: 'content-type', value: 'application/json' });
  }
  const bytes = typeof body === 'string' ? encode(body) : (body ?? new Uint8Array());
  return new Answer(method, url, ask(() => host.send({ method, url, headers, body: bytes })));
}

class Answer implements Response {
  readonly status: number;
  // Without a prototype, so that no name is there but those that came.
  readonly headers: Record<string, string> = Object.create(null);
  readonly #asked: string;
  readonly #body: Uint8Array;

  constructor(method: string, url: string, { status, headers, body }: host.Response) {
    this.#asked = `${method} ${url}`;
    this.status = status;
    for (const { name, value } of headers) {
      const before = this.headers[name];
      this.headers[name] = before === undefined ? value : `${before}, ${value}`;
    }
    this.#body = body instanceof Uint8Array ? body : Uint8Array.from(body);
  }

  get ok(): boolean {
    return this.status >= 200 && this.status < 300;
  }

  bytes(): Uint8Array {
    return this.#body;
  }

  text(): string {
    return decode(this.#body);
  }

  json(): any {
    try {
      return JSON.parse(this.text());
    } catch (error) {
      throw new Failed(`the answer to ${this.#asked} (${this.status}) is not JSON: ${(error as Error).message}`);
    }
  }
}
