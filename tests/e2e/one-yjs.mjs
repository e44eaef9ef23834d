// Whatever is imported after this uses the Yjs of this folder, as everything does in an app. The client
// has a Yjs of its own in its folder, for its tests, and two of them do not know each other's types.

import { register } from 'node:module';

const SHARED = /^(yjs|lib0|y-protocols)(\/|$)/;

/** Resolves what is shared as if it were asked for from here. */
export function resolve(specifier, context, next) {
  return next(specifier, SHARED.test(specifier) ? { ...context, parentURL: import.meta.url } : context);
}

/** Makes `resolve` count. */
export function shareYjs() {
  register(import.meta.url);
}
