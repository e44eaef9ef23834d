/**
 * Everything that a page without a build step needs, which the build makes one file of, Yjs included:
 * `import { connect, indexedDB } from './standalone.js'`. An app that bundles has no use for it, and
 * would have Yjs twice.
 */

export * from './index.ts';
export { indexedDB } from './indexeddb.ts';
export * as Y from 'yjs';
