import { clock } from "./format.js";
import { partsOf, write } from "./parts.js";
import { clockOff, syncedAtMs } from "./platform.js";

/** A short interruption greys the numbers, and only a longer one is put into words. */
const PATIENCE_MS = 800;

/** The sentence that says why the numbers may be out of date, and from when they are. */
export class NoticeElement extends HTMLElement {
  #parts = partsOf(this);
  /** @type {number | null} */
  #sinceMs = null;

  /** @param {import("./view.js").View} view */
  render(view) {
    const troubled = view.level !== "connected";
    this.#sinceMs = troubled ? (this.#sinceMs ?? performance.now()) : null;
  }

  /** @param {import("./view.js").View} view */
  tick(view) {
    const text = this.#patient(view) ? "" : sentence(view);
    this.dataset.level = view.level;
    this.hidden = text === "";
    write(this.#parts.text, text);
    const { action } = this.#parts;
    if (action) action.hidden = view.connection.phase === "open" && !view.isAsking;
    write(action, view.isAsking ? "Sign in" : view.connection.phase === "closed" ? "Sign in again" : "Try now");
  }

  /** @param {import("./view.js").View} view */
  #patient({ level }) {
    return level === "stale" && performance.now() - (this.#sinceMs ?? 0) < PATIENCE_MS;
  }
}

/**
 * @param {import("./view.js").View} view
 * @returns {string} empty when the numbers are up to date
 */
export function sentence({ state, level, connection, online, isAsking, ageMs, databaseNowMs }) {
  const from = ageMs === null ? "" : ` These numbers are from ${clock(new Date(databaseNowMs - ageMs).toISOString(), databaseNowMs)}.`;
  if (connection.phase === "closed") return `Disconnected: ${closing(connection.ending?.reason)}${from}`;
  if (isAsking && ageMs !== null) return level === "connected" ? "Your sign-in ends in a minute." : `Your sign-in has ended.${from}`;
  if (ageMs === null) return connection.ending || connection.phase === "waiting" ? "The server cannot be reached." : "";
  if (level !== "connected" && !online) return `This device is offline.${from}`;
  if (level === "blind") return `No connection. The account may look different by now.${from}`;
  if (level === "stale" && connection.phase === "open") return `The server has lost sight of its database.${from}`;
  if (level === "stale") return `Reconnecting.${from}`;
  return platformSentence(state.status, databaseNowMs);
}

/**
 * The sentence about a trading platform that is silent, or whose clock is off.
 *
 * @param {import("../state.js").Status | undefined} status
 * @param {number} databaseNowMs
 */
function platformSentence(status, databaseNowMs) {
  if (!status) return "";
  if (status.recorded === false) return "Nothing was ever recorded for this account: is it the right one?";
  const syncedMs = syncedAtMs(status);
  if (status.source === "silent" && syncedMs !== null)
    return `The trading platform is silent: prices are from ${clock(new Date(syncedMs).toISOString(), databaseNowMs)}.`;
  const offset = status.clock_offset_seconds;
  if (offset === undefined) return "";
  const effect = offset < 0 || status.counts_at_arrival ? "its rows count from their arrival on" : "the times of its rows are that much too early";
  return `The trading platform's clock is ${clockOff(offset)}: ${effect}. Its operator can set it right.`;
}

/** A reason as a sentence: some come with a full stop, and some without. @param {string | undefined} reason */
function closing(reason = "") {
  const text = reason || "closed";
  return text.endsWith(".") ? text : `${text}.`;
}
