/**
 * How a link ended, and what that means for the next one (PROTOCOL.md, "Close codes").
 *
 * @typedef {object} Ending
 * @property {"retry" | "token" | "refused"} verdict `token`: worth one more try, with a new token; `refused`: for good
 * @property {number} code WebSocket close code or HTTP status; 1006 when the link was just lost
 * @property {string} reason for people
 * @property {number} retryAfterMs what the server asked to wait; 0 when nothing
 */

const LOST = 1006;
const TOKEN_EXPIRED = 4001;
const TERMINAL_CLOSE_CODES = new Set([1002, 1007, 1009, 4400, 4401, 4403]);
/** Nothing that waiting could mend: the request itself is wrong, or not allowed. */
const TERMINAL_STATUSES = new Set([400, 403, 422]);
/** What Guardwire itself answers errors with (RFC 9457); the same status from a proxy on the way says nothing of ours. */
const OUR_WORD = "application/problem+json";

/**
 * @param {string} reason
 * @param {number} retryAfterMs
 * @returns {Ending}
 */
export function lost(reason, retryAfterMs = 0) {
  return { verdict: "retry", code: LOST, reason, retryAfterMs };
}

/**
 * A request that had no answer. `fetch` says "fetch failed", and why only in the `cause` of its error.
 *
 * @param {unknown} error
 * @returns {Ending}
 */
export function failed(error) {
  const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : "";
  return lost(`${error}${cause}`);
}

/**
 * @param {number} code
 * @param {string} text the close frame's reason: a sentence, or `{"reason": …, "retry_after_ms": …}`
 * @returns {Ending}
 */
export function fromClose(code, text) {
  const hint = /retry_after_ms\W{1,4}(\d{1,9})/.exec(text);
  const reason = /"reason": ?"([^"]*)"/.exec(text)?.[1] ?? text;
  const verdict = TERMINAL_CLOSE_CODES.has(code) ? "refused" : code === TOKEN_EXPIRED ? "token" : "retry";
  return { verdict, code, reason, retryAfterMs: Number(hint?.[1] ?? 0) };
}

/**
 * @param {{ status: number, headers: Headers }} response
 * @param {string} detail what the answer's problem document says, "" when it has none
 * @returns {Ending}
 */
export function fromResponse({ status, headers }, detail = "") {
  const ours = isProblem(headers);
  const verdict = ours && TERMINAL_STATUSES.has(status) ? "refused" : ours && status === 401 ? "token" : "retry";
  const retryAfterMs = Number(headers.get("Retry-After")) * 1000 || 0;
  return { verdict, code: status, reason: `HTTP ${status}${detail && `: ${detail}`}`, retryAfterMs };
}

/** Whether the answer's body is a problem document of Guardwire's. @param {Headers} headers */
export function isProblem(headers) {
  return headers.get("Content-Type")?.startsWith(OUR_WORD) ?? false;
}
