import { elapsedMs } from "./clock.js";

const TICK_MS = 1_000;
/** Between two signs of life of this very program lies at most a tick; so much more, and it was asleep. */
const SLEPT_AFTER_MS = 15_000;

/**
 * Ticks every second, and notices when this program itself stood still: a laptop closed, a tab frozen. What arrives right
 * after such a gap was buffered meanwhile and cannot be dated, so it must not be believed.
 */
export class Watchdog {
  #clock;
  #onTick;
  #onSlept;
  /** @type {import("./clock.js").Instant} */
  #alive;
  /** @type {import("./clock.js").Timer | null} */
  #timer = null;

  /**
   * @param {import("./clock.js").Clock} clock
   * @param {{ onTick: () => void, onSlept: () => void }} callbacks
   */
  constructor(clock, { onTick, onSlept }) {
    this.#clock = clock;
    this.#onTick = onTick;
    this.#onSlept = onSlept;
    this.#alive = clock.now();
  }

  start() {
    this.#timer = this.#clock.after(TICK_MS, () => this.#tick());
  }

  stop() {
    this.#timer?.cancel();
  }

  /** To be called before anything that comes from outside is believed; false when this program has just woken up. */
  awake() {
    const before = this.#alive;
    this.#alive = this.#clock.now();
    if (elapsedMs(before, this.#alive) < SLEPT_AFTER_MS) return true;
    this.#onSlept();
    return false;
  }

  #tick() {
    this.start();
    this.awake();
    this.#onTick();
  }
}
