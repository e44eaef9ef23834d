/** The text of a note, in Quill, by its ordinary Yjs binding: everybody who has it open writes in it. */

import 'quill/dist/quill.snow.css';

import { useDocument } from 'epicenter-client/react';
import Quill from 'quill';
import QuillCursors from 'quill-cursors';
import { useEffect, useRef } from 'react';
import { QuillBinding } from 'y-quill';

import type { Me } from './me.ts';
import type { Board } from './undo.ts';
import type { Notes } from './workspaces.ts';

Quill.register('modules/cursors', QuillCursors);

const TOOLBAR = [[{ header: [1, 2, false] }], ['bold', 'italic', 'underline', 'link'], [{ list: 'ordered' }, { list: 'bullet' }, 'blockquote'], ['clean']];

export default function NoteText({ note, workspace, me, onClose }: { note: Notes; workspace: Board; me: Me; onClose: () => void }) {
  const document = useDocument(() => workspace.tables.notes.document(note.id, 'body'), note.id);
  const place = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (document === undefined || place.current === null) return;
    const element = place.current.appendChild(globalThis.document.createElement('div'));
    const quill = new Quill(element, {
      theme: 'snow',
      placeholder: 'Write something together',
      // Undo in the text takes back what was written here, too.
      modules: { toolbar: TOOLBAR, cursors: true, history: { userOnly: true } },
    });
    const binding = new QuillBinding(document.text, quill, document.awareness);
    quill.focus();
    return () => {
      binding.destroy();
      place.current?.replaceChildren();
    };
  }, [document]);

  useEffect(() => document?.awareness.setLocalStateField('user', me), [document, me]);

  return (
    <aside className={note.color}>
      <header>
        <h2>{note.title || 'A note'}</h2>
        <button onClick={onClose}>Close</button>
      </header>
      <div className="text" ref={place} />
    </aside>
  );
}
