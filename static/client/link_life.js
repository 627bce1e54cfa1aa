import { elapsedMs } from "./clock.js";
import { lost } from "./ending.js";

const FIRST_FRAME_WITHIN_MS = 10_000;
const YOUNG_MS = 1_000;
const SILENT_AFTER_MS = 15_000;
/** A heartbeat is due every 5 s: later than this, a link that looks open gets no patience from a user who looks. */
const OVERDUE_AFTER_MS = 7_000;

/** What is known of one link by when it was opened, brought its first frame and its last. */
export class LinkLife {
  /** @type {import("./clock.js").Instant} */
  #opened;
  /** @type {import("./clock.js").Instant | null} */
  #proved = null;
  /** @type {import("./clock.js").Instant} */
  #heard;

  /** @param {import("./clock.js").Instant} now when it was opened */
  constructor(now) {
    this.#opened = this.#heard = now;
  }

  get proved() {
    return this.#proved !== null;
  }

  /** @param {import("./clock.js").Instant} now when a frame came */
  heard(now) {
    this.#proved ??= now;
    this.#heard = now;
  }

  /** Whether it was opened a moment ago. @param {import("./clock.js").Instant} now */
  young(now) {
    return elapsedMs(this.#opened, now) < YOUNG_MS;
  }

  /** Since the first frame, null when none came. @param {import("./clock.js").Instant} now */
  livedMs(now) {
    return this.#proved && elapsedMs(this.#proved, now);
  }

  /** @param {import("./clock.js").Instant} now */
  overdue(now) {
    return this.proved && elapsedMs(this.#heard, now) > OVERDUE_AFTER_MS;
  }

  /**
   * How the link ended without saying so, null while it may still be good.
   *
   * @param {import("./clock.js").Instant} now
   */
  ending(now) {
    if (!this.proved) return elapsedMs(this.#opened, now) >= FIRST_FRAME_WITHIN_MS ? lost("no answer") : null;
    return elapsedMs(this.#heard, now) >= SILENT_AFTER_MS ? lost("silent") : null;
  }
}
