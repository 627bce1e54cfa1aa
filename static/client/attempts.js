import { Backoff } from "./backoff.js";
import { Ladder } from "./ladder.js";

/** A link that lived so long was a good one; a server that accepts and drops at once is met with growing delays. */
const PROVEN_AFTER_MS = 5_000;
/** A new token that is refused as well is not followed by a third. */
const TOKENS_TRIED = 2;
/** Codes that only Guardwire itself sends: whatever is wrong, the transport is not. */
const FIRST_CODE_OF_OURS = 4000;
const SERVICE_RESTART = 1012;
const TRY_AGAIN_LATER = 1013;

/** Decides, after a link ended, whether, when and over which transport there is another. */
export class Attempts {
  /** @type {Ladder} */
  ladder;
  #backoff;
  #tokensRefused = 0;
  #hintMs = 0;

  /**
   * @param {number} transports how many there are, best first
   * @param {() => number} random
   */
  constructor(transports, random) {
    this.ladder = new Ladder(transports);
    this.#backoff = new Backoff(random);
  }

  /** A link brought its first frame. */
  proved() {
    this.#tokensRefused = 0;
    this.ladder.proved();
  }

  /** The server asked to wait before the next attempt, in a frame. @param {number | undefined} hintMs */
  hint(hintMs) {
    this.#hintMs = Number(hintMs) || 0;
  }

  /** The user is back, or the network is another: what failed before says nothing now. */
  forget() {
    this.#backoff.reset();
    this.#hintMs = 0;
  }

  /**
   * Milliseconds until the next attempt; null when there is none.
   *
   * @param {import("./ending.js").Ending} ending
   * @param {number | null} livedMs since the link's first frame; null when none came
   */
  ended({ verdict, code, retryAfterMs }, livedMs) {
    if (verdict === "refused") return null;
    if (verdict === "token" && ++this.#tokensRefused >= TOKENS_TRIED) return null;
    const answered = code >= FIRST_CODE_OF_OURS || code === SERVICE_RESTART || code === TRY_AGAIN_LATER;
    if (livedMs === null && !answered) this.ladder.failed();
    if (livedMs !== null && livedMs >= PROVEN_AFTER_MS) this.#backoff.reset();
    const hintMs = Math.max(retryAfterMs, this.#hintMs);
    this.#hintMs = 0;
    return this.#backoff.nextMs(hintMs);
  }
}
