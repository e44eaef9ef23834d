/** Keeps workspaces on this device, in IndexedDB, by `y-indexeddb`. */

import { IndexeddbPersistence } from 'y-indexeddb';

import type { Persist } from './workspace.ts';

/** `connect(blog, { url, persist: indexedDB() })`. One database for each document. */
export function indexedDB(): Persist {
  return (name, doc) => {
    const persistence = new IndexeddbPersistence(`epicenter ${name}`, doc);
    return {
      loaded: persistence.whenSynced.then(() => {}),
      close: () => void persistence.destroy(),
    };
  };
}
