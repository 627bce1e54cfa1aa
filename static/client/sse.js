import { decode } from "../messages.js";
import { failed, fromLastFrame } from "./endings.js";
import { ONE_ADDRESS, refusalOf, request, resumeText } from "./http.js";

/**
 * The stream as Server-Sent Events, read with `fetch`: `EventSource` cannot send an `Authorization` header.
 *
 * @param {import("./link.js").Fetch} fetch
 * @param {string | URL} url
 * @param {import("./link.js").LinkOptions} options
 * @returns {import("./link.js").OpenTransport}
 */
export function openEventStream(fetch, url, options) {
  const abort = new AbortController();
  const { address, headers } = request(url, "api/v1/stream", options);
  const resume = resumeText(options);
  headers.set("Accept", "text/event-stream");
  if (resume) headers.set("Last-Event-ID", resume);
  const { signal } = abort;
  read(fetch(address, { headers, signal, ...ONE_ADDRESS }), signal, options.onFrame).then(
    (ending) => signal.aborted || options.onEnd(ending),
    (error) => signal.aborted || options.onEnd(failed(error)),
  );
  return { send: null, close: () => abort.abort() };
}

/**
 * @param {Promise<Response>} responding
 * @param {AbortSignal} signal
 * @param {import("./link.js").LinkOptions["onFrame"]} onFrame
 */
async function read(responding, signal, onFrame) {
  const response = await responding;
  if (!response.ok || !response.body) return refusalOf(response);
  const parser = new EventStreamParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  /** @type {import("../messages.js").ServerFrame | null} */
  let last = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return fromLastFrame(last);
    for (const data of parser.push(value)) {
      const frame = decode(data);
      last = frame ?? last;
      if (frame && !signal.aborted) onFrame(frame);
    }
  }
}

/**
 * Server-Sent Events out of a stream of text (WHATWG HTML, "Parsing an event stream"): each event's data, and nothing else.
 */
export class EventStreamParser {
  #pending = "";
  /** @type {string[]} */
  #data = [];

  /**
   * @param {string} text the next piece; it may be cut anywhere
   * @returns {string[]} the data of the events that it completed
   */
  push(text) {
    const lines = (this.#pending + text).split(/\r\n|\n|\r(?!$)/);
    this.#pending = lines.pop() ?? "";
    return lines.flatMap((line) => this.#line(line));
  }

  /** @param {string} line */
  #line(line) {
    if (line === "") {
      const data = this.#data;
      this.#data = [];
      return data.length > 0 ? [data.join("\n")] : [];
    }
    const field = /^data(?:: ?|$)/.exec(line);
    if (field) this.#data.push(line.slice(field[0].length));
    return [];
  }
}
