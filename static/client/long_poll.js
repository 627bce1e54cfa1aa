import { isObject } from "../patch.js";
import { failed, lost } from "./ending.js";
import { ONE_ADDRESS, refusalOf, request, resumePoint } from "./http.js";

/** How long the server may hold a request: less than the 15 s of silence after which a client calls itself blind. */
const WAIT_SECONDS = 10;
/** A busy account answers at once; then this is the pace, in requests begun. */
const SHORTEST_ROUND_MS = 1_000;

/**
 * The same frames by one request after another, for networks that let nothing else through.
 *
 * @param {import("./links.js").Fetch} fetch
 * @param {string | URL} url
 * @param {import("./links.js").LinkOptions} options
 * @returns {import("./links.js").Link}
 */
export function openLongPoll(fetch, url, options) {
  const link = new LongPollLink(fetch, url, options);
  void link.run();
  return link;
}

class LongPollLink {
  #fetch;
  #url;
  #options;
  #abort = new AbortController();
  /** @type {string | null} `epoch:revision` of what the client holds */
  #since;
  #settled = false;
  send = null;

  /**
   * @param {import("./links.js").Fetch} fetch
   * @param {string | URL} url
   * @param {import("./links.js").LinkOptions} options
   */
  constructor(fetch, url, options) {
    this.#fetch = fetch;
    this.#url = url;
    this.#options = options;
    this.#since = resumePoint(options);
  }

  close() {
    this.#abort.abort();
  }

  async run() {
    try {
      while (!this.#abort.signal.aborted) {
        const pause = new Promise((resolve) => setTimeout(resolve, SHORTEST_ROUND_MS));
        const ending = await this.#round();
        if (ending) return this.#end(ending);
        await pause;
      }
    } catch (error) {
      this.#end(failed(error));
    }
  }

  async #round() {
    const { address, headers } = request(this.#url, "api/v1/state", this.#options);
    if (this.#since) address.searchParams.set("since", this.#since);
    // The first round does not wait: it shows that this transport works.
    if (this.#settled) address.searchParams.set("wait", String(WAIT_SECONDS));
    this.#settled = true;
    // Bound: browsers refuse to call a `fetch` that has lost its window.
    const fetch = this.#fetch;
    const response = await fetch(address, { headers, signal: this.#abort.signal, ...ONE_ADDRESS });
    if (response.status !== 304 && !response.ok) return refusalOf(response);
    const frame = response.ok ? await response.json() : null;
    if (response.ok && !isObject(frame)) return lost("not a frame");
    if (this.#abort.signal.aborted) return null;
    if (frame) this.#deliver(/** @type {any} */ (frame));
    // Frames of the state do not say whether the server is blind; their answer does.
    if (!frame || isStale(response)) this.#beat(response);
    return null;
  }

  /** @param {import("../messages.js").Snapshot | import("../messages.js").Update} frame */
  #deliver(frame) {
    const epoch = frame.type === "snapshot" ? frame.epoch : this.#since?.split(":")[0];
    this.#since = `${epoch}:${frame.revision}`;
    this.#options.onFrame(frame);
  }

  /**
   * What an answer says beside the state, as the heartbeat that it is.
   *
   * @param {Response} response
   */
  #beat(response) {
    const { headers } = response;
    const [epoch, base] = (this.#since ?? ":").split(":").map(Number);
    const revision = Number(headers.get("Guardwire-Revision")) || Number(base);
    this.#since = `${epoch}:${revision}`;
    const as_of = headers.get("Guardwire-As-Of") ?? "";
    const age_ms = Number(headers.get("Guardwire-Age-Ms"));
    this.#options.onFrame({ type: "heartbeat", base: Number(base), revision, as_of, age_ms, stale: isStale(response) });
  }

  /** @param {import("./ending.js").Ending} ending */
  #end(ending) {
    if (this.#abort.signal.aborted) return;
    this.close();
    this.#options.onEnd(ending);
  }
}

/** Whether the server is blind; an answer without an age does not know. @param {Response} response */
function isStale({ headers }) {
  return headers.get("Guardwire-Stale") !== "false" || !headers.has("Guardwire-Age-Ms");
}
