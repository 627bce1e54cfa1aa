import { ONE_ADDRESS } from "./http.js";

const CODES = new Map([
  [403, "not_allowed"],
  [404, "unknown_alert"],
  [409, "stale_generation"],
]);
const REFUSED = new Set([400, 403, 404, 405, 409, 422]);

/**
 * The answer to an acknowledgement or a snooze over REST, as the stream would give it; an error to be tried again for none.
 *
 * @param {{ url: string | URL, fetch: typeof globalThis.fetch, token: string }} to
 * @param {import("./acknowledgements.js").Asked} asked
 */
export async function answerTo({ url, fetch, token }, { type, alert, ...fields }) {
  const address = new URL(`api/v1/alerts/${encodeURIComponent(alert)}/${type}`, url);
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  try {
    const response = await fetch(address, { ...ONE_ADDRESS, method: "POST", headers, body: JSON.stringify(fields) });
    const document = await response.json().catch(() => ({}));
    const { status } = response;
    const { generation } = fields;
    if (status === 200 && type === "ack") return { type: "ack_ok", alerts: { [alert]: generation }, revision: document.revision };
    if (status === 200) return { type: "snooze_ok", alert, generation, revision: document.revision };
    const message = `HTTP ${status} ${document.detail ?? ""}`;
    return { type: "error", code: CODES.get(status) ?? "unavailable", message, retry: !REFUSED.has(status), alert };
  } catch (error) {
    return { type: "error", code: "unavailable", message: String(error), retry: true, alert };
  }
}
