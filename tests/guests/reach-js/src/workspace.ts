/** Actions that reach out of the workspace, and a table whose check denies. */

// By its path, so that the guest needs no packages of its own.
import {
  Denied, type JsonSchema, type StandardSchema, defineQuery, defineTable, defineWorkspace, environment, request,
  withJsonSchema,
} from '../../../../sdk/js/src/index.ts';

/** An object with these members. The host holds inputs against the JSON Schema, so nothing else has to. */
function object<T>(properties: JsonSchema, required: string[]): StandardSchema<T> {
  const schema: StandardSchema<T> = {
    '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: value as T }) },
  };
  return withJsonSchema(schema, { type: 'object', properties, required });
}

const string = { type: 'string' };

export default defineWorkspace({
  id: 'reach-js',
  tables: { things: defineTable(object<{ id: string }>({ id: string }, ['id'])) },
  checks: () => ({
    things: ({ id }) => {
      if (id === 'guarded') throw new Denied(`${id} is nobody's`);
    },
  }),
  actions: () => ({
    fetch: defineQuery({
      description: 'Sends a request, with a text as JSON where there is one.',
      input: object<{ url: string; text?: string }>({ url: string, text: string }, ['url']),
      handler: ({ url, text }) => {
        const answer = request(url, text === undefined ? {} : { json: { text } });
        return { status: answer.status, seen: answer.headers['x-seen'] ?? null, body: answer.text() };
      },
    }),
    part: defineQuery({
      description: 'Sends a part of some bytes, and gives back the bytes of the answer.',
      input: object<{ url: string }>({ url: string }, ['url']),
      handler: ({ url }) => {
        const bytes = new Uint8Array([0, 1, 128, 254, 255]);
        return [...request(url, { body: bytes.subarray(1, 4) }).bytes()];
      },
    }),
    variable: defineQuery({
      description: 'Reads a variable.',
      input: object<{ name: string }>({ name: string }, ['name']),
      handler: ({ name }) => environment(name) ?? null,
    }),
  }),
});
