// @vitest-environment jsdom
import { StrictMode, act } from 'react';
import { type Root, createRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, expect, test } from 'vitest';
import * as Y from 'yjs';

import { connect } from '../src/index.ts';
import { useAction, useKv, usePresence, useRow, useStatus, useTable, useWorkspace } from '../src/react.ts';
import { blog } from './blog.ts';

(globalThis as any).IS_REACT_ACT_ENVIRONMENT = true;

/** A socket that never opens: what is tested here is local. */
class Silent extends EventTarget {
  static made = 0;
  readyState = 0;
  OPEN = 1;
  constructor() {
    super();
    Silent.made += 1;
  }
  send() {}
  close() {}
}
const WebSocket = Silent as unknown as typeof globalThis.WebSocket;
const options = { url: 'http://127.0.0.1:9', WebSocket };
const post = (id: string, more: object = {}) => ({ id, title: id, content: '', views: 0, published: false, ...more });

let root: Root;
let page: HTMLElement;
beforeEach(() => {
  page = document.createElement('div');
  root = createRoot(page);
});
afterEach(() => act(() => root.unmount()));

test('a list renders when its rows change, and a row when it does', async () => {
  const workspace = connect(blog, options);
  const { posts } = workspace.tables;
  posts.put(post('a', { views: 5 }));
  const renders = { list: 0, row: 0 };
  function List() {
    renders.list += 1;
    const rows = useTable(posts, { where: { views: { gte: 1 } }, sort: '-views' });
    return <p id="list">{rows.map(({ id }) => id).join(' ')}</p>;
  }
  function Row() {
    renders.row += 1;
    return <p id="row">{useRow(posts, 'a')?.title}</p>;
  }
  await act(() => root.render(<><List /><Row /></>));
  expect(page.textContent).toBe('aa');
  const before = { ...renders };
  await act(() => void posts.put(post('unseen')));
  expect(renders).toEqual(before);
  await act(() => void posts.put(post('b', { views: 9 })));
  expect(page.textContent).toBe('b aa');
  expect(renders).toEqual({ list: before.list + 1, row: before.row });
  await act(() => void posts.update('a', { title: 'A' }));
  expect(page.textContent).toBe('b aA');
  expect(renders.row).toBe(before.row + 1);
  workspace.destroy();
});

test('StrictMode leaves one workspace, and an unmount none', async () => {
  let held: unknown[] = [];
  function App() {
    const workspace = useWorkspace(blog, options);
    const status = useStatus(workspace);
    if (workspace && !held.includes(workspace)) held.push(workspace);
    return <p>{workspace ? status : 'none'}</p>;
  }
  await act(() => root.render(<StrictMode><App /></StrictMode>));
  expect(page.textContent).toBe('connecting');
  await act(() => root.render(<p>gone</p>));
  for (const workspace of held as { doc: Y.Doc }[]) expect(workspace.doc.isDestroyed).toBe(true);
});

test('keys and people are shown as they change', async () => {
  const workspace = connect(blog, options);
  function App() {
    const [theme, setTheme] = useKv(workspace.kv, 'theme');
    const people = usePresence(workspace.presence);
    return <button onClick={() => setTheme('dark')}>{theme ?? 'none'} {people.map(({ fields }) => fields.name).join()}</button>;
  }
  await act(() => root.render(<App />));
  expect(page.textContent).toBe('none ');
  await act(() => page.querySelector('button')?.dispatchEvent(new MouseEvent('click', { bubbles: true })));
  await act(() => workspace.presence.set('name', 'Ada'));
  expect(page.textContent).toBe('dark Ada');
  workspace.destroy();
});

test('an action shows that it runs, and what came of it', async () => {
  let answer: (result: any) => void = () => {};
  const action = (_input: { id: string }) => new Promise<any>((resolve) => (answer = resolve));
  function App() {
    const [run, { pending, data }] = useAction(action);
    return <button onClick={() => void run({ id: 'a' })}>{pending ? 'running' : String(data ?? 'idle')}</button>;
  }
  await act(() => root.render(<App />));
  await act(() => page.querySelector('button')?.dispatchEvent(new MouseEvent('click', { bubbles: true })));
  expect(page.textContent).toBe('running');
  await act(async () => answer({ ok: true, data: 'done' }));
  expect(page.textContent).toBe('done');
});

test('a server renders without a workspace', () => {
  function App() {
    const workspace = useWorkspace(blog, options);
    return <p>{useTable(workspace?.tables.posts).length} {useStatus(workspace)} {String(useRow(workspace?.tables.posts, 'a'))}</p>;
  }
  const made = Silent.made;
  expect(renderToString(<App />).replace(/<!-- -->/g, '')).toBe('<p>0 connecting undefined</p>');
  expect(Silent.made).toBe(made);
});
