import { duration } from "./format.js";

/**
 * When the platform last synced, by the database's clock: a platform whose own clock is behind writes earlier times.
 *
 * @param {import("../state.js").Status} status
 * @returns {number | null} null when it never did
 */
export function syncedAtMs({ last_sync_at, clock_offset_seconds = 0, counts_at_arrival }) {
  if (last_sync_at === undefined) return null;
  return Date.parse(last_sync_at) + (counts_at_arrival ? 0 : Math.max(0, clock_offset_seconds) * 1000);
}

/**
 * How long ago the platform last synced, when it has fallen silent.
 *
 * @param {import("./view.js").View} view
 * @returns {number | null} null while the platform is live, or when it never synced
 */
export function silentForMs({ state: { status }, databaseNowMs }) {
  if (status?.source !== "silent") return null;
  const at = syncedAtMs(status);
  return at === null ? null : Math.max(0, databaseNowMs - at);
}

/**
 * How the platform's clock differs from the database's, in words.
 *
 * @param {number} offsetSeconds above 0 when the platform's clock is behind
 */
export function clockOff(offsetSeconds) {
  // Rows take a moment to arrive, so 2 h 59 min 59 s is 3 h.
  const minutes = Math.round(Math.abs(offsetSeconds) / 60);
  const size = duration(minutes * 60_000).replace(" 0 min", "");
  return `${size} ${offsetSeconds < 0 ? "ahead" : "behind"}`;
}
