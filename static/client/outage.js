import { elapsedMs } from "./clock.js";

/** An address that swallows everything fails no sooner than its time limit, which is too late for a warning. */
const SILENT_MS = 8_000;
const AGAIN_MS = 60_000;

/**
 * The time without a link that brought a frame, and the moments of it that are worth a warning. Begins with the client, and
 * with the end of each link that had brought a frame.
 *
 * @typedef {import("./clock.js").Instant} Instant
 */
export class Outage {
  /** @type {Instant | null} */
  #began;
  /** @type {Instant | null} */
  #warned = null;

  /** @param {Instant} now */
  constructor(now) {
    this.#began = now;
  }

  /** The link that served is gone. @param {Instant} now */
  begin(now) {
    this.#began = now;
    this.#warned = null;
  }

  /** A link brought a frame. */
  end() {
    this.#began = null;
  }

  /** Whether an attempt that failed is to be warned of: the first one, then one a minute. @param {Instant} now */
  warnsOfFailure(now) {
    if (this.#warned && elapsedMs(this.#warned, now) < AGAIN_MS) return false;
    this.#warned = now;
    return true;
  }

  /** Whether there has been no link for 8 s and no warning yet. @param {Instant} now */
  warnsOfSilence(now) {
    if (!this.#began || this.#warned || elapsedMs(this.#began, now) < SILENT_MS) return false;
    this.#warned = now;
    return true;
  }
}
