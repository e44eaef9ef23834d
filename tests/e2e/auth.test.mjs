// Accounts: the official client of Better Auth, and its own server on the same databases.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';

import { betterAuth } from 'better-auth';
import { createAuthClient } from 'better-auth/client';
import { getMigrations } from 'better-auth/db/migration';
import { bearer } from 'better-auth/plugins';
import { SqliteDialect } from 'kysely';
import wasmSqlite from 'node-sqlite3-wasm';
import pg from 'pg';

import { Postgres } from './postgres.mjs';
import { BINARY, Server, until } from './server.mjs';

const PASSWORD = 'correct horse battery staple';
const SECRET = 'one secret for both servers, long enough';

/** A hub, and what it takes to be a browser or a device of it. */
async function hub({ args = [], env = {} } = {}) {
  return Server.start({ mode: 'hub', plugins: [], args, env });
}

/**
 * The official client. It keeps cookies as a browser does, because node does not, or keeps the
 * token and sends it as a bearer.
 */
function client(server, { keep = 'cookies', agent } = {}) {
  const kept = { cookies: new Map(), token: undefined };
  const auth = createAuthClient({
    baseURL: server.url,
    basePath: '/auth',
    fetchOptions: {
      auth: keep === 'token' ? { type: 'Bearer', token: () => kept.token } : undefined,
      onRequest(context) {
        // Node says that it fetches, as a browser does, but not for which page.
        context.headers.set('origin', server.url);
        if (agent) context.headers.set('user-agent', agent);
        if (keep === 'cookies' && kept.cookies.size > 0) {
          const pairs = [...kept.cookies].map(([name, value]) => `${name}=${value}`);
          context.headers.set('cookie', pairs.join('; '));
        }
      },
      onResponse({ response }) {
        for (const line of response.headers.getSetCookie()) {
          const [, name, value, rest] = /^([^=]+)=([^;]*)(.*)$/.exec(line);
          if (rest.includes('Max-Age=0')) kept.cookies.delete(name);
          else kept.cookies.set(name, value);
        }
        kept.token = response.headers.get('set-auth-token') ?? kept.token;
      },
    },
  });
  return { auth, kept };
}

/** What the client gives, or what went wrong. */
function ok({ data, error }) {
  assert.equal(error, null, JSON.stringify(error));
  return data;
}

/** Runs a command of the binary on the accounts of a server. */
function command(server, args, input = '') {
  const result = spawnSync(BINARY, [...args, '--data-dir', path.join(server.folder, 'data')], {
    cwd: server.folder,
    env: { ...process.env, ...server.env },
    input,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status: result.status, out: result.stdout, err: result.stderr };
}

test('the official client signs up, in and out, by cookie and by bearer', async () => {
  const server = await hub();
  after(() => server.dispose());
  for (const keep of ['cookies', 'token']) {
    const email = `${keep}@example.com`;
    const { auth, kept } = client(server, { keep });
    assert.equal(ok(await auth.getSession()), null);
    const { user } = ok(await auth.signUp.email({ name: 'Alice', email, password: PASSWORD }));
    assert.equal(user.email, email);
    let session = ok(await auth.getSession());
    assert.equal(session.user.id, user.id);
    assert.ok(session.session.expiresAt > new Date(Date.now() + 6 * 24 * 3600_000));

    ok(await auth.updateUser({ name: 'Alice Z' }));
    session = ok(await auth.getSession());
    assert.equal(session.user.name, 'Alice Z');
    assert.equal(ok(await auth.listAccounts())[0].providerId, 'credential');

    ok(await auth.signOut());
    assert.equal(kept.cookies.size, 0);
    assert.equal(ok(await auth.getSession()), null);

    const wrong = await auth.signIn.email({ email, password: 'something else' });
    assert.equal(wrong.error.status, 401);
    assert.equal(wrong.error.code, 'INVALID_EMAIL_OR_PASSWORD');
    ok(await auth.signIn.email({ email: email.toUpperCase(), password: PASSWORD }));
    assert.equal(ok(await auth.getSession()).user.id, user.id);
  }
});

test('a session is ended from another device, and a changed password ends all others', async () => {
  const server = await hub();
  after(() => server.dispose());
  const email = 'alice@example.com';
  const laptop = client(server, { agent: 'laptop' }).auth;
  const phone = client(server, { keep: 'token', agent: 'phone' }).auth;
  ok(await laptop.signUp.email({ name: 'Alice', email, password: PASSWORD }));
  ok(await phone.signIn.email({ email, password: PASSWORD }));
  const sessions = ok(await laptop.listSessions());
  assert.deepEqual(sessions.map((session) => session.userAgent), ['laptop', 'phone']);

  ok(await laptop.revokeSession({ token: sessions[1].token }));
  assert.equal(ok(await phone.getSession()), null);
  assert.notEqual(ok(await laptop.getSession()), null);

  ok(await phone.signIn.email({ email, password: PASSWORD }));
  ok(await laptop.revokeOtherSessions());
  assert.equal(ok(await phone.getSession()), null);

  ok(await phone.signIn.email({ email, password: PASSWORD }));
  const change = { currentPassword: PASSWORD, newPassword: 'another password' };
  ok(await phone.changePassword({ ...change, revokeOtherSessions: true }));
  assert.equal(ok(await laptop.getSession()), null);
  assert.notEqual(ok(await phone.getSession()), null);
});

/** Kysely's way to talk to an SQLite file, without native code. */
function sqlite(file) {
  const db = new wasmSqlite.Database(file);
  const plain = (values) =>
    values.map((value) => (typeof value === 'boolean' ? Number(value) : (value ?? null)));
  const prepare = (sql) => ({
    reader: /^\s*(select|pragma|with)\b|\breturning\b/i.test(sql),
    all: (values) => db.all(sql, plain(values)),
    run: (values) => {
      const { changes, lastInsertRowId } = db.run(sql, plain(values));
      return { changes, lastInsertRowid: lastInsertRowId };
    },
  });
  const database = { prepare, close: () => db.close() };
  return {
    database: { dialect: new SqliteDialect({ database }), type: 'sqlite' },
    query: async (sql) => db.all(sql),
    close: async () => db.close(),
  };
}

function postgres(url) {
  const pool = new pg.Pool({ connectionString: url });
  return {
    database: pool,
    query: async (sql) => (await pool.query(sql)).rows,
    close: () => pool.end(),
  };
}

/** The real Better Auth on a database. */
function betterAuthOn(open) {
  return betterAuth({
    database: open.database,
    secret: SECRET,
    baseURL: 'http://localhost:1',
    basePath: '/auth',
    emailAndPassword: { enabled: true },
    plugins: [bearer()],
    telemetry: { enabled: false },
  });
}

/** The same promises for both kinds of database, which `open` opens and `place` names. */
async function sharesWithBetterAuth(place, open) {
  // Better Auth makes the tables, and one account.
  let theirs = open();
  let auth = betterAuthOn(theirs);
  await (await getMigrations(auth.options)).runMigrations();
  const old = { email: 'old@example.com', password: PASSWORD };
  const signedUp = await auth.api.signUpEmail({
    body: { ...old, name: 'Old' },
    returnHeaders: true,
  });
  const theirToken = signedUp.response.token;
  const theirCookie = signedUp.headers.getSetCookie()[0].split(';')[0];
  const aged = new Date(Date.now() + 5 * 24 * 3600_000).toISOString();
  await theirs.query(`UPDATE session SET "expiresAt" = '${aged}'`);
  await theirs.close();

  // The hub takes its account, its hash, its session and its cookie, and extends the session.
  const env = { AUTH_DATABASE: place, BETTER_AUTH_SECRET: SECRET };
  const server = await hub({ env });
  after(() => server.dispose());
  const cookie = await server.request('GET', '/auth/get-session?disableRefresh=true', undefined, {
    cookie: theirCookie,
  });
  assert.equal(cookie.body.user.email, old.email);
  const returning = client(server, { keep: 'token' });
  returning.kept.token = theirToken;
  const extended = ok(await returning.auth.getSession());
  assert.equal(extended.user.email, old.email);
  const week = 7 * 24 * 3600_000;
  assert.ok(extended.session.expiresAt.getTime() > Date.now() + week - 600_000);
  assert.match(returning.kept.token, new RegExp(`^${theirToken}\\..+=$`));
  const device = client(server).auth;
  ok(await device.signIn.email(old));
  const change = { currentPassword: PASSWORD, newPassword: 'changed on the hub' };
  ok(await device.changePassword(change));

  const fresh = { email: 'new@example.com', password: 'pässword ﬁne' };
  const newcomer = client(server, { keep: 'token' });
  const ours = ok(await newcomer.auth.signUp.email({ ...fresh, name: 'New' }));
  assert.equal(command(server, ['users', 'list']).out.trim().split('\n').length, 2);
  await server.stop();

  // Better Auth takes ours.
  theirs = open();
  auth = betterAuthOn(theirs);
  const headers = new Headers({ authorization: `Bearer ${newcomer.kept.token}` });
  assert.equal((await auth.api.getSession({ headers })).user.id, ours.user.id);
  assert.equal((await auth.api.signInEmail({ body: fresh })).user.id, ours.user.id);
  const changed = { email: old.email, password: 'changed on the hub' };
  assert.equal((await auth.api.signInEmail({ body: changed })).user.email, old.email);
  await theirs.close();
}

test('an SQLite file is shared with Better Auth, in both directions', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'host-auth-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'better-auth.db');
  await sharesWithBetterAuth(file, () => sqlite(file));
});

test('a PostgreSQL database is shared with Better Auth, in both directions', async () => {
  const cluster = await Postgres.start();
  after(() => cluster.dispose());
  const url = await cluster.database('shared');
  await sharesWithBetterAuth(url, () => postgres(url));

  // An empty one gets the tables, and two hubs use it at once.
  const env = { AUTH_DATABASE: await cluster.database('fresh'), BETTER_AUTH_SECRET: SECRET };
  const start = async () => {
    const server = await hub({ env });
    after(() => server.dispose());
    return server;
  };
  const hubs = await Promise.all([start(), start()]);
  const one = client(hubs[0], { keep: 'token' });
  ok(await one.auth.signUp.email({ name: 'A', email: 'a@example.com', password: PASSWORD }));
  const bearer = { authorization: `Bearer ${one.kept.token}` };
  const seen = await hubs[1].request('GET', '/auth/get-session', undefined, bearer);
  assert.equal(seen.body.user.email, 'a@example.com');
  ok(await one.auth.signOut());
  const gone = await hubs[1].request('GET', '/auth/get-session', undefined, bearer);
  assert.equal(gone.body, null);
});

test('accounts survive a restart, and nobody else can read them', async () => {
  const server = await hub();
  after(() => server.dispose());
  const { auth, kept } = client(server, { keep: 'token' });
  ok(await auth.signUp.email({ name: 'A', email: 'a@example.com', password: PASSWORD }));
  assert.equal(statSync(path.join(server.folder, 'data')).mode & 0o777, 0o700);
  for (const name of ['auth.db', 'auth.secret']) {
    assert.equal(statSync(path.join(server.folder, 'data', name)).mode & 0o777, 0o600, name);
  }
  await server.stop();
  await server.start();
  const bearer = { authorization: `Bearer ${kept.token}` };
  const seen = await server.request('GET', '/auth/get-session', undefined, bearer);
  assert.equal(seen.body.user.email, 'a@example.com');
});

test('the operator makes, invites, resets and removes accounts while the hub runs', async () => {
  const server = await hub({ args: ['--sign-up', 'invite'] });
  after(() => server.dispose());
  const run = (...args) => command(server, args, `${PASSWORD}\n`);
  assert.match(command(server, ['users', 'add', 'a@example.com'], 'short\n').err, /8 characters/);
  assert.equal(run('users', 'add', 'a@example.com', '--name', 'Alice').status, 0);
  assert.match(run('users', 'add', 'A@example.com').err, /already/);
  const alice = client(server, { keep: 'token', agent: 'laptop' });
  const credentials = { email: 'a@example.com', password: PASSWORD };
  assert.equal(ok(await alice.auth.signIn.email(credentials)).user.name, 'Alice');

  const uninvited = { name: 'B', email: 'b@example.com', password: PASSWORD };
  const refused = await client(server).auth.signUp.email(uninvited);
  assert.equal(refused.error.code, 'INVITATION_REQUIRED');
  const invitation = run('users', 'invite', 'b@example.com').out.trim();
  ok(await client(server).auth.signUp.email({ ...uninvited, invitation }));
  const listed = run('users', 'list').out;
  assert.match(listed, /a@example\.com {2}Alice/);
  assert.match(listed, /b@example\.com/);

  const sessions = run('sessions', 'list', 'a@example.com').out.trim().split('\n');
  assert.equal(sessions.length, 1);
  assert.match(sessions[0], /127\.0\.0\.1 {2}laptop/);
  assert.equal(run('sessions', 'revoke', sessions[0].split(' ')[0]).status, 0);
  assert.equal(ok(await alice.auth.getSession()), null);
  assert.notEqual(run('sessions', 'revoke', 'nobody').status, 0);

  const reset = command(server, ['users', 'reset-password', 'a@example.com'], 'another one\n');
  assert.equal(reset.status, 0, reset.err);
  assert.equal((await alice.auth.signIn.email(credentials)).error.status, 401);
  ok(await alice.auth.signIn.email({ ...credentials, password: 'another one' }));
  assert.equal(run('users', 'remove', 'a@example.com').status, 0);
  assert.equal(ok(await alice.auth.getSession()), null);
  assert.match(run('users', 'remove', 'a@example.com').err, /there is no account for/);
});

test('a hub that cannot be safe does not start, and says why', async () => {
  const cases = [
    [['--smtp-url', 'smtps://me:hunter22@mail.example.com'], {}, /put it into the environment/],
    [['--auth-database', 'postgres://me:hunter22@127.0.0.1/x'], {}, /put it into the environment/],
    [[], { BETTER_AUTH_SECRET: 'short' }, /fewer than 32 characters/],
    [['--host', '0.0.0.0', '--password-reset'], {}, /--smtp-url/],
    [['--trusted-origins', 'example.com/path'], {}, /is not an origin/],
    [['--auth-database', '/dev/null/auth.db'], {}, /cannot be opened/],
  ];
  for (const [args, env, expected] of cases) {
    const folder = mkdtempSync(path.join(tmpdir(), 'host-auth-'));
    const options = ['--mode', 'hub', '--port', '0', '--data-dir', folder, ...args];
    const result = spawnSync(BINARY, options, {
      env: { ...process.env, ...env },
      encoding: 'utf8',
      timeout: 60_000,
    });
    rmSync(folder, { recursive: true, force: true });
    assert.equal(result.status, 1, `${args} starts`);
    assert.match(result.stderr, expected);
    assert.doesNotMatch(result.stderr, /hunter22/);
  }
});

test('links are logged in development, and no password or session ever is', async () => {
  const server = await hub({ args: ['--password-reset'], env: { RUST_LOG: 'trace' } });
  after(() => server.dispose());
  const { auth, kept } = client(server, { keep: 'token' });
  ok(await auth.signUp.email({ name: 'A', email: 'a@example.com', password: PASSWORD }));
  const [token] = kept.token.split('.');
  ok(await auth.requestPasswordReset({ email: 'a@example.com', redirectTo: '/new' }));
  const [, reset] = await until('the link is logged', () =>
    /reset-password\/([A-Za-z0-9]{24})/.exec(server.logs),
  );
  ok(await auth.resetPassword({ newPassword: 'another password', token: reset }));
  ok(await auth.signIn.email({ email: 'a@example.com', password: 'another password' }));
  for (const secret of [PASSWORD, 'another password', token]) {
    assert.ok(!server.logs.includes(secret), 'a secret is in the log');
  }
});
