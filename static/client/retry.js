import { elapsedMs } from "./clock.js";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
/** A longer hint is taken for a fault: one bad frame must not keep a client away for ever. */
const LONGEST_HINT_MS = 300_000;

/** After so many failures in a row without one frame, the next transport is used. */
const FAILURES_OF_THE_BEST = 2;
const FAILURES_OF_A_FALLBACK = 1;
const FIRST_RETURN_MS = 5_000;
const LONGEST_RETURN_MS = 300_000;
const RETURN_GROWTH = 3;

/** A link that lived for so long makes the delays between attempts short again. */
const PROVEN_AFTER_MS = 5_000;
/** When a second new token is refused as well, a third one would be. */
const TOKENS_TRIED = 2;
/** Only Guardwire sends codes from here on, so the transport got through. */
const FIRST_CODE_OF_GUARDWIRE = 4000;
const DRAINING = 1012;
const OVERLOADED = 1013;

/** Where a firewall drops packets, connecting fails only at its time limit, so a warning does not wait for a failure. */
const WARNING_AFTER_MS = 8_000;
const NEXT_WARNING_MS = 60_000;

/** The delay before the next attempt: exponential with full jitter, on top of what the server requested. */
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
   * @param {number} hintMs the server's hint; 0 for none
   */
  nextMs(hintMs = 0) {
    const limitMs = Math.min(FIRST_DELAY_MS * 2 ** this.#failures, LONGEST_DELAY_MS);
    this.#failures += 1;
    // The jitter is added to the hint, because all clients of a drained node get hints of about the same length.
    return Math.min(Math.max(hintMs, 0), LONGEST_HINT_MS) + this.#random() * limitMs;
  }

  reset() {
    this.#failures = 0;
  }
}

/**
 * Which of the transports is used next, best first. When all have failed, it is the best one's turn again, so a server that
 * was merely away finds its clients on the best transport soon after it is back.
 */
export class TransportChoice {
  #transports;
  #index = 0;
  #failures = 0;
  #returnMs = FIRST_RETURN_MS;

  /** @param {number} transports their number */
  constructor(transports) {
    this.#transports = transports;
  }

  /** 0 is the best transport. */
  get index() {
    return this.#index;
  }

  /** Whether a better transport than the present one exists. */
  get isFallback() {
    return this.#index > 0;
  }

  /** Notes an attempt that ended without a frame. */
  noteFailure() {
    this.#failures += 1;
    const allowed = this.isFallback ? FAILURES_OF_A_FALLBACK : FAILURES_OF_THE_BEST;
    if (this.#failures < allowed) return;
    this.#index = (this.#index + 1) % this.#transports;
    this.#failures = 0;
  }

  /** Notes that the present transport brought a frame. */
  noteFirstFrame() {
    this.#failures = 0;
    if (!this.isFallback) this.#returnMs = FIRST_RETURN_MS;
  }

  /** Milliseconds to stay on a fallback before the best transport is tried; more each time. */
  nextReturnMs() {
    const delayMs = this.#returnMs;
    this.#returnMs = Math.min(delayMs * RETURN_GROWTH, LONGEST_RETURN_MS);
    return delayMs;
  }

  /** Uses the best transport again: it answered, or the network is another one. */
  useBest() {
    this.#index = 0;
    this.#failures = 0;
    this.#returnMs = FIRST_RETURN_MS;
  }
}

/** Decides, after a link ended, whether and when there is another one. */
export class Attempts {
  #choice;
  #backoff;
  #tokensRefused = 0;
  #hintMs = 0;

  /**
   * @param {TransportChoice} choice
   * @param {() => number} random
   */
  constructor(choice, random) {
    this.#choice = choice;
    this.#backoff = new Backoff(random);
  }

  /** Notes that a link brought its first frame. */
  noteFirstFrame() {
    this.#tokensRefused = 0;
    this.#choice.noteFirstFrame();
  }

  /** Notes the hint of an error frame, how long to wait before the next attempt. @param {number | undefined} hintMs */
  noteHint(hintMs) {
    this.#hintMs = Number(hintMs) || 0;
  }

  /** Makes the next delay a short one: the user is back, or the network is another one. */
  resetDelay() {
    this.#backoff.reset();
    this.#hintMs = 0;
  }

  /**
   * Milliseconds until the next attempt; null when there is none.
   *
   * @param {import("./endings.js").Ending} ending
   * @param {number | null} livedMs since the link's first frame; null when none came
   */
  nextDelayMs({ verdict, code, retryAfterMs }, livedMs) {
    if (verdict === "refused") return null;
    if (verdict === "token" && ++this.#tokensRefused >= TOKENS_TRIED) return null;
    const gotThrough = code >= FIRST_CODE_OF_GUARDWIRE || code === DRAINING || code === OVERLOADED;
    if (livedMs === null && !gotThrough) this.#choice.noteFailure();
    if (livedMs !== null && livedMs >= PROVEN_AFTER_MS) this.#backoff.reset();
    const hintMs = Math.max(retryAfterMs, this.#hintMs);
    this.#hintMs = 0;
    return this.#backoff.nextMs(hintMs);
  }
}

/**
 * The time without a link that brought a frame, and the moments of it that are worth a warning. A client begins with an
 * outage.
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

  /** Notes that a link which had brought frames is gone. @param {Instant} now */
  begin(now) {
    this.#began = now;
    this.#warned = null;
  }

  /** Notes that a link brought a frame. */
  end() {
    this.#began = null;
  }

  /** Whether a failed attempt is worth a warning: the first one is, and then one a minute. @param {Instant} now */
  shouldWarnOfFailure(now) {
    if (this.#warned && elapsedMs(this.#warned, now) < NEXT_WARNING_MS) return false;
    this.#warned = now;
    return true;
  }

  /** Whether there has been no link for 8 s and no warning yet. @param {Instant} now */
  shouldWarnOfSilence(now) {
    if (!this.#began || this.#warned || elapsedMs(this.#began, now) < WARNING_AFTER_MS) return false;
    this.#warned = now;
    return true;
  }
}
