/** The board: notes that everybody moves and writes, who is there, and whether it is saved. */

import { newId } from 'epicenter-client';
import { indexedDB } from 'epicenter-client/indexeddb';
import { usePresence, useStatus, useTable, useWorkspace } from 'epicenter-client/react';
import { type PointerEvent, Suspense, lazy, useEffect, useRef, useState } from 'react';

import { type Me, useMe } from './me.ts';
import { NoteCard } from './note-card.tsx';
import { useUndo } from './undo.ts';
import { type Notes, board } from './workspaces.ts';

/** The server on this machine, or the one that the address names: `?server=https://host`. */
const url = new URLSearchParams(location.search).get('server') ?? 'http://127.0.0.1:3913';
/** The editor is larger than all the rest, and comes with the first note that is opened. */
const NoteText = lazy(() => import('./note-text.tsx'));
const COLORS: readonly Notes['color'][] = ['yellow', 'green', 'blue', 'pink'];

export function App() {
  const workspace = useWorkspace(board, { url, persist: indexedDB() });
  const [me, rename] = useMe();
  const [open, setOpen] = useState<string>();
  const surface = useRef<HTMLElement>(null);
  const notes = useTable(workspace?.tables.notes);
  const people = usePresence(workspace?.presence);
  const undo = useUndo(workspace);

  useEffect(() => {
    workspace?.presence.set('name', me.name);
    workspace?.presence.set('color', me.color);
  }, [workspace, me]);

  const add = () => {
    const { scrollLeft = 0, scrollTop = 0 } = surface.current ?? {};
    const place = notes.length;
    const note: Notes = {
      id: newId(),
      title: '',
      color: COLORS[place % COLORS.length]!,
      x: scrollLeft + 40 + (place % 4) * 250,
      y: scrollTop + 40 + (Math.floor(place / 4) % 3) * 190,
      body: newId(),
      edited: Date.now(),
    };
    undo.step(() => workspace?.tables.notes.put(note));
  };

  /** Where the pointer is on the board, however far that is scrolled. */
  const point = ({ clientX, clientY }: PointerEvent) => {
    const { left, top } = surface.current!.getBoundingClientRect();
    workspace?.presence.set('pointer', {
      x: Math.round(clientX - left + surface.current!.scrollLeft),
      y: Math.round(clientY - top + surface.current!.scrollTop),
    });
  };

  const others = people.filter((person) => !person.isMe);
  // A note that somebody else holds is shown where they have it. It is written once, when it is let go.
  const held = new Map(others.flatMap(({ fields: { drag } }) => (drag ? [[drag.id, drag]] : [])));
  const opened = open === undefined ? undefined : notes.find((note) => note.id === open);

  return (
    <>
      <header>
        <h1>Board</h1>
        <button className="primary" onClick={add} disabled={!workspace}>New note</button>
        <button onClick={undo.undo} disabled={!undo.canUndo}>Undo</button>
        <button onClick={undo.redo} disabled={!undo.canRedo}>Redo</button>
        <People me={me} rename={rename} others={others.map(({ client, fields }) => ({ client, ...fields }))} />
        <SaveState workspace={workspace} />
      </header>
      <main ref={surface} onPointerMove={point} onPointerLeave={() => workspace?.presence.set('pointer', null)}>
        {notes.length === 0 && <p className="empty">Nothing here yet. Make a note, and open this page in a second window.</p>}
        {workspace && notes.map((note) => (
          <NoteCard
            key={note.id}
            note={note}
            held={held.get(note.id)}
            workspace={workspace}
            step={undo.step}
            isOpen={note.id === open}
            onOpen={setOpen}
          />
        ))}
        {others.map(({ client, fields: { name, color, pointer } }) => pointer && (
          <div key={client} className="pointer" style={{ translate: `${pointer.x}px ${pointer.y}px`, color }}>
            <svg viewBox="0 0 16 16" width="16" height="16"><path d="M1 1l5 13 2-6 6-2z" fill="currentColor" /></svg>
            <span style={{ background: color }}>{name}</span>
          </div>
        ))}
      </main>
      {workspace && opened && (
        <Suspense>
          <NoteText key={opened.id} note={opened} workspace={workspace} me={me} onClose={() => setOpen(undefined)} />
        </Suspense>
      )}
    </>
  );
}

function People({ me, rename, others }: { me: Me; rename: (name: string) => void; others: { client: number; name?: string; color?: string }[] }) {
  return (
    <div className="people">
      {others.map(({ client, name = '?', color }) => (
        <span key={client} className="person" title={name} style={{ background: color }}>{name.slice(0, 1)}</span>
      ))}
      <input aria-label="Your name" value={me.name} maxLength={40} style={{ color: me.color }} onChange={({ target }) => rename(target.value)} />
    </div>
  );
}

function SaveState({ workspace }: { workspace: Parameters<typeof useStatus>[0] & { readonly error?: Error } | undefined }) {
  const status = useStatus(workspace);
  return <output id="status" data-status={status}>{workspace?.error?.message ?? status}</output>;
}
