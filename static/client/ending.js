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
/** As much of a sentence as is of use to people. */
const DETAIL_CHARACTERS = 300;

/**
 * @param {string} reason
 * @param {number} retryAfterMs
 * @returns {Ending}
 */
export function lost(reason, retryAfterMs = 0) {
  return { verdict: "retry", code: LOST, reason, retryAfterMs };
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
 * Reads the sentence of a problem document, which says what mends it.
 *
 * @param {Response} response
 * @returns {Promise<Ending>}
 */
export async function fromResponse(response) {
  const { status, headers } = response;
  const ours = headers.get("Content-Type")?.startsWith(OUR_WORD);
  const verdict = ours && TERMINAL_STATUSES.has(status) ? "refused" : ours && status === 401 ? "token" : "retry";
  const retryAfterMs = Number(headers.get("Retry-After")) * 1000 || 0;
  const detail = ours ? await detailOf(response) : "";
  return { verdict, code: status, reason: `HTTP ${status}${detail && `: ${detail}`}`, retryAfterMs };
}

/** @param {Response} response */
async function detailOf(response) {
  try {
    const { detail } = await response.json();
    return typeof detail === "string" ? detail.slice(0, DETAIL_CHARACTERS) : "";
  } catch {
    // A document that cannot be read adds nothing to its status.
    return "";
  }
}
