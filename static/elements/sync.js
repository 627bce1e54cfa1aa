import { UNKNOWN, clock, duration, number } from "./format.js";
import { partsOf, write } from "./parts.js";
import { clockOff, syncedAtMs } from "./platform.js";

const STATUSES = { healthy: "Healthy", idle: "Idle", warning: "Warning", unknown: "Not known yet" };
const SOURCES = { live: "live", silent: "silent" };

/** Whether the reconciliation of this account is alive, and agrees with the broker. */
export class SyncElement extends HTMLElement {
  #parts = partsOf(this);
  /** @type {import("../state.js").Status | undefined} */
  #shown;

  /** @param {import("./view.js").View} view */
  render({ state: { status } }) {
    if (status === this.#shown || !status) return;
    this.#shown = status;
    const { health, source, divergences, error } = this.#parts;
    // A reconciliation that has stopped is not healthy, although its last status may say so.
    const stopped = status.source === "silent" && status.last_sync_at !== undefined;
    if (health) health.dataset.status = stopped ? "silent" : status.status;
    if (source) source.dataset.source = status.source;
    write(this.#parts.status, stopped ? "Platform silent" : wordOf(status));
    const { clockRow } = this.#parts;
    if (clockRow) clockRow.hidden = status.clock_offset_seconds === undefined;
    write(this.#parts.clock, status.clock_offset_seconds === undefined ? "" : clockOff(status.clock_offset_seconds));
    write(source, SOURCES[status.source]);
    write(this.#parts.duration, status.last_sync_duration_ms === undefined ? UNKNOWN : `${number(status.last_sync_duration_ms)} ms`);
    write(this.#parts.syncs, number(status.total_syncs));
    write(this.#parts.matched, number(status.matched_positions));
    write(divergences, number(status.divergences_detected));
    divergences?.toggleAttribute("data-any", status.divergences_detected > 0);
    write(error, status.error_message ?? "");
    if (error) error.hidden = status.error_message === undefined;
  }

  /** @param {import("./view.js").View} view */
  tick({ databaseNowMs }) {
    const atMs = this.#shown ? syncedAtMs(this.#shown) : null;
    const { lastSync } = this.#parts;
    if (!lastSync) return;
    write(lastSync, atMs === null ? "never" : ago(databaseNowMs - atMs));
    lastSync.title = atMs === null ? "" : clock(new Date(atMs).toISOString(), databaseNowMs);
  }
}

/** @param {import("../state.js").Status} status */
function wordOf({ status, divergences_detected, recorded }) {
  if (recorded === false) return "Nothing recorded";
  return status === "warning" && divergences_detected > 0 ? "Divergence" : STATUSES[status];
}

/** Whole seconds, because tenths would flicker. @param {number} ms */
function ago(ms) {
  return ms < 10_000 ? `${Math.max(0, Math.round(ms / 1000))} s ago` : `${duration(ms)} ago`;
}
