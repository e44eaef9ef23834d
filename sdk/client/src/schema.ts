/**
 * Schemas of any library that follows the Standard Schema convention (https://standardschema.dev), and
 * JSON Schemas as `host types` writes them, made into the same.
 *
 * The validator reads the keywords that the SDKs of plugins produce. A keyword that it does not know
 * accepts everything: the server has the last word, and a client that refuses a row which the server
 * takes would be worse than one that sends a row which is then shown as invalid.
 */

import type { Issue } from './errors.ts';

/** A schema that any Standard Schema library makes. */
export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] };

interface StandardIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** A JSON Schema, draft 2020-12. */
export type JsonSchema = { readonly [keyword: string]: unknown };

/** A value that fits, or everything that is wrong with it. */
export type Checked<T = unknown> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly issues: readonly Issue[] };

/** Validates a value. */
export function check<T>(schema: StandardSchema<T>, value: unknown): Checked<T> {
  const result = schema['~standard'].validate(value);
  if (result instanceof Promise) {
    throw new TypeError(`a schema of ${schema['~standard'].vendor} validates asynchronously, and rows are validated at once`);
  }
  if (!result.issues) return { ok: true, value: result.value };
  const issues = result.issues.map(({ message, path = [] }) => ({
    message,
    path: path.map((part) => (typeof part === 'object' ? part.key : part) as string | number),
  }));
  return { ok: false, issues };
}

/** A Standard Schema of a JSON Schema. Members that are missing and have a default are filled in. */
export function jsonSchema<T>(schema: JsonSchema): StandardSchema<T> & { readonly json: JsonSchema } {
  let compiled: Check | undefined;
  return {
    json: schema,
    '~standard': {
      version: 1,
      vendor: 'epicenter',
      validate(value) {
        compiled ??= compile(schema, schema);
        const issues: Issue[] = [];
        const read = compiled(value, [], issues);
        return issues.length === 0 ? { value: read as T } : { issues };
      },
    },
  };
}

/** Where a check is. One array for the whole value, which grows and shrinks: most values are valid, and need no copy. */
type Path = (string | number)[];
type Check = (value: unknown, path: Path, issues: Issue[]) => unknown;
type Members = Record<string, unknown>;

const TYPES: Record<string, (value: unknown) => boolean> = {
  string: (value) => typeof value === 'string',
  number: (value) => typeof value === 'number',
  integer: (value) => Number.isInteger(value),
  boolean: (value) => typeof value === 'boolean',
  null: (value) => value === null,
  array: Array.isArray,
  object: isObject,
};

function compile(schema: unknown, root: JsonSchema): Check {
  if (schema === false) return (value, path, issues) => (issues.push({ path: [...path], message: 'is not expected here' }), value);
  if (!isObject(schema)) return (value) => value;
  const checks: Check[] = [];
  const rule = (holds: (value: any) => boolean, message: string) =>
    checks.push((value, path, issues) => (holds(value) || issues.push({ path: [...path], message }), value));
  const { type, enum: choices, pattern, properties, items, prefixItems } = schema;

  if (typeof schema.$ref === 'string') checks.push(reference(schema.$ref, root));
  if (type !== undefined) {
    const types = [type].flat() as string[];
    const [fits, ...others] = types.map((name) => TYPES[name] ?? (() => true));
    if (fits) rule((value) => fits(value) || others.some((one) => one(value)), `must be ${types.map(article).join(' or ')}`);
  }
  if ('const' in schema) rule((value) => same(value, schema.const), `must be ${JSON.stringify(schema.const)}`);
  if (Array.isArray(choices)) {
    rule((value) => choices.some((one) => same(value, one)), `must be one of ${choices.map((one) => JSON.stringify(one)).join(', ')}`);
  }
  bound(schema, rule, 'minimum', (value, limit) => typeof value !== 'number' || value >= limit, 'must be at least');
  bound(schema, rule, 'maximum', (value, limit) => typeof value !== 'number' || value <= limit, 'must be at most');
  bound(schema, rule, 'exclusiveMinimum', (value, limit) => typeof value !== 'number' || value > limit, 'must be greater than');
  bound(schema, rule, 'exclusiveMaximum', (value, limit) => typeof value !== 'number' || value < limit, 'must be less than');
  bound(schema, rule, 'minLength', (value, limit) => typeof value !== 'string' || lengthOf(value) >= limit, 'must have at least', 'characters');
  bound(schema, rule, 'maxLength', (value, limit) => typeof value !== 'string' || lengthOf(value) <= limit, 'must have at most', 'characters');
  bound(schema, rule, 'minItems', (value, limit) => !Array.isArray(value) || value.length >= limit, 'must have at least', 'items');
  bound(schema, rule, 'maxItems', (value, limit) => !Array.isArray(value) || value.length <= limit, 'must have at most', 'items');
  if (typeof pattern === 'string') {
    const expression = expressionOf(pattern);
    if (expression) rule((value) => typeof value !== 'string' || expression.test(value), `must match ${pattern}`);
  }
  if (isObject(properties) || Array.isArray(schema.required) || schema.additionalProperties !== undefined) {
    checks.push(membersOf(schema, root));
  }
  if (items !== undefined || Array.isArray(prefixItems)) {
    const first = ((prefixItems as unknown[] | undefined) ?? []).map((one) => compile(one, root));
    const rest = compile(items, root);
    checks.push((value, path, issues) =>
      Array.isArray(value) ? value.map((one, at) => inside(path, at, first[at] ?? rest, one, issues)) : value,
    );
  }
  for (const one of (schema.allOf as unknown[] | undefined) ?? []) checks.push(compile(one, root));
  for (const keyword of ['anyOf', 'oneOf']) {
    const list = schema[keyword];
    if (Array.isArray(list)) checks.push(oneOf(list.map((one) => compile(one, root))));
  }
  if (checks.length === 1) return checks[0] as Check;
  return (value, path, issues) => {
    let read = value;
    for (const one of checks) {
      const before = issues.length;
      read = one(read, path, issues);
      if (issues.length > before) return read;
    }
    return read;
  };
}

/** Checks what is at a place in a value. */
function inside(path: Path, place: string | number, check: Check, value: unknown, issues: Issue[]): unknown {
  path.push(place);
  const read = check(value, path, issues);
  path.pop();
  return read;
}

function membersOf(schema: Members, root: JsonSchema): Check {
  const properties = isObject(schema.properties) ? schema.properties : {};
  const members = Object.entries(properties).map(([name, one]) => ({
    name,
    check: compile(one, root),
    default: isObject(one) && 'default' in one ? one.default : undefined,
  }));
  const known = new Set(Object.keys(properties));
  const required = Array.isArray(schema.required) ? (schema.required as string[]) : [];
  const others = schema.additionalProperties === undefined ? undefined : compile(schema.additionalProperties, root);
  return (value, path, issues) => {
    if (!isObject(value)) return value;
    let read: Members = value;
    const set = (name: string, member: unknown) => {
      if (read === value) read = { ...value };
      read[name] = member;
    };
    for (const member of members) {
      if (!Object.hasOwn(value, member.name)) {
        if (member.default !== undefined) set(member.name, structuredClone(member.default));
        continue;
      }
      const had = value[member.name];
      const has = inside(path, member.name, member.check, had, issues);
      if (has !== had) set(member.name, has);
    }
    for (const name of required) {
      if (!Object.hasOwn(read, name)) issues.push({ path: [...path, name], message: 'is required' });
    }
    if (others !== undefined) {
      for (const name of Object.keys(value)) {
        if (!known.has(name)) inside(path, name, others, value[name], issues);
      }
    }
    return read;
  };
}

function oneOf(choices: Check[]): Check {
  return (value, path, issues) => {
    let closest: Issue[] | undefined;
    for (const choice of choices) {
      const found: Issue[] = [];
      const read = choice(value, path, found);
      if (found.length === 0) return read;
      // The choice that got furthest is the one that was meant.
      if (closest === undefined || depth(found) > depth(closest)) closest = found;
    }
    issues.push(...(closest ?? []));
    return value;
  };
}

function reference(to: string, root: JsonSchema): Check {
  let check: Check | undefined;
  return (value, path, issues) => {
    check ??= compile(resolve(to, root), root);
    return check(value, path, issues);
  };
}

function resolve(reference: string, root: JsonSchema): unknown {
  let found: unknown = root;
  for (const part of reference.replace(/^#\/?/, '').split('/').filter(Boolean)) {
    const name = decodeURIComponent(part).replace(/~1/g, '/').replace(/~0/g, '~');
    found = isObject(found) ? found[name] : undefined;
  }
  return found;
}

function bound(
  schema: Members,
  rule: (holds: (value: unknown) => boolean, message: string) => void,
  keyword: string,
  holds: (value: unknown, limit: number) => boolean,
  words: string,
  unit = '',
): void {
  const limit = schema[keyword];
  if (typeof limit === 'number') rule((value) => holds(value, limit), `${words} ${limit} ${unit}`.trim());
}

function depth(issues: Issue[]): number {
  return Math.max(...issues.map(({ path }) => path.length));
}

function expressionOf(pattern: string): RegExp | undefined {
  try {
    return new RegExp(pattern, 'u');
  } catch {
    return undefined;
  }
}

function article(type: string): string {
  if (type === 'null') return 'null';
  return `${/^[aeiou]/.test(type) ? 'an' : 'a'} ${type}`;
}

/** Characters as JSON Schema counts them: code points. */
function lengthOf(text: string): number {
  let length = 0;
  for (const _ of text) length += 1;
  return length;
}

/** Whether two JSON values are equal. */
export function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((one, at) => same(one, b[at]));
  if (!isObject(a) || !isObject(b) || Array.isArray(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && same(a[name], b[name]));
}

function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
