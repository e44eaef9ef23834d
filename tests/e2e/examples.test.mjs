// The example apps, each in two windows of a real browser: what one writes the other sees, and what
// was written offline arrives.

import assert from 'node:assert/strict';
import { cpSync, createReadStream, existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createRelay } from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import { Server, until } from './server.mjs';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
const CHROMIUM = process.env.CHROMIUM_BIN
  ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((file) => existsSync(file));
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

let browser;

before(async () => {
  assert.ok(CHROMIUM, 'install Chromium (Debian: apt-get install chromium), or say where it is with CHROMIUM_BIN');
  const quiet = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'];
  browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: quiet });
});

after(() => browser?.close());

/** Serves files as any web server does. `files` are others than those of the folder. */
async function serve(t, folder, files = {}) {
  const http = createServer((request, response) => {
    const name = new URL(request.url, 'http://page').pathname.replace(/\/$/, '/index.html');
    const file = files[name] ?? path.join(folder, path.normalize(name));
    if (!existsSync(file)) return response.writeHead(404).end();
    response.setHeader('content-type', TYPES[path.extname(file)] ?? 'application/octet-stream');
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  return `http://127.0.0.1:${http.address().port}`;
}

/** The server with the example's workspace, behind a relay that can be cut. */
async function start(t, example, origin) {
  const server = new Server({ plugins: [], args: ['--allow-origin', origin] });
  cpSync(path.join(REPOSITORY, 'examples', example, 'plugins'), server.plugins, { recursive: true });
  t.after(() => server.dispose());
  await server.start();
  const sockets = new Set();
  let isCut = false;
  const relay = createRelay((near) => {
    if (isCut) return near.destroy();
    const far = connect(server.port, '127.0.0.1');
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise((resolve) => relay.listen(0, '127.0.0.1', resolve));
  const cut = () => {
    isCut = true;
    for (const socket of sockets) socket.destroy();
  };
  t.after(() => {
    cut();
    relay.close();
  });
  return { server, url: `http://127.0.0.1:${relay.address().port}`, cut, mend: () => (isCut = false) };
}

/** A window of its own, which shares nothing with others: another person's browser. */
async function open(t, address) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, locale: 'en' });
  t.after(() => context.close());
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(error.message));
  // React and Yjs say so there when they are used in a wrong way, or are in the page twice.
  page.on('console', (message) => {
    if (message.type() !== 'log' && !message.text().includes('ERR_')) page.faults.push(message.text());
  });
  await page.goto(address);
  await is(page, 'saved');
  return page;
}

/** Waits until a page's status is this. */
function is(page, status) {
  return until(`the page is ${status}`, async () => (await page.getAttribute('#status', 'data-status')) === status);
}

/** How many updates of a workspace a window's device has kept. */
function kept(page, workspace) {
  return page.evaluate(async (workspace) => {
    const { name } = (await indexedDB.databases()).find(({ name }) => name.endsWith(` ${workspace}`));
    const done = (request) => new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const database = await done(indexedDB.open(name));
    const count = await done(database.transaction('updates').objectStore('updates').count());
    database.close();
    return count;
  }, workspace);
}

/** For whoever wants to see them: a picture of a page in light and in dark, in the folder that is named. */
async function picture(page, name) {
  const folder = process.env.HOST_E2E_PICTURES;
  if (folder === undefined) return;
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}.png`) });
  }
}

test('todo: two windows share a list, offline and back, and undo takes back what one did', async (t) => {
  const library = path.join(REPOSITORY, 'sdk/client/dist/standalone.js');
  assert.ok(existsSync(library), 'build the client first: npm run build --prefix sdk/client');
  const origin = await serve(t, path.join(REPOSITORY, 'examples/todo'), { '/epicenter-client.js': library });
  const { server, url, cut, mend } = await start(t, 'todo', origin);
  const address = `${origin}/?server=${url}`;
  const [ada, bob] = [await open(t, address), await open(t, address)];
  const titles = (page) => page.locator('li span').allTextContents();
  const shows = (page, ...expected) =>
    until(`a window shows ${expected}`, async () => JSON.stringify(await titles(page)) === JSON.stringify(expected));
  const add = async (page, title) => {
    await page.fill('#title', title);
    await page.press('#title', 'Enter');
  };

  await add(ada, 'Buy tea');
  await shows(ada, 'Buy tea');
  await shows(bob, 'Buy tea');
  await bob.check('li input');
  await until('the other window sees it done', () => ada.isChecked('li input'));

  cut();
  await is(ada, 'offline');
  const before = await kept(ada, 'todo');
  await add(ada, 'Water the plants');
  await until('the device has kept it', async () => (await kept(ada, 'todo')) > before);
  await ada.reload();
  await shows(ada, 'Buy tea', 'Water the plants');
  mend();
  await shows(bob, 'Buy tea', 'Water the plants');
  await is(ada, 'saved');
  const { data } = await server.get('/workspaces/todo/tables/todos?sort=at');
  assert.deepEqual(data.map(({ title, done }) => ({ title, done })), [
    { title: 'Buy tea', done: true },
    { title: 'Water the plants', done: false },
  ]);
  await picture(ada, 'todo');

  await ada.click('#clear');
  await shows(bob, 'Water the plants');
  await ada.click('#undo');
  await shows(bob, 'Buy tea', 'Water the plants');
  assert.deepEqual([...ada.faults, ...bob.faults], []);
});

test('board: two windows see each other, move notes, and write in one rich text', async (t) => {
  const folder = path.join(REPOSITORY, 'examples/board/dist');
  assert.ok(existsSync(folder), 'build the board first: npm run build --prefix examples/board');
  const origin = await serve(t, folder);
  const { server, url, cut, mend } = await start(t, 'board', origin);
  const address = `${origin}/?server=${url}`;
  const [ada, bob] = [await open(t, address), await open(t, address)];
  const titles = (page) => page.locator('.note textarea').evaluateAll((all) => all.map(({ value }) => value).sort());
  const shows = (page, ...expected) =>
    until(`a window shows ${expected}`, async () => JSON.stringify(await titles(page)) === JSON.stringify(expected));

  await ada.fill('.people input', 'Ada');
  await until('the other window sees who is there', () => bob.locator('.person[title=Ada]').count());

  await ada.click('text=New note');
  await ada.fill('.note textarea', 'Ideas');
  await shows(bob, 'Ideas');

  // While a note is held the others see it move; when it is let go it is written.
  const left = async (page) => Math.round((await page.locator('.note').boundingBox()).x);
  const from = await left(ada);
  await ada.mouse.move(from + 5, 120);
  await ada.mouse.down();
  await ada.mouse.move(from + 305, 220, { steps: 3 });
  await until('the other window sees the note move', async () => (await left(bob)) === from + 300);
  await until('and whose pointer it is', () => bob.locator('.pointer >> text=Ada').count());
  const stored = async () => (await server.get('/workspaces/board/tables/notes')).data[0].x;
  assert.equal(await stored(), from);
  await ada.mouse.up();
  await until('the note is written', async () => (await stored()) === from + 300);
  await ada.click('text=Undo');
  await until('undo moves it back', async () => (await left(bob)) === from);
  await ada.click('text=Redo');
  await until('redo moves it again', async () => (await left(bob)) === from + 300);

  cut();
  await is(ada, 'offline');
  await is(bob, 'offline');
  await ada.click('text=New note');
  await shows(ada, '', 'Ideas');
  await bob.fill('.note textarea', 'Plans');
  mend();
  await shows(ada, '', 'Plans');
  await shows(bob, '', 'Plans');
  await ada.fill('.note textarea:placeholder-shown', 'Questions');
  await shows(bob, 'Plans', 'Questions');

  for (const page of [ada, bob]) await page.locator('.note', { has: page.getByText('Plans') }).getByText('Open').click();
  await ada.locator('.ql-editor').click();
  await ada.keyboard.press('Control+b');
  await ada.keyboard.type('Bold');
  await ada.keyboard.press('Control+b');
  await ada.keyboard.type(' plans');
  const html = (page) => page.locator('.ql-editor').innerHTML();
  await until('the other window has the text', async () => (await html(bob)).includes('<strong>Bold</strong> plans'));
  await until('and the cursor', () => bob.locator('.ql-cursor >> text=Ada').count());
  await bob.locator('.ql-editor').click();
  await bob.keyboard.press('Control+End');
  await bob.keyboard.type(', together');
  await until('the first window has what the other wrote', async () => (await html(ada)).includes(' plans, together'));
  const { data } = await server.get('/workspaces/board/tables/notes');
  const { id } = data.find(({ title }) => title === 'Plans');
  await until('the server has it as text', async () =>
    JSON.stringify((await server.get(`/workspaces/board/tables/notes/${id}/documents/body`)).body).includes('Bold plans, together'));
  await picture(ada, 'board');

  await bob.close();
  await until('who leaves is not shown any more', async () => (await ada.locator('.person').count()) === 0);
  assert.deepEqual([...ada.faults, ...bob.faults], []);
});
