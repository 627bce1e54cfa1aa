import { SUBPROTOCOL, decode, hello } from "../messages.js";
import { fromClose, lost } from "./ending.js";

const NORMAL_CLOSURE = 1000;
/** Browsers keep the reason from pages. */
const NOT_OPENED = "no connection: the server is out of reach, or GUARDWIRE_ALLOWED_ORIGINS does not name this page's origin";

/**
 * The stream over a WebSocket. The token goes in the first frame: browsers cannot set headers, and URLs are logged.
 *
 * @param {typeof WebSocket} Socket
 * @param {string | URL} url
 * @param {import("./links.js").LinkOptions} options
 * @returns {import("./links.js").Link}
 */
export function openWebSocket(Socket, url, options) {
  const address = new URL("ws", url);
  address.protocol = address.protocol.replace("http", "ws");
  return new WebSocketLink(() => new Socket(address.href, [SUBPROTOCOL]), options);
}

class WebSocketLink {
  /** @type {WebSocket | null} */
  #socket = null;
  #options;
  #over = false;
  #opened = false;

  /**
   * @param {() => WebSocket} connect
   * @param {import("./links.js").LinkOptions} options
   */
  constructor(connect, options) {
    this.#options = options;
    try {
      this.#socket = connect();
    } catch (error) {
      // Not now: whoever opens a link does not yet hold it.
      queueMicrotask(() => this.#end(lost(String(error))));
      return;
    }
    this.#socket.onopen = () => {
      this.#opened = true;
      this.#socket?.send(hello(options));
    };
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(fromClose(code, reason || (this.#opened ? "" : NOT_OPENED)));
    // Browsers say what went wrong in the close event that follows at once; Node 20 sends none when it cannot connect.
    this.#socket.onerror = () => setTimeout(() => this.#end(lost(this.#opened ? "" : NOT_OPENED)));
  }

  /** @param {object} frame */
  send(frame) {
    if (!this.#over && this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  close() {
    this.#over = true;
    this.#socket?.close(NORMAL_CLOSURE);
  }

  /** @param {unknown} data */
  #receive(data) {
    if (this.#over) return;
    const frame = decode(data);
    if (frame) this.#options.onFrame(frame);
    else this.#end(lost("not a frame"));
  }

  /** @param {import("./ending.js").Ending} ending */
  #end(ending) {
    if (this.#over) return;
    this.close();
    this.#options.onEnd(ending);
  }
}
