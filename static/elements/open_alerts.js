import { clock, countdown } from "./format.js";
import { KeyedList } from "./keyed_list.js";
import { OpenAlert } from "./open_alert.js";
import { partsOf, write } from "./parts.js";

/** The alerts that wait for an answer, and who attends the account. */
export class OpenAlertsElement extends HTMLElement {
  /** @type {import("./alert_requests.js").AlertRequests | undefined} */
  requests;
  #parts = partsOf(this);
  /** @type {Map<string, OpenAlert>} */
  #items = new Map();
  #list = new KeyedList(/** @type {HTMLElement} */ (this.#parts.list), (id) => this.#create(id));
  /** @type {import("../state.js").Alerts | undefined} */
  #shown;
  #canAcknowledge = false;

  /** @param {import("./view.js").View} view */
  render({ state: { alerts }, canAcknowledge = false }) {
    this.hidden = alerts === undefined;
    if (!alerts || (alerts === this.#shown && canAcknowledge === this.#canAcknowledge)) return;
    this.#canAcknowledge = canAcknowledge;
    this.#shown = alerts;
    const entries = Object.entries(alerts.open).sort(mostUrgentFirst);
    this.#list.update(entries, { all: true });
    for (const id of this.#items.keys()) if (!alerts.open[id]) this.#items.delete(id);
    this.toggleAttribute("data-any", entries.length > 0);
    write(this.#parts.count, entries.length > 0 ? String(entries.length) : "");
    if (this.#parts.nothing) this.#parts.nothing.hidden = entries.length > 0;
  }

  /** @param {import("./view.js").View} view */
  tick({ state: { alerts }, databaseNowMs }) {
    const { attendance } = this.#parts;
    if (!alerts || !attendance) return;
    write(attendance, attendanceOf(alerts.attendance, databaseNowMs));
    attendance.dataset.status = alerts.attendance.status;
    for (const item of this.#items.values()) item.tick(databaseNowMs);
  }

  /** @param {string} id */
  #create(id) {
    const item = new OpenAlert(id, () => this.requests, () => this.#canAcknowledge);
    this.#items.set(id, item);
    return item;
  }
}

/**
 * Whether anybody attends, in a sentence.
 *
 * @param {import("../state.js").Attendance} attendance
 * @param {number} nowMs
 */
export function attendanceOf({ armed, status, since, grace_until, attendants }, nowMs) {
  const names = Object.keys(attendants).sort().join(", ");
  if (!armed) return names ? `Not armed: ${names} attends, and no alarm is raised when it stops.` : "Not armed: no bot has to attend.";
  if (status === "attended") return `Armed. Attended by ${names}.`;
  const leftMs = grace_until === undefined ? 0 : Date.parse(grace_until) - nowMs;
  if (leftMs > 0) return `Armed, and no bot attends. An alarm is raised in ${countdown(leftMs)}.`;
  return `Armed, and no bot attends${since === undefined ? "" : ` since ${clock(since, nowMs)}`}.`;
}

/**
 * @param {[string, import("../state.js").Alert]} one
 * @param {[string, import("../state.js").Alert]} other
 */
function mostUrgentFirst([id, one], [otherId, other]) {
  return rank(one).localeCompare(rank(other)) || id.localeCompare(otherId);
}

/** @param {import("../state.js").Alert} alert */
function rank({ resolved_at, severity, acknowledged_at, deadline_at = "~", first_raised_at }) {
  return `${resolved_at ? 1 : 0}${severity === "critical" ? 0 : 1}${acknowledged_at ? 1 : 0}${deadline_at}${first_raised_at}`;
}
