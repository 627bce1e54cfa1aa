/** Silence after which a link counts as dead and the state as blind, where heartbeats come every 5 s or faster. */
export const SILENCE_MS = 15_000;
/** No server can keep its clients from noticing a dead link for longer than this. */
const LONGEST_SILENCE_MS = 180_000;
/** Two heartbeats may be lost. */
const HEARTBEATS = 3;

/**
 * Milliseconds of silence after which a link counts as dead, where the server sends heartbeats so often.
 *
 * @param {number} heartbeatSeconds as the server's welcome says
 */
export function silenceLimitMs(heartbeatSeconds) {
  const heartbeatsMs = Number(heartbeatSeconds) * 1000 * HEARTBEATS || 0;
  return Math.max(SILENCE_MS, Math.min(heartbeatsMs, LONGEST_SILENCE_MS));
}
