// How long an app waits for its rows: `npm run bench`. Medians of what is built in `dist`, in node.

import { JSDOM } from 'jsdom';
import * as Y from 'yjs';

const { window } = new JSDOM('<div id="root"></div>', { url: 'http://127.0.0.1' });
for (const name of ['window', 'document', 'navigator', 'location']) globalThis[name] ??= window[name] ?? window;
const { act, createElement } = await import('react');
const { createRoot } = await import('react-dom/client');
const { connect, defineWorkspace, jsonSchema } = await import('../dist/index.js');
const { useRow } = await import('../dist/react.js');
globalThis.IS_REACT_ACT_ENVIRONMENT = true;

const shop = defineWorkspace({
  id: 'shop',
  tables: {
    items: {
      versions: [jsonSchema({
        type: 'object',
        required: ['id', 'title', 'price', 'sold'],
        properties: {
          id: { type: 'string' },
          title: { type: 'string', minLength: 1 },
          price: { type: 'number', minimum: 0 },
          sold: { type: 'boolean' },
        },
      })],
    },
  },
  kv: {},
  awareness: {},
  actions: {},
});

/** Never connects: what is measured happens without a server. */
class WebSocket extends EventTarget {
  send() {}
  close() {}
}

const item = (n) => ({ id: `i${n}`, title: `Item ${(n * 7_919) % 10_007}`, price: n % 100, sold: n % 3 === 0 });

/** A document with this many rows, as it comes from a server or from the device. */
function documentOf(rows) {
  const from = new Y.Doc();
  from.transact(() => from.getArray('table:items').push(Array.from({ length: rows }, (_, n) => ({ key: `i${n}`, val: item(n), ts: n + 1 }))));
  const doc = new Y.Doc();
  Y.applyUpdate(doc, Y.encodeStateAsUpdate(from));
  return doc;
}

const open = (doc) => connect(shop, { url: 'http://127.0.0.1:9', doc, WebSocket, shareSocket: false });

function report(what, times) {
  times.sort((a, b) => a - b);
  console.log(`${times[times.length >> 1].toFixed(2).padStart(9)} ms, at best ${times[0].toFixed(2).padStart(6)} ms  ${what}`);
}

const all = [];
const sorted = [];
for (let run = 0; run < 15; run += 1) {
  for (const [times, select] of [[all, {}], [sorted, { where: { sold: false }, sort: '-price,title' }]]) {
    const doc = documentOf(10_000);
    // What was left over from making the document is no part of it.
    gc();
    const started = performance.now();
    const workspace = open(doc);
    const { rows } = workspace.tables.items.list(select);
    times.push(performance.now() - started);
    if (rows.length < 6_000) throw new Error('rows are missing');
    workspace.destroy();
  }
}
report('10,000 rows of a document, validated, by id', all);
report('10,000 rows of a document, validated, filtered and sorted', sorted);

const doc = documentOf(100_000);
const workspace = open(doc);
workspace.tables.items.all();
let rendered;
function Item() {
  rendered = useRow(workspace.tables.items, 'i50000');
  return rendered?.title;
}
const root = createRoot(window.document.getElementById('root'));
await act(() => root.render(createElement(Item)));
const other = new Y.Doc();
Y.applyUpdate(other, Y.encodeStateAsUpdate(doc));
const peer = open(other);
const mine = [];
const changes = [];
for (let run = 0; run < 50; run += 1) {
  let started = performance.now();
  await act(() => workspace.tables.items.update('i50000', { title: `mine ${run}` }));
  mine.push(performance.now() - started);
  if (rendered.title !== `mine ${run}`) throw new Error('the row was not rendered');
  Y.applyUpdate(other, Y.encodeStateAsUpdate(doc, Y.encodeStateVector(other)));
  peer.tables.items.update('i50000', { title: `theirs ${run}` });
  const update = Y.encodeStateAsUpdate(other, Y.encodeStateVector(doc));
  started = performance.now();
  await act(() => Y.applyUpdate(doc, update));
  changes.push(performance.now() - started);
  if (rendered.title !== `theirs ${run}`) throw new Error('the row was not rendered');
}
report('a write to one of 100,000 rows, until its useRow has rendered', mine);
report('a change by others to one of 100,000 rows, until its useRow has rendered', changes);
process.exit();
