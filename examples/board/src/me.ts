/** Who one is on the board: a name that one chooses, and a colour. Both stay on this device. */

import { useState } from 'react';

export interface Me {
  readonly name: string;
  readonly color: string;
}

const NAMES = ['Otter', 'Heron', 'Lynx', 'Marten', 'Wren', 'Badger', 'Finch', 'Hare'];
const COLORS = ['#d9480f', '#5f3dc4', '#0b7285', '#a61e4d', '#2b8a3e', '#1864ab'];

export function useMe(): readonly [Me, (name: string) => void] {
  const [me, setMe] = useState(remembered);
  const rename = (name: string) => {
    const renamed = { ...me, name };
    localStorage.setItem('me', JSON.stringify(renamed));
    setMe(renamed);
  };
  return [me, rename];
}

function remembered(): Me {
  const stored = localStorage.getItem('me');
  if (stored !== null) return JSON.parse(stored) as Me;
  const me = { name: pick(NAMES), color: pick(COLORS) };
  localStorage.setItem('me', JSON.stringify(me));
  return me;
}

function pick(values: readonly string[]): string {
  return values[Math.floor(Math.random() * values.length)]!;
}
