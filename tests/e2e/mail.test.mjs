// What leaves the hub for a mail server, and comes back from a database, over TLS.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import pg from 'pg';
import { SMTPServer } from 'smtp-server';

import { certificates } from './certificates.mjs';
import { Postgres } from './postgres.mjs';
import { Server, until } from './server.mjs';

const PERSON = { name: 'Ada', email: 'ada@example.com', password: 'correct horse' };

let tls;
/** Those of somebody else. */
let foreign;
before(() => ([tls, foreign] = [certificates(), certificates()]));
after(() => [tls, foreign].forEach((made) => made?.dispose()));

/** A mail server that wants a login, and keeps what it gets. */
async function mailServer(options) {
  const mails = [];
  const logins = [];
  const server = new SMTPServer({
    // The hub keeps its connection, and we do not wait for it.
    closeTimeout: 100,
    key: readFileSync(tls.key),
    cert: readFileSync(tls.cert),
    onAuth({ username, password }, session, done) {
      logins.push({ username, password, secure: session.secure });
      if (password !== 's3cret') return done(new Error('who is this?'));
      done(null, { user: username });
    },
    onData(stream, session, done) {
      let text = '';
      stream.on('data', (chunk) => (text += chunk));
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({ from: mailFrom.address, to: rcptTo.map(({ address }) => address), text });
        done();
      });
    },
    ...options,
  });
  // A client that does not trust the server hangs up, which is no failure of the test.
  server.on('error', () => {});
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.server.address();
  return { mails, logins, port, close: () => new Promise((resolve) => server.close(resolve)) };
}

/** A hub that sends its mails there. */
function hub(smtp, env = {}) {
  return Server.start({
    mode: 'hub',
    plugins: [],
    args: ['--password-reset', '--base-url', 'http://localhost:9', '--mail-from', 'Hub <hub@example.com>'],
    env: { SMTP_URL: smtp, SSL_CERT_FILE: tls.authority, ...env },
  });
}

/** Sends something to the accounts, as a page of the hub does. */
async function post(server, route, body, origin = 'http://localhost:9') {
  const { status } = await server.request('POST', `/auth/${route}`, body, { origin });
  return status;
}

const signUp = async (server, origin) =>
  assert.equal(await post(server, 'sign-up/email', PERSON, origin), 200);

/** Asks for a mail. */
const forget = async (server) =>
  assert.equal(await post(server, 'request-password-reset', { email: PERSON.email }), 200);

for (const [how, scheme, query, options] of [
  ['TLS from the start', 'smtps', '', { secure: true }],
  ['STARTTLS', 'smtp', '?tls=required', {}],
]) {
  test(`a link comes by mail, over ${how}, and works once`, async () => {
    const mail = await mailServer(options);
    after(() => mail.close());
    const server = await hub(`${scheme}://hub:s3cret@localhost:${mail.port}${query}`);
    after(() => server.dispose());
    await signUp(server);
    await forget(server);
    const [{ from, to, text }] = await until('a mail comes', () => mail.mails.length > 0 && mail.mails);
    assert.equal(from, 'hub@example.com');
    assert.deepEqual(to, [PERSON.email]);
    assert.match(text, /^From: "?Hub"? <hub@example\.com>\r$/m);
    assert.deepEqual(mail.logins, [{ username: 'hub', password: 's3cret', secure: true }]);
    // Long lines are folded, as mail is.
    const plain = text.replace(/=\r\n/g, '').replace(/=3D/g, '=');
    const [, token] = /http:\/\/localhost:9\/auth\/reset-password\/([A-Za-z0-9]{24})/.exec(plain);
    const reset = () => post(server, 'reset-password', { newPassword: 'another one', token });
    assert.equal(await reset(), 200);
    assert.equal(await reset(), 400);
    const credentials = { email: PERSON.email, password: 'another one' };
    assert.equal(await post(server, 'sign-in/email', credentials), 200);
    assert.ok(!server.logs.includes(token) && !server.logs.includes('s3cret'), 'a secret is in the log');
  });
}

test('a mail server that is not to be trusted gets no mail and no password', async () => {
  const mail = await mailServer({ secure: true });
  after(() => mail.close());
  const server = await hub(`smtps://hub:s3cret@localhost:${mail.port}`, {
    SSL_CERT_FILE: foreign.authority,
  });
  after(() => server.dispose());
  await signUp(server);
  await forget(server);
  await until('the log says so', () => /a mail was not sent: .*certificate/i.test(server.logs));
  assert.deepEqual([mail.mails, mail.logins], [[], []]);
  assert.ok(!server.logs.includes('s3cret'));
});

test('a mail server that is away or refuses costs nobody an answer', async () => {
  const mail = await mailServer({ secure: true });
  const server = await hub(`smtps://hub:wrong@localhost:${mail.port}`);
  after(() => server.dispose());
  await signUp(server);
  await forget(server);
  await until('the log says that it was refused', () => /a mail was not sent: .*535/i.test(server.logs));
  await mail.close();
  await forget(server);
  await until('the log says that it is away', () => /a mail was not sent: .*refused/i.test(server.logs));
  assert.ok(!server.logs.includes('wrong'));
});

test('a database is spoken to over TLS where it wants that, and only if it is to be trusted', async () => {
  const cluster = await Postgres.start({ tls });
  after(() => cluster.dispose());
  const url = new URL(await cluster.database('accounts'));
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  await client.query('CREATE USER secure SUPERUSER');
  await client.end();
  url.username = 'secure';
  url.hostname = 'localhost';
  url.searchParams.set('sslmode', 'require');
  const start = (authority) =>
    Server.start({
      mode: 'hub',
      plugins: [],
      env: { AUTH_DATABASE: url.href, SSL_CERT_FILE: authority },
    });
  const server = await start(tls.authority);
  after(() => server.dispose());
  await signUp(server, server.url);
  await assert.rejects(start(foreign.authority), /certificate/i);
});
