/**
 * A link is one attempt to be told the state, over one transport. It ends at most once, by itself (`onEnd`) or by
 * `close()`, and says nothing afterwards.
 *
 * @typedef {object} Link
 * @property {((frame: object) => void) | null} send null where the transport has no way up: reopen it instead
 * @property {() => void} close
 *
 * @typedef {object} LinkOptions
 * @property {string} token
 * @property {readonly import("../messages.js").Channel[]} channels
 * @property {import("../messages.js").Position | null} resume
 * @property {(frame: import("../messages.js").ServerFrame) => void} onFrame
 * @property {(ending: import("./ending.js").Ending) => void} onEnd
 *
 * @typedef {object} Transport
 * @property {"websocket" | "sse" | "poll"} name
 * @property {(options: LinkOptions) => Link} open
 *
 * @typedef {typeof globalThis.fetch} Fetch
 *
 * @typedef {object} Surroundings
 * @property {string | URL} url where the server's root is
 * @property {typeof WebSocket | undefined} WebSocket
 * @property {Fetch} fetch
 */

import { openEventStream } from "./sse.js";
import { openLongPoll } from "./long_poll.js";
import { openWebSocket } from "./websocket.js";

/**
 * The transports that these surroundings offer, best first.
 *
 * @param {Surroundings} surroundings
 * @returns {Transport[]}
 */
export function transportsFor({ url, WebSocket, fetch }) {
  /** @type {Transport[]} */
  const transports = [
    { name: "sse", open: (options) => openEventStream(fetch, url, options) },
    { name: "poll", open: (options) => openLongPoll(fetch, url, options) },
  ];
  if (WebSocket) {
    transports.unshift({ name: "websocket", open: (options) => openWebSocket(WebSocket, url, options) });
  }
  return transports;
}
