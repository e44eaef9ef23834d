/**
 * Why an action could not do what was asked. Thrown by a handler, each becomes one HTTP status; what
 * else a handler throws is a `Failed` with the error's message, and its stack goes to the log.
 */

import type { StandardIssue } from './schema.ts';

/** One thing that is wrong with a value, and where in it. */
export interface Issue {
  /** From the outermost member to the faulty one; empty when the whole value is at fault. */
  path: string[];
  /** What is wrong and what would mend it, for the person who wrote the value. */
  message: string;
}

/** An error in the contract's own form. */
export type HostError =
  | { tag: 'not-found'; val: string }
  | { tag: 'invalid'; val: Issue[] }
  | { tag: 'conflict'; val: Issue[] }
  | { tag: 'denied'; val: string }
  | { tag: 'failed'; val: string };

/** An error that says how the host is to answer. */
export abstract class WorkspaceError extends Error {
  /** The contract's form of it. */
  abstract toHost(): HostError;
}

/** The row, key or whatever was asked for does not exist. REST answers 404, with the message where one is given. */
export class NotFound extends WorkspaceError {
  override name = 'NotFound';
  readonly #words: string;

  constructor(message = '') {
    super(message || 'not found');
    this.#words = message;
  }

  toHost(): HostError {
    return { tag: 'not-found', val: this.#words };
  }
}

/**
 * A value was refused. REST answers 422 with the issues.
 *
 * `new Invalid('title', 'must not be empty')`, or with all that is wrong: `new Invalid([…])`.
 */
export class Invalid extends WorkspaceError {
  override name = 'Invalid';
  readonly issues: Issue[];

  constructor(issues: Issue[]);
  constructor(at: string | readonly (string | number)[], message: string);
  constructor(at: Issue[] | string | readonly (string | number)[], message?: string) {
    const issues =
      message === undefined
        ? (at as Issue[])
        : [{ path: (typeof at === 'string' ? [at] : at).map(String), message }];
    super(issues.map(({ path, message }) => [...path, message].join(': ')).join('; '));
    this.issues = issues;
  }

  toHost(): HostError {
    return { tag: 'invalid', val: this.issues };
  }
}

/**
 * The value does not go with what is there: it is taken, refers to a row that does not exist, or others refer to the
 * row. REST answers 409 with the issues.
 */
export class Conflict extends WorkspaceError {
  override name = 'Conflict';
  readonly issues: Issue[];

  constructor(issues: Issue[]) {
    super(issues.map(({ path, message }) => [...path, message].join(': ')).join('; '));
    this.issues = issues;
  }

  toHost(): HostError {
    return { tag: 'conflict', val: this.issues };
  }
}

/** The caller may not do this; the message says what. REST answers 403. */
export class Denied extends WorkspaceError {
  override name = 'Denied';

  toHost(): HostError {
    return { tag: 'denied', val: this.message };
  }
}

/** Anything else; the message is shown to the caller. REST answers 500. */
export class Failed extends WorkspaceError {
  override name = 'Failed';

  toHost(): HostError {
    return { tag: 'failed', val: this.message };
  }
}

/** From a library's issue to ours. */
export function issueOf({ path = [], message }: StandardIssue): Issue {
  const key = (step: PropertyKey | { readonly key: PropertyKey }) =>
    String(typeof step === 'object' ? step.key : step);
  return { path: path.map(key), message };
}

/** Calls the host, and turns what it throws into an error of ours with a stack. */
export function ask<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw fromHost(thrown);
  }
}

function fromHost(thrown: unknown): unknown {
  // QuickJS throws the contract's variant itself, StarlingMonkey an error that carries it.
  const error = (thrown as { payload?: unknown } | null)?.payload ?? thrown;
  switch ((error as HostError | null)?.tag) {
    case 'not-found':
      return new NotFound((error as { val: string }).val);
    case 'invalid':
      return new Invalid((error as { val: Issue[] }).val);
    case 'conflict':
      return new Conflict((error as { val: Issue[] }).val);
    case 'denied':
      return new Denied((error as { val: string }).val);
    case 'failed':
      return new Failed((error as { val: string }).val);
    default:
      return thrown;
  }
}
