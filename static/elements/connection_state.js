import { duration } from "./format.js";
import { partsOf, write } from "./parts.js";

const TRANSPORTS = { websocket: "WebSocket", sse: "event stream", poll: "polling" };

/** The one word on whether what is shown is true now, with its age. */
export class ConnectionElement extends HTMLElement {
  #parts = partsOf(this);

  /** @param {import("./view.js").View} view */
  render(view) {
    const { level, connection } = view;
    this.dataset.level = level;
    this.dataset.phase = connection.phase;
    write(this.#parts.word, wordFor(view));
    write(this.#parts.transport, connection.phase === "open" ? TRANSPORTS[connection.transport] : "");
  }

  /** @param {import("./view.js").View} view */
  tick({ ageMs }) {
    write(this.#parts.age, ageMs === null ? "" : `, ${duration(ageMs)}`);
  }
}

/** @param {import("./view.js").View} view */
export function wordFor({ level, connection: { phase }, ageMs }) {
  if (phase === "closed") return "Disconnected";
  if (level === "connected") return "Live";
  if (ageMs === null) return "Connecting";
  if (level === "blind") return "Blind";
  return phase === "open" ? "Stale" : "Reconnecting";
}
