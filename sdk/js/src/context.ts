/** The call that is being served. */

import * as host from 'epicenter:workspace/context@0.2.0';
import * as variables from 'epicenter:workspace/environment@0.2.0';

import { Denied, ask } from './errors.ts';

/** The account on whose behalf the host calls. */
export interface Caller {
  /** Stable for the life of the account. */
  id: string;
  /** Empty when not known. */
  email: string;
  /** Display name; empty when not known. */
  name: string;
  /** What they may do in the workspace: `write` includes `read`, and `owner` both. */
  right: 'read' | 'write' | 'owner';
}

/** Who called; nothing while the host runs without accounts. */
export function caller(): Caller | undefined {
  return host.caller() ?? undefined;
}

/** Who called; throws `Denied` for a call without an account. */
export function requireCaller(): Caller {
  const account = caller();
  if (account === undefined) throw new Denied('sign in to do this');
  return account;
}

/** A new random id: 21 characters from `[A-Za-z0-9_-]`, 126 bits. */
export function generateId(): string {
  return host.randomId();
}

/**
 * A value of the host's environment; nothing when it has none. Throws `Denied` unless the manifest names it
 * under `env`.
 */
export function environment(name: string): string | undefined {
  return ask(() => variables.get(name)) ?? undefined;
}

/** Names the request that this call serves; the same as in the host's log. */
export function requestId(): string {
  return host.requestId();
}
