// A PostgreSQL server for tests: a cluster in a temporary folder, which goes with it.

import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import pg from 'pg';

/** Where Debian keeps the programs of each version. */
const DEBIAN = '/usr/lib/postgresql';

/** The folder of `initdb` and `postgres`. */
function programs() {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => b - a) : [];
  const folders = versions.map((version) => path.join(DEBIAN, version, 'bin'));
  folders.push(...(process.env.PATH ?? '').split(path.delimiter));
  const found = folders.find((folder) => existsSync(path.join(folder, 'initdb')));
  if (!found) throw new Error('PostgreSQL is missing; on Debian: apt-get install postgresql');
  return found;
}

/** PostgreSQL does not run as root, so root lends it another user. */
function user() {
  if (process.getuid() !== 0) return {};
  const id = (flag) => Number(spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' }).stdout);
  return { uid: id('-u'), gid: id('-g') };
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Postgres {
  /**
   * Starts a cluster. Returns once it takes connections. With a certificate it speaks TLS, and only
   * that to the user `secure`.
   */
  static async start({ tls } = {}) {
    const postgres = new Postgres();
    const bin = programs();
    const as = user();
    postgres.folder = mkdtempSync(path.join(tmpdir(), 'host-postgres-'));
    if (as.uid !== undefined) chownSync(postgres.folder, as.uid, as.gid);
    const data = path.join(postgres.folder, 'data');
    const made = spawnSync(
      path.join(bin, 'initdb'),
      ['--pgdata', data, '--username', 'test', '--auth', 'trust', '--no-sync', '--encoding', 'UTF8'],
      { ...as, cwd: postgres.folder, encoding: 'utf8' },
    );
    if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr ?? made.error}`);
    const port = await freePort();
    const options = ['-D', data, '-k', postgres.folder, '-h', '127.0.0.1', '-p', String(port), '-F'];
    if (tls) {
      for (const [setting, file] of [['ssl_cert_file', tls.cert], ['ssl_key_file', tls.key]]) {
        const own = path.join(data, setting);
        copyFileSync(file, own);
        chmodSync(own, 0o600);
        if (as.uid !== undefined) chownSync(own, as.uid, as.gid);
        options.push('-c', `${setting}=${own}`);
      }
      options.push('-c', 'ssl=on');
      writeFileSync(path.join(data, 'pg_hba.conf'), 'hostssl all secure all trust\nhost all test all trust\n');
    }
    postgres.child = spawn(path.join(bin, 'postgres'), options, {
      ...as,
      cwd: postgres.folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    postgres.logs = '';
    postgres.child.stderr.on('data', (text) => (postgres.logs += text));
    process.on('exit', () => postgres.child.kill('SIGQUIT'));
    postgres.url = `postgres://test@127.0.0.1:${port}/postgres`;
    const deadline = Date.now() + 60_000;
    for (;;) {
      const client = new pg.Client({ connectionString: postgres.url });
      try {
        await client.connect();
        await client.end();
        return postgres;
      } catch (error) {
        if (Date.now() > deadline || postgres.child.exitCode !== null) {
          throw new Error(`PostgreSQL does not start: ${error.message}\n${postgres.logs}`);
        }
        await pause(50);
      }
    }
  }

  /** A new database in the cluster. */
  async database(name) {
    const client = new pg.Client({ connectionString: this.url });
    await client.connect();
    await client.query(`CREATE DATABASE "${name}"`);
    await client.end();
    return this.url.replace(/\/postgres$/, `/${name}`);
  }

  /** Ends the cluster and removes its folder. */
  async dispose() {
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGINT');
    await ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}
