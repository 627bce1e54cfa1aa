/**
 * Tells when the network or the user's attention may have changed; where there is no window (Node), never.
 *
 * @param {{ onOnline: () => void, onOffline: () => void, onVisible: () => void }} callbacks
 * @returns {() => void} stops it
 */
export function watchSurroundings({ onOnline, onOffline, onVisible }) {
  const { window, document } = globalThis;
  if (!window || !document) return () => {};
  const stop = new AbortController();
  const { signal } = stop;
  window.addEventListener("online", onOnline, { signal });
  window.addEventListener("offline", onOffline, { signal });
  // A page that comes back from the back-forward cache, or from being frozen, is visible before anything else happens.
  window.addEventListener("pageshow", onVisible, { signal });
  document.addEventListener("resume", onVisible, { signal });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && onVisible(), { signal });
  return () => stop.abort();
}
