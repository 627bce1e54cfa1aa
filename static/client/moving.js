const ANSWER_WITHIN_MS = 10_000;
/** A client tries this often to open the second link at a moment at which its account does not change. */
const TRIES = 5;

/**
 * When the server asks for it, opens another link beside the one that serves, maybe to another node, and hands it over
 * once it has resumed where the client stands.
 */
export class Moving {
  #clock;
  #random;
  #open;
  #onArrival;
  #tries = 0;
  /** @type {import("./clock.js").Timer | null} */
  #timer = null;
  /** @type {import("./links.js").Link | null} */
  #link = null;

  /**
   * @param {object} parts
   * @param {import("./clock.js").Clock} parts.clock
   * @param {() => number} parts.random
   * @param {(onWelcome: (resumed: boolean) => void, onEnd: () => void) => Promise<import("./links.js").Link | null>} parts.open
   *   opens a link, and calls `onWelcome` with true where it resumed at the revision that the client still holds; null
   *   when no link can be opened now
   * @param {(link: import("./links.js").Link) => void} parts.onArrival
   */
  constructor({ clock, random, open, onArrival }) {
    this.#clock = clock;
    this.#random = random;
    this.#open = open;
    this.#onArrival = onArrival;
  }

  /**
   * Begins within that time; does nothing while a move is planned or under way.
   *
   * @param {number} withinMs
   */
  begin(withinMs) {
    if (this.#timer || !Number.isFinite(withinMs)) return;
    this.#tries = 0;
    this.#plan(withinMs);
  }

  cancel() {
    this.#timer?.cancel();
    this.#timer = null;
    this.#link?.close();
    this.#link = null;
  }

  /** @param {number} withinMs */
  #plan(withinMs) {
    this.cancel();
    this.#tries += 1;
    if (this.#tries > TRIES) return;
    this.#timer = this.#clock.after(this.#random() * withinMs, () => void this.#try(withinMs));
  }

  /** @param {number} withinMs */
  async #try(withinMs) {
    const timer = this.#clock.after(ANSWER_WITHIN_MS, () => this.#plan(withinMs));
    this.#timer = timer;
    /** @type {import("./links.js").Link | null} */
    let link = null;
    link = await this.#open(
      (resumed) => link && this.#link === link && (resumed ? this.#arrived(link) : this.#plan(withinMs)),
      () => this.#link === link && this.#plan(withinMs),
    ).catch(() => null);
    if (this.#timer !== timer) return link?.close();
    if (!link) return this.#plan(withinMs);
    this.#link = link;
  }

  /** @param {import("./links.js").Link} link */
  #arrived(link) {
    this.#link = null;
    this.cancel();
    this.#onArrival(link);
  }
}
