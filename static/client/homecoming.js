const ANSWER_WITHIN_MS = 10_000;

/**
 * While a fallback serves, tries the best transport beside it now and then, and hands it over once it has answered: the
 * fallback goes on until the better link is there.
 */
export class Homecoming {
  #clock;
  #ladder;
  #open;
  #onArrival;
  /** @type {import("./clock.js").Timer | null} */
  #timer = null;
  /** @type {import("./links.js").Link | null} */
  #probe = null;

  /**
   * @param {object} parts
   * @param {import("./clock.js").Clock} parts.clock
   * @param {import("./ladder.js").Ladder} parts.ladder
   * @param {(onFrame: () => void, onEnd: () => void) => Promise<import("./links.js").Link | null>} parts.open
   *   opens a link on the best transport; null when that cannot be done now
   * @param {(link: import("./links.js").Link) => void} parts.onArrival
   */
  constructor({ clock, ladder, open, onArrival }) {
    this.#clock = clock;
    this.#ladder = ladder;
    this.#open = open;
    this.#onArrival = onArrival;
  }

  /** Tries again after the ladder's pause; does nothing while a try is planned or under way. */
  plan() {
    if (this.#timer) return;
    this.#timer = this.#clock.after(this.#ladder.nextReturnMs(), () => void this.#try());
  }

  cancel() {
    this.#timer?.cancel();
    this.#timer = null;
    this.#probe?.close();
    this.#probe = null;
  }

  async #try() {
    const timer = this.#clock.after(ANSWER_WITHIN_MS, () => this.#failed());
    this.#timer = timer;
    /** @type {import("./links.js").Link | null} */
    let link = null;
    link = await this.#open(
      () => link && this.#probe === link && this.#arrived(link),
      () => this.#probe === link && this.#failed(),
    ).catch(() => null);
    if (this.#timer !== timer) return link?.close();
    if (!link) return this.#failed();
    this.#probe = link;
  }

  /** @param {import("./links.js").Link} link */
  #arrived(link) {
    this.#probe = null;
    this.cancel();
    this.#onArrival(link);
  }

  #failed() {
    this.cancel();
    this.plan();
  }
}
