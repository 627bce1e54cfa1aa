import { apply, isObject, reuse } from "../patch.js";
import { elapsedMs } from "./clock.js";
import { SILENCE_MS, silenceLimitMs } from "./timing.js";

const SNAPSHOT_WITHIN_MS = 5_000;

/**
 * The effect of a frame on the mirror.
 *
 * - `applied`: the state is now the frame's;
 * - `confirmed`: the state is as it was, and the server confirms it;
 * - `resync`: a frame was missed, so a snapshot has to be requested;
 * - `ignored`: the state is neither better nor worse known than before.
 *
 * @typedef {"applied" | "confirmed" | "resync" | "ignored"} Reaction
 */

/**
 * A copy of the server's state that is exactly right for its revision, or is known to wait for a snapshot. The rules are those
 * of PROTOCOL.md, "The mirror"; `guardwire/mirror.py` passes the same vectors (`tests/vectors/`).
 */
export class Mirror {
  /** @type {import("../state.js").AccountState | null} null before the first snapshot */
  state = null;
  /** Whether a frame was missed, so that only a snapshot can make the state right again. */
  isWaiting = true;
  #epoch = 0;
  #revision = 0;

  /** Where to resume from; null before the first snapshot. @returns {import("../messages.js").ResumePoint | null} */
  get resumePoint() {
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
        return this.#begin(frame);
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
  #begin({ resumed, epoch, channels }) {
    // A server that could not resume sends a snapshot without a request.
    this.isWaiting = !resumed;
    if (!resumed) return "ignored";
    if (this.state === null || epoch !== this.#epoch) return this.#giveUp();
    // A channel that the server does not serve on this link gets no updates.
    const isServed = (/** @type {[string, unknown]} */ [name]) => channels.includes(/** @type {any} */ (name));
    const kept = Object.entries(this.state).filter(isServed);
    if (kept.length < Object.keys(this.state).length) this.state = Object.fromEntries(kept);
    return "ignored";
  }

  /** @param {import("../messages.js").SnapshotFrame} snapshot */
  #replace({ epoch, revision, state }) {
    if (!isObject(state) || !Number.isSafeInteger(epoch) || !Number.isSafeInteger(revision)) return this.#giveUp();
    // An older revision of the same epoch comes from a node that lags behind.
    if (this.state !== null && epoch === this.#epoch && revision < this.#revision) return this.#giveUp();
    const held = this.state;
    const next = /** @type {any} */ (reuse(/** @type {any} */ (held), /** @type {any} */ (state)));
    [this.state, this.#epoch, this.#revision, this.isWaiting] = [next, epoch, revision, false];
    return next === held ? "confirmed" : "applied";
  }

  /**
   * @param {{ base: number, revision: number }} step
   * @param {import("../patch.js").Json} patch
   */
  #advance({ base, revision }, patch) {
    if (this.isWaiting) return "ignored";
    if (base !== this.#revision || !(revision >= base) || !isObject(patch)) return this.#giveUp();
    const held = /** @type {any} */ (this.state);
    this.state = /** @type {any} */ (apply(held, patch));
    this.#revision = revision;
    return this.state === held ? "confirmed" : "applied";
  }

  /** Ignores every frame until a snapshot comes. @returns {Reaction} */
  #giveUp() {
    this.isWaiting = true;
    return "resync";
  }
}

/**
 * - `connected`: the state is confirmed, and the server sees its database;
 * - `stale`: the state may have moved on, because the link is down, a snapshot is awaited, or the server itself is not sure;
 * - `blind`: no frame confirmed the state for 15 s (or for three heartbeats, where those are rarer than every 5 s), or none
 *   ever did.
 *
 * @typedef {"connected" | "stale" | "blind"} Level
 */

/** The age and the level of the state, by the time that has passed on this machine and by no other clock. */
export class StateAge {
  /** @type {import("./clock.js").Instant | null} when the last frame arrived that confirmed the state */
  #confirmedAt = null;
  #ageThenMs = 0;
  #databaseThenMs = NaN;
  #isDoubted = true;
  #isClosed = false;
  #blindAfterMs = SILENCE_MS;

  /**
   * Notes a frame that left the mirror exact.
   *
   * @param {import("../messages.js").Dated} frame
   * @param {import("./clock.js").Instant} now
   */
  confirm(frame, now) {
    this.#confirmedAt = now;
    this.#ageThenMs = Number.isFinite(frame.age_ms) ? frame.age_ms : 0;
    if (frame.as_of) this.#databaseThenMs = Date.parse(frame.as_of) + this.#ageThenMs;
    this.#isDoubted = frame.type === "heartbeat" && frame.stale;
  }

  /** Notes that a frame was missed. */
  doubt() {
    this.#isDoubted = true;
  }

  /** Notes how often the server of this link sends heartbeats. @param {import("../messages.js").Welcome} welcome */
  noteWelcome({ heartbeat_seconds }) {
    this.#blindAfterMs = silenceLimitMs(heartbeat_seconds);
  }

  /** Notes that the link is gone, and with it the server's promise of heartbeats. */
  noteLinkEnded() {
    this.#isDoubted = true;
    this.#blindAfterMs = SILENCE_MS;
  }

  /** Notes that no frame will come any more. */
  noteClosed() {
    this.#isClosed = true;
  }

  /**
   * @param {import("./clock.js").Instant} now
   * @returns {Level}
   */
  level(now) {
    if (this.#isClosed || this.#confirmedAt === null) return "blind";
    if (elapsedMs(this.#confirmedAt, now) >= this.#blindAfterMs) return "blind";
    return this.#isDoubted || this.#ageAt(this.#confirmedAt, now) >= this.#blindAfterMs ? "stale" : "connected";
  }

  /**
   * Milliseconds since the read began that the state is from; null before the first state.
   *
   * @param {import("./clock.js").Instant} now
   */
  ageMs(now) {
    return this.#confirmedAt === null ? null : this.#ageAt(this.#confirmedAt, now);
  }

  /**
   * The database's time now in unix milliseconds, without trust in a clock of this machine; null before the first frame.
   *
   * @param {import("./clock.js").Instant} now
   */
  databaseNowMs(now) {
    if (this.#confirmedAt === null || Number.isNaN(this.#databaseThenMs)) return null;
    return this.#databaseThenMs + elapsedMs(this.#confirmedAt, now);
  }

  /**
   * @param {import("./clock.js").Instant} confirmedAt
   * @param {import("./clock.js").Instant} now
   */
  #ageAt(confirmedAt, now) {
    return this.#ageThenMs + elapsedMs(confirmedAt, now);
  }
}

/** When to request a snapshot: at once after a missed frame, and again when the answer does not come. */
export class SnapshotRequests {
  /** @type {import("./clock.js").Instant | null} since when the mirror waits */
  #waitingSince = null;

  /**
   * Whether to request a snapshot after a frame.
   *
   * @param {Reaction} reaction
   * @param {boolean} isWaiting whether the mirror waits for a snapshot after this frame
   * @param {import("./clock.js").Instant} now
   */
  shouldRequest(reaction, isWaiting, now) {
    const isFirst = this.#waitingSince === null;
    this.#waitingSince = isWaiting ? (this.#waitingSince ?? now) : null;
    return isWaiting && isFirst && reaction === "resync";
  }

  /**
   * Whether the answer is overdue; then the wait begins anew.
   *
   * @param {import("./clock.js").Instant} now
   */
  shouldRepeat(now) {
    if (this.#waitingSince === null || elapsedMs(this.#waitingSince, now) < SNAPSHOT_WITHIN_MS) return false;
    this.#waitingSince = now;
    return true;
  }
}
