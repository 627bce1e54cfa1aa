import { SUBPROTOCOL, decode, hello } from "../messages.js";
import { fromClose, lost } from "./endings.js";

const NORMAL_CLOSURE = 1000;
/** Browsers hide from a page why a WebSocket could not be opened. */
const NOT_OPENED = "no connection: the server is out of reach, or GUARDWIRE_ALLOWED_ORIGINS does not name this page's origin";

/**
 * The stream over a WebSocket. The token goes in the first frame: browsers cannot set headers, and URLs are logged.
 *
 * @param {typeof WebSocket} Socket
 * @param {string | URL} url
 * @param {import("./link.js").LinkOptions} options
 * @returns {import("./link.js").OpenTransport}
 */
export function openWebSocket(Socket, url, options) {
  const address = new URL("ws", url);
  address.protocol = address.protocol.replace("http", "ws");
  return new OpenWebSocket(() => new Socket(address.href, [SUBPROTOCOL]), options);
}

class OpenWebSocket {
  /** @type {WebSocket | null} */
  #socket = null;
  #options;
  #isClosed = false;
  #isOpen = false;

  /**
   * @param {() => WebSocket} connect
   * @param {import("./link.js").LinkOptions} options
   */
  constructor(connect, options) {
    this.#options = options;
    try {
      this.#socket = connect();
    } catch (error) {
      // Later, because the caller does not hold this object yet.
      queueMicrotask(() => this.#end(lost(String(error))));
      return;
    }
    this.#socket.onopen = () => {
      this.#isOpen = true;
      this.#socket?.send(hello(options));
    };
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(fromClose(code, reason || (this.#isOpen ? "" : NOT_OPENED)));
    // Browsers send a close event right after the error event; Node 20 sends none when it cannot connect.
    this.#socket.onerror = () => setTimeout(() => this.#end(lost(this.#isOpen ? "" : NOT_OPENED)));
  }

  /** @param {object} frame */
  send(frame) {
    if (!this.#isClosed && this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  close() {
    this.#isClosed = true;
    this.#socket?.close(NORMAL_CLOSURE);
  }

  /** @param {unknown} data */
  #receive(data) {
    if (this.#isClosed) return;
    const frame = decode(data);
    if (frame) this.#options.onFrame(frame);
    else this.#end(lost("not a frame"));
  }

  /** @param {import("./endings.js").Ending} ending */
  #end(ending) {
    if (this.#isClosed) return;
    this.close();
    this.#options.onEnd(ending);
  }
}
