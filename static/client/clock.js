/**
 * The passage of time, also while a laptop sleeps or a tab is frozen.
 *
 * Some monotonic clocks stand still while the machine sleeps, and a wall clock may be set. The larger difference counts, so
 * an age can only come out too old.
 *
 * @typedef {object} Instant
 * @property {number} monotonicMs
 * @property {number} wallMs
 *
 * @typedef {object} Timer
 * @property {() => void} cancel
 *
 * @typedef {object} Clock
 * @property {() => Instant} now
 * @property {(delayMs: number, callback: () => void) => Timer} after
 */

import { SILENCE_MS } from "./timing.js";

const TICK_MS = 1_000;

/** @type {Clock} */
export const systemClock = {
  now: () => ({ monotonicMs: performance.now(), wallMs: Date.now() }),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

/**
 * Milliseconds from one instant to a later one.
 *
 * @param {Instant} since
 * @param {Instant} now
 */
export function elapsedMs(since, now) {
  return Math.max(now.monotonicMs - since.monotonicMs, now.wallMs - since.wallMs, 0);
}

/**
 * Calls back every second, and notices a pause of this program: a closed laptop, a frozen tab. A frame that is read right
 * after a pause was buffered during it and cannot be dated, so it must not be believed.
 */
export class PauseDetector {
  #clock;
  #onTick;
  #onPause;
  /** @type {Instant} */
  #lastRun;
  /** @type {Timer | null} */
  #timer = null;

  /**
   * @param {Clock} clock
   * @param {{ onTick: () => void, onPause: () => void }} callbacks
   */
  constructor(clock, { onTick, onPause }) {
    this.#clock = clock;
    this.#onTick = onTick;
    this.#onPause = onPause;
    this.#lastRun = clock.now();
  }

  start() {
    this.#timer = this.#clock.after(TICK_MS, () => this.#tick());
  }

  stop() {
    this.#timer?.cancel();
  }

  /** Call it before each frame; false after a pause of this program of 15 s or more, for which `onPause` was called. */
  check() {
    const before = this.#lastRun;
    this.#lastRun = this.#clock.now();
    if (elapsedMs(before, this.#lastRun) < SILENCE_MS) return true;
    this.#onPause();
    return false;
  }

  #tick() {
    this.start();
    this.check();
    this.#onTick();
  }
}
