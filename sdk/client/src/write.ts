/** A write that is done here, and on its way to the server. */
export interface Write<Value> {
  /** What was written, with what the schema filled in. */
  readonly value: Value;
  /** `saving` until the server has it on disk. */
  readonly status: 'saving' | 'saved';
  /** Resolves when the server has it on disk; fails when the server refuses this client. */
  saved(): Promise<void>;
}

/** Makes writes: in one transaction, with the origin by which undo knows them. */
export interface Writer {
  write<Value>(value: Value, change: (origin: unknown) => void): Write<Value>;
}
