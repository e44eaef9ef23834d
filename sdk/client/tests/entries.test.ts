import { expect, test } from 'vitest';
import * as Y from 'yjs';

import { Layout } from '../src/entries.ts';

/** Numbers that look random and are the same for a seed. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** What counts, found by a walk over the whole array: the rules and nothing else. */
function walk(array: Y.Array<unknown>): Map<string, unknown> {
  const best = new Map<string, { ts: number; val: unknown }>();
  for (const { key, ts, val } of array.toArray() as { key: string; ts: number; val: unknown }[]) {
    const known = best.get(key);
    if (known === undefined || ts >= known.ts) best.set(key, { ts, val });
  }
  return new Map([...best].map(([key, { val }]) => [key, val]));
}

function device(now: () => number) {
  const doc = new Y.Doc();
  const layout = new Layout(doc, now);
  const entries = layout.entries('table:t');
  const seen = new Map<string, unknown>();
  entries.observe(({ keys }) => {
    for (const key of keys) {
      const live = entries.get(key);
      if (live) seen.set(key, live.val);
      else seen.delete(key);
    }
  });
  return { doc, layout, entries, seen, undo: new Y.UndoManager(entries.array, { captureTimeout: 0, trackedOrigins: new Set(['me']) }) };
}

test.each(Array.from({ length: 60 }, (_, seed) => seed))('devices that write at once end with the same rows (history %i)', (seed) => {
  const pick = random(seed);
  let clock = 1_000;
  const devices = [0, 1, 2].map((skew) => device(() => clock + skew * (pick(3) - 1)));
  const hear = (to: number, from: number) => {
    const [a, b] = [devices[to]!, devices[from]!];
    Y.applyUpdate(a.doc, Y.encodeStateAsUpdate(b.doc, Y.encodeStateVector(a.doc)));
  };
  for (let step = 0; step < 80; step += 1) {
    const at = pick(3);
    const one = devices[at]!;
    clock += pick(2);
    const key = `k${pick(6)}`;
    const act = pick(10);
    if (act < 4) one.entries.set(key, step, 'me');
    else if (act < 5) one.entries.delete(key, 'me');
    else if (act < 6) {
      one.doc.transact(() => {
        one.entries.set(key, step, 'me');
        if (pick(2)) one.entries.delete(key, 'me');
        one.entries.set(`k${pick(6)}`, `${step}b`, 'me');
      }, 'me');
      if (pick(4) === 0) {
        const before = walk(one.entries.array);
        const fails = () =>
          one.layout.transact(() => {
            one.entries.set(key, 'never', 'me');
            one.entries.delete(`k${pick(6)}`, 'me');
            one.entries.set(`k${pick(6)}`, 'never', 'me');
            throw new Error('not today');
          }, 'me');
        expect(fails).toThrow('not today');
        expect(walk(one.entries.array)).toEqual(before);
      }
    } else if (act < 7) one.undo.undo();
    else if (act < 8) {
      // A client that writes by index, and knows nothing of ids.
      if (one.entries.array.length > 0) one.entries.array.delete(pick(one.entries.array.length));
      one.entries.array.push([{ key, val: `other ${step}`, ts: clock }]);
    } else hear(at, (at + 1 + pick(2)) % 3);
    const counted = new Map([...one.entries.keys()].map((key) => [key, one.entries.get(key)!.val]));
    expect(counted).toEqual(walk(one.entries.array));
    expect(one.seen).toEqual(counted);
  }
  for (let round = 0; round < 4; round += 1) {
    for (const [to, from] of [[0, 1], [1, 2], [2, 0], [0, 2], [2, 1], [1, 0]] as const) hear(to, from);
  }
  const [first, ...others] = devices.map(({ entries }) => entries.array.toArray());
  for (const other of others) expect(other).toEqual(first);
  // One entry for each key: the losers are gone.
  expect(new Set(first!.map((entry) => (entry as { key: string }).key)).size).toBe(first!.length);
});

test('a change to one of 100,000 rows looks at that row alone', () => {
  const doc = new Y.Doc();
  const array = doc.getArray('table:t');
  doc.transact(() => array.push(Array.from({ length: 100_000 }, (_, n) => ({ key: `k${n}`, val: n, ts: 1 }))));
  const entries = new Layout(doc).entries('table:t');
  const told: string[][] = [];
  entries.observe(({ keys }) => told.push([...keys]));
  const started = performance.now();
  for (let n = 0; n < 1_000; n += 1) entries.set(`k${(n * 7_919) % 100_000}`, -n, null);
  const each = (performance.now() - started) / 1_000;
  const all = performance.now();
  array.toArray();
  const aWalk = performance.now() - all;
  expect(told.every((keys) => keys.length === 1)).toBe(true);
  expect(each).toBeLessThan(Math.max(aWalk, 0.5));
});

test('an entry without a time loses against any that has one', () => {
  const doc = new Y.Doc();
  const array = doc.getArray('table:t');
  array.push([{ key: 'a', val: 'old', ts: 5 }, { key: 'a', val: 'timeless' }]);
  const entries = new Layout(doc).entries('table:t');
  expect(entries.get('a')?.val).toBe('old');
  expect(array.length).toBe(1);
});

test('a device knows how far its clock is behind the newest entry, and writes after it all the same', () => {
  const doc = new Y.Doc();
  const layout = new Layout(doc, () => 1_000);
  const entries = layout.entries('table:t');
  expect(layout.ahead).toBe(0);
  const other = new Y.Doc();
  new Layout(other, () => 91_000).entries('table:t').set('a', 'theirs', null);
  Y.applyUpdate(doc, Y.encodeStateAsUpdate(other));
  expect(layout.ahead).toBe(90_000);
  entries.set('a', 'mine', null);
  Y.applyUpdate(other, Y.encodeStateAsUpdate(doc));
  expect((other.getArray('table:t').toArray() as { val: string }[]).map(({ val }) => val)).toEqual(['mine']);
});
