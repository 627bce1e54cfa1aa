import { elapsedMs } from "./clock.js";

const SNAPSHOT_WITHIN_MS = 5_000;

/** Says when to ask for a snapshot: at once when something was missed, and again when the answer does not come. */
export class SnapshotWait {
  /** @type {import("./clock.js").Instant | null} when it was asked for, or promised */
  #since = null;

  /**
   * Whether to ask after a frame.
   *
   * @param {import("./mirror.js").Reaction} reaction
   * @param {boolean} waiting whether the mirror is behind
   * @param {import("./clock.js").Instant} now
   */
  asksAfter(reaction, waiting, now) {
    const first = this.#since === null;
    this.#since = waiting ? (this.#since ?? now) : null;
    return waiting && first && reaction === "resync";
  }

  /**
   * Whether to ask again.
   *
   * @param {import("./clock.js").Instant} now
   */
  asksAgain(now) {
    if (this.#since === null || elapsedMs(this.#since, now) < SNAPSHOT_WITHIN_MS) return false;
    this.#since = now;
    return true;
  }
}
