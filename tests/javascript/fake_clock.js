/** A clock that a test moves; timers fire in order, and promises that they started settle in between. */
export class FakeClock {
  nowMs = 0;
  #timers = new Set();

  now = () => ({ monotonicMs: this.nowMs, wallMs: 1_700_000_000_000 + this.nowMs });

  after = (delayMs, callback) => {
    const timer = { dueMs: this.nowMs + delayMs, callback };
    this.#timers.add(timer);
    return { cancel: () => this.#timers.delete(timer) };
  };

  /** Lets time pass as a running program sees it. */
  async pass(durationMs) {
    const endMs = this.nowMs + durationMs;
    await settled();
    for (let timer = this.#next(endMs); timer; timer = this.#next(endMs)) {
      this.nowMs = Math.max(this.nowMs, timer.dueMs);
      await this.#fire(timer);
    }
    this.nowMs = endMs;
    await settled();
  }

  /** Lets time pass while the program stands still; then each timer that is due fires once, late. */
  async sleep(durationMs) {
    this.nowMs += durationMs;
    for (const timer of [...this.#timers].filter(({ dueMs }) => dueMs <= this.nowMs)) {
      if (this.#timers.has(timer)) await this.#fire(timer);
    }
  }

  async #fire(timer) {
    this.#timers.delete(timer);
    timer.callback();
    await settled();
  }

  #next(endMs) {
    const due = [...this.#timers].filter(({ dueMs }) => dueMs <= endMs);
    return due.sort((one, other) => one.dueMs - other.dueMs)[0];
  }
}

/** Everything that waited on promises alone has run. */
export function settled() {
  return new Promise((resolve) => setImmediate(resolve));
}
