import { duration } from "./format.js";
import { partsOf, write } from "./parts.js";
import { silentForMs } from "./platform.js";

const TRANSPORTS = { websocket: "WebSocket", sse: "event stream", poll: "polling" };

/** The one word on whether what is shown is true now, with its age. */
export class ConnectionElement extends HTMLElement {
  #parts = partsOf(this);

  /** @param {import("./view.js").View} view */
  render(view) {
    const { level, connection } = view;
    this.dataset.level = level;
    this.dataset.phase = connection.phase;
    this.dataset.source = silentForMs(view) === null ? "" : "silent";
    write(this.#parts.word, wordFor(view));
    write(this.#parts.transport, connection.phase === "open" ? TRANSPORTS[connection.transport] : "");
  }

  /** @param {import("./view.js").View} view */
  tick(view) {
    const silentMs = view.level === "connected" ? silentForMs(view) : null;
    const age = view.ageMs === null ? "" : `, ${duration(view.ageMs)}`;
    write(this.#parts.age, silentMs === null ? age : ` · prices ${duration(silentMs)} old`);
  }
}

/** @param {import("./view.js").View} view */
export function wordFor(view) {
  const { level, connection: { phase }, ageMs } = view;
  if (phase === "closed") return "Disconnected";
  // The link may be live while the prices are not.
  if (level === "connected") return silentForMs(view) === null ? "Live" : "Live link";
  if (ageMs === null) return "Connecting";
  if (level === "blind") return "Blind";
  return phase === "open" ? "Stale" : "Reconnecting";
}
