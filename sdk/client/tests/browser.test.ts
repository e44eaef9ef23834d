/** In a real browser: tabs that share a socket, and rows that survive a reload without a server. */

import { existsSync } from 'node:fs';
import { createServer } from 'node:http';

import { build } from 'esbuild';
import { type Browser, type BrowserContext, type Page, chromium } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { Server, until } from './server.ts';

const CHROMIUM =
  process.env.CHROMIUM_BIN ??
  ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((file) => existsSync(file));

/** The page: a workspace by the name `blog`, kept on the device. */
const PAGE = `
  import { connect } from '../src/index.ts';
  import { indexedDB } from '../src/indexeddb.ts';
  import { blog } from './blog.ts';
  window.blog = connect(blog, { url: URL_OF_SERVER, persist: indexedDB() });
`;

let browser: Browser;
let server: Server;
let origin: string;
let close: () => void;

beforeAll(async () => {
  if (CHROMIUM === undefined) throw new Error('install Chromium (Debian: apt-get install chromium), or say where it is with CHROMIUM_BIN');
  let script = '';
  const http = createServer((request, response) => {
    const isScript = request.url === '/page.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? script : '<!doctype html><title>tab</title><script type="module" src="/page.js"></script>');
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(http.address() as { port: number }).port}`;
  close = () => {
    http.closeAllConnections();
    http.close();
  };
  server = await Server.start({ args: ['--allow-origin', origin] });
  const { outputFiles } = await build({
    stdin: { contents: PAGE, resolveDir: import.meta.dirname, loader: 'ts' },
    define: { URL_OF_SERVER: JSON.stringify(server.url) },
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
  });
  script = outputFiles[0]!.text;
  const quiet = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'];
  browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: quiet });
});

afterAll(async () => {
  await browser?.close();
  await server?.dispose();
  close?.();
});

async function tab(context: BrowserContext): Promise<Page> {
  const page = await context.newPage();
  await page.goto(origin);
  await page.waitForFunction(() => (window as any).blog !== undefined);
  return page;
}

const put = (page: Page, id: string) =>
  page.evaluate((id) => void (window as any).blog.tables.posts.put({ id, title: id, content: '', views: 0, published: false }), id);
const has = (page: Page, id: string) => page.evaluate((id) => (window as any).blog.tables.posts.has(id) as boolean, id);
const status = (page: Page) => page.evaluate(() => (window as any).blog.status as string);
const saved = (page: Page) => page.evaluate(() => (window as any).blog.saved());

/** How many updates the device has kept. */
const kept = (page: Page) =>
  page.evaluate(async () => {
    const [{ name }] = (await indexedDB.databases()) as [{ name: string }];
    const database = await new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const count = await new Promise<number>((resolve) => {
      const request = database.transaction('updates').objectStore('updates').count();
      request.onsuccess = () => resolve(request.result);
    });
    database.close();
    return count;
  });

test('tabs share one socket, and the next takes it over when its tab closes', async () => {
  const context = await browser.newContext();
  const leader = await tab(context);
  await until('the first tab is connected', async () => (await status(leader)) === 'saved');
  const followers = [await tab(context), await tab(context)] as const;
  for (const page of followers) await until('a tab is connected', async () => (await status(page)) === 'saved');
  expect(server.connections).toBe(1);

  await put(followers[0], 'from-a-follower');
  await saved(followers[0]);
  expect((await server.server.get('/workspaces/blog/tables/posts/from-a-follower')).status).toBe(200);
  for (const page of [leader, followers[1]]) await until('the others see it', () => has(page, 'from-a-follower'));

  await followers[1].evaluate(() => (window as any).blog.presence.set('name', 'Ada'));
  await until('the leader sees who is in another tab', () =>
    leader.evaluate(() => (window as any).blog.presence.people().some((one: any) => one.fields.name === 'Ada')),
  );

  await leader.close();
  await put(followers[1], 'after-the-leader');
  await saved(followers[1]);
  await until('the other tab sees it', () => has(followers[0], 'after-the-leader'));
  await until('one socket is left', () => server.connections === 1);
  await context.close();
});

test('what was written offline survives a reload, and is sent when the server is back', async () => {
  const context = await browser.newContext();
  const page = await tab(context);
  await until('it is connected', async () => (await status(page)) === 'saved');
  server.cut();
  await until('it is offline', async () => (await status(page)) === 'offline');
  const before = await kept(page);
  await put(page, 'offline');
  await until('the device has kept it', async () => (await kept(page)) > before);
  await page.reload();
  await until('it is there again', () => has(page, 'offline'));
  expect(['offline', 'connecting']).toContain(await status(page));
  server.mend();
  await page.evaluate(() => (window as any).blog.reconnect());
  await saved(page);
  expect((await server.server.get('/workspaces/blog/tables/posts/offline')).status).toBe(200);
  await context.close();
});
