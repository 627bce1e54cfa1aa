import { DEFAULT_CHANNELS } from "../messages.js";
import { PauseDetector } from "./clock.js";
import { UNAUTHENTICATED, lost } from "./endings.js";
import { Link } from "./link.js";
import { SnapshotRequests } from "./mirror.js";
import { Attempts, Outage, TransportChoice } from "./retry.js";

/**
 * @typedef {import("../messages.js").ServerFrame} ServerFrame
 * @typedef {import("./endings.js").Ending} Ending
 * @typedef {import("./link.js").Transport} Transport
 *
 * @typedef {object} ConnectionStatus
 * @property {"connecting" | "open" | "waiting" | "closed"} phase
 * @property {"websocket" | "sse" | "poll"} transport the one in use, or the next
 * @property {Ending} [ending] of the last link, while there is none
 * @property {number} [retryInMs] while `waiting`
 *
 * @typedef {object} ConnectionParts
 * @property {Transport[]} transports best first
 * @property {(reason: "connect" | "expiring") => Promise<string | null | undefined>} token nothing means: give up
 * @property {import("./clock.js").Clock} clock
 * @property {() => number} random
 * @property {(transport: string) => readonly import("../messages.js").Channel[]} channels those to open a link with
 * @property {(ending: Ending) => Ending} amend what the end of a link means to this client
 * @property {import("./mirror.js").Mirror} mirror
 * @property {(frame: ServerFrame, reaction: import("./mirror.js").Reaction) => void} onFrame
 * @property {(status: ConnectionStatus) => void} onStatus
 * @property {(problem: { code: string, message: string }) => void} onProblem
 * @property {() => void} onTick
 * @property {(sentence: string) => void} warn
 */

const ANSWER_WITHIN_MS = 10_000;
/** A client that the server asks to move tries so often to do so while its account does not change. */
const MOVE_TRIES = 5;

/** Keeps one link to the server open, through failures of the network, the server, the token and this machine. */
export class Connection {
  #parts;
  #choice;
  #attempts;
  #fallbackReturn;
  #move;
  #pauses;
  #outage;
  #snapshots = new SnapshotRequests();
  /** Why the last link ended; "" before one did. */
  #lastReason = "";
  /** @type {Link | null} */
  #link = null;
  /** @type {import("./clock.js").Timer | undefined} */
  #retry;
  /** The number of the present attempt: a token that comes for an earlier one is dropped. */
  #attempt = 0;
  #isClosed = false;
  #token = "";

  /** @param {ConnectionParts} parts */
  constructor(parts) {
    const { clock, transports, random } = parts;
    this.#parts = parts;
    this.#outage = new Outage(clock.now());
    this.#choice = new TransportChoice(transports.length);
    this.#attempts = new Attempts(this.#choice, random);
    this.#pauses = new PauseDetector(clock, { onTick: () => this.#tick(), onPause: () => this.reconnect() });
    this.#fallbackReturn = new FallbackReturn({
      clock,
      choice: this.#choice,
      open: (onWelcome, onEnd) => this.#openBest(onWelcome, onEnd),
      onArrival: (link) => {
        this.#choice.useBest();
        this.#moveTo(link);
      },
    });
    this.#move = new Move({
      clock,
      random,
      open: (onWelcome, onEnd) => this.#openBeside(onWelcome, onEnd),
      onArrival: (link) => this.#moveTo(link),
    });
  }

  start() {
    this.#pauses.start();
    void this.#connect();
  }

  close() {
    this.#isClosed = true;
    this.#drop();
    this.#pauses.stop();
  }

  /** Opens a new link at once, which resumes: the present one cannot be trusted, or its next attempt is too far away. */
  reconnect() {
    if (this.#isClosed) return;
    this.#attempts.resetDelay();
    void this.#connect();
  }

  /** Starts with the best transport again, because the network is another one. */
  networkChanged() {
    this.#choice.useBest();
    this.reconnect();
  }

  /** Reconnects without waiting for a timer where the link is late, because a user looks at the page now. */
  attend() {
    if (!this.#pauses.check()) return;
    if (this.#retry || this.#link?.isOverdue(this.#parts.clock.now())) this.reconnect();
  }

  /** Whether the link in use has brought a frame. */
  get isOpen() {
    return this.#link?.hasFrames ?? false;
  }

  /** Whether frames can be sent over the link in use. */
  get isInBand() {
    return this.#link?.isInBand ?? false;
  }

  /** The token of the link in use, for requests beside it. */
  get token() {
    return this.#token;
  }

  /**
   * Sends a frame. Where the transport cannot, a new link takes its place, which brings a snapshot of the channels wanted.
   *
   * @param {object} frame
   */
  send(frame) {
    if (!this.#link?.isInBand) return this.#replace();
    // Before its welcome the server takes only a hello, and the caller repeats itself after the welcome.
    if (this.#link.hasFrames) this.#link.send(frame);
  }

  #replace() {
    if (!this.#link) return;
    // A link that is new is followed by a pause, so no server can make this client spin.
    if (this.#link.isNew(this.#parts.clock.now())) this.#retryAfter(lost("replaced too soon"), 0);
    else this.#reopen(null);
  }

  async #connect() {
    this.#drop();
    const attempt = this.#attempt;
    this.#report("connecting");
    try {
      const token = await this.#parts.token("connect");
      if (attempt !== this.#attempt) return;
      if (!token) return this.#giveUp({ ...lost("no token"), verdict: "refused", code: UNAUTHENTICATED });
      this.#token = token;
      this.#reopen(this.#parts.mirror.resumePoint);
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#parts.onProblem({ code: "token", message: String(error) });
      this.#retryAfter(lost("the token callback failed"), 0);
    }
  }

  /** @param {import("../messages.js").ResumePoint | null} resume */
  #reopen(resume) {
    this.#link?.close();
    this.#use(this.#openLink(this.#choice.index, this.#token, resume));
  }

  /** @param {Link} link */
  #use(link) {
    this.#link = link;
    this.#snapshots = new SnapshotRequests();
  }

  /**
   * @param {number} index
   * @param {string} token
   * @param {import("../messages.js").ResumePoint | null} resume
   * @param {{ onWelcome?: (welcome: import("../messages.js").Welcome) => void, onEnd?: () => void }} observer
   */
  #openLink(index, token, resume, { onWelcome, onEnd } = {}) {
    const transport = /** @type {Transport} */ (this.#parts.transports[index]);
    const channels = this.#parts.channels(transport.name);
    // An older server does not know a channel that came later: it is named as held only where it is asked for.
    const isNamed = (/** @type {import("../messages.js").Channel} */ channel) =>
      channels.includes(channel) || DEFAULT_CHANNELS.includes(channel);
    const held = resume && { ...resume, channels: resume.channels.filter(isNamed) };
    const opening = { token, channels, resume: held };
    return new Link(transport, opening, this.#parts.clock.now(), {
      onFrame: (link, frame) => {
        if (frame.type === "welcome") onWelcome?.(frame);
        this.#receive(link, frame);
      },
      onEnd: (link, ending) => {
        onEnd?.();
        if (link === this.#link) this.#retryAfter(ending, link.livedMs(this.#parts.clock.now()));
      },
    });
  }

  /**
   * @param {() => void} onWelcome
   * @param {() => void} onEnd
   * @returns {Promise<Link | null>}
   */
  async #openBest(onWelcome, onEnd) {
    const token = await this.#parts.token("connect");
    return token ? this.#openLink(0, token, this.#parts.mirror.resumePoint, { onWelcome, onEnd }) : null;
  }

  /**
   * @param {(isResumed: boolean) => void} onWelcome gets true where the link was resumed at the revision that this client still
   *   holds; with any other link the server would have to send a snapshot, and the state would be in doubt until then
   * @param {() => void} onEnd
   * @returns {Promise<Link | null>}
   */
  async #openBeside(onWelcome, onEnd) {
    const token = await this.#parts.token("connect");
    if (!token) return null;
    const { mirror } = this.#parts;
    const held = mirror.resumePoint;
    return this.#openLink(this.#choice.index, token, held, {
      onWelcome: ({ resumed }) => onWelcome(resumed && mirror.resumePoint?.revision === held?.revision),
      onEnd,
    });
  }

  /** @param {Link} link one whose welcome is about to be taken */
  #moveTo(link) {
    this.#move.cancel();
    this.#link?.close();
    this.#use(link);
  }

  /**
   * @param {Link} link
   * @param {ServerFrame} frame
   */
  #receive(link, frame) {
    if (link !== this.#link || !this.#pauses.check()) return;
    const now = this.#parts.clock.now();
    const isFirst = !link.hasFrames;
    link.noteFrame(frame, now);
    if (isFirst) this.#noteFirstFrame();
    if (frame.type === "auth_required") void this.#renewToken(link);
    if (frame.type === "move") this.#move.start(frame.within_ms);
    if (frame.type === "error") this.#attempts.noteHint(frame.retry_after_ms);
    const { mirror } = this.#parts;
    const reaction = mirror.receive(frame);
    if (this.#snapshots.shouldRequest(reaction, mirror.isWaiting, now)) this.send({ type: "resync" });
    this.#parts.onFrame(frame, reaction);
  }

  #noteFirstFrame() {
    this.#attempts.noteFirstFrame();
    this.#outage.end();
    if (this.#choice.isFallback) this.#fallbackReturn.plan();
    this.#report("open");
  }

  /** @param {Link} link */
  async #renewToken(link) {
    try {
      const token = await this.#parts.token("expiring");
      if (link !== this.#link || !token) return;
      this.#token = token;
      if (link.isInBand) link.send({ type: "auth", token });
      else this.#reopen(this.#parts.mirror.resumePoint);
    } catch (error) {
      this.#parts.onProblem({ code: "token", message: String(error) });
    }
  }

  /**
   * @param {Ending} reported
   * @param {number | null} livedMs null when the transport may be to blame
   */
  #retryAfter(reported, livedMs) {
    const ending = this.#parts.amend(reported);
    const delayMs = this.#attempts.nextDelayMs(ending, livedMs);
    if (delayMs === null) return this.#giveUp(ending);
    this.#drop();
    this.#lastReason = ending.reason;
    const now = this.#parts.clock.now();
    if (livedMs !== null) this.#outage.begin(now);
    else if (this.#outage.shouldWarnOfFailure(now)) {
      this.#parts.warn(`Guardwire: no connection (${ending.code} ${ending.reason})`);
    }
    this.#retry = this.#parts.clock.after(delayMs, () => void this.#connect());
    this.#report("waiting", { ending, retryInMs: delayMs });
  }

  /** @param {Ending} ending */
  #giveUp(ending) {
    this.close();
    this.#report("closed", { ending });
  }

  #drop() {
    this.#attempt += 1;
    this.#link?.close();
    this.#link = null;
    this.#retry?.cancel();
    this.#retry = undefined;
    this.#fallbackReturn.cancel();
    this.#move.cancel();
  }

  #tick() {
    const now = this.#parts.clock.now();
    const ending = this.#link?.findSilence(now);
    if (this.#link && ending) this.#retryAfter(ending, this.#link.livedMs(now));
    else if (this.#link && this.#snapshots.shouldRepeat(now)) this.send({ type: "resync" });
    if (this.#outage.shouldWarnOfSilence(now)) {
      this.#parts.warn(`Guardwire: not connected after 8 s: ${this.#lastReason || "the server has not answered yet"}`);
    }
    this.#parts.onTick();
  }

  /**
   * @param {ConnectionStatus["phase"]} phase
   * @param {{ ending?: Ending, retryInMs?: number }} detail
   */
  #report(phase, detail = {}) {
    const transport = /** @type {Transport} */ (this.#parts.transports[this.#choice.index]);
    this.#parts.onStatus({ phase, transport: transport.name, ...detail });
  }
}

/**
 * While a fallback serves, tries the best transport beside it now and then, and hands it over once the server has welcomed
 * it. The fallback goes on until then.
 */
class FallbackReturn {
  #clock;
  #choice;
  #open;
  #onArrival;
  /** @type {import("./clock.js").Timer | null} */
  #timer = null;
  /** @type {Link | null} */
  #probe = null;

  /**
   * @param {object} parts
   * @param {import("./clock.js").Clock} parts.clock
   * @param {TransportChoice} parts.choice
   * @param {(onWelcome: () => void, onEnd: () => void) => Promise<Link | null>} parts.open opens a link on the best
   *   transport; null when that cannot be done now
   * @param {(link: Link) => void} parts.onArrival
   */
  constructor({ clock, choice, open, onArrival }) {
    this.#clock = clock;
    this.#choice = choice;
    this.#open = open;
    this.#onArrival = onArrival;
  }

  /** Tries after the next pause; does nothing while a try is planned or under way. */
  plan() {
    if (this.#timer) return;
    this.#timer = this.#clock.after(this.#choice.nextReturnMs(), () => void this.#try());
  }

  cancel() {
    this.#timer?.cancel();
    this.#timer = null;
    this.#probe?.close();
    this.#probe = null;
  }

  async #try() {
    const timer = this.#clock.after(ANSWER_WITHIN_MS, () => this.#planAgain());
    this.#timer = timer;
    /** @type {Link | null} */
    let link = null;
    link = await this.#open(
      () => link && this.#probe === link && this.#handOver(link),
      () => this.#probe === link && this.#planAgain(),
    ).catch(() => null);
    if (this.#timer !== timer) return link?.close();
    if (!link) return this.#planAgain();
    this.#probe = link;
  }

  /** @param {Link} link */
  #handOver(link) {
    this.#probe = null;
    this.cancel();
    this.#onArrival(link);
  }

  #planAgain() {
    this.cancel();
    this.plan();
  }
}

/**
 * When the server asks for it, opens another link beside the one in use, perhaps to another node, and hands it over once the
 * server has resumed the client on it.
 */
class Move {
  #clock;
  #random;
  #open;
  #onArrival;
  #tries = 0;
  /** @type {import("./clock.js").Timer | null} */
  #timer = null;
  /** @type {Link | null} */
  #probe = null;

  /**
   * @param {object} parts
   * @param {import("./clock.js").Clock} parts.clock
   * @param {() => number} parts.random
   * @param {(onWelcome: (isResumed: boolean) => void, onEnd: () => void) => Promise<Link | null>} parts.open opens a link, and
   *   calls `onWelcome` with true where it was resumed at the revision that the client still holds; null when that cannot be
   *   done now
   * @param {(link: Link) => void} parts.onArrival
   */
  constructor({ clock, random, open, onArrival }) {
    this.#clock = clock;
    this.#random = random;
    this.#open = open;
    this.#onArrival = onArrival;
  }

  /**
   * Starts within that time; does nothing while a move is planned or under way.
   *
   * @param {number} withinMs
   */
  start(withinMs) {
    if (this.#timer || !Number.isFinite(withinMs)) return;
    this.#tries = 0;
    this.#plan(withinMs);
  }

  cancel() {
    this.#timer?.cancel();
    this.#timer = null;
    this.#probe?.close();
    this.#probe = null;
  }

  /** @param {number} withinMs */
  #plan(withinMs) {
    this.cancel();
    this.#tries += 1;
    if (this.#tries > MOVE_TRIES) return;
    this.#timer = this.#clock.after(this.#random() * withinMs, () => void this.#try(withinMs));
  }

  /** @param {number} withinMs */
  async #try(withinMs) {
    const timer = this.#clock.after(ANSWER_WITHIN_MS, () => this.#plan(withinMs));
    this.#timer = timer;
    /** @type {Link | null} */
    let link = null;
    link = await this.#open(
      (isResumed) => link && this.#probe === link && (isResumed ? this.#handOver(link) : this.#plan(withinMs)),
      () => this.#probe === link && this.#plan(withinMs),
    ).catch(() => null);
    if (this.#timer !== timer) return link?.close();
    if (!link) return this.#plan(withinMs);
    this.#probe = link;
  }

  /** @param {Link} link */
  #handOver(link) {
    this.#probe = null;
    this.cancel();
    this.#onArrival(link);
  }
}
