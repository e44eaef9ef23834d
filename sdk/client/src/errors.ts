/** One thing that is wrong with a value. */
export interface Issue {
  /** Where in the value; empty for the value as a whole. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** A row, a value or an input that its schema does not accept. Nothing was written. */
export class InvalidError extends Error {
  override readonly name = 'InvalidError';
  readonly issues: readonly Issue[];

  constructor(what: string, issues: readonly Issue[]) {
    super(`${what} is not valid: ${issues.map(sayIssue).join('; ')}`);
    this.issues = issues;
  }
}

/** There is no such row. */
export class MissingError extends Error {
  override readonly name = 'MissingError';
}

/** The server refuses this client for good: it will not be asked again until `reconnect()`. */
export class DeniedError extends Error {
  override readonly name = 'DeniedError';
  /** The close code of the socket: 4401 not signed in, 4403 not allowed, 4004 no such room, 1008 policy. */
  readonly code: number;

  constructor(code: number, reason: string) {
    super(reason || `the server closed the connection with code ${code}`);
    this.code = code;
  }
}

export function sayIssue({ path, message }: Issue): string {
  return path.length === 0 ? message : `${path.join('.')}: ${message}`;
}
