#!/usr/bin/env node
// Builds a workspace into a plugin: bundles the entry and all that it imports into one module, and
// lets the engine run that module until it is ready to serve. What is wrong with the definition
// comes to light here.

import { existsSync } from 'node:fs';
import { readFile, mkdir, rename, writeFile } from 'node:fs/promises';
import { SourceMap } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const SDK = fileURLToPath(new URL('..', import.meta.url));

/** The contract with the host: the SDK's own copy, or in the host's repository the one for all SDKs. */
const CONTRACT = path.join(SDK, existsSync(path.join(SDK, 'wit')) ? 'wit' : '../../wit/0.2.0');

const USAGE = `epicenter-build [ENTRY] [--out FILE] [--engine ENGINE]

  ENTRY     the module whose default export is the workspace; src/workspace.ts unless named
  --out     where the plugin goes; dist/{name of the package}.wasm unless named
  --engine  quickjs (small, quick to load), or starlingmonkey (faster at long computations; install
            @bytecodealliance/componentize-js in the project)`;

const ENGINES = { quickjs, starlingmonkey };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: 'string', short: 'o' },
    engine: { type: 'string', default: 'quickjs' },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help) {
  console.log(USAGE);
} else {
  await build(positionals[0] ?? 'src/workspace.ts', values).catch((error) => {
    console.error(`epicenter-build: ${error.message ?? error}`);
    process.exitCode = 1;
  });
}

async function build(entry, { out, engine }) {
  const componentize = ENGINES[engine];
  if (!componentize) throw new Error(`no engine ${engine}; there are ${Object.keys(ENGINES).join(', ')}`);
  const { name = 'workspace', version = '' } = await manifest();
  const file = out ?? `dist/${name.replace(/^@.*\//, '')}.wasm`;
  const module = await bundle(path.resolve(entry), version);
  const component = await componentize(module);
  await mkdir(path.dirname(file), { recursive: true });
  // At once, because a running host may watch the folder.
  const partial = path.join(path.dirname(file), `.${path.basename(file)}.partial`);
  await writeFile(partial, component);
  await rename(partial, file);
  console.log(`${file}  ${Math.round(component.length / 1024)} KiB`);
}

/** The package's manifest, from the folder where this runs. */
async function manifest() {
  try {
    return JSON.parse(await readFile('package.json', 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return {};
    throw new Error(`package.json: ${error.message}`);
  }
}

/** One module of the workspace and everything it imports, but for the host. */
async function bundle(entry, version) {
  const { rolldown } = await import('rolldown');
  const start = 'epicenter:start';
  const code = [
    // First, so that the globals stand before any other module runs.
    `import { guestOf } from ${JSON.stringify(path.join(SDK, 'src/guest.ts'))};`,
    `import workspace from ${JSON.stringify(entry)};`,
    `export const guest = guestOf(workspace, ${JSON.stringify(version)});`,
  ];
  const bundle = await rolldown({
    input: start,
    external: /^epicenter:workspace\//,
    platform: 'neutral',
    resolve: { mainFields: ['module', 'main'], conditionNames: ['import', 'default'] },
    plugins: [
      {
        name: 'epicenter',
        resolveId: (id) => (id === start ? id : undefined),
        load: (id) => (id === start ? code.join('\n') : undefined),
      },
    ],
    onwarn: (warning) => console.error(`epicenter-build: ${warning.message}`),
  });
  try {
    const { output } = await bundle.generate({
      format: 'esm',
      codeSplitting: false,
      sourcemap: true,
      sourcemapPathTransform: (source, map) => path.resolve(path.dirname(map), source),
    });
    return output[0].code.replace(/\n\/\/# sourceMappingURL=.*\s*$/, '\n') + origins(output[0].map);
  } finally {
    await bundle.close();
  }
}

/**
 * A statement that says where each line of the bundle comes from, for the stacks in the log. Only
 * the author's own files are named: the frames of libraries and of the SDK help nobody.
 */
function origins(map) {
  const files = [];
  const own = map.sources.map((file) => {
    const relative = path.relative(process.cwd(), file);
    const foreign =
      !path.isAbsolute(file) ||
      relative.startsWith('..') || relative.split(path.sep).includes('node_modules') || file.startsWith(SDK);
    return foreign ? undefined : files.push(relative) - 1;
  });
  const entries = new SourceMap({ ...map, sources: map.sources.map((_, index) => String(index)) });
  const lines = [];
  const count = map.mappings.split(';').length;
  for (let line = 0; line < count; line++) {
    // The first segment that starts on this line; `findEntry` gives the one before when there is none.
    const entry = entries.findEntry(line, Number.MAX_SAFE_INTEGER);
    const file = entry.generatedLine === line ? own[entry.originalSource] : undefined;
    lines.push(file === undefined ? 0 : [file, entry.originalLine + 1]);
  }
  return `globalThis.__epicenterOrigins = ${JSON.stringify({ files, lines })};\n`;
}

async function quickjs(jsSource) {
  const { componentize } = await import('componentize-qjs');
  const { component } = await componentize({
    jsSource,
    witPath: CONTRACT,
    world: 'workspace',
    // The contract's functions are synchronous, and everything the engine would ask of WASI is
    // asked of the host instead (`globals.ts`).
    sync: true,
    stubWasi: true,
  });
  return component;
}

async function starlingmonkey(source) {
  // Looked for in the project, because this package may be a link to a folder elsewhere.
  const folder = path.resolve('node_modules/@bytecodealliance/componentize-js');
  const manifest = await readFile(path.join(folder, 'package.json'), 'utf8').catch(() => {
    const packages = '@bytecodealliance/componentize-js @bytecodealliance/preview2-shim';
    throw new Error(`starlingmonkey needs \`npm install --save-dev ${packages}\``);
  });
  const { componentize } = await import(pathToFileURL(path.join(folder, JSON.parse(manifest).exports.import)));
  const { component } = await componentize(source, {
    // The text and not its path, which some versions do not find.
    witWorld: await readFile(path.join(CONTRACT, 'workspace.wit'), 'utf8'),
    worldName: 'workspace',
    disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
  });
  return component;
}
