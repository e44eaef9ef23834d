/** Values as text for the log. */

/** Where the author wrote what stands in a line of the bundle; `epicenter-build` appends it. */
interface Origins {
  readonly files: readonly string[];
  /** For each line of the bundle, counted from 0: the file's position in `files`, and its line. */
  readonly lines: readonly (readonly [file: number, line: number] | 0)[];
}

/** A value as a person reads it: text as it is, an error with its stack, anything else as JSON. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return value;
  if (value instanceof Error) {
    const cause = value.cause === undefined ? '' : `\ncaused by ${describe(value.cause)}`;
    return `${value.name}: ${value.message}\n${traced(value.stack ?? '')}`.trimEnd() + cause;
  }
  if (typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint') {
    return String(value);
  }
  try {
    return JSON.stringify(value) ?? 'undefined';
  } catch {
    return String(value);
  }
}

/** A stack whose places are those in the author's files; frames of libraries are left out. */
function traced(stack: string): string {
  const origins = (globalThis as { __epicenterOrigins?: Origins }).__epicenterOrigins;
  if (origins === undefined) return stack;
  const frames = stack.split('\n').flatMap((frame) => {
    const [, name, line] = /at (.*?) ?\(?[^ (]*?:(\d+):\d+\)?$/.exec(frame.trim()) ?? [];
    const origin = line === undefined ? undefined : origins.lines[Number(line) - 1];
    if (!origin) return [];
    const place = `${origins.files[origin[0]]}:${origin[1]}`;
    return [`    at ${name ? `${name} (${place})` : place}`];
  });
  return frames.join('\n');
}
