// How a workspace fares while another one is attacked: by how many calls it answers, and by the ratio of
// their times, because one absolute time says more about the machine than about the server.

import assert from 'node:assert/strict';

/** How many times slower the usual call may be: what is attacked has one of two cores at least, and other
 *  programs may want the rest. */
const SLOWER = 10;
/** From how long an attack takes on, in ms, there is something to be counted. */
const LONG = 500;

const median = (times) => times.toSorted((a, b) => a - b)[times.length >> 1];

/** One workspace that is called again and again. */
export class Neighbour {
  /** @param call Makes a call and sees that it is answered as it should be. */
  constructor(call) {
    this.call = call;
  }

  /** Learns how quick it is when nobody is in the way. */
  async rest() {
    await this.#calls((count) => count < 20);
    const started = performance.now();
    this.before = await this.#calls((count) => count < 100);
    this.rate = this.before.length / (performance.now() - started);
  }

  /** Calls as long as an attack is under way, one call after the other, and sees that it fares well. */
  async during(what, attack) {
    let over = false;
    const settled = attack.then(() => (over = true), () => (over = true));
    const started = performance.now();
    const times = await this.#calls(() => !over);
    const took = performance.now() - started;
    await settled;
    if (took < LONG) return;
    const [usual, now] = [median(this.before), median(times)];
    assert.ok(now <= usual * SLOWER, `${what}: ${now} ms instead of ${usual} ms for the usual call`);
    const due = (this.rate * took) / SLOWER;
    assert.ok(times.length >= due, `${what}: ${times.length} calls in ${took} ms; ${due} are due`);
  }

  /** The times of calls in ms. */
  async #calls(more) {
    const times = [];
    while (more(times.length)) {
      const started = performance.now();
      await this.call();
      times.push(performance.now() - started);
    }
    return times;
  }
}
