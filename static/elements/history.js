const WINDOW_MS = 600_000;
const SHORTEST_STEP_MS = 1_000;

/**
 * @typedef {object} Sample
 * @property {number} atMs
 * @property {number | null} value null: not known then
 */

/** The last ten minutes of one number, one sample a second at most, with gaps where it was not known. */
export class History {
  /** @type {Sample[]} */
  #samples = [];

  /** @returns {readonly Sample[]} oldest first */
  get samples() {
    return this.#samples;
  }

  /**
   * @param {number | null} value
   * @param {number} atMs never before the last
   */
  add(value, atMs) {
    const last = this.#samples.at(-1);
    const sample = { atMs, value };
    // Within a step the newest value counts, but a gap is never painted over.
    if (last && atMs - last.atMs < SHORTEST_STEP_MS && (last.value === null) === (value === null)) {
      last.value = value;
      return;
    }
    this.#samples.push(sample);
    while (this.#samples.length > 1 && atMs - /** @type {Sample} */ (this.#samples[1]).atMs > WINDOW_MS) {
      this.#samples.shift();
    }
  }
}
