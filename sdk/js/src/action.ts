/** Actions: what callers can ask a workspace to do. */

import type { Output, StandardSchema } from './schema.ts';

/** What an action is, but for its kind. `I` is the schema of its input, `O` that of its result. */
export interface ActionOptions<I extends StandardSchema | undefined, O extends StandardSchema | undefined> {
  /** For people, and for what calls actions on their behalf. */
  description?: string;
  /** The host checks the input against it before it calls. Without it the action takes none. */
  input?: I;
  /** What the action gives, for clients and OpenAPI. */
  output?: O;
  /**
   * Does it. Gives any JSON value; throws `NotFound`, `Invalid`, `Denied` or `Failed` to refuse. It
   * must be done when it returns: a promise is an error.
   */
  handler: (
    input: I extends StandardSchema ? Output<I> : undefined,
  ) => O extends StandardSchema ? Output<O> : unknown;
}

/** One action; made by `defineQuery` or `defineMutation`. */
export interface Action {
  readonly kind: 'query' | 'mutation';
  readonly description: string;
  readonly input: StandardSchema | undefined;
  readonly output: StandardSchema | undefined;
  readonly handler: (input: any) => unknown;
}

/** Actions by name; the names of nested ones are joined by `/`. */
export interface Actions {
  readonly [name: string]: Action | Actions;
}

/** An action that reads: `GET …/actions/{path}`, with the input in the query string. */
export function defineQuery<
  I extends StandardSchema | undefined = undefined,
  O extends StandardSchema | undefined = undefined,
>(options: ActionOptions<I, O>): Action {
  return action('query', options);
}

/**
 * An action that may write: `POST …/actions/{path}`, with the input as JSON body. All of its writes
 * happen, or none: none when it throws or runs out of time. Reads in it see its own writes. The host
 * may run it again, from the start, when another writer was faster.
 */
export function defineMutation<
  I extends StandardSchema | undefined = undefined,
  O extends StandardSchema | undefined = undefined,
>(options: ActionOptions<I, O>): Action {
  return action('mutation', options);
}

function action(
  kind: Action['kind'],
  { description = '', input, output, handler }: ActionOptions<any, any>,
): Action {
  return { kind, description, input, output, handler };
}

/** All actions with their paths. */
export function flatten(actions: Actions, prefix = ''): [path: string, action: Action][] {
  return Object.entries(actions).flatMap(([name, entry]) =>
    isAction(entry) ? [[prefix + name, entry]] : flatten(entry, `${prefix}${name}/`),
  );
}

function isAction(entry: Action | Actions): entry is Action {
  return typeof entry.handler === 'function';
}
