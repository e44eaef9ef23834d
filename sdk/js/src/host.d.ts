/** The host's side of the contract (`wit/workspace.wit`), as the engine offers it to modules. */

declare module 'epicenter:workspace/tables@0.2.0' {
  export interface Filter {
    field: string;
    operator: string;
    value: string;
  }
  export interface Query {
    filters: Filter[];
    sort: { field: string; descending: boolean }[];
    limit: number | null;
    cursor: string | null;
  }
  export function get(table: string, id: string): string | null | undefined;
  export function list(
    table: string,
    query: Query,
  ): { rows: string[]; next?: string | null | undefined };
  export function count(table: string, filters: Filter[]): number | bigint;
  export function put(table: string, row: string): string;
  export function update(table: string, id: string, fields: string): string;
  function remove(table: string, id: string): boolean;
  export { remove as delete };
}

declare module 'epicenter:workspace/kv@0.2.0' {
  export function get(key: string): string | null | undefined;
  export function set(key: string, value: string): void;
  function remove(key: string): boolean;
  export { remove as delete };
}

declare module 'epicenter:workspace/documents@0.2.0' {
  export function getText(table: string, id: string, document: string): string;
  export function setText(table: string, id: string, document: string, text: string): void;
}

declare module 'epicenter:workspace/log@0.2.0' {
  export function write(level: 'debug' | 'info' | 'warn' | 'error', message: string): void;
}

declare module 'epicenter:workspace/context@0.2.0' {
  export function caller():
    | { id: string; email: string; name: string; right: 'read' | 'write' | 'owner' }
    | null
    | undefined;
  export function now(): number | bigint;
  export function randomId(): string;
  export function randomU64(): number | bigint;
  export function requestId(): string;
}

declare module 'epicenter:workspace/http@0.2.0' {
  export interface Header {
    name: string;
    value: string;
  }
  export interface Request {
    method: string;
    url: string;
    headers: Header[];
    body: Uint8Array;
  }
  export interface Response {
    status: number;
    headers: Header[];
    body: Uint8Array | number[];
  }
  export function send(request: Request): Response;
}

declare module 'epicenter:workspace/environment@0.2.0' {
  export function get(name: string): string | null | undefined;
}

declare module 'epicenter:workspace/ai@0.2.0' {
  export interface ToolCall {
    id: string;
    name: string;
    arguments: string;
    signature: string;
  }
  export interface Assistant {
    thinking: { text: string; signature: string }[];
    text: string;
    calls: ToolCall[];
  }
  export type Message =
    | { tag: 'user'; val: string }
    | { tag: 'assistant'; val: Assistant }
    | { tag: 'tool-result'; val: { id: string; name: string; content: string } };
  export interface Request {
    provider: string;
    model: string;
    system: string;
    messages: Message[];
    tools: { name: string; description: string; parameters: string }[];
    options: string | undefined;
  }
  export interface Answer {
    model: string;
    message: Assistant;
    reason: 'stop' | 'tool-calls' | 'length' | 'content-filter';
    usage: { input: number | bigint; output: number | bigint; total: number | bigint };
  }
  export type Event =
    | { tag: 'thinking' | 'text'; val: string }
    | { tag: 'tool-call'; val: ToolCall }
    | { tag: 'end'; val: Answer };
  export interface AnswerStream {
    next(): Event | null | undefined;
  }
  export function chat(request: Request): Answer;
  export function chatStream(request: Request): AnswerStream;
}
