/** A rung that fails so often in a row, without one frame, is left for the next. */
const FAILURES_OF_THE_BEST = 2;
const FAILURES_OF_A_FALLBACK = 1;
const FIRST_RETURN_MS = 5_000;
const LONGEST_RETURN_MS = 300_000;
const RETURN_GROWTH = 3;

/**
 * Which transport is next, best first. When all have failed the round begins again, so a server that is merely gone
 * finds its clients on the best rung soon after it is back.
 */
export class Ladder {
  #rungs;
  #rung = 0;
  #failures = 0;
  #returnMs = FIRST_RETURN_MS;

  /** @param {number} rungs how many transports there are */
  constructor(rungs) {
    this.#rungs = rungs;
  }

  get rung() {
    return this.#rung;
  }

  /** Whether a better transport than the present one exists. */
  get fallenBack() {
    return this.#rung > 0;
  }

  /** An attempt ended without a single frame. */
  failed() {
    this.#failures += 1;
    const allowed = this.#rung === 0 ? FAILURES_OF_THE_BEST : FAILURES_OF_A_FALLBACK;
    if (this.#failures < allowed) return;
    this.#rung = (this.#rung + 1) % this.#rungs;
    this.#failures = 0;
  }

  /** A frame came through. */
  proved() {
    this.#failures = 0;
    if (this.#rung === 0) this.#returnMs = FIRST_RETURN_MS;
  }

  /** How long to stay on a fallback before the best is tried again; longer each time it does not answer. */
  nextReturnMs() {
    const delayMs = this.#returnMs;
    this.#returnMs = Math.min(delayMs * RETURN_GROWTH, LONGEST_RETURN_MS);
    return delayMs;
  }

  /** The best transport answered while a fallback was in use, or another network may let it through. */
  climb() {
    this.#rung = 0;
    this.#failures = 0;
    this.#returnMs = FIRST_RETURN_MS;
  }
}
