/**
 * The global names that programs and libraries use for the time, for chance and for logging, on top
 * of the host's: the engine's own clock and random numbers would be those of the build, the same in
 * each instance. While the plugin is built there is no host; then the engine's own serve.
 */

import * as context from 'epicenter:workspace/context@0.2.0';
import * as log from 'epicenter:workspace/log@0.2.0';

import { describe } from './describe.ts';

let serving = false;

/** From here on the host answers. */
export function beginServing(): void {
  serving = true;
}

const BuildDate = Date;
const buildRandom = Math.random;

/** The time of the call, in ms; the same during one call. */
function now(): number {
  return serving ? Number(context.now()) : BuildDate.now();
}

/** 32 random bits: the upper half of the host's 64, because a number holds 53 of them. */
function randomBits(): number {
  if (!serving) throw new Error('the system has no random numbers while the plugin is built; ask in a handler');
  return Math.floor(Number(context.randomU64()) / 2 ** 32) >>> 0;
}

function random(): number {
  return serving ? (randomBits() * 2 ** 21 + (randomBits() >>> 11)) / 2 ** 53 : buildRandom();
}

function getRandomValues<A extends ArrayBufferView>(array: A): A {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  for (let index = 0; index < bytes.length; index += 4) {
    const bits = randomBits();
    for (let byte = 0; byte < 4 && index + byte < bytes.length; byte++) {
      bytes[index + byte] = bits >>> (8 * byte);
    }
  }
  return array;
}

/** A version 4 UUID (RFC 9562). */
function randomUUID(): string {
  const bytes = getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

const HostDate: DateConstructor = new Proxy(BuildDate, {
  construct: (date, args, target) =>
    Reflect.construct(date, args.length === 0 ? [now()] : args, target === HostDate ? date : target),
  apply: () => new BuildDate(now()).toString(),
  get: (date, name) => (name === 'now' ? now : Reflect.get(date, name)),
});
BuildDate.prototype.constructor = HostDate;

const write = (level: 'debug' | 'info' | 'warn' | 'error') => (...values: unknown[]) => {
  // What is said while the plugin is built is of no interest to the server that runs it.
  if (serving) log.write(level, values.map(describe).join(' '));
};

const globals = {
  Date: HostDate,
  performance: { now, timeOrigin: 0 },
  crypto: { getRandomValues, randomUUID },
  console: {
    log: write('info'),
    info: write('info'),
    debug: write('debug'),
    trace: write('debug'),
    warn: write('warn'),
    error: write('error'),
    assert: (holds: unknown, ...values: unknown[]) => {
      if (!holds) write('error')('assertion failed', ...values);
    },
  },
};
// Defined anew, because an engine may have some of them as getters.
for (const [name, value] of Object.entries(globals)) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}
Math.random = random;

// Libraries name these as they load, to recognise values of them (arktype does); here there are none.
for (const name of ['Blob', 'File', 'FormData', 'Headers', 'Request', 'Response', 'URL']) {
  if (name in globalThis) continue;
  const absent = function () {
    throw new TypeError(`a plugin has no ${name}`);
  };
  Object.assign(globalThis, { [name]: absent });
}
