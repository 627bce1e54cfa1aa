import { Attempts } from "./attempts.js";
import { lost } from "./ending.js";
import { Homecoming } from "./homecoming.js";
import { LinkLife } from "./link_life.js";
import { Moving } from "./moving.js";
import { Outage } from "./outage.js";
import { SnapshotWait } from "./snapshot_wait.js";
import { Watchdog } from "./watchdog.js";

/**
 * @typedef {import("./links.js").Link} Link
 * @typedef {import("../messages.js").ServerFrame} ServerFrame
 * @typedef {import("../messages.js").Position | null} Resume
 *
 * @typedef {object} ConnectionStatus
 * @property {"connecting" | "open" | "waiting" | "closed"} phase
 * @property {"websocket" | "sse" | "poll"} transport the one in use, or the next
 * @property {import("./ending.js").Ending} [ending] of the last link, while there is none
 * @property {number} [retryInMs] while `waiting`
 *
 * @typedef {object} ConnectionParts
 * @property {import("./links.js").Transport[]} transports best first
 * @property {(reason: "connect" | "expiring") => Promise<string | null | undefined>} token nothing means: give up
 * @property {import("./clock.js").Clock} clock
 * @property {() => number} random
 * @property {() => readonly import("../messages.js").Channel[]} channels
 * @property {import("./mirror.js").Mirror} mirror
 * @property {(frame: ServerFrame, reaction: import("./mirror.js").Reaction) => void} onFrame
 * @property {(status: ConnectionStatus) => void} onStatus
 * @property {(problem: { code: string, message: string }) => void} onProblem
 * @property {() => void} onTick
 * @property {(sentence: string) => void} warn
 */

const UNAUTHENTICATED = 4401;

/** Keeps one link to the server alive, whatever happens to network, server, token or this machine. */
export class Connection {
  #parts;
  #attempts;
  #homecoming;
  #moving;
  #watchdog;
  #life;
  #outage;
  #snapshotWait = new SnapshotWait();
  /** Why the last link ended; "" before one did. */
  #lastReason = "";
  /** @type {Link | null} */
  #link = null;
  /** @type {import("./clock.js").Timer | undefined} */
  #retry;
  /** Counts attempts: what an abandoned one still brings is dropped. */
  #turn = 0;
  #over = false;
  #token = "";

  /** @param {ConnectionParts} parts */
  constructor(parts) {
    const { clock, transports, random } = parts;
    this.#parts = parts;
    this.#life = new LinkLife(clock.now());
    this.#outage = new Outage(clock.now());
    this.#attempts = new Attempts(transports.length, random);
    this.#watchdog = new Watchdog(clock, { onTick: () => this.#tick(), onSlept: () => this.reconnect() });
    this.#homecoming = new Homecoming({
      clock,
      ladder: this.#attempts.ladder,
      open: (onWelcome, onEnd) => this.#openBest(onWelcome, onEnd),
      onArrival: (link) => {
        this.#attempts.ladder.climb();
        this.#goOver(link);
      },
    });
    this.#moving = new Moving({
      clock,
      random,
      open: (onWelcome, onEnd) => this.#openBeside(onWelcome, onEnd),
      onArrival: (link) => this.#goOver(link),
    });
  }

  start() {
    this.#watchdog.start();
    void this.#connect();
  }

  close() {
    this.#over = true;
    this.#drop();
    this.#watchdog.stop();
  }

  /** A new link at once, resuming: for when the present one cannot be trusted or is not worth waiting for. */
  reconnect() {
    if (this.#over) return;
    this.#attempts.forget();
    void this.#connect();
  }

  /** The network is another one: every transport gets its chance again. */
  networkChanged() {
    this.#attempts.ladder.climb();
    this.reconnect();
  }

  /** Somebody looks: do not let them wait for a timer. */
  attend() {
    if (!this.#watchdog.awake()) return;
    if (this.#retry || (this.#link && this.#life.overdue(this.#parts.clock.now()))) this.reconnect();
  }

  /**
   * Sends a frame. Where the transport cannot, a new link takes its place, which brings a snapshot of the channels wanted.
   *
   * @param {object} frame
   */
  tell(frame) {
    if (!this.#link?.send) return this.#replace();
    // Before the welcome only a hello is allowed; what is wanted then is told after it.
    if (this.#life.proved) this.#link.send(frame);
  }

  #replace() {
    if (!this.#link) return;
    // At once, but not again and again: nothing that a server sends may make this a tight loop.
    if (this.#life.young(this.#parts.clock.now())) this.#again(lost("replaced too soon"), 0);
    else this.#reopen(null);
  }

  async #connect() {
    this.#drop();
    const turn = this.#turn;
    this.#report("connecting");
    try {
      const token = await this.#parts.token("connect");
      if (turn !== this.#turn) return;
      if (!token) return this.#giveUp({ ...lost("no token"), verdict: "refused", code: UNAUTHENTICATED });
      this.#token = token;
      this.#reopen(this.#parts.mirror.position);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#parts.onProblem({ code: "token", message: String(error) });
      this.#again(lost("the token callback failed"), 0);
    }
  }

  /** @param {Resume} resume */
  #reopen(resume) {
    this.#link?.close();
    this.#begin(this.#openLink(this.#attempts.ladder.rung, this.#token, resume));
  }

  /** @param {Link} link */
  #begin(link) {
    this.#link = link;
    this.#life = new LinkLife(this.#parts.clock.now());
    this.#snapshotWait = new SnapshotWait();
  }

  /**
   * @param {number} rung
   * @param {string} token
   * @param {Resume} resume
   * @param {{ onWelcome?: (welcome: import("../messages.js").Welcome) => void, onEnd?: () => void }} observer
   */
  #openLink(rung, token, resume, { onWelcome, onEnd } = {}) {
    /** @type {Link} */
    const link = /** @type {import("./links.js").Transport} */ (this.#parts.transports[rung]).open({
      token,
      channels: this.#parts.channels(),
      resume,
      onFrame: (frame) => {
        if (frame.type === "welcome") onWelcome?.(frame);
        this.#receive(link, frame);
      },
      onEnd: (ending) => {
        onEnd?.();
        if (link === this.#link) this.#again(ending, this.#life.livedMs(this.#parts.clock.now()));
      },
    });
    return link;
  }

  /**
   * @param {() => void} onWelcome
   * @param {() => void} onEnd
   * @returns {Promise<Link | null>}
   */
  async #openBest(onWelcome, onEnd) {
    const token = await this.#parts.token("connect");
    return token ? this.#openLink(0, token, this.#parts.mirror.position, { onWelcome, onEnd }) : null;
  }

  /**
   * @param {(resumed: boolean) => void} onWelcome with true where the link resumed at the revision that this client still
   *   holds; otherwise the server would have to send a snapshot, and the state would be in doubt until then
   * @param {() => void} onEnd
   * @returns {Promise<Link | null>}
   */
  async #openBeside(onWelcome, onEnd) {
    const token = await this.#parts.token("connect");
    if (!token) return null;
    const { mirror } = this.#parts;
    const held = mirror.position;
    return this.#openLink(this.#attempts.ladder.rung, token, held, {
      onWelcome: ({ resumed }) => onWelcome(resumed && mirror.position?.revision === held?.revision),
      onEnd,
    });
  }

  /** @param {Link} link one that has just been welcomed */
  #goOver(link) {
    this.#moving.cancel();
    this.#link?.close();
    this.#begin(link);
  }

  /**
   * @param {Link} link
   * @param {ServerFrame} frame
   */
  #receive(link, frame) {
    if (link !== this.#link || !this.#watchdog.awake()) return;
    const now = this.#parts.clock.now();
    const first = !this.#life.proved;
    this.#life.heard(now);
    if (first) this.#proved();
    if (frame.type === "auth_required") void this.#renew(link);
    if (frame.type === "move") this.#moving.begin(frame.within_ms);
    if (frame.type === "error") this.#attempts.hint(frame.retry_after_ms);
    const { mirror } = this.#parts;
    const reaction = mirror.receive(frame);
    if (this.#snapshotWait.asksAfter(reaction, mirror.waiting, now)) this.tell({ type: "resync" });
    this.#parts.onFrame(frame, reaction);
  }

  #proved() {
    this.#attempts.proved();
    this.#outage.end();
    if (this.#attempts.ladder.fallenBack) this.#homecoming.plan();
    this.#report("open");
  }

  /** @param {Link} link */
  async #renew(link) {
    try {
      const token = await this.#parts.token("expiring");
      if (link !== this.#link || !token) return;
      this.#token = token;
      if (link.send) link.send({ type: "auth", token });
      else this.#reopen(this.#parts.mirror.position);
    } catch (error) {
      this.#parts.onProblem({ code: "token", message: String(error) });
    }
  }

  /**
   * @param {import("./ending.js").Ending} ending
   * @param {number | null} livedMs null when the transport may be what is wrong
   */
  #again(ending, livedMs) {
    const delayMs = this.#attempts.ended(ending, livedMs);
    if (delayMs === null) return this.#giveUp(ending);
    this.#drop();
    this.#lastReason = ending.reason;
    const now = this.#parts.clock.now();
    if (livedMs !== null) this.#outage.begin(now);
    else if (this.#outage.warnsOfFailure(now)) this.#parts.warn(`Guardwire: no connection (${ending.code} ${ending.reason})`);
    this.#retry = this.#parts.clock.after(delayMs, () => void this.#connect());
    this.#report("waiting", { ending, retryInMs: delayMs });
  }

  /** @param {import("./ending.js").Ending} ending */
  #giveUp(ending) {
    this.close();
    this.#report("closed", { ending });
  }

  #drop() {
    this.#turn += 1;
    this.#link?.close();
    this.#link = null;
    this.#retry?.cancel();
    this.#retry = undefined;
    this.#homecoming.cancel();
    this.#moving.cancel();
  }

  #tick() {
    const now = this.#parts.clock.now();
    const ending = this.#link && this.#life.ending(now);
    if (ending) this.#again(ending, this.#life.livedMs(now));
    else if (this.#link && this.#snapshotWait.asksAgain(now)) this.tell({ type: "resync" });
    if (this.#outage.warnsOfSilence(now)) {
      this.#parts.warn(`Guardwire: not connected after 8 s: ${this.#lastReason || "the server has not answered yet"}`);
    }
    this.#parts.onTick();
  }

  /**
   * @param {ConnectionStatus["phase"]} phase
   * @param {{ ending?: import("./ending.js").Ending, retryInMs?: number }} detail
   */
  #report(phase, detail = {}) {
    const transport = /** @type {import("./links.js").Transport} */ (this.#parts.transports[this.#attempts.ladder.rung]);
    this.#parts.onStatus({ phase, transport: transport.name, ...detail });
  }
}
