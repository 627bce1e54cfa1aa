/**
 * Guardwire's client: one account's live state, mirrored. For browsers, and for Node from version 20.
 *
 * ```js
 * import { connect } from "./client.js";
 *
 * const account = connect({ url: "https://guardwire.example/", token: async () => await myFreshToken() });
 * account.onChange("positions.open.*", (path, now, old) => console.log(path[2], now, old));
 * account.on("freshness", (level) => console.log(level)); // connected | stale | blind
 * ```
 *
 * It reconnects, resumes, refreshes the token, notices what it missed and falls back to plain HTTP by itself. What remains
 * for its user is one question: may I act on this? `account.fresh` answers it.
 */

import { systemClock } from "./client/clock.js";
import { Connection } from "./client/connection.js";
import { Emitter } from "./client/emitter.js";
import { Freshness } from "./client/freshness.js";
import { transportsFor } from "./client/links.js";
import { Mirror } from "./client/mirror.js";
import { watchSurroundings } from "./client/wake.js";
import { notify, parsePattern } from "./client/watchers.js";
import { CHANNELS } from "./messages.js";

/**
 * @typedef {import("./messages.js").Channel} Channel
 * @typedef {import("./client/connection.js").ConnectionStatus} ConnectionStatus
 *
 * @typedef {object} ConnectOptions
 * @property {string | URL} [url] the server's root; the page's own when left out
 * @property {string | ((reason: "connect" | "expiring") => string | null | Promise<string | null>)} token for one user; the
 *   callback is asked before each connect and a minute before the token expires; nothing means: give up
 * @property {readonly Channel[]} [channels] all when left out
 * @property {any} [WebSocket] a class like the browsers'; where there is none, plain HTTP is used
 * @property {typeof fetch} [fetch]
 * @property {import("./client/links.js").Transport[]} [transports] instead of WebSocket, Server-Sent Events, long poll
 * @property {import("./client/clock.js").Clock} [clock]
 * @property {() => number} [random] jitter, in [0, 1)
 * @property {(sentence: string) => void} [warn] is given why there is no connection, within 10 s and then once a minute; the
 *   console's when left out
 */

/**
 * Starts mirroring the account of the token's user.
 *
 * @param {ConnectOptions} options
 */
export function connect(options) {
  return new Account(options);
}

/**
 * Events: `change` (state, old), `freshness` (level), `connection` (status), `problem` ({code, message}). Use `onChange`
 * for changes below a path.
 */
export class Account {
  #emitter = new Emitter();
  #mirror = new Mirror();
  #freshness = new Freshness();
  #clock;
  #connection;
  #stopWatching;
  /** @type {Channel[]} */
  #channels;
  /** @type {import("./client/freshness.js").Level} */
  #level = "blind";
  /** @type {import("./state.js").AccountState | null} */
  #state = null;
  /** @type {ConnectionStatus} */
  #status;

  /** @param {ConnectOptions} options */
  constructor({ url = globalThis.document?.baseURI, token, channels = CHANNELS, clock = systemClock, ...rest }) {
    if (!url && !rest.transports) throw new TypeError("connect() needs the server's url where there is no page");
    const { WebSocket = globalThis.WebSocket, fetch = globalThis.fetch, random = Math.random, warn = toConsole } = rest;
    const transports = rest.transports ?? transportsFor({ url: new URL("./", url), WebSocket, fetch });
    this.#clock = clock;
    this.#channels = [...channels];
    this.#status = { phase: "connecting", transport: /** @type {any} */ (transports[0]).name };
    this.#connection = new Connection({
      transports,
      token: async (reason) => (typeof token === "function" ? token(reason) : token),
      clock,
      random,
      channels: () => this.#channels,
      mirror: this.#mirror,
      onFrame: (frame, reaction) => this.#settle(frame, reaction),
      onStatus: (status) => this.#follow(status),
      onProblem: (problem) => this.#emitter.emit("problem", problem),
      onTick: () => this.#judge(),
      warn,
    });
    this.#stopWatching = watchSurroundings({
      onOnline: () => this.#connection.networkChanged(),
      onOffline: () => this.#doubt(),
      onVisible: () => this.#connection.attend(),
    });
    // Not before the caller could attach its listeners.
    queueMicrotask(() => this.#connection.start());
  }

  /** The mirrored state, null before the first snapshot. Never changed in place: keep it, compare it with `!==`. */
  get state() {
    return this.#state;
  }

  /** What the state is worth: `connected`, `stale` (it may have moved on) or `blind` (nobody has said anything for 15 s). */
  get freshness() {
    return this.#freshness.level(this.#clock.now());
  }

  /** Whether the state may be acted on. */
  get fresh() {
    return this.freshness === "connected";
  }

  /** Milliseconds since the read that confirmed the state, null before the first. */
  get ageMs() {
    return this.#freshness.ageMs(this.#clock.now());
  }

  /** The database's time now in unix milliseconds, null before the first frame: what countdowns are measured against. */
  get databaseNowMs() {
    return this.#freshness.databaseNowMs(this.#clock.now());
  }

  get connection() {
    return this.#status;
  }

  /** @returns {readonly Channel[]} */
  get channels() {
    return this.#channels;
  }

  /**
   * Calls back for each value at the path that changed, once a frame. `*` in the path stands for any key.
   *
   * @param {string | import("./client/watchers.js").Path} path `"positions.open.*"`, or a list where a key holds a dot
   * @param {import("./client/watchers.js").ChangeListener} listener gets (path, now, old); `undefined` stands for absent
   * @returns {() => void} stops it
   */
  onChange(path, listener) {
    const watcher = { pattern: parsePattern(path), listener };
    return this.on("change", (now, old) => notify(old, now, watcher));
  }

  /**
   * @param {"change" | "freshness" | "connection" | "problem"} event
   * @param {(...values: any[]) => void} listener
   * @returns {() => void} stops it
   */
  on(event, listener) {
    return this.#emitter.on(event, listener);
  }

  /** @param {Channel[]} channels */
  subscribe(...channels) {
    this.#want([...new Set([...this.#channels, ...channels])]);
  }

  /** @param {Channel[]} channels */
  unsubscribe(...channels) {
    this.#want(this.#channels.filter((channel) => !channels.includes(channel)));
  }

  /** Does not wait for the next attempt's time. */
  reconnect() {
    this.#connection.reconnect();
  }

  /** Ends it for good. */
  close() {
    this.#stopWatching();
    this.#connection.close();
    this.#follow({ phase: "closed", transport: this.#status.transport });
  }

  /** @param {Channel[]} channels */
  #want(channels) {
    const before = this.#channels;
    this.#channels = channels;
    this.#align(before);
  }

  /** Tells the server what changed between the channels that it serves and those wanted. @param {Channel[]} served */
  #align(served) {
    const added = this.#channels.filter((channel) => !served.includes(channel));
    const removed = served.filter((channel) => !this.#channels.includes(channel));
    if (added.length > 0) this.#connection.tell({ type: "subscribe", channels: added });
    if (removed.length > 0) this.#connection.tell({ type: "unsubscribe", channels: removed });
  }

  /**
   * @param {import("./messages.js").ServerFrame} frame
   * @param {import("./client/mirror.js").Reaction} reaction
   */
  #settle(frame, reaction) {
    if (frame.type === "welcome") this.#align(frame.channels);
    if (frame.type === "error") this.#emitter.emit("problem", { code: frame.code, message: frame.message });
    if (reaction === "resync") this.#freshness.doubt();
    if (reaction === "applied" || reaction === "confirmed") {
      this.#freshness.confirm(/** @type {import("./messages.js").Dated} */ (frame), this.#clock.now());
    }
    const old = this.#state;
    this.#state = this.#mirror.state;
    if (old !== this.#state) this.#emitter.emit("change", this.#state, old);
    this.#judge();
  }

  /** @param {ConnectionStatus} status */
  #follow(status) {
    this.#status = status;
    if (status.phase === "closed") this.#freshness.forget();
    this.#emitter.emit("connection", status);
    if (status.phase !== "open") this.#doubt();
  }

  #doubt() {
    this.#freshness.doubt();
    this.#judge();
  }

  #judge() {
    const level = this.freshness;
    if (level === this.#level) return;
    this.#level = level;
    this.#emitter.emit("freshness", level);
  }
}

/** @param {string} sentence */
function toConsole(sentence) {
  console.warn(sentence);
}
