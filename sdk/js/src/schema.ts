/**
 * Schemas of any library that follows the Standard Schema convention (https://standardschema.dev):
 * zod, arktype, valibot, effect and others. The SDK needs two things of one: that it validates, and
 * what it accepts as JSON Schema, which is what the host shows to clients.
 */

import { type Issue, issueOf } from './errors.ts';

/** A schema that any Standard Schema library makes. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: ReadonlyArray<StandardIssue> };

/** What a library says is wrong with a value. */
export interface StandardIssue {
  readonly message: string;
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined;
}

/** The type that a schema accepts. */
export type Input<S extends StandardSchema> = NonNullable<S['~standard']['types']>['input'];

/** The type that a schema's values have. */
export type Output<S extends StandardSchema> = NonNullable<S['~standard']['types']>['output'];

/** A JSON Schema, draft 2020-12. */
export type JsonSchema = { readonly [keyword: string]: unknown };

/** A value that fits, or everything that is wrong with it. */
export type Parsed<T> = { ok: true; value: T } | { ok: false; issues: Issue[] };

/** Validates a value. */
export function parse<S extends StandardSchema>(schema: S, value: unknown): Parsed<Output<S>> {
  const result = schema['~standard'].validate(value);
  if (result instanceof Promise) {
    throw new TypeError(
      `a schema of ${schema['~standard'].vendor} validates asynchronously, and rows and inputs are ` +
        'validated at once; take the asynchronous part out of it',
    );
  }
  return result.issues
    ? { ok: false, issues: result.issues.map(issueOf) }
    : { ok: true, value: result.value as Output<S> };
}

/**
 * Names the JSON Schema of a schema whose library knows none, or another one than the library's own:
 * `withJsonSchema(v.string(), { type: 'string' })`.
 */
export function withJsonSchema<S extends StandardSchema>(schema: S, json: JsonSchema): S {
  const standard = { ...schema['~standard'], jsonSchema: { input: () => json, output: () => json } };
  return { '~standard': standard } as unknown as S;
}

/** Both directions of a schema, as the libraries offer them. */
interface Describing {
  readonly '~standard': {
    readonly jsonSchema?: {
      readonly [side in Side]: (options: { target: 'draft-2020-12' }) => JsonSchema;
    };
  };
  readonly toJsonSchema?: () => JsonSchema;
}

/** What a schema accepts, or what comes out of it: with defaults the two differ. */
type Side = 'input' | 'output';

/**
 * The JSON Schema of a schema; `what` names it in errors. Throws where a library gives none: this
 * runs while the plugin is built, so the author sees it there.
 */
export function jsonSchema(schema: StandardSchema, what: string, side: Side = 'input'): JsonSchema {
  const describing = schema as unknown as Describing;
  const { vendor } = schema['~standard'];
  let json: JsonSchema;
  try {
    const standard = describing['~standard'].jsonSchema?.[side];
    const described = standard?.({ target: 'draft-2020-12' }) ?? describing.toJsonSchema?.();
    if (described === undefined) {
      throw new TypeError(
        `${vendor} gives no JSON Schema for it; use a version that does (zod 4.2, arktype 2.1.28, ` +
          "valibot's toStandardJsonSchema), or name one with withJsonSchema(schema, { … })",
      );
    }
    json = described;
  } catch (error) {
    throw new TypeError(`${what}: ${error instanceof Error ? error.message : String(error)}`);
  }
  // The contract says which draft it is, for all of them.
  const { $schema: _, ...rest } = json;
  return rest;
}
