import { elapsedMs } from "./clock.js";
import { lost } from "./endings.js";
import { openLongPoll } from "./long_poll.js";
import { openEventStream } from "./sse.js";
import { SILENCE_MS, silenceLimitMs } from "./timing.js";
import { openWebSocket } from "./websocket.js";

/**
 * An open transport carries frames over one connection. It ends at most once, by itself (`onEnd`) or by `close()`, and calls
 * nothing back afterwards.
 *
 * @typedef {object} OpenTransport
 * @property {((frame: object) => void) | null} send null where no frame can be sent; there another link takes its place
 * @property {() => void} close
 *
 * @typedef {object} Opening
 * @property {string} token
 * @property {readonly import("../messages.js").Channel[]} channels
 * @property {import("../messages.js").ResumePoint | null} resume
 *
 * @typedef {object} Callbacks
 * @property {(frame: import("../messages.js").ServerFrame) => void} onFrame
 * @property {(ending: import("./endings.js").Ending) => void} onEnd
 *
 * @typedef {Opening & Callbacks} LinkOptions
 *
 * @typedef {object} Transport
 * @property {"websocket" | "sse" | "poll"} name
 * @property {(options: LinkOptions) => OpenTransport} open
 *
 * @typedef {typeof globalThis.fetch} Fetch
 *
 * @typedef {object} Surroundings
 * @property {string | URL} url where the server's root is
 * @property {typeof WebSocket | undefined} WebSocket
 * @property {Fetch} fetch
 *
 * @typedef {import("./clock.js").Instant} Instant
 */

const FIRST_FRAME_WITHIN_MS = 10_000;
const NEW_MS = 1_000;
/** A link whose heartbeat is later than this is replaced as soon as the user looks at the page. */
const OVERDUE_MS = 2_000;
const USUAL_HEARTBEAT_SECONDS = 5;

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

/** One link to the server: an open transport, and when it was opened and brought frames. */
export class Link {
  #transport;
  /** @type {Instant} */
  #opened;
  /** @type {Instant} */
  #lastFrame;
  /** @type {Instant | null} */
  #firstFrame = null;
  #heartbeatSeconds = USUAL_HEARTBEAT_SECONDS;
  #silenceMs = SILENCE_MS;

  /**
   * @param {Transport} transport
   * @param {Opening} opening
   * @param {Instant} now
   * @param {object} callbacks they get the link first
   * @param {(link: Link, frame: import("../messages.js").ServerFrame) => void} callbacks.onFrame
   * @param {(link: Link, ending: import("./endings.js").Ending) => void} callbacks.onEnd
   */
  constructor(transport, opening, now, { onFrame, onEnd }) {
    this.#opened = this.#lastFrame = now;
    this.#transport = transport.open({
      ...opening,
      onFrame: (frame) => onFrame(this, frame),
      onEnd: (ending) => onEnd(this, ending),
    });
  }

  /** Whether frames can be sent; where not, new channels, a new token or a snapshot take a new link. */
  get isInBand() {
    return this.#transport.send !== null;
  }

  /** Whether a frame came through. */
  get hasFrames() {
    return this.#firstFrame !== null;
  }

  /** Sends a frame; only where `isInBand`. @param {object} frame */
  send(frame) {
    this.#transport.send?.(frame);
  }

  close() {
    this.#transport.close();
  }

  /**
   * Notes that a frame came.
   *
   * @param {import("../messages.js").ServerFrame} frame
   * @param {Instant} now
   */
  noteFrame(frame, now) {
    this.#firstFrame ??= now;
    this.#lastFrame = now;
    if (frame.type !== "welcome") return;
    this.#heartbeatSeconds = Number(frame.heartbeat_seconds) || USUAL_HEARTBEAT_SECONDS;
    this.#silenceMs = silenceLimitMs(this.#heartbeatSeconds);
  }

  /** Whether it was opened a moment ago. @param {Instant} now */
  isNew(now) {
    return elapsedMs(this.#opened, now) < NEW_MS;
  }

  /** Milliseconds since the first frame; null when none came. @param {Instant} now */
  livedMs(now) {
    return this.#firstFrame && elapsedMs(this.#firstFrame, now);
  }

  /** Whether a frame is late that should have come. @param {Instant} now */
  isOverdue(now) {
    return this.hasFrames && elapsedMs(this.#lastFrame, now) > this.#heartbeatSeconds * 1000 + OVERDUE_MS;
  }

  /**
   * The ending of a link that looks open and brings nothing; null while it may be good.
   *
   * @param {Instant} now
   */
  findSilence(now) {
    const silentMs = elapsedMs(this.#lastFrame, now);
    if (!this.hasFrames) return silentMs >= FIRST_FRAME_WITHIN_MS ? lost("no first frame in time") : null;
    return silentMs >= this.#silenceMs ? lost(`no frame came for ${this.#silenceMs / 1000} s`) : null;
  }
}
