import { DEFAULT_CHANNELS } from "../messages.js";
import { Acknowledgements } from "./acknowledgements.js";
import { elapsedMs, systemClock } from "./clock.js";
import { Connection } from "./connection.js";
import { transportsFor } from "./link.js";
import { Mirror, StateAge } from "./mirror.js";
import { answerTo } from "./rest.js";
import { AlertReader, Turns } from "./turns.js";

/**
 * @typedef {import("../messages.js").Channel} Channel
 * @typedef {import("./connection.js").ConnectionStatus} ConnectionStatus
 *
 * @typedef {object} ConnectOptions
 * @property {string | URL} [url] the server's root; the page's own when left out
 * @property {string | ((reason: "connect" | "expiring") => string | null | Promise<string | null>)} token of one user; the
 *   callback is called before each connection, a minute before the token expires, and once more when the server refused a
 *   token; when it gives nothing, the client gives up
 * @property {readonly Channel[]} [channels] `status`, `positions` and `guards` when left out
 * @property {any} [WebSocket] a class like the browsers'; where there is none, plain HTTP is used
 * @property {typeof fetch} [fetch]
 * @property {import("./link.js").Transport[]} [transports] instead of WebSocket, Server-Sent Events, long poll
 * @property {import("./clock.js").Clock} [clock]
 * @property {() => number} [random] jitter, in [0, 1)
 * @property {(sentence: string) => void} [warn] gets the reason why there is no connection, within 10 s and then once a
 *   minute; the console's when left out
 *
 * @typedef {readonly string[]} Path
 * @typedef {(path: Path, now: any, old: any) => void} ChangeListener `undefined` stands for absent
 * @typedef {{ pattern: Path, listener: ChangeListener }} Watcher
 */

const UNPROCESSABLE = 422;
const BEATS_IN_A_LEASE = 3;
/** The name in acknowledgements of a client that has given none. */
const UNNAMED = "unnamed client";

/** Stands for any one key in a path. */
const ANY = "*";

/**
 * Events: `change` (state, old), `freshness` (level), `connection` (status), `problem` ({code, message}). Use `onChange`
 * for changes below a path.
 */
export class Account {
  #emitter = new Emitter();
  #mirror = new Mirror();
  #age = new StateAge();
  #clock;
  #connection;
  #stopWatching;
  /** @type {Channel[]} */
  #channels;
  /** @type {import("./mirror.js").Level} */
  #level = "blind";
  /** @type {import("../state.js").AccountState | null} */
  #state = null;
  /** @type {ConnectionStatus} */
  #status;
  /** Whether the server has the channel `alerts`; null before it said so. @type {boolean | null} */
  #hasAlerts = null;
  #turns = new Turns();
  #acknowledgements = new Acknowledgements();
  /** @type {string | null} */
  #name = null;
  #hasWarned = false;
  #warn;
  #rest;

  /** @param {ConnectOptions} options */
  constructor({ url = globalThis.document?.baseURI, token, channels = DEFAULT_CHANNELS, clock = systemClock, ...rest }) {
    if (!url && !rest.transports) throw new TypeError("connect() needs the server's url where there is no page");
    const { WebSocket = globalThis.WebSocket, fetch = globalThis.fetch, random = Math.random, warn = toConsole } = rest;
    const transports = rest.transports ?? transportsFor({ url: new URL("./", url), WebSocket, fetch });
    this.#clock = clock;
    this.#warn = warn;
    this.#rest = { url: url ? new URL("./", url) : "", fetch };
    this.#channels = [...channels];
    this.#status = { phase: "connecting", transport: /** @type {any} */ (transports[0]).name };
    this.#connection = new Connection({
      transports,
      token: async (reason) => (typeof token === "function" ? token(reason) : token),
      clock,
      random,
      channels: (transport) => this.#openingChannels(transport),
      amend: (ending) => this.#amend(ending),
      mirror: this.#mirror,
      onFrame: (frame, reaction) => this.#take(frame, reaction),
      onStatus: (status) => this.#follow(status),
      onProblem: (problem) => this.#emitter.emit("problem", problem),
      onTick: () => {
        this.#notifyFreshness();
        this.#sendRequests();
      },
      warn,
    });
    this.#stopWatching = watchSurroundings({
      onOnline: () => this.#connection.networkChanged(),
      onOffline: () => this.#doubt(),
      onVisible: () => this.#connection.attend(),
    });
    // Later, so that the caller can attach its listeners first.
    queueMicrotask(() => this.#connection.start());
  }

  /** The state, null before the first snapshot. It is never changed in place: keep it, compare it with `!==`. */
  get state() {
    return this.#state;
  }

  /** `connected`, `stale` when the state may have moved on, `blind` when no frame confirmed it for 15 s. */
  get freshness() {
    return this.#age.level(this.#clock.now());
  }

  /** Whether the state may be acted on. */
  get fresh() {
    return this.freshness === "connected";
  }

  /** Milliseconds since the server began the read that confirmed the state; null before the first. */
  get ageMs() {
    return this.#age.ageMs(this.#clock.now());
  }

  /** The database's time now in unix milliseconds, which countdowns are measured against; null before the first frame. */
  get databaseNowMs() {
    return this.#age.databaseNowMs(this.#clock.now());
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
   * @param {string | Path} path `"positions.open.*"`, or a list where a key holds a dot
   * @param {ChangeListener} listener gets (path, now, old); `undefined` stands for absent
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

  /**
   * Each open alert, the most urgent first, also one that was raised while no client ran: once in each generation, and again
   * when an acknowledgement is over and the alert escalated. An alert that somebody else has acknowledged does not come. The
   * iterator ends when the account is closed.
   *
   * `alert.acting(work)` acknowledges `acting`, awaits `work()` and acknowledges `done`; when `work` throws, nothing more is
   * acknowledged, the alert escalates, and the error is thrown on.
   */
  async *alerts() {
    if (!this.#channels.includes("alerts")) this.subscribe("alerts");
    const reader = new AlertReader(this.#turns, () => this.#name);
    while (this.#status.phase !== "closed") {
      const found = reader.take(this.#state?.alerts?.open ?? {});
      if (found) {
        const [id, alert] = found;
        yield { ...alert, id, acting: (/** @type {() => unknown} */ work) => this.#act({ ...alert, id }, work) };
      } else {
        this.#warnWithoutAlerts();
        await this.#nextEvent();
      }
    }
  }

  /**
   * Acknowledges an alert; settles once that is committed, and throws when the server refuses.
   *
   * @param {{ id: string, generation: number }} alert
   * @param {"received" | "acting" | "done"} [action]
   */
  async acknowledge(alert, action = "received") {
    await this.#until(this.#ask(alert, { type: "ack", action }));
  }

  /**
   * Puts the escalation of an alert off; settles once that is committed, and throws when the server refuses.
   *
   * @param {{ id: string, generation: number }} alert
   * @param {{ seconds: number, reason: string }} options
   */
  async snooze(alert, { seconds, reason }) {
    await this.#until(this.#ask(alert, { type: "snooze", seconds, reason }));
  }

  /**
   * Attends the account under a name, which acknowledgements carry too. Call `beat()` from the loop that decides, more often than
   * three times in the lease; a frame is sent at most once in a third of it, and nothing else attends. `leave()` ends it.
   *
   * @param {string} name
   * @param {{ leaseSeconds?: number }} options 5 to 60
   */
  attend(name, { leaseSeconds = 15 } = {}) {
    this.#name = name;
    /** @type {import("./clock.js").Instant | null} */
    let sentAt = null;
    const stop = this.on("connection", ({ phase }) => {
      if (phase !== "open") sentAt = null;
    });
    const beat = () => {
      const now = this.#clock.now();
      if (!this.#takesFrames()) return;
      if (sentAt && elapsedMs(sentAt, now) < (leaseSeconds * 1000) / BEATS_IN_A_LEASE) return;
      sentAt = now;
      this.#connection.send({ type: "attend", as: name, lease_seconds: leaseSeconds });
    };
    const leave = (reason = "the client ended") => {
      stop();
      this.#name = null;
      if (this.#takesFrames()) this.#connection.send({ type: "leave", as: name, reason });
    };
    beat();
    return { beat, leave };
  }

  /** Connects now, without waiting for the time of the next attempt. */
  reconnect() {
    this.#connection.reconnect();
  }

  /** Closes the connection for good. */
  close() {
    this.#stopWatching();
    this.#connection.close();
    this.#follow({ phase: "closed", transport: this.#status.transport });
  }

  /** @param {Channel[]} channels */
  #want(channels) {
    const before = this.#channels;
    this.#channels = channels;
    this.#sendChannels(before);
  }

  /** Sends the difference between the channels that the server serves and those wanted. @param {Channel[]} served */
  #sendChannels(served) {
    const wanted = this.#hasAlerts ? this.#channels : this.#openingChannels("websocket");
    const added = wanted.filter((channel) => !served.includes(channel));
    const removed = served.filter((channel) => !wanted.includes(channel));
    if (added.length > 0) this.#connection.send({ type: "subscribe", channels: added });
    if (removed.length > 0) this.#connection.send({ type: "unsubscribe", channels: removed });
  }

  /**
   * @param {import("../messages.js").ServerFrame} frame
   * @param {import("./mirror.js").Reaction} reaction
   */
  #take(frame, reaction) {
    if (frame.type === "welcome") {
      this.#age.noteWelcome(frame);
      this.#hasAlerts = frame.offers?.channels.includes("alerts") ?? false;
      this.#sendChannels(frame.channels);
    }
    if (frame.type === "error") this.#emitter.emit("problem", { code: frame.code, message: frame.message });
    if (reaction === "resync") this.#age.doubt();
    if (reaction === "applied" || reaction === "confirmed") {
      this.#age.confirm(/** @type {import("../messages.js").Dated} */ (frame), this.#clock.now());
    }
    const old = this.#state;
    this.#state = this.#withLateAlerts();
    this.#takeAnswer(frame);
    this.#followAlerts();
    if (old !== this.#state) this.#emitter.emit("change", this.#state, old);
    this.#notifyFreshness();
  }

  /** @param {ConnectionStatus} status */
  #follow(status) {
    this.#status = status;
    if (status.phase === "closed") this.#age.noteClosed();
    if (status.phase !== "open") {
      this.#age.noteLinkEnded();
      this.#acknowledgements.noteLinkEnded();
    }
    this.#emitter.emit("connection", status);
    this.#notifyFreshness();
  }

  /** The channels to open a link with; those that an older server has not got are asked for after its welcome. @param {string} transport */
  #openingChannels(transport) {
    if (transport !== "websocket" && this.#hasAlerts) return this.#channels;
    const old = this.#channels.filter((channel) => DEFAULT_CHANNELS.includes(channel));
    return old.length > 0 ? old : /** @type {Channel[]} */ (["guards"]);
  }

  /** An older node refused a channel that another one has: it may serve the others. @param {import("./endings.js").Ending} ending */
  #amend(ending) {
    if (ending.code !== UNPROCESSABLE || !this.#hasAlerts || !this.#channels.includes("alerts")) return ending;
    this.#hasAlerts = null;
    return { ...ending, verdict: /** @type {"retry"} */ ("retry") };
  }

  /** The mirror's state; until a new link brings the alerts, they are as they were, and the state is in doubt. */
  #withLateAlerts() {
    const now = this.#mirror.state;
    const alerts = this.#state?.alerts;
    const isLate = now && alerts && !now.alerts && this.#hasAlerts !== false && this.#channels.includes("alerts");
    if (!isLate) return now;
    this.#age.doubt();
    return { ...now, alerts };
  }

  #followAlerts() {
    const { state, resumePoint } = this.#mirror;
    if (state?.alerts && resumePoint) {
      this.#turns.receive(state.alerts.open, resumePoint);
      this.#acknowledgements.settle(state.alerts.open);
    }
    this.#sendRequests();
  }

  /** @param {any} frame */
  #takeAnswer(frame) {
    if (frame.type === "ack_ok") {
      for (const [id, generation] of Object.entries(frame.alerts)) {
        this.#turns.noteAcknowledged(id, Number(generation), frame.revision);
      }
    }
    this.#acknowledgements.receive(frame, this.#clock.now());
  }

  #takesFrames() {
    return this.#hasAlerts === true && this.#connection.isOpen && this.#connection.isInBand;
  }

  #sendRequests() {
    if (!this.#connection.isOpen) return;
    const now = this.#clock.now();
    for (const request of this.#acknowledgements.due(now)) {
      request.noteSent(now);
      if (this.#takesFrames()) this.#connection.send(request.frame);
      else {
        const to = { ...this.#rest, token: this.#connection.token };
        void answerTo(to, request.asked).then((answer) => this.#takeAnswer(answer));
      }
    }
  }

  /**
   * @param {{ id: string, generation: number }} alert
   * @param {any} fields
   */
  #ask({ id, generation }, { type, ...fields }) {
    const request = this.#acknowledgements.put({ type, alert: id, generation, as: this.#name ?? UNNAMED, ...fields });
    this.#sendRequests();
    void request.ended.then(() => {
      if (request.refusal) this.#emitter.emit("problem", { code: request.refusal.code, message: request.refusal.message });
    });
    return request;
  }

  /** @param {import("./acknowledgements.js").Request} request */
  async #until(request) {
    await request.ended;
    if (request.refusal) throw new Error(`${request.refusal.code}: ${request.refusal.message}`);
  }

  /**
   * @param {{ id: string, generation: number }} alert
   * @param {() => unknown} work
   */
  async #act(alert, work) {
    this.#ask(alert, { type: "ack", action: "acting" });
    try {
      await work();
    } catch (error) {
      this.#warn(`Guardwire: acting on alert ${alert.id} failed, so it will escalate`);
      throw error;
    }
    this.#ask(alert, { type: "ack", action: "done" });
  }

  #warnWithoutAlerts() {
    if (this.#hasAlerts !== false || this.#hasWarned) return;
    this.#hasWarned = true;
    this.#warn("Guardwire: this server has no alerts: it is older than this client");
  }

  /** Settles at the next change of the state or of the connection. @returns {Promise<void>} */
  #nextEvent() {
    return new Promise((resolve) => {
      const stops = ["change", "connection"].map((event) =>
        this.#emitter.on(event, () => {
          for (const stop of stops) stop();
          resolve();
        }),
      );
    });
  }

  #doubt() {
    this.#age.doubt();
    this.#notifyFreshness();
  }

  #notifyFreshness() {
    const level = this.freshness;
    if (level === this.#level) return;
    this.#level = level;
    this.#emitter.emit("freshness", level);
  }
}

/** Named events with plain arguments; a listener that throws is reported, and the others are called all the same. */
class Emitter {
  /** @type {Map<string, Set<(...values: any[]) => void>>} */
  #listeners = new Map();

  /**
   * @param {string} name
   * @param {(...values: any[]) => void} listener
   * @returns {() => void} stops it
   */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /**
   * @param {string} name
   * @param {unknown[]} values
   */
  emit(name, ...values) {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        listener(...values);
      } catch (error) {
        // It surfaces as an uncaught error, as the error of an event target's listener does.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/**
 * Calls a listener once for each value at its pattern that differs between two states. `*` stands for any one key.
 * Unchanged parts are the same objects in both, so the cost is that of the changed parts.
 *
 * @param {unknown} old
 * @param {unknown} now
 * @param {Watcher} watcher
 * @param {number} depth
 * @param {Path} path
 */
function notify(old, now, { pattern, listener }, depth = 0, path = []) {
  if (old === now) return;
  const segment = pattern[depth];
  if (segment === undefined) {
    listener(path, now, old);
    return;
  }
  for (const key of segment === ANY ? keysOf(old, now) : [segment]) {
    notify(valueAt(old, key), valueAt(now, key), { pattern, listener }, depth + 1, [...path, key]);
  }
}

/**
 * `"positions.open.*"` or `["guards", "alerts", "US30.cash:price_gap"]` (for keys that hold a dot) as a path.
 *
 * @param {string | Path} pattern
 * @returns {Path}
 */
export function parsePattern(pattern) {
  if (typeof pattern !== "string") return [...pattern];
  return pattern === "" ? [] : pattern.split(".");
}

/** @param {unknown[]} values */
function keysOf(...values) {
  return new Set(values.flatMap((value) => (typeof value === "object" && value !== null ? Object.keys(value) : [])));
}

/**
 * @param {unknown} value
 * @param {string} key
 * @returns {unknown}
 */
function valueAt(value, key) {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
  return /** @type {{ [key: string]: unknown }} */ (value)[key];
}

/**
 * Calls back when the network or the user's attention may have changed; never where there is no window (Node).
 *
 * @param {{ onOnline: () => void, onOffline: () => void, onVisible: () => void }} callbacks
 * @returns {() => void} stops it
 */
function watchSurroundings({ onOnline, onOffline, onVisible }) {
  const { window, document } = globalThis;
  if (!window || !document) return () => {};
  const stop = new AbortController();
  const { signal } = stop;
  window.addEventListener("online", onOnline, { signal });
  window.addEventListener("offline", onOffline, { signal });
  // A page that comes back from the back-forward cache, or was frozen, is visible before any other event.
  window.addEventListener("pageshow", onVisible, { signal });
  document.addEventListener("resume", onVisible, { signal });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && onVisible(), { signal });
  return () => stop.abort();
}

/** @param {string} sentence */
function toConsole(sentence) {
  console.warn(sentence);
}
