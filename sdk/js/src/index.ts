/** Write a workspace in TypeScript and ship it as one `.wasm` file; `README.md` has a whole one. */

/// <reference path="./host.d.ts" />

export {
  type AssistantMessage, type ChatAnswer, type ChatEvent, type ChatMessage, type ChatRequest,
  type ChatTool, type ToolCall, chat, chatStream,
} from './ai.ts';
export { type Action, type ActionOptions, type Actions, defineMutation, defineQuery } from './action.ts';
export { type Caller, caller, environment, generateId, requestId, requireCaller } from './context.ts';
export { Conflict, Denied, Failed, Invalid, type Issue, NotFound, WorkspaceError } from './errors.ts';
export { type RequestOptions, type Response, request } from './http.ts';
export { type Kv, type KvDefinition, defineKv } from './kv.ts';
export { type Input, type JsonSchema, type Output, type StandardSchema, withJsonSchema } from './schema.ts';
export {
  type Comparison, type OnDelete, type Page, type Select, type Sort, type Table, type TableDefinition, type Where,
  defineTable,
} from './table.ts';
export { type Change, type Client, type Workspace, type WorkspaceOptions, defineWorkspace } from './workspace.ts';
