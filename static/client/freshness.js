import { elapsedMs } from "./clock.js";

/** Nobody who has heard nothing for so long may call the state known. */
export const BLIND_AFTER_MS = 15_000;

/**
 * - `connected`: the state is confirmed, and the server sees its database;
 * - `stale`: it may have moved on (the link is down, a snapshot is awaited, or the server itself is blind);
 * - `blind`: nothing was heard for 15 s, or never.
 *
 * @typedef {"connected" | "stale" | "blind"} Level
 */

/** How old the mirrored state is and what that is worth, by this machine's own passage of time and no other clock. */
export class Freshness {
  /** @type {import("./clock.js").Instant | null} when the last confirming frame arrived */
  #confirmedAt = null;
  #ageThenMs = 0;
  #databaseThenMs = NaN;
  #doubted = true;
  #over = false;

  /**
   * @param {import("../messages.js").Dated} frame one that left the mirror exact
   * @param {import("./clock.js").Instant} now
   */
  confirm(frame, now) {
    this.#confirmedAt = now;
    this.#ageThenMs = Number.isFinite(frame.age_ms) ? frame.age_ms : 0;
    if (frame.as_of) this.#databaseThenMs = Date.parse(frame.as_of) + this.#ageThenMs;
    this.#doubted = frame.type === "heartbeat" && frame.stale;
  }

  /** The link is gone, or something was missed. */
  doubt() {
    this.#doubted = true;
  }

  /** Nobody will say anything any more. */
  forget() {
    this.#over = true;
  }

  /**
   * @param {import("./clock.js").Instant} now
   * @returns {Level}
   */
  level(now) {
    if (this.#over || this.#confirmedAt === null) return "blind";
    if (elapsedMs(this.#confirmedAt, now) >= BLIND_AFTER_MS) return "blind";
    return this.#doubted || this.#ageAt(this.#confirmedAt, now) >= BLIND_AFTER_MS ? "stale" : "connected";
  }

  /**
   * How long ago the read began that the state is from, in milliseconds; null before the first.
   *
   * @param {import("./clock.js").Instant} now
   */
  ageMs(now) {
    return this.#confirmedAt === null ? null : this.#ageAt(this.#confirmedAt, now);
  }

  /**
   * The database's time now, in unix milliseconds; null before the first frame. For countdowns: no clock of the user's
   * machine has to be right.
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
