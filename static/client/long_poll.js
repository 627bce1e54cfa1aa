import { isObject } from "../patch.js";
import { failed, lost } from "./endings.js";
import { ONE_ADDRESS, refusalOf, request, resumeText } from "./http.js";

/** How long the server may hold a request: less than the 15 s of silence after which a client is blind. */
const WAIT_SECONDS = 10;
/** A busy account answers at once; then this is the pace, in requests begun. */
const SHORTEST_ROUND_MS = 1_000;

/**
 * The same frames by one request after another, for networks in which a proxy holds streams back.
 *
 * @param {import("./link.js").Fetch} fetch
 * @param {string | URL} url
 * @param {import("./link.js").LinkOptions} options
 * @returns {import("./link.js").OpenTransport}
 */
export function openLongPoll(fetch, url, options) {
  const poll = new LongPoll(fetch, url, options);
  void poll.run();
  return poll;
}

class LongPoll {
  #fetch;
  #url;
  #options;
  #abort = new AbortController();
  /** @type {string | null} `epoch:revision` of the state that the client holds */
  #since;
  #hasAsked = false;
  send = null;

  /**
   * @param {import("./link.js").Fetch} fetch
   * @param {string | URL} url
   * @param {import("./link.js").LinkOptions} options
   */
  constructor(fetch, url, options) {
    this.#fetch = fetch;
    this.#url = url;
    this.#options = options;
    this.#since = resumeText(options);
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
    // The first request does not wait, so that its answer shows at once that this transport works.
    if (this.#hasAsked) address.searchParams.set("wait", String(WAIT_SECONDS));
    this.#hasAsked = true;
    // Browsers refuse to call `fetch` as a method of another object than the window.
    const fetch = this.#fetch;
    const response = await fetch(address, { headers, signal: this.#abort.signal, ...ONE_ADDRESS });
    if (response.status !== 304 && !response.ok) return refusalOf(response);
    const frame = response.ok ? await response.json() : null;
    if (response.ok && !isObject(frame)) return lost("not a frame");
    if (this.#abort.signal.aborted) return null;
    if (frame) this.#deliver(/** @type {any} */ (frame));
    // The frame does not say whether the state is stale; the headers of its answer do.
    if (!frame || isStale(response)) this.#deliverHeartbeat(response);
    return null;
  }

  /** @param {import("../messages.js").SnapshotFrame | import("../messages.js").Update} frame */
  #deliver(frame) {
    const epoch = frame.type === "snapshot" ? frame.epoch : this.#since?.split(":")[0];
    this.#since = `${epoch}:${frame.revision}`;
    this.#options.onFrame(frame);
  }

  /**
   * Delivers the age and staleness of an answer as a heartbeat.
   *
   * @param {Response} response
   */
  #deliverHeartbeat(response) {
    const { headers } = response;
    const [epoch, base] = (this.#since ?? ":").split(":").map(Number);
    const revision = Number(headers.get("Guardwire-Revision")) || Number(base);
    this.#since = `${epoch}:${revision}`;
    const as_of = headers.get("Guardwire-As-Of") ?? "";
    const age_ms = Number(headers.get("Guardwire-Age-Ms"));
    this.#options.onFrame({ type: "heartbeat", base: Number(base), revision, as_of, age_ms, stale: isStale(response) });
  }

  /** @param {import("./endings.js").Ending} ending */
  #end(ending) {
    if (this.#abort.signal.aborted) return;
    this.close();
    this.#options.onEnd(ending);
  }
}

/** Whether the state may be out of date; an answer without an age counts as stale. @param {Response} response */
function isStale({ headers }) {
  return headers.get("Guardwire-Stale") !== "false" || !headers.has("Guardwire-Age-Ms");
}
