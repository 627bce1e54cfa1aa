const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
/** A hint beyond this is taken for a fault: nobody is parked for ever by one bad frame. */
const LONGEST_HINT_MS = 300_000;

/** How long to wait before the next attempt: exponential with full jitter, and never less than the server asked for. */
export class Backoff {
  /** @type {() => number} */
  #random;
  #failures = 0;

  /** @param {() => number} random a number in [0, 1) */
  constructor(random = Math.random) {
    this.#random = random;
  }

  /**
   * Milliseconds to wait after one more failure.
   *
   * @param {number} hintMs what the server asked for; 0 when it asked for nothing
   */
  nextMs(hintMs = 0) {
    const limitMs = Math.min(FIRST_DELAY_MS * 2 ** this.#failures, LONGEST_DELAY_MS);
    this.#failures += 1;
    // On top of the hint, not instead of it: all clients of a drained node get hints of about the same length.
    return Math.min(Math.max(hintMs, 0), LONGEST_HINT_MS) + this.#random() * limitMs;
  }

  reset() {
    this.#failures = 0;
  }
}
