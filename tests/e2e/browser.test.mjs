// What a page of another origin can do to a server on the same machine, in a real browser: nothing.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { chromium } from 'playwright-core';

import { documentOf } from './clients.mjs';
import { Server } from './server.mjs';

const POSTS = '/workspaces/blog/tables/posts';

/** Where Chromium is, as packages of distributions install it. */
const CHROMIUM = process.env.CHROMIUM_BIN
  ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((file) => existsSync(file));

let browser, server, evil, friend;

/** A web server with one empty page. */
async function pages() {
  const http = createServer((_request, response) => {
    response.setHeader('content-type', 'text/html').end('<!doctype html><title>a page</title>');
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  return { http, port: http.address().port };
}

before(async () => {
  assert.ok(CHROMIUM, 'install Chromium (Debian: apt-get install chromium), or say where it is with CHROMIUM_BIN');
  [evil, friend] = await Promise.all([pages(), pages()]);
  server = await Server.start({ args: ['--allow-origin', `http://127.0.0.1:${friend.port}`] });
  const quiet = [
    '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--disable-default-apps', '--no-first-run',
    // A name that points at this machine, as after DNS rebinding.
    '--host-resolver-rules=MAP rebound.example 127.0.0.1',
    // It is our checks that are tested, not those of the browser for local networks.
    '--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights',
  ];
  browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: quiet });
  const { status } = await server.post(POSTS, { id: 'secret', title: 'Nobody else reads this' });
  assert.equal(status, 201);
});

after(async () => {
  await browser?.close();
  for (const { http } of [evil, friend].filter(Boolean)) {
    http.closeAllConnections();
    http.close();
  }
  await server?.dispose();
});

/** Everything that a page can try. Runs in the page; returns what came of it. */
async function attack({ url, rooms, posts }) {
  const outcome = {};
  const attempt = async (name, work) => {
    try {
      outcome[name] = await work();
    } catch {
      outcome[name] = 'failed';
    }
  };
  const row = (id) => JSON.stringify({ id, title: 'by the page' });
  const read = (response) => response.text().then((text) => `${response.type} ${response.status} ${text}`);
  await attempt('read', () => fetch(url + posts).then(read));
  await attempt('read without cors', () => fetch(url + posts, { mode: 'no-cors' }).then(read));
  await attempt('simple write', () => fetch(url + posts, { method: 'POST', body: row('simple') }).then(read));
  await attempt('simple write without cors', () => fetch(url + posts, {
    method: 'POST', mode: 'no-cors', body: row('no-cors'),
  }).then(read));
  await attempt('write without a type', () => fetch(url + posts, {
    method: 'POST', mode: 'no-cors', body: new Blob([row('blob')]),
  }).then(read));
  await attempt('write with preflight', () => fetch(url + posts, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: row('preflight'),
  }).then(read));
  await attempt('delete', () => fetch(`${url}${posts}/secret`, { method: 'DELETE' }).then(read));
  await attempt('update a room', () => fetch(`${url}/rooms/blog`, {
    method: 'POST', mode: 'no-cors', body: new Uint8Array([0, 0]),
  }).then(read));
  await attempt('beacon', () => { navigator.sendBeacon(url + posts, row('beacon')); return 'sent'; });
  await attempt('form', () => new Promise((resolve) => {
    const frame = document.createElement('iframe');
    frame.name = 'target';
    const form = document.createElement('form');
    Object.assign(form, { method: 'POST', enctype: 'text/plain', action: url + posts, target: 'target' });
    const field = document.createElement('input');
    field.name = '{"id":"form","title":"by the page","content":"';
    field.value = '"}';
    form.append(field);
    document.body.append(frame, form);
    frame.addEventListener('load', () => resolve('sent'));
    form.submit();
  }));
  await attempt('socket', () => new Promise((resolve) => {
    const socket = new WebSocket(`${rooms}/blog`);
    socket.addEventListener('open', () => resolve('open'));
    socket.addEventListener('error', () => resolve('failed'));
  }));
  await attempt('events', () => new Promise((resolve) => {
    const events = new EventSource(url + posts);
    events.addEventListener('error', () => { events.close(); resolve('failed'); });
    for (const name of ['message', 'rows', 'snapshot', 'open']) {
      events.addEventListener(name, () => { events.close(); resolve('open'); });
    }
  }));
  const element = (tag) => new Promise((resolve) => {
    const one = document.createElement(tag);
    one.addEventListener('load', () => resolve('loaded'));
    one.addEventListener('error', () => resolve('failed'));
    one.src = url + posts;
    document.body.append(one);
  });
  await attempt('script', () => element('script'));
  await attempt('image', () => element('img'));
  return outcome;
}

async function visit(port, host = '127.0.0.1') {
  const page = await browser.newPage();
  await page.goto(`http://${host}:${port}/`);
  return page;
}

/** The server has what it had, and nothing else. */
async function unchanged() {
  const { data } = await server.get(POSTS);
  assert.deepEqual(data.map((row) => row.id), ['secret']);
  const { body } = await server.get('/rooms/blog');
  assert.equal(documentOf(body).getArray('table:posts').length, 1);
}

test('a page of another origin reads nothing and changes nothing', async () => {
  const page = await visit(evil.port);
  const outcome = await page.evaluate(attack, { url: server.url, rooms: server.rooms, posts: POSTS });
  for (const [name, what] of Object.entries(outcome)) {
    assert.ok(!what.includes('Nobody else'), `${name}: ${what}`);
    assert.ok(!what.includes('by the page'), `${name}: ${what}`);
    assert.notEqual(what, 'open', name);
    assert.notEqual(what, 'loaded', name);
  }
  for (const name of ['read', 'simple write', 'write with preflight', 'delete', 'socket', 'events']) {
    assert.equal(outcome[name], 'failed', name);
  }
  await page.close();
  await unchanged();
});

test('a page whose name points at this machine gets nothing either', async () => {
  const page = await browser.newPage();
  // Once the name points here, the server itself is asked for the page.
  const answer = await page.goto(`http://rebound.example:${server.port}${POSTS}`);
  assert.equal(answer.status(), 421);
  assert.ok(!(await answer.text()).includes('Nobody else'));
  const outcome = await page.evaluate(async (posts) => {
    const read = await fetch(posts).then((response) => response.status);
    const body = JSON.stringify({ id: 'rebound', title: 'by the page' });
    const headers = { 'content-type': 'application/json' };
    const write = await fetch(posts, { method: 'POST', headers, body }).then((response) => response.status);
    const socket = await new Promise((resolve) => {
      const one = new WebSocket(`ws://${location.host}/rooms/blog`);
      one.addEventListener('open', () => resolve('open'));
      one.addEventListener('error', () => resolve('failed'));
    });
    return { read, write, socket };
  }, POSTS);
  assert.deepEqual(outcome, { read: 421, write: 421, socket: 'failed' });
  await page.close();
  await unchanged();
});

test('a page of an allowed origin reads, writes and opens sockets', async () => {
  const page = await visit(friend.port);
  const outcome = await page.evaluate(async ({ url, rooms, posts }) => {
    const headers = { 'content-type': 'application/json', authorization: 'Bearer of no use here' };
    const written = await fetch(url + posts, {
      method: 'POST', headers, credentials: 'include', body: JSON.stringify({ id: 'friend', title: 'A friend' }),
    });
    const rows = await fetch(url + posts, { credentials: 'include' }).then((response) => response.json());
    const socket = await new Promise((resolve) => {
      const one = new WebSocket(`${rooms}/blog`);
      one.addEventListener('open', () => resolve('open'));
      one.addEventListener('error', () => resolve('failed'));
    });
    const removed = await fetch(`${url}${posts}/friend`, { method: 'DELETE' });
    return { written: written.status, ids: rows.data.map((row) => row.id).sort(), socket, removed: removed.status };
  }, { url: server.url, rooms: server.rooms, posts: POSTS });
  assert.deepEqual(outcome.ids, ['friend', 'secret']);
  assert.equal(outcome.written, 201);
  assert.equal(outcome.socket, 'open');
  assert.ok(outcome.removed < 300, `${outcome.removed}`);
  await page.close();
});

test('the reference needs no other server: it sends requests, and watches a table', async () => {
  const page = await browser.newPage();
  const [foreign, failures] = [[], []];
  page.on('request', (request) => {
    if (!request.url().startsWith(server.url)) foreign.push(request.url());
  });
  page.on('pageerror', (error) => failures.push(String(error)));
  await page.goto(`${server.url}/openapi`);
  const operation = async (method) => {
    const one = page.locator(`[id="${method}-${POSTS}"]`);
    await one.locator('summary').click();
    return one;
  };

  const list = await operation('get');
  await list.getByRole('button', { name: 'Watch' }).click();
  await list.locator('pre').filter({ hasText: 'ready' }).waitFor();

  const create = await operation('post');
  await create.getByLabel('Body').fill(JSON.stringify({ id: 'tried', title: 'Tried from the page' }));
  await create.getByRole('button', { name: 'Send' }).click();
  await create.getByRole('status').filter({ hasText: /^201/ }).waitFor();
  assert.match(await create.locator('pre').textContent(), /"title": "Tried from the page"/);
  await list.locator('pre').filter({ hasText: 'Tried from the page' }).waitFor();

  await list.getByRole('button', { name: 'Stop' }).click();
  await list.getByLabel('filter').fill('[title][prefix]=Tried');
  await list.getByRole('button', { name: 'Send' }).click();
  await list.getByRole('status').filter({ hasText: /^200/ }).waitFor();
  assert.match(await list.locator('pre').textContent(), /"id": "tried"/);

  assert.deepEqual({ foreign, failures }, { foreign: [], failures: [] });
  await page.close();
  assert.equal((await server.delete(`${POSTS}/tried`)).status, 200);
});

test('every answer keeps browsers from making more of it', async () => {
  for (const route of ['/', POSTS, '/nothing', '/rooms/', '/openapi']) {
    const { headers } = await server.get(route);
    assert.equal(headers.get('x-content-type-options'), 'nosniff', route);
    assert.equal(headers.get('referrer-policy'), 'no-referrer', route);
    assert.ok(headers.get('x-frame-options'), route);
    assert.equal(headers.get('cross-origin-resource-policy'), 'same-origin', route);
  }
});
