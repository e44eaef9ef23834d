/** A note on the board: it is moved by its edge, and its title is written in place. */

import { type PointerEvent, memo, useState } from 'react';

import type { Board } from './undo.ts';
import type { Notes } from './workspaces.ts';

interface Place {
  readonly x: number;
  readonly y: number;
}

interface Props {
  readonly note: Notes;
  /** Where somebody else has it just now. */
  readonly held: Place | undefined;
  readonly workspace: Board;
  readonly step: (work: () => void) => void;
  readonly isOpen: boolean;
  readonly onOpen: (id: string) => void;
}

export const NoteCard = memo(function NoteCard({ note, held, workspace, step, isOpen, onOpen }: Props) {
  const { notes } = workspace.tables;
  const [grip, setGrip] = useState<Place & { dx: number; dy: number }>();
  const place = grip ?? held ?? note;

  const take = (event: PointerEvent<HTMLElement>) => {
    if ((event.target as HTMLElement).closest('textarea, button')) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    setGrip({ x: note.x, y: note.y, dx: note.x - event.clientX, dy: note.y - event.clientY });
  };
  const move = (event: PointerEvent) => {
    if (grip === undefined) return;
    const x = Math.max(0, event.clientX + grip.dx);
    const y = Math.max(0, event.clientY + grip.dy);
    setGrip({ ...grip, x, y });
    workspace.presence.set('drag', { id: note.id, x, y });
  };
  const letGo = () => {
    if (grip === undefined) return;
    if (notes.has(note.id)) step(() => notes.update(note.id, { x: grip.x, y: grip.y }));
    workspace.presence.set('drag', null);
    setGrip(undefined);
  };

  return (
    <article
      className={`note ${note.color}${grip ? ' taken' : ''}${isOpen ? ' open' : ''}`}
      style={{ translate: `${place.x}px ${place.y}px` }}
      onPointerDown={take}
      onPointerMove={move}
      onPointerUp={letGo}
      onPointerCancel={letGo}
    >
      <textarea
        aria-label="Title"
        placeholder="A note"
        value={note.title}
        maxLength={200}
        onChange={({ target }) => notes.update(note.id, { title: target.value })}
      />
      <footer>
        <button onClick={() => onOpen(note.id)}>Open</button>
        <button onClick={() => step(() => notes.delete(note.id))}>Delete</button>
      </footer>
    </article>
  );
});
