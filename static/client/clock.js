/**
 * Time that survives a sleeping laptop: the monotonic clock alone stands still while some systems sleep, and the wall
 * clock alone may be set. Of the two the larger is taken, so that an age errs towards older and never towards fresher.
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
