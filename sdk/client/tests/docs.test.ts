/** The examples of `docs/client.md`, which must compile. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { expect, test } from 'vitest';

const SDK = path.join(import.meta.dirname, '..');

/** What the examples take as given: a workspace like the blog, with notes whose bodies are documents. */
const GIVEN = `
  import type { Mutation, WorkspaceDefinition, Workspace } from '../../src/index.ts';
  interface Types {
    tables: {
      posts: { id: string; title: string; content: string; views: number; published: boolean };
      notes: { id: string; title: string; body: string };
    };
    before: { posts: { id: string; title: string } };
    awareness: { name: string };
    actions: { 'posts/publish': Mutation<{ id: string }, unknown> };
    documents: { notes: 'body' };
  }
  declare global {
    const blog: WorkspaceDefinition<Types>;
    const workspace: Workspace<Types>;
    const posts: Workspace<Types>['tables']['posts'];
    const connect: typeof import('../../src/index.ts').connect;
    const url: string;
    const token: string;
    const hub: string;
    const render: (rows: readonly object[]) => void;
    const createAuthClient: (options: { baseURL: string; basePath: string }) => {
      getSession(): Promise<{ data: { session: { token: string } } | null }>;
    };
  }
`;

test('the examples of the page for apps compile', () => {
  const page = readFileSync(path.join(SDK, '../../docs/client.md'), 'utf8');
  const examples = [...page.matchAll(/^```(tsx?)\n(.*?)^```/gms)].map(([, kind, code]) => ({ kind: kind!, code: code! }));
  expect(examples.length).toBeGreaterThan(10);
  const folder = path.join(SDK, 'dist/examples');
  mkdirSync(folder, { recursive: true });
  try {
    writeFileSync(path.join(folder, 'given.ts'), GIVEN);
    // What `host types` writes.
    writeFileSync(path.join(folder, 'workspaces.ts'), "export { blog } from '../../tests/blog.ts';\n");
    examples.forEach(({ kind, code }, at) => {
      const lines = code.split('\n');
      const isImport = (line: string) => line.startsWith('import ');
      // In a function, so that an example may give a name of its own to what another takes as given.
      const body = lines.filter((line) => !isImport(line)).join('\n');
      writeFileSync(path.join(folder, `example-${at}.${kind}`), `${lines.filter(isImport).join('\n')}\nexport async function example() {\n${body}\n}\n`);
    });
    const options = {
      extends: '../../tsconfig.json',
      compilerOptions: { paths: { 'epicenter-client': ['../../src/index.ts'], 'epicenter-client/*': ['../../src/*.ts'] } },
      include: ['.'], exclude: [],
    };
    writeFileSync(path.join(folder, 'tsconfig.json'), JSON.stringify(options));
    let said = '';
    try {
      execFileSync(path.join(SDK, 'node_modules/.bin/tsc'), ['-p', folder], { encoding: 'utf8' });
    } catch (error) {
      said = (error as { stdout: string }).stdout;
    }
    expect(said).toBe('');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
