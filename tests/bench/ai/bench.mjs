// Measures the AI proxy and the chat beside what one would write in node: `cargo xtask bench ai`.
//
// All stand before the same provider on the same machine and take turns within one run, so that
// whatever else the machine does falls on all of them. What counts is the CPU that a server took, as
// the kernel says, and by how much longer an answer takes than straight from the provider. The load
// comes from this process; how fast it is says nothing about a server.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
  options: {
    host: { type: 'string' },
    peers: { type: 'string' },
    out: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
  },
});
const ROUNDS = Number(options.rounds);
const SECONDS = Number(options.seconds);
/** Requests under way at once, and streams. */
const REQUESTS = 32;
const STREAMS = 100;
/** The kernel counts CPU time in ticks of a hundredth of a second. */
const TICK_MS = 10;

const ask = { model: 'm', messages: [{ role: 'user', content: 'Hello '.repeat(100) }] };
const COMPLETIONS = '/proxy/openai/v1/chat/completions';
const whole = { path: COMPLETIONS, body: JSON.stringify(ask) };
const stream = { path: COMPLETIONS, body: JSON.stringify({ ...ask, stream: true }) };
const chat = { path: '/ai/chat', body: JSON.stringify({ ...ask, provider: 'grok' }) };

const SCENARIOS = [
  { name: 'proxy, requests', unit: 'request', load: whole, clients: REQUESTS },
  { name: 'proxy, streams of 100 events', unit: 'stream', load: stream, clients: STREAMS },
  { name: 'chat, streams of 100 events', unit: 'stream', load: chat, clients: STREAMS },
];

/** A chat sends its first event before it asks; what it adds is seen at the end of a short one. */
const quick = { path: '/ai/chat', body: JSON.stringify({ ...ask, model: 'quick', stream: true, provider: 'grok' }) };
const LATENCIES = [
  { name: 'proxy, added latency', load: whole, figure: 'first' },
  { name: 'chat, added latency to the end of a stream of one event', load: quick, figure: 'last' },
];

/** Starts a server and waits until it says where it listens. */
async function start(name, command, args, env) {
  const child = spawn(command, args, {
    env: { ...process.env, NODE_ENV: 'production', RUST_LOG: 'error', ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  process.on('exit', () => child.kill('SIGKILL'));
  for await (const line of createInterface({ input: child.stdout })) {
    const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(line) ?? [];
    if (url) return { name, child, url };
  }
  throw new Error(`${name} did not say where it listens`);
}

/** CPU of all threads of a process so far, in ms. */
function cpu({ child }) {
  const stat = readFileSync(`/proc/${child.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

const memory = ({ child }) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))[1]) / 1024;

/** One request; returns its bytes, and the times to the first and the last of them in ms. */
function send(url, { path: route, body }, agent) {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      authorization: 'Bearer session-token',
    };
    const sent = request(url + route, { method: 'POST', headers, agent }, (response) => {
      let first;
      let bytes = 0;
      let tail = '';
      response.on('data', (piece) => {
        first ??= performance.now() - began;
        bytes += piece.length;
        tail = piece;
      });
      response.on('error', reject);
      response.on('end', () => {
        const complete = response.statusCode === 200 && response.complete;
        if (!complete) {
          const error = new Error(`${url}${route} answered ${response.statusCode}`);
          return reject(Object.assign(error, { status: response.statusCode }));
        }
        resolve({ bytes, first, last: performance.now() - began, tail: String(tail) });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const median = (numbers) => quantile(numbers, 0.5);
const quantile = (numbers, at) =>
  [...numbers].sort((a, b) => a - b)[Math.floor((numbers.length - 1) * at)];

/** So many clients, each of which sends again once it is answered, for some seconds. */
async function load(server, { load, clients }) {
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  const run = async (until) => {
    let count = 0;
    const client = async () => {
      while (performance.now() < until) {
        await send(server.url, load, agent);
        count += 1;
      }
    };
    await Promise.all(Array.from({ length: clients }, client));
    return count;
  };
  await run(performance.now() + 1000);
  const before = cpu(server);
  const count = await run(performance.now() + SECONDS * 1000);
  const used = cpu(server) - before;
  agent.destroy();
  return { cpu_ms_each: used / count, per_core: (count * 1000) / used, count, rss_mib: memory(server) };
}

/** Whether a server has the route. What it has must work, to the end of a stream. */
async function knows(server, { load, unit }) {
  try {
    const { tail } = await send(server.url, load);
    if (unit === 'stream') assert.match(tail, /\[DONE\]/);
    return true;
  } catch (error) {
    if (error.status === 404) return false;
    throw error;
  }
}

/** By how much later than straight from the provider an answer is there, in ms. */
async function latency(server, provider, { load, figure }) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const straight = { path: '/v1/chat/completions', body: load.body };
  const added = [];
  for (let nth = 0; nth < 300; nth += 1) {
    const direct = await send(provider.url, straight, agent);
    const through = await send(server.url, load, agent);
    if (nth >= 50) added.push(through[figure] - direct[figure]);
  }
  agent.destroy();
  return { added_p50_ms: median(added), added_p95_ms: quantile(added, 0.95) };
}

mkdirSync(options.out, { recursive: true });
const folder = mkdtempSync(path.join(options.out, 'ai-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const peer = (file) => path.join(options.peers, file);

const provider = await start('provider', 'node', [path.join(import.meta.dirname, 'provider.mjs')]);
const env = { OPENAI_API_KEY: 'key', GROK_API_KEY: 'key' };
for (const name of ['OPENAI', 'GROK']) env[`${name}_BASE_URL`] = provider.url;
const hub = ['--mode', 'hub', '--port', '0', '--data-dir', folder];
// All that is sent is one user's.
for (const kind of ['chats', 'proxied']) {
  hub.push(`--max-${kind}-per-minute`, '4000000000', `--max-${kind}-per-user`, '100000');
}
const servers = [
  await start('host', options.host, hub, env),
  await start('http-proxy', 'node', [peer('http-proxy.mjs')], env),
  await start('fetch', 'node', [peer('fetch-proxy.mjs')], env),
];

const report = [];
for (const scenario of SCENARIOS) {
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const server of servers) {
      if (!(await knows(server, scenario))) continue;
      const figures = await load(server, scenario);
      report.push({ scenario: scenario.name, server: server.name, round, ...figures });
      console.error(`${scenario.name}, ${server.name}: ${figures.cpu_ms_each.toFixed(3)} ms CPU`);
    }
  }
}
for (const scenario of LATENCIES) {
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const server of servers) {
      if (!(await knows(server, scenario))) continue;
      const figures = await latency(server, provider, scenario);
      report.push({ scenario: scenario.name, server: server.name, round, ...figures });
    }
  }
}

/** The median of a figure over the rounds. */
const of = (scenario, server, figure) => {
  const rounds = report.filter((one) => one.scenario === scenario && one.server === server);
  return rounds.length ? median(rounds.map((one) => one[figure])) : undefined;
};
for (const { name, unit } of SCENARIOS) {
  console.log(`\n${name}`);
  const ours = of(name, 'host', 'cpu_ms_each');
  for (const server of servers) {
    const each = of(name, server.name, 'cpu_ms_each');
    if (each === undefined) continue;
    const figures = [
      `${each.toFixed(3)} ms CPU each`,
      `${Math.round(of(name, server.name, 'per_core'))} ${unit}s/s a core`,
      `${Math.round(of(name, server.name, 'rss_mib'))} MiB`,
      ...(ours === undefined ? [] : [`${(each / ours).toFixed(1)} × ours`]),
    ];
    console.log(`  ${server.name.padEnd(12)} ${figures.join(', ')}`);
  }
}
for (const scenario of LATENCIES) {
  console.log(`\n${scenario.name}`);
  for (const { name } of servers) {
    const [p50, p95] = ['added_p50_ms', 'added_p95_ms'].map((figure) => of(scenario.name, name, figure));
    if (p50 === undefined) continue;
    console.log(`  ${name.padEnd(12)} p50 ${p50.toFixed(2)} ms, p95 ${p95.toFixed(2)} ms`);
  }
}
const file = path.join(options.out, 'ai.json');
writeFileSync(file, JSON.stringify(report, null, 2));
console.log(`\n${file}`);
process.exit();
