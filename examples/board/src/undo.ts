/** Undo and redo of what was done here. What others did stays. */

import type { Workspace } from 'epicenter-client';
import { useCallback, useEffect, useState } from 'react';
import type { UndoManager } from 'yjs';

import type { board } from './workspaces.ts';

/** The workspace of the board. */
export type Board = Workspace<NonNullable<typeof board.types>>;

export function useUndo(workspace: Board | undefined) {
  const [manager, setManager] = useState<UndoManager>();
  const [can, setCan] = useState({ canUndo: false, canRedo: false });

  useEffect(() => {
    if (workspace === undefined) return;
    const manager = workspace.undoManager(['notes']);
    const show = () => setCan({ canUndo: manager.canUndo(), canRedo: manager.canRedo() });
    const keys = (event: KeyboardEvent) => {
      // A text that has the focus has an undo of its own.
      const inText = event.target instanceof HTMLElement && event.target.isContentEditable;
      if (inText || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== 'z') return;
      event.preventDefault();
      if (event.shiftKey) manager.redo();
      else manager.undo();
    };
    manager.on('stack-item-added', show);
    manager.on('stack-item-popped', show);
    addEventListener('keydown', keys);
    setManager(manager);
    return () => {
      manager.destroy();
      removeEventListener('keydown', keys);
    };
  }, [workspace]);

  /** Does what is taken back as one. */
  const step = useCallback(
    (work: () => void) => {
      manager?.stopCapturing();
      work();
    },
    [manager],
  );
  return { ...can, step, undo: () => void manager?.undo(), redo: () => void manager?.redo() };
}
