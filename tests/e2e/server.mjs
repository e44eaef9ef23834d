// The server under test: the real binary, with a data folder and a plugins folder of its own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
/** The binary under test. */
export const BINARY = process.env.HOST_BIN ?? path.join(REPOSITORY, 'target/debug/host');

/** Where `cargo xtask guests` leaves the components that only tests use. */
const TEST_GUESTS = process.env.HOST_TEST_GUESTS ?? path.join(REPOSITORY, 'target/guests');

/** How long anything may take before a test says that it does not happen. A busy machine is slow. */
const PATIENCE = 30_000;

const running = new Set();
process.on('exit', () => {
  for (const server of running) server.child.kill('SIGKILL');
});

/** The file of a plugin: the blog as it is shipped, or a guest that only tests use. */
export function plugin(name) {
  return name === 'blog'
    ? path.join(REPOSITORY, 'plugins/blog.wasm')
    : path.join(TEST_GUESTS, `${name}.wasm`);
}

/** Waits until `condition` gives something true, and returns that. */
export async function until(what, condition, patience = PATIENCE) {
  const deadline = Date.now() + patience;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > deadline) {
      const logs = [...running].map((server) => server.logs.slice(-4000)).join('\n');
      throw new Error(`waited ${patience / 1000} s in vain until ${what}\n${logs}`);
    }
    await pause(10);
  }
}

/** Waits for a promise, but not for ever. */
export async function within(what, promise, patience = PATIENCE) {
  const gaveUp = new AbortController();
  const late = pause(patience, undefined, { signal: gaveUp.signal }).then(() => {
    const logs = [...running].map((server) => server.logs.slice(-4000)).join('\n');
    throw new Error(`waited ${patience / 1000} s in vain for ${what}\n${logs}`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    gaveUp.abort();
  }
}

/** A server in folders of its own, which are removed with it. */
export class Server {
  /**
   * @param {{
   *   plugins?: string[], args?: string[], mode?: string, env?: Record<string, string>, dev?: string[]
   * }} options `dev` are folders of projects that the server builds
   */
  constructor({ plugins = ['blog'], args = [], mode = 'local', env = {}, dev } = {}) {
    this.folder = mkdtempSync(path.join(tmpdir(), 'host-e2e-'));
    this.plugins = path.join(this.folder, 'plugins');
    mkdirSync(this.plugins);
    for (const name of plugins) {
      cpSync(plugin(name), path.join(this.plugins, `${name}.wasm`));
    }
    this.arguments = dev ? ['dev', ...dev] : ['--mode', mode];
    this.arguments.push('--port', '0', '--plugins', this.plugins);
    this.arguments.push('--data-dir', path.join(this.folder, 'data'), ...args);
    this.env = env;
    this.logs = '';
    /** Those who are connected; they leave when the server is disposed of. */
    this.guests = new Set();
  }

  static async start(options) {
    const server = new Server(options);
    await server.start();
    return server;
  }

  /** Starts the binary. Returns once it says where it listens. */
  async start() {
    const child = spawn(BINARY, this.arguments, {
      cwd: this.folder,
      env: { ...process.env, PORT: undefined, ...this.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    running.add(this);
    this.exited = new Promise((resolve, reject) => {
      child.on('error', (error) => reject(new Error(`${BINARY} does not start: ${error.message}`)));
      child.on('exit', (code, signal) => {
        running.delete(this);
        resolve({ code, signal });
      });
    });
    this.exited.catch(() => {});
    child.stderr.on('data', (text) => this.#log(text));
    const listening = new Promise((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        this.#log(`${line}\n`);
        const [, port] = /http:\/\/(?:127\.0\.0\.1|0\.0\.0\.0):(\d+)/.exec(line) ?? [];
        if (port) resolve(Number(port));
      });
    });
    const early = this.exited.then(({ code, signal }) => {
      throw new Error(`the server ended with ${code ?? signal} before it listened\n${this.logs}`);
    });
    early.catch(() => {});
    this.port = await within('the server to listen', Promise.race([listening, early]));
    this.url = `http://127.0.0.1:${this.port}`;
    this.rooms = `ws://127.0.0.1:${this.port}/rooms`;
  }

  #log(text) {
    this.logs += text;
    if (process.env.HOST_E2E_LOGS) process.stderr.write(text);
  }

  /** Stops the server as a service manager does. It must end by itself, cleanly. */
  async stop() {
    this.child.kill('SIGTERM');
    const { code, signal } = await within('the server to stop', this.exited);
    assert.equal(code, 0, `the server stopped with ${code ?? signal}\n${this.logs}`);
  }

  /** Bytes of memory that the process holds (Linux). */
  memory() {
    const [, kib] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.child.pid}/status`, 'utf8'));
    return Number(kib) * 1024;
  }

  /** Ends the process without a warning. */
  async kill9() {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  /** Stops the server if it still runs, and removes its folders. */
  async dispose() {
    for (const guest of this.guests) guest.leave();
    try {
      if (running.has(this)) await this.stop();
    } finally {
      this.child?.kill('SIGKILL');
      rmSync(this.folder, { recursive: true, force: true });
    }
  }

  /** The path of a file in the plugins folder. */
  file(name) {
    return path.join(this.plugins, name);
  }

  /**
   * One request. A body that is no string and no bytes is sent as JSON.
   *
   * @returns {Promise<{ status: number, headers: Headers, body: any, data: any, error: any }>}
   */
  async request(method, route, body, headers = {}) {
    const raw = body === undefined || typeof body === 'string' || body instanceof Uint8Array;
    const response = await fetch(this.url + route, {
      method,
      headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
      body: raw ? body : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
    const kind = response.headers.get('content-type') ?? '';
    const answer = kind.startsWith('application/json')
      ? await response.json()
      : new Uint8Array(await response.arrayBuffer());
    const { data, error } = answer ?? {};
    return { status: response.status, headers: response.headers, body: answer, data, error };
  }

  get(route) {
    return this.request('GET', route);
  }

  post(route, body, headers) {
    return this.request('POST', route, body, headers);
  }

  put(route, body, headers) {
    return this.request('PUT', route, body, headers);
  }

  patch(route, body, headers) {
    return this.request('PATCH', route, body, headers);
  }

  delete(route) {
    return this.request('DELETE', route);
  }
}

/** The bytes of the shipped blog with another text for its rule, so that versions can be told apart. */
export function blogThatSays(text) {
  const original = Buffer.from('must not be empty');
  const replacement = Buffer.from(text);
  assert.equal(replacement.length, original.length, `${text} has another length`);
  const bytes = readFileSync(plugin('blog'));
  const at = bytes.indexOf(original);
  assert.ok(at > 0, 'blog.wasm does not have the text of its rule');
  assert.equal(bytes.indexOf(original, at + 1), -1, 'blog.wasm has the text of its rule twice');
  replacement.copy(bytes, at);
  return bytes;
}

/** A blog in which one package has another name, so that two depend on each other; parsers go round and round. */
export function circularBlog() {
  const bytes = readFileSync(plugin('blog'));
  const at = bytes.lastIndexOf('epicenter:workspace/ai@');
  assert.ok(at > 0, 'blog.wasm does not name the interface');
  bytes[at + 1] ^= 8;
  return bytes;
}

/**
 * Runs a command of the binary, and waits for its end.
 *
 * @param {string[]} args
 * @param {{
 *   cwd?: string, input?: string | Uint8Array, env?: Record<string, string>, patience?: number
 * }} options
 * @returns {Promise<{ code: number, stdout: string, bytes: Buffer, stderr: string, json: any }>}
 */
export async function command(args, { cwd, input = '', env = {}, patience = 4 * PATIENCE } = {}) {
  const child = spawn(BINARY, args, { cwd, env: { ...process.env, PORT: undefined, ...env } });
  const out = [];
  let stderr = '';
  child.stdout.on('data', (bytes) => out.push(bytes));
  child.stderr.on('data', (text) => (stderr += text));
  // One that has seen enough does not read the rest.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const end = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(code ?? signal));
  });
  const code = await within(`\`host ${args.join(' ')}\` to end`, end, patience);
  const bytes = Buffer.concat(out);
  const stdout = bytes.toString();
  return {
    code,
    stdout,
    bytes,
    stderr,
    get json() {
      assert.equal(code, 0, `host ${args.join(' ')}: ${stderr}`);
      return JSON.parse(stdout);
    },
  };
}

/** Numbers that look random and are the same for the same seed (mulberry32). */
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
