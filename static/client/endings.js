/**
 * How a link ended, and what that means for the next one (PROTOCOL.md, "Close codes").
 *
 * @typedef {object} Ending
 * @property {"retry" | "token" | "refused"} verdict `token`: an attempt with a new token may succeed; `refused`: none can
 * @property {number} code WebSocket close code or HTTP status; 1006 where there was neither
 * @property {string} reason for people
 * @property {number} retryAfterMs the server's hint how long to wait; 0 for none
 */

/** The close code of a connection that broke without a close frame (RFC 6455, 7.1.5). */
const LOST = 1006;
export const TOKEN_EXPIRED = 4001;
export const UNAUTHENTICATED = 4401;
const FORBIDDEN = 4403;
const DRAINING = 1012;
const TOKEN_CLOSE_CODES = new Set([TOKEN_EXPIRED, UNAUTHENTICATED]);
const TERMINAL_CLOSE_CODES = new Set([1002, 1007, 1009, 4400, FORBIDDEN]);
/** The request itself is wrong or not allowed, so the same request can never succeed. */
const TERMINAL_STATUSES = new Set([400, 403, 422]);
/** The type of Guardwire's own errors (RFC 9457). The same status with another type comes from a proxy. */
const PROBLEM_TYPE = "application/problem+json";
/** An event stream has no close codes; the `code` of its last error frame says the same. */
const CODE_OF_ERROR = new Map([
  ["draining", DRAINING],
  ["revoked", FORBIDDEN],
  ["token_expired", TOKEN_EXPIRED],
  ["unauthenticated", UNAUTHENTICATED],
]);

/**
 * A connection that broke.
 *
 * @param {string} reason
 * @returns {Ending}
 */
export function lost(reason, retryAfterMs = 0) {
  return { verdict: "retry", code: LOST, reason, retryAfterMs };
}

/**
 * A request that had no answer. `fetch` says "fetch failed", and the reason only in the `cause` of its error.
 *
 * @param {unknown} error
 * @returns {Ending}
 */
export function failed(error) {
  const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : "";
  return lost(`${error}${cause}`);
}

/**
 * A WebSocket that was closed.
 *
 * @param {number} code
 * @param {string} text the close frame's reason: a sentence, or `{"reason": …, "retry_after_ms": …}`
 * @returns {Ending}
 */
export function fromClose(code, text) {
  const hint = /retry_after_ms\W{1,4}(\d{1,9})/.exec(text);
  const reason = /"reason": ?"([^"]*)"/.exec(text)?.[1] ?? text;
  const verdict = TERMINAL_CLOSE_CODES.has(code) ? "refused" : TOKEN_CLOSE_CODES.has(code) ? "token" : "retry";
  return { verdict, code, reason, retryAfterMs: Number(hint?.[1] ?? 0) };
}

/**
 * An event stream that ended; an error frame just before is the reason.
 *
 * @param {import("../messages.js").ServerFrame | null} frame
 * @returns {Ending}
 */
export function fromLastFrame(frame) {
  if (frame?.type !== "error") return lost("the event stream ended");
  const retryAfterMs = Number(frame.retry_after_ms) || 0;
  const code = CODE_OF_ERROR.get(frame.code);
  if (code) return { ...fromClose(code, frame.message), retryAfterMs };
  return { ...lost(frame.message, retryAfterMs), verdict: frame.retry ? "retry" : "refused" };
}

/**
 * An HTTP status in place of a stream.
 *
 * @param {{ status: number, headers: Headers }} response
 * @param {string} detail the `detail` of the answer's problem document, "" for none
 * @returns {Ending}
 */
export function fromResponse({ status, headers }, detail = "") {
  const isOurs = isProblem(headers);
  const verdict = isOurs && TERMINAL_STATUSES.has(status) ? "refused" : isOurs && status === 401 ? "token" : "retry";
  const retryAfterMs = Number(headers.get("Retry-After")) * 1000 || 0;
  return { verdict, code: status, reason: `HTTP ${status}${detail && `: ${detail}`}`, retryAfterMs };
}

/** Whether the answer's body is a problem document of Guardwire's. @param {Headers} headers */
export function isProblem(headers) {
  return headers.get("Content-Type")?.startsWith(PROBLEM_TYPE) ?? false;
}
