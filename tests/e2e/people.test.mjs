// Rooms that belong to people: whose document it is, who else may enter, and for how long. And the
// other ways to say who may use a server: one shared token, or the sessions of a hub.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import * as Y from 'yjs';

import { Client, Events, Socket, documentOf, update } from './clients.mjs';
import { Server, until } from './server.mjs';

const servers = [];
after(() => Promise.all(servers.map((server) => server.dispose())));

async function start(mode, args = [], options = {}) {
  const server = await Server.start({ mode, args, ...options });
  servers.push(server);
  return server;
}

/** Somebody with an account on a hub, and a session. */
class Person {
  static async signUp(hub, name) {
    const person = new Person();
    person.hub = hub;
    person.name = name;
    person.email = `${name}@example.com`;
    const body = { name, email: person.email, password: 'correct horse' };
    const { status, body: answer } = await person.auth('sign-up/email', body);
    assert.equal(status, 200, JSON.stringify(answer));
    person.id = answer.user.id;
    person.token = answer.token;
    return person;
  }

  /** Another session of the same person. */
  async signIn() {
    const again = Object.assign(new Person(), this);
    const { body } = await this.auth('sign-in/email', { email: this.email, password: 'correct horse' });
    again.token = body.token;
    return again;
  }

  auth(route, body = {}) {
    const headers = { origin: this.hub.url, ...(this.token && this.bearer) };
    return this.hub.request('POST', `/auth/${route}`, body, headers);
  }

  get bearer() {
    return { authorization: `Bearer ${this.token}` };
  }

  /** What a socket is opened with. */
  query(owner) {
    return `?token=${this.token}${owner ? `&owner=${owner.id}` : ''}`;
  }

  socket(room, owner) {
    return Socket.open(this.hub, room, { query: this.query(owner) });
  }

  join(room, owner) {
    const params = { token: this.token, ...(owner && { owner: owner.id }) };
    return Client.join(this.hub, room, { params });
  }

  request(method, route, body) {
    return this.hub.request(method, route, body, this.bearer);
  }

  share(room, guest, access) {
    return this.request('POST', `/rooms/${room}/members`, { member: guest.email, access });
  }

  /** The text in a room, as HTTP gives it. */
  async read(room, owner) {
    const response = await this.request('GET', `/rooms/${room}${owner ? `?owner=${owner.id}` : ''}`);
    if (response.status !== 200) return response.status;
    return documentOf(response.body).getText('text').toString();
  }

  async roomToken(room, wanted, owner) {
    const query = owner ? `?owner=${owner.id}` : '';
    const response = await this.request('POST', `/rooms/${room}/token${query}`, wanted);
    assert.equal(response.status, 200, JSON.stringify(response.body));
    return response.data.token;
  }
}

/** An update that writes a text. */
function text(content) {
  const doc = new Y.Doc();
  doc.getText('text').insert(0, content);
  return Y.encodeStateAsUpdate(doc);
}

/** Waits until a client sees a text. */
function sees(client, content) {
  return until(`a client sees ${content}`, () => client.doc.getText('text').toString() === content);
}

/** A socket that is refused at the door. */
async function refused(server, room, query) {
  return new Socket(server, room, { query }).end();
}

describe('rooms of accounts', () => {
  let hub, alice, bob, carol;
  before(async () => {
    hub = await start('hub', ['--auth', 'required'], { env: { RUST_LOG: 'debug' } });
    alice = await Person.signUp(hub, 'alice');
    bob = await Person.signUp(hub, 'bob');
    carol = await Person.signUp(hub, 'carol');
  });

  test('without a session there is no room', async () => {
    for (const query of ['', '?token=', '?token=nonsense', `?token=${alice.token}x`, '?token=room.e30.AAAA']) {
      assert.equal((await refused(hub, 'blog', query)).code, 4401, query);
      assert.equal((await hub.get(`/rooms/blog${query}`)).status, 401, query);
      assert.equal((await hub.get(`/rooms/${query}`)).status, 401, query);
    }
    const update = await hub.post('/rooms/blog', text('x'), { 'content-type': 'application/octet-stream' });
    assert.equal(update.status, 401);
    for (const [method, route] of [['GET', 'members'], ['POST', 'members'], ['POST', 'token']]) {
      const { status, error } = await hub.request(method, `/rooms/blog/${route}`, method === 'GET' ? undefined : {});
      assert.equal(status, 401);
      assert.equal(error.message, 'Unauthorized: Bearer token required');
    }
    assert.equal((await hub.get('/')).status, 200);
  });

  test('the same id is another document for everybody', async () => {
    const [hers, his] = await Promise.all([alice.join('same'), bob.join('same')]);
    hers.doc.getText('text').insert(0, 'of Alice');
    his.doc.getText('text').insert(0, 'of Bob');
    await Promise.all([hers.saved(), his.saved()]);
    const [again, other] = await Promise.all([alice.join('same'), bob.join('same')]);
    await sees(again, 'of Alice');
    await sees(other, 'of Bob');
    assert.equal(await alice.read('same'), 'of Alice');
    assert.equal(await bob.read('same'), 'of Bob');
    assert.equal(await carol.read('same'), 404);
  });

  test('each sees their own devices in the discovery room, and lists their own rooms', async () => {
    const [laptop, phone, his] = await Promise.all([
      alice.join('_epicenter_discovery'), alice.join('_epicenter_discovery'), bob.join('_epicenter_discovery'),
    ]);
    laptop.awareness.setLocalStateField('deviceId', 'laptop');
    phone.awareness.setLocalStateField('deviceId', 'phone');
    his.awareness.setLocalStateField('deviceId', 'of Bob');
    const devices = (client) => [...client.awareness.getStates().values()].map((one) => one.deviceId).sort();
    await until('she sees both', () => devices(laptop).join() === 'laptop,phone');
    await until('and so does the other', () => devices(phone).join() === 'laptop,phone');
    assert.deepEqual(devices(his), ['of Bob']);
    const { body } = await bob.request('GET', '/rooms/');
    const room = body.rooms.find((one) => one.id === '_epicenter_discovery');
    assert.deepEqual(room, { id: '_epicenter_discovery', connections: 1 });
  });

  test('one who may write does, one who may read gets updates and presence', async () => {
    assert.equal((await alice.share('shared', bob, 'write')).status, 200);
    const { data } = await alice.share('shared', carol, 'read');
    assert.deepEqual(data, { member: carol.email, access: 'read', accepted: false });
    const [owner, writer, reader] = await Promise.all([
      alice.join('shared'), bob.join('shared', alice), carol.join('shared', alice),
    ]);
    owner.doc.getText('text').insert(0, 'one');
    await sees(writer, 'one');
    writer.doc.getText('text').insert(3, ' two');
    await sees(reader, 'one two');
    reader.awareness.setLocalStateField('name', 'carol');
    const names = () => [...owner.awareness.getStates().values()].map((one) => one.name);
    await until('the owner sees who reads', () => names().includes('carol'));
    const listed = async (person) => (await person.request('GET', '/rooms/')).body.rooms
      .filter(({ id }) => id === 'shared');
    assert.deepEqual(await listed(alice), [{ id: 'shared', connections: 3 }]);
    assert.deepEqual(await listed(carol), [{ id: 'shared', owner: alice.id, connections: 3 }]);
    const { data: members } = await alice.request('GET', '/rooms/shared/members');
    assert.deepEqual(members.map(({ name, access }) => `${name} ${access}`), ['bob write', 'carol read']);
    // A room of one's own with that name is another.
    assert.equal(await carol.read('shared'), 404);
    assert.equal(await carol.read('shared', alice), 'one two');
  });

  test('a write by one who may read ends the socket and is not applied', async () => {
    await alice.share('readonly', bob, 'read');
    const owner = await alice.join('readonly');
    owner.doc.getText('text').insert(0, 'kept');
    await owner.saved();
    const reader = await bob.socket('readonly', alice);
    reader.send(update(text('forged')));
    // What comes after it is not taken either.
    reader.send(update(text('forged, too')));
    const { code, reason } = await reader.end();
    assert.equal(code, 4403);
    assert.match(reason, /read-only/);
    const posted = await bob.hub.request('POST', `/rooms/readonly?owner=${alice.id}`, text('forged'), {
      ...bob.bearer, 'content-type': 'application/octet-stream',
    });
    assert.equal(posted.status, 403);
    await owner.saved();
    assert.equal(owner.doc.getText('text').toString(), 'kept');
    assert.equal(await alice.read('readonly'), 'kept');
  });

  test('a reader may come back with all that was ever deleted', async () => {
    await alice.share('deleted', bob, 'read');
    const owner = await alice.join('deleted');
    owner.doc.getText('text').insert(0, 'gone stays');
    owner.doc.getText('text').delete(0, 5);
    await owner.saved();
    const reader = await bob.join('deleted', alice);
    await sees(reader, 'stays');
    reader.goOffline();
    let closed;
    reader.provider.on('connection-close', (event) => { closed = event?.code; });
    // y-websocket answers the server's step 1 with the whole delete set.
    await reader.goOnline();
    owner.doc.getText('text').insert(5, '!');
    await sees(reader, 'stays!');
    assert.notEqual(closed, 4403);
  });

  test('what is not shared is not given', async () => {
    await alice.join('private').then((client) => client.saved());
    const query = bob.query(alice);
    assert.equal((await refused(hub, 'private', query)).code, 4403);
    assert.equal((await refused(hub, 'never-made', query)).code, 4403);
    assert.equal(await bob.read('private', alice), 403);
    for (const id of [`account:${alice.id}/private`, `${alice.id}/private`, `../${alice.id}/private`]) {
      assert.equal(await bob.read(encodeURIComponent(id)), 404, id);
    }
    const { body } = await bob.request('GET', '/rooms/');
    assert.ok(!JSON.stringify(body).includes('private'));
    // Only owners share.
    await alice.share('managed', bob, 'write');
    const route = `/rooms/managed/members?owner=${alice.id}`;
    assert.equal((await bob.request('POST', route, { member: carol.id, access: 'read' })).status, 403);
    assert.equal((await bob.request('GET', route)).status, 403);
    const remove = (who, member) => who.request('DELETE', `/rooms/managed/members/${member}?owner=${alice.id}`);
    assert.equal((await remove(carol, bob.id)).status, 403);
    assert.equal((await remove(bob, bob.id)).status, 200, 'a guest may leave');
    assert.equal(await bob.read('managed', alice), 403);
  });

  test('an invitation that makes no sense is refused', async () => {
    const cases = [
      [{ member: '', access: 'read' }, 400],
      [{ member: alice.id, access: 'read' }, 400],
      [{ member: 'Alice@Example.com', access: 'read' }, 400],
      [{ member: bob.id, access: 'own' }, 422],
      [{ access: 'read' }, 422],
      ['{', 400],
    ];
    for (const [body, expected] of cases) {
      const { status, error } = await alice.request('POST', '/rooms/blog/members', body);
      assert.equal(status, expected, JSON.stringify(body));
      assert.ok(error.message);
    }
    const form = await hub.request('POST', '/rooms/blog/members', '{"member":"x","access":"read"}', {
      ...alice.bearer, 'content-type': 'text/plain',
    });
    assert.equal(form.status, 415);
  });

  test('sharing tells nobody who has an account, before that person accepts', async () => {
    const add = (member) => alice.request('POST', '/rooms/secret/members', { member, access: 'read' });
    const members = async () => (await alice.request('GET', '/rooms/secret/members')).data;
    const names = ['nobody@example.com', carol.email, 'an-id-of-nobody', carol.id];
    for (const member of names) {
      const { status, data } = await add(member);
      assert.deepEqual([status, data], [200, { member, access: 'read', accepted: false }]);
    }
    assert.deepEqual((await members()).map(({ member }) => member), names);
    assert.ok(!JSON.stringify(await members()).includes('"carol"'));
    // To enter is to accept.
    await alice.join('secret').then((client) => client.saved());
    assert.equal(await bob.read('secret', alice), 403);
    assert.equal(await carol.read('secret', alice), '');
    const accepted = { access: 'read', accepted: true, id: carol.id, name: 'carol', email: carol.email };
    assert.deepEqual((await members())[1], { member: carol.email, ...accepted });
    assert.deepEqual((await members())[0], { member: names[0], access: 'read', accepted: false });
    // Somebody who signs up later finds what was shared with the address.
    const dave = await Person.signUp(hub, 'dave');
    assert.equal((await alice.share('for-dave', { email: 'eve@example.com' }, 'write')).status, 200);
    const eve = await Person.signUp(hub, 'eve');
    const client = await eve.join('for-dave', alice);
    client.doc.getText('text').insert(0, 'eve was here');
    await client.saved();
    assert.equal(await dave.read('for-dave', alice), 403);

    let refusal;
    for (let n = 0; n < 70 && !refusal; n++) {
      const answer = await dave.request('POST', '/rooms/guess/members', { member: `u${n}@example.com`, access: 'read' });
      if (answer.status !== 200) refusal = answer;
    }
    assert.equal(refusal?.status, 429);
    assert.ok(Number(refusal.headers.get('retry-after')) > 60);
  });

  test('an address that has to be verified and is not accepts nothing', async () => {
    const verifying = await start('hub', ['--auth', 'required', '--verify-email', 'send']);
    const owner = await Person.signUp(verifying, 'owner');
    const thief = await Person.signUp(verifying, 'victim');
    await owner.share('plans', thief, 'write');
    assert.equal(await thief.read('plans', owner), 403);
    const [, link] = await until('the mail is logged', () =>
      /mail to victim@example.com, [^:]*: http:\/\/[^/]*(\S+)/.exec(verifying.logs));
    assert.equal((await verifying.get(link)).status, 200, 'it leads to the root of the hub');
    assert.equal(await thief.read('plans', owner), 404, 'shared, and nobody has written');
  });

  test('the rooms of a deleted account end', async () => {
    const deleting = await start('hub', ['--auth', 'required', '--delete-user']);
    const owner = await Person.signUp(deleting, 'owner');
    const guest = await Person.signUp(deleting, 'guest');
    await owner.share('ours', guest, 'write');
    const room = await guest.join('ours', owner);
    room.doc.getText('text').insert(0, 'ours');
    await room.saved();
    const [own, shared] = [await owner.socket('ours'), await guest.socket('ours', owner)];
    assert.equal((await owner.auth('delete-user', { password: 'correct horse' })).status, 200);
    assert.equal((await own.end()).code, 4401);
    assert.equal((await shared.end()).code, 4403);
    assert.equal((await refused(deleting, 'ours', guest.query(owner))).code, 4403);
    assert.equal(await guest.read('ours', owner), 403);
  });

  test('who is not a member any more loses the socket', async () => {
    await alice.share('left', bob, 'write');
    const [socket, owner] = await Promise.all([bob.socket('left', alice), alice.socket('left')]);
    await alice.request('DELETE', `/rooms/left/members/${bob.email}`);
    assert.equal((await socket.end()).code, 4403);
    assert.equal((await refused(hub, 'left', bob.query(alice))).code, 4403);
    await owner.saved();

    await alice.share('left', bob, 'write');
    const writer = await bob.socket('left', alice);
    await alice.share('left', bob, 'read');
    assert.equal((await writer.end()).code, 4403);
    const reader = await bob.socket('left', alice);
    await reader.saved();
  });

  test('who signs out, or is signed out, loses the socket', async () => {
    const first = await carol.signIn();
    const own = await first.socket('mine');
    const kept = await carol.socket('mine');
    await first.auth('sign-out');
    assert.equal((await own.end()).code, 4401);
    assert.equal((await refused(hub, 'mine', first.query())).code, 4401);
    await kept.saved();

    const second = await carol.signIn();
    const socket = await second.socket('mine');
    await carol.auth('revoke-session', { token: second.token });
    assert.equal((await socket.end()).code, 4401);
    await kept.saved();
  });

  test('a room token opens one room, for as long and as far as it says', async () => {
    const owner = await alice.join('by-token');
    owner.doc.getText('text').insert(0, 'hello');
    await owner.saved();
    const read = await alice.roomToken('by-token', { access: 'read', minutes: 5 });
    const write = await alice.roomToken('by-token', { access: 'write' });
    const writer = await Client.join(hub, 'by-token', { params: { token: write } });
    writer.doc.getText('text').insert(5, '!');
    await sees(owner, 'hello!');
    const reader = await Socket.open(hub, 'by-token', { query: `?token=${read}` });
    reader.send(update(text('forged')));
    assert.equal((await reader.end()).code, 4403);
    assert.equal(await alice.read('by-token'), 'hello!');

    assert.equal((await refused(hub, 'another', `?token=${write}`)).code, 4403);
    assert.equal((await refused(hub, 'by-token', `?token=${write}&owner=${bob.id}`)).code, 4403);
    assert.equal((await refused(hub, 'by-token', `?token=${write.slice(0, -2)}xx`)).code, 4401);
    assert.equal((await hub.get(`/rooms/?token=${write}`)).status, 401);
    for (const route of ['members', 'token']) {
      const again = await hub.post(`/rooms/by-token/${route}`, { access: 'read' }, { authorization: `Bearer ${write}` });
      assert.equal(again.status, 401, `${route} wants a session`);
    }
    for (const minutes of [0, -1, 1e9, 'x']) {
      const { status } = await alice.request('POST', '/rooms/by-token/token', { access: 'read', minutes });
      assert.ok(status === 400 || status === 422, `${minutes}: ${status}`);
    }
  });

  test('a room token ends: by the clock, with its session, and with the membership', async () => {
    const short = await alice.roomToken('ends', { access: 'write', minutes: 0.1 });
    const socket = await Socket.open(hub, 'ends', { query: `?token=${short}` });
    assert.equal((await socket.end()).code, 4401);
    assert.equal((await refused(hub, 'ends', `?token=${short}`)).code, 4401);

    const session = await alice.signIn();
    const long = await session.roomToken('ends', { access: 'write' });
    const open = await Socket.open(hub, 'ends', { query: `?token=${long}` });
    await session.auth('sign-out');
    assert.equal((await open.end()).code, 4401);
    assert.equal((await refused(hub, 'ends', `?token=${long}`)).code, 4401);

    await alice.share('ends', bob, 'read');
    const wanted = await bob.request('POST', `/rooms/ends/token?owner=${alice.id}`, { access: 'write' });
    assert.equal(wanted.status, 403, 'no token gives more than one has');
    const his = await bob.roomToken('ends', { access: 'read' }, alice);
    const reader = await Socket.open(hub, 'ends', { query: `?token=${his}` });
    await alice.request('DELETE', `/rooms/ends/members/${bob.id}`);
    assert.equal((await reader.end()).code, 4403);
    assert.equal((await refused(hub, 'ends', `?token=${his}`)).code, 4403);
  });

  test('no token stands in the log', () => {
    for (const { token } of [alice, bob, carol]) assert.ok(!hub.logs.includes(token));
    assert.ok(!hub.logs.includes('room.ey'));
  });

  test('members and rooms survive a restart; without accounts nobody gets at them', async () => {
    await alice.share('stays', bob, 'read');
    const owner = await alice.join('stays');
    owner.doc.getText('text').insert(0, 'still here');
    await owner.saved();
    owner.leave();
    await hub.stop();
    hub.arguments = hub.arguments.map((one) => (one === 'required' ? 'open' : one));
    await hub.start();
    const kept = encodeURIComponent(`account:${alice.id}/stays`);
    assert.equal((await hub.get(`/rooms/${kept}`)).status, 403);
    assert.equal((await refused(hub, `account:${alice.id}/stays`, '')).code, 4403);
    assert.equal((await hub.get('/rooms/stays')).status, 404);
    await hub.stop();
    hub.arguments = hub.arguments.map((one) => (one === 'open' ? 'required' : one));
    await hub.start();
    assert.equal(await bob.read('stays', alice), 'still here');
  });
});

describe('one shared token', () => {
  const SECRET = 'a token that everybody has';

  async function check(server) {
    const query = `?token=${encodeURIComponent(SECRET)}`;
    assert.equal((await refused(server, 'blog', '')).code, 4401);
    assert.equal((await refused(server, 'blog', '?token=another')).code, 4401);
    assert.equal((await server.get('/rooms/')).status, 401);
    const client = await Client.join(server, 'blog', { params: { token: SECRET } });
    client.doc.getText('text').insert(0, 'hello');
    await client.saved();
    const read = await server.request('GET', '/rooms/blog', undefined, { authorization: `Bearer ${SECRET}` });
    assert.equal(documentOf(read.body).getText('text').toString(), 'hello');
    assert.equal((await server.get(`/rooms/${query}`)).status, 200);
    assert.ok(!server.logs.includes(SECRET));
  }

  test('opens all rooms of a hub, and stands in no process list', async () => {
    const server = await start('hub', [], { env: { HOST_SYNC_TOKEN: SECRET, RUST_LOG: 'debug' } });
    await check(server);
    if (process.platform === 'linux') {
      assert.ok(!readFileSync(`/proc/${server.child.pid}/cmdline`, 'utf8').includes(SECRET));
    }
  });

  test('may lie in a file, and is for rooms alone', async () => {
    const server = new Server({ plugins: ['blog'] });
    servers.push(server);
    const file = path.join(server.folder, 'token');
    writeFileSync(file, `${SECRET}\n`);
    server.arguments.push('--sync-token', `@${file}`);
    await server.start();
    await check(server);
    assert.equal((await server.get('/workspaces/blog/tables/posts')).status, 200);
  });
});

describe('who may use a server', () => {
  /** How a server ends that does not start. */
  async function fails(options) {
    const server = new Server(options);
    servers.push(server);
    await assert.rejects(server.start());
    return server.logs;
  }

  test('a local server is not open to other machines by itself', async () => {
    assert.match(await fails({ args: ['--host', '0.0.0.0'] }), /--auth open/);
    assert.match(await fails({ args: ['--auth', 'required'] }), /--hub-url/);
  });

  test('a hub on a public address wants sessions; open is said loudly', async () => {
    const wants = new Server({ mode: 'hub', args: ['--host', '0.0.0.0'] });
    const open = new Server({ mode: 'hub', args: ['--host', '0.0.0.0', '--auth', 'open'] });
    for (const server of [wants, open]) {
      servers.push(server);
      await server.start();
    }
    assert.equal((await wants.get('/rooms/')).status, 401);
    assert.equal((await open.get('/rooms/')).status, 200);
    assert.match(open.logs, /anyone who reaches .* can read and write every room/);
    assert.doesNotMatch(wants.logs, /anyone who reaches/);
  });
});

describe('a local server with a hub', () => {
  test('wants a session of the hub for everything but the root, also while the hub is away', async () => {
    const hub = await start('hub');
    const local = await start('local', ['--hub-url', hub.url], { plugins: ['blog'] });
    const alice = await Person.signUp(hub, 'alice');
    const bob = await Person.signUp(hub, 'bob');
    const routes = ['/workspaces', '/workspaces/blog/tables/posts', '/plugins', '/openapi/json', '/rooms/', '/rooms/blog'];
    for (const route of routes) {
      assert.equal((await local.get(route)).status, 401, route);
      const nonsense = await local.request('GET', route, undefined, { authorization: 'Bearer nonsense' });
      assert.equal(nonsense.status, 401, route);
      const known = await local.request('GET', route, undefined, alice.bearer);
      assert.equal(known.status, 200, route);
    }
    const { error } = await local.get('/workspaces');
    assert.equal(error.message, 'Unauthorized: Bearer token required');
    assert.equal((await local.get('/')).status, 200);
    assert.equal((await refused(local, 'blog', '')).code, 4401);
    const client = await Client.join(local, 'blog', { params: { token: alice.token } });
    client.table('posts').set('1', { id: '1', title: 'By sync', content: '', views: 0, published: false, _v: 2 });
    await client.saved();
    const read = () => local.request('GET', '/workspaces/blog/tables/posts/1', undefined, alice.bearer);
    await until('REST reads it', async () => (await read()).status === 200);

    await hub.kill9();
    assert.equal((await read()).status, 200);
    const again = await Client.join(local, 'blog', { params: { token: alice.token } });
    again.leave();
    const unknown = await local.request('GET', '/workspaces', undefined, bob.bearer);
    assert.equal(unknown.status, 503);
    assert.match(unknown.error.message, /the hub cannot be reached/);
    assert.equal((await refused(local, 'blog', `?token=${bob.token}`)).code, 1013);
    assert.equal((await local.get('/workspaces')).status, 401);
    assert.equal(client.provider.wsconnected, true);
  });

  /** A local server and its hub, which both count as strictly as on the internet. */
  async function pair(args = [], env = {}) {
    const hub = await start('hub', ['--auth', 'required', '--rate-limit', 'on'], { env });
    const local = await start('local', ['--hub-url', hub.url, ...args], { plugins: ['blog'], env });
    return { hub, local };
  }

  const POSTS = '/workspaces/blog/tables/posts';

  test('a session that ended at the hub ends everywhere within two seconds', async () => {
    const { hub, local } = await pair();
    const [alice, bob] = [await Person.signUp(hub, 'alice'), await Person.signUp(hub, 'bob')];
    const read = (person) => local.request('GET', POSTS, undefined, person.bearer);
    assert.equal((await read(alice)).status, 200);
    const list = await Events.open(local, POSTS, alice.bearer);
    const kept = await Events.open(local, POSTS, bob.bearer);
    await Promise.all([list.next('ready'), kept.next('ready')]);
    const socket = await Socket.open(local, 'blog', { query: `?token=${alice.token}` });
    const late = slow(local, POSTS, alice.bearer);
    await late.begun;
    await alice.auth('sign-out');
    assert.equal((await socket.end()).code, 4401);
    assert.equal(await list.ended, true);
    await until('REST refuses', async () => (await read(alice)).status === 401);
    assert.equal(await late.finish('{"id":"late","title":"Late"}'), 401);
    assert.equal((await read(bob)).status, 200);
    await local.request('POST', POSTS, { id: 'x', title: 'After' }, bob.bearer);
    await kept.next('put');
    assert.ok(!JSON.stringify(list.seen).includes('After'));
    kept.leave();
  });

  test('bad tokens do not lock a local server out of its hub', async () => {
    for (const env of [{}, { HOST_HUB_SECRET: 'a secret of these two servers' }]) {
      const { hub, local } = await pair([], env);
      const alice = await Person.signUp(hub, 'alice');
      const ask = (token) => local.request('GET', '/workspaces', undefined, { authorization: `Bearer ${token}` });
      const statuses = {};
      for (let n = 0; n < 150; n++) {
        const { status } = await ask(`bad${n}`);
        statuses[status] = (statuses[status] ?? 0) + 1;
      }
      assert.equal(statuses[503], undefined, JSON.stringify(statuses));
      if (env.HOST_HUB_SECRET) assert.deepEqual(statuses, { 401: 150 });
      else assert.ok(statuses[429] > 50, JSON.stringify(statuses));
      const refused = statuses[429] && await ask('bad');
      if (refused?.status === 429) assert.ok(Number(refused.headers.get('retry-after')) >= 1);
      await until('a new session gets in', async () => (await ask(alice.token)).status === 200);
      for (let n = 0; n < 5; n++) {
        await ask(`more${n}`);
        assert.equal((await ask(alice.token)).status, 200, 'and stays in');
      }
    }
  });

  test('a hub of another make is asked as often as its limits allow', async () => {
    const asked = {};
    const hub = http.createServer((request, response) => {
      asked[request.url] = (asked[request.url] ?? 0) + 1;
      if (request.url !== '/auth/get-session') return response.writeHead(404).end();
      const session = { id: 's1', expiresAt: new Date(Date.now() + 3_600_000).toISOString() };
      const user = { id: 'u1', name: 'A', email: 'a@example.com' };
      response.setHeader('content-type', 'application/json');
      return response.end(JSON.stringify({ session, user }));
    });
    await new Promise((resolve) => hub.listen(0, '127.0.0.1', resolve));
    after(() => hub.close());
    const local = await start('local', ['--hub-url', `http://127.0.0.1:${hub.address().port}`], { plugins: ['blog'] });
    const bearer = { authorization: 'Bearer theirs' };
    const list = await Events.open(local, POSTS, bearer);
    await list.next('ready');
    const socket = await Socket.open(local, 'blog', { query: '?token=theirs' });
    await until('it is known to be another', () => asked['/auth/epicenter/live-sessions'] === 1);
    for (let n = 0; n < 20; n++) {
      assert.equal((await local.request('GET', POSTS, undefined, bearer)).status, 200);
    }
    await socket.saved();
    assert.deepEqual(asked, { '/auth/get-session': 1, '/auth/epicenter/live-sessions': 1 });
    list.leave();
  });
});

describe('what a client says about itself', () => {
  /** The first line of the answer to a request as it is written here. */
  async function raw(server, ...lines) {
    const socket = net.connect(new URL(server.url).port, '127.0.0.1');
    // Not ended: a server need not answer a client that has gone.
    socket.write([...lines, '', ''].join('\r\n'));
    let answer = '';
    for await (const piece of socket) answer += piece;
    return Number(answer.split(' ')[1]);
  }

  test('there is one Host, and it is the one that is addressed', async () => {
    const server = await start('hub');
    const close = 'Connection: close';
    const { host: own } = new URL(server.url);
    const host = `Host: ${own}`;
    assert.equal(await raw(server, 'GET / HTTP/1.1', host, close), 200);
    assert.equal(await raw(server, 'GET / HTTP/1.1', close), 400);
    assert.equal(await raw(server, 'GET / HTTP/1.1', host, host, close), 400);
    assert.equal(await raw(server, 'GET / HTTP/1.0'), 200);
    assert.equal(await raw(server, `GET http://${own}/ HTTP/1.1`, 'Host: evil.com', close), 200);
    assert.equal(await raw(server, 'GET http://evil.com/ HTTP/1.1', host, close), 421);
  });

  test('no text from outside begins a line of the log', async () => {
    const server = await start('hub', [], { env: { RUST_LOG: 'debug' } });
    const forged = 'x\n2026-12-01T00:00:00.000000Z ERROR forged\r\u001b[2J';
    const client = await Client.join(server, encodeURIComponent(forged));
    await client.saved();
    client.leave();
    await until('the room is logged', () => server.logs.includes('forged'));
    assert.doesNotMatch(server.logs, /^2026-12-01T00:00:00.000000Z ERROR forged/m);
    assert.ok(!server.logs.includes('\u001b[2J'));
  });
});

/** A POST whose body arrives when it is told to. */
function slow(server, route, headers) {
  const options = { method: 'POST', headers: { ...headers, 'content-type': 'application/json' } };
  const request = http.request(`${server.url}${route}`, options);
  const status = new Promise((resolve, reject) => {
    request.on('response', (response) => resolve(response.resume().statusCode)).on('error', reject);
  });
  request.flushHeaders();
  request.write(' ');
  return {
    begun: once(request, 'socket'),
    finish(body) {
      request.end(body);
      return status;
    },
  };
}
