import { apply, isObject, reuse } from "../patch.js";

/**
 * What a frame made of the mirror.
 *
 * - `applied`: the state is now the frame's;
 * - `confirmed`: the state is as it was, and the server says so;
 * - `resync`: something was missed, a snapshot must be asked for;
 * - `ignored`: the state is neither better nor worse known than before.
 *
 * @typedef {"applied" | "confirmed" | "resync" | "ignored"} Reaction
 */

/** A copy of the server's state that is either exactly right for its revision or known to be waiting for a snapshot. */
export class Mirror {
  /** @type {import("../state.js").AccountState | null} null before the first snapshot */
  state = null;
  /** Whether the state is behind and only a snapshot can mend it. */
  waiting = true;
  #epoch = 0;
  #revision = 0;

  /** Where to resume from, null before the first snapshot. @returns {import("../messages.js").Position | null} */
  get position() {
    if (this.state === null) return null;
    const channels = /** @type {import("../messages.js").Channel[]} */ (Object.keys(this.state));
    return { epoch: this.#epoch, revision: this.#revision, channels };
  }

  /**
   * @param {import("../messages.js").ServerFrame} frame
   * @returns {Reaction}
   */
  receive(frame) {
    switch (frame.type) {
      case "welcome":
        return this.#welcome(frame);
      case "snapshot":
        return this.#replace(frame);
      case "update":
        return this.#advance(frame, frame.patch);
      case "heartbeat":
        return this.#advance(frame, {});
      default:
        return "ignored";
    }
  }

  /** @param {import("../messages.js").Welcome} welcome */
  #welcome({ resumed, epoch }) {
    // A server that could not resume sends a snapshot unasked.
    this.waiting = !resumed;
    if (!resumed || (this.state !== null && epoch === this.#epoch)) return "ignored";
    return this.#missed();
  }

  /** @param {import("../messages.js").Snapshot} snapshot */
  #replace({ epoch, revision, state }) {
    if (!isObject(state) || !Number.isSafeInteger(epoch) || !Number.isSafeInteger(revision)) return this.#missed();
    // Within an epoch nothing older may follow something newer: such a snapshot comes from a node that lags behind.
    if (this.state !== null && epoch === this.#epoch && revision < this.#revision) return this.#missed();
    const held = this.state;
    const next = /** @type {any} */ (reuse(/** @type {any} */ (held), /** @type {any} */ (state)));
    [this.state, this.#epoch, this.#revision, this.waiting] = [next, epoch, revision, false];
    return next === held ? "confirmed" : "applied";
  }

  /**
   * @param {{ base: number, revision: number }} step
   * @param {import("../patch.js").Json} patch
   */
  #advance({ base, revision }, patch) {
    if (this.waiting) return "ignored";
    if (base !== this.#revision || !(revision >= base) || !isObject(patch)) return this.#missed();
    const held = /** @type {any} */ (this.state);
    this.state = /** @type {any} */ (apply(held, patch));
    this.#revision = revision;
    return this.state === held ? "confirmed" : "applied";
  }

  /** @returns {Reaction} */
  #missed() {
    this.waiting = true;
    return "resync";
  }
}
