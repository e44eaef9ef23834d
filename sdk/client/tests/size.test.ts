import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';
import { expect, test } from 'vitest';

/** Bytes of a bundle as a browser gets it, without Yjs and what Yjs brings along. */
async function size(code: string): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: import.meta.dirname, loader: 'ts' },
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    external: ['yjs', 'lib0/*', 'y-protocols/*', 'react', '@tanstack/db', 'y-indexeddb'],
  });
  return gzipSync(outputFiles[0]!.contents).length;
}

test('the core takes less than 12 KB, and what is not used takes nothing', async () => {
  const core = await size("import { connect, defineWorkspace, jsonSchema } from '../src/index.ts'; console.log(connect, defineWorkspace, jsonSchema)");
  expect(core).toBeLessThan(12 * 1024);
  const alone = await size("import { rest } from '../src/rest.ts'; console.log(rest)");
  expect(alone).toBeLessThan(4 * 1024);
  console.log(`core ${core}, REST alone ${alone} bytes gzipped`);
});
