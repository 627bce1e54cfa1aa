import { clock } from "./format.js";
import { partsOf, write } from "./parts.js";

/** A short hiccup greys the numbers; only one that lasts is put into words. */
const PATIENCE_MS = 800;

/** Says in words why the numbers may not be believed, and from when they are. */
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
    if (action) action.hidden = view.connection.phase === "open";
    write(action, view.connection.phase === "closed" ? "Sign in again" : "Try now");
  }

  /** @param {import("./view.js").View} view */
  #patient({ level }) {
    return level === "stale" && performance.now() - (this.#sinceMs ?? 0) < PATIENCE_MS;
  }
}

/**
 * @param {import("./view.js").View} view
 * @returns {string} empty when all is well
 */
export function sentence({ state, level, connection, online, ageMs, databaseNowMs }) {
  const from = ageMs === null ? "" : ` These numbers are from ${clock(new Date(databaseNowMs - ageMs).toISOString(), databaseNowMs)}.`;
  if (connection.phase === "closed") return `Disconnected: ${connection.ending?.reason || "closed"}.${from}`;
  if (ageMs === null) return connection.ending || connection.phase === "waiting" ? "The server cannot be reached." : "";
  if (level !== "connected" && !online) return `This device is offline.${from}`;
  if (level === "blind") return `No connection. The account may look different by now.${from}`;
  if (level === "stale" && connection.phase === "open") return `The server has lost sight of its database.${from}`;
  if (level === "stale") return `Reconnecting.${from}`;
  if (state.status?.source !== "silent" || !state.status.last_sync_at) return "";
  return `The trading platform is silent: prices are from ${clock(state.status.last_sync_at, databaseNowMs)}.`;
}
