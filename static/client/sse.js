import { decode } from "../messages.js";
import { failed, lost } from "./ending.js";
import { EventStreamParser } from "./event_stream.js";
import { ONE_ADDRESS, refusalOf, request, resumePoint } from "./http.js";

/**
 * The stream as Server-Sent Events, read with `fetch`: `EventSource` cannot send an `Authorization` header.
 *
 * @param {import("./links.js").Fetch} fetch
 * @param {string | URL} url
 * @param {import("./links.js").LinkOptions} options
 * @returns {import("./links.js").Link}
 */
export function openEventStream(fetch, url, options) {
  const abort = new AbortController();
  const { address, headers } = request(url, "api/v1/stream", options);
  const resume = resumePoint(options);
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
 * @param {import("./links.js").LinkOptions["onFrame"]} onFrame
 */
async function read(responding, signal, onFrame) {
  const response = await responding;
  if (!response.ok || !response.body) return refusalOf(response);
  const parser = new EventStreamParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return lost("the event stream ended");
    for (const data of parser.push(value)) {
      const frame = decode(data);
      if (frame && !signal.aborted) onFrame(frame);
    }
  }
}
