import { elapsedMs } from "./clock.js";

/**
 * Acknowledgements and snoozes that the server has not confirmed yet. An acknowledgement is state and no message in a queue: it
 * is sent again over each new link until the server's answer or the state confirms it.
 *
 * @typedef {import("./clock.js").Instant} Instant
 * @typedef {{ type: "ack" | "snooze", alert: string, generation: number, as: string, action?: string, seconds?: number,
 *   reason?: string }} Asked
 * @typedef {{ code: string, message: string, retry: boolean, retry_after_ms?: number }} Refusal
 */

const ANSWER_WITHIN_MS = 5_000;
const LEAST_PAUSE_MS = 1_000;
const RANKS = ["received", "acting", "done"];

/** One acknowledgement or snooze of one alert. */
export class Request {
  isOver = false;
  /** @type {Refusal | null} */
  refusal = null;
  /** @type {Instant | null} */
  sentAt = null;
  pauseMs = ANSWER_WITHIN_MS;
  /** Frames about this alert that the present link has not answered: this one, and perhaps one that it replaced. */
  unanswered = 0;

  /** @param {Asked} asked */
  constructor(asked) {
    this.asked = asked;
    /** Settles when it is over. @type {Promise<void>} */
    this.ended = new Promise((resolve) => (this.#resolve = resolve));
  }

  #resolve = () => {};

  /** @param {Refusal | null} refusal */
  end(refusal = null) {
    this.isOver = true;
    this.refusal = refusal;
    this.#resolve();
  }

  /** @param {Instant} now */
  noteSent(now) {
    [this.sentAt, this.pauseMs] = [now, ANSWER_WITHIN_MS];
    this.unanswered += 1;
  }

  /** Whether to send it now. @param {Instant} now */
  isDue(now) {
    return this.sentAt === null || elapsedMs(this.sentAt, now) >= this.pauseMs;
  }

  /** The frame that asks for it. */
  get frame() {
    const { type, alert, generation, ...rest } = this.asked;
    return type === "ack" ? { type, alerts: { [alert]: generation }, ...rest } : { type, alert, generation, ...rest };
  }
}

export class Acknowledgements {
  /** @type {Map<string, Request>} */
  #pending = new Map();

  /** A request that replaces an earlier one of the same alert and type. @param {Asked} asked */
  put(asked) {
    const request = new Request(asked);
    const key = `${asked.type} ${asked.alert}`;
    const earlier = this.#pending.get(key);
    if (earlier) request.unanswered = earlier.unanswered;
    earlier?.end();
    this.#pending.set(key, request);
    return request;
  }

  /** @param {Instant} now */
  due(now) {
    return [...this.#pending.values()].filter((request) => request.isDue(now));
  }

  noteLinkEnded() {
    for (const request of this.#pending.values()) [request.sentAt, request.unanswered] = [null, 0];
  }

  /**
   * Takes one answer of the present link.
   *
   * @param {any} frame
   * @param {Instant} now
   */
  receive(frame, now) {
    if (frame.type === "ack_ok") for (const alert of Object.keys(frame.alerts)) this.#confirm(`ack ${alert}`);
    if (frame.type === "snooze_ok") this.#confirm(`snooze ${frame.alert}`);
    if (frame.type !== "error" || frame.alert === undefined) return;
    for (const type of ["ack", "snooze"]) this.#refuse(`${type} ${frame.alert}`, frame, now);
  }

  /** Ends those that the state confirms, or whose generation is over. @param {{ [id: string]: any }} open */
  settle(open) {
    for (const [key, request] of this.#pending) {
      const { alert: id, generation, type, as, action } = request.asked;
      const alert = open[id];
      const isPast = !alert || alert.generation > generation;
      const rank = RANKS.indexOf(alert?.action);
      const isShown = type === "ack" && alert?.acknowledged_by === as && rank >= RANKS.indexOf(action ?? "received");
      if (isPast || (isShown && alert.generation === generation)) this.#end(key);
    }
  }

  /** @param {string} key */
  #confirm(key) {
    const request = this.#pending.get(key);
    if (!request) return;
    request.unanswered -= 1;
    // The answer may be that of the request before this one, because an answer names no action.
    if (request.sentAt !== null && request.unanswered <= 0) this.#end(key);
  }

  /**
   * @param {string} key
   * @param {Refusal} refusal
   * @param {Instant} now
   */
  #refuse(key, refusal, now) {
    const request = this.#pending.get(key);
    if (!request) return;
    request.unanswered -= 1;
    if (request.unanswered > 0) return;
    if (!refusal.retry) this.#end(key, refusal);
    else [request.sentAt, request.pauseMs] = [now, Math.max(refusal.retry_after_ms ?? 0, LEAST_PAUSE_MS)];
  }

  /**
   * @param {string} key
   * @param {Refusal | null} refusal
   */
  #end(key, refusal = null) {
    this.#pending.get(key)?.end(refusal);
    this.#pending.delete(key);
  }
}
