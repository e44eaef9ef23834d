/**
 * What a plugin finds under global names beside the language itself. For `types` in `tsconfig.json`,
 * with a `lib` that has no `dom`.
 */

/** Writes lines to the plugin's log; an error is written with its stack. */
declare const console: {
  log(...values: unknown[]): void;
  info(...values: unknown[]): void;
  debug(...values: unknown[]): void;
  trace(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
  assert(holds: unknown, ...values: unknown[]): void;
};

/** Random numbers from the host's secure source. */
declare const crypto: {
  getRandomValues<A extends ArrayBufferView>(array: A): A;
  randomUUID(): string;
};

/** The time of the call, in ms; the same during one call. */
declare const performance: { now(): number; readonly timeOrigin: number };
