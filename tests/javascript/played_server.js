import { connect } from "../../static/client.js";
import { FakeClock, settled } from "./fake_clock.js";

const AS_OF = "2026-01-05T09:00:00.000000Z";

/** One link as the far end sees it: what the client opened it with and sent, and what it is answered. */
class PlayedLink {
  sent = [];
  closed = false;

  constructor(options) {
    this.options = options;
  }

  answer(...frames) {
    for (const frame of frames) if (!this.closed) this.options.onFrame(frame);
    return settled();
  }

  end(ending = {}) {
    if (!this.closed) this.options.onEnd({ verdict: "retry", code: 1006, reason: "", retryAfterMs: 0, ...ending });
    return settled();
  }
}

/** A client on a clock of its own, and every link that it opens, by transport. */
export class Play {
  clock = new FakeClock();
  links = [];
  tokens = [];
  warnings = [];
  seen = { freshness: [], connection: [], change: [], problem: [] };

  constructor({ token = () => `token-${this.tokens.length}`, transports = ["websocket", "sse", "poll"], ...options } = {}) {
    this.account = connect({
      token: (reason) => {
        this.tokens.push(reason);
        return token(reason, this.tokens.length);
      },
      transports: transports.map((name) => ({ name, open: (opening) => this.#open(name, opening) })),
      clock: this.clock,
      random: () => 0.999,
      warn: (sentence) => this.warnings.push(sentence),
      ...options,
    });
    for (const [event, values] of Object.entries(this.seen)) this.account.on(event, (value) => values.push(value));
  }

  get link() {
    return this.links.at(-1);
  }

  /** Welcomed with a first state, as on any good day. */
  async begun(state = { guards: { alerts: {} } }) {
    await settled();
    await this.link.answer(welcome(), snapshot(100, state));
    return this;
  }

  #open(name, options) {
    const link = new PlayedLink(options);
    link.name = name;
    this.links.push(link);
    const send = name === "websocket" ? (frame) => link.sent.push(frame) : null;
    return { send, close: () => (link.closed = true) };
  }
}

export const welcome = (fields = {}) => ({
  type: "welcome",
  session: "s",
  epoch: 8,
  channels: ["status", "positions", "guards"],
  expires_at: 1_767_610_800,
  heartbeat_seconds: 5,
  resumed: false,
  ...fields,
});
export const snapshot = (revision, state) => ({ type: "snapshot", epoch: 8, revision, as_of: AS_OF, age_ms: 5, state });
export const update = (base, revision, patch) => ({ type: "update", base, revision, as_of: AS_OF, age_ms: 5, patch });
export const heartbeat = (revision, fields = {}) => ({
  type: "heartbeat",
  base: revision,
  revision,
  as_of: AS_OF,
  age_ms: 300,
  stale: false,
  ...fields,
});
