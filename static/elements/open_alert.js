import { timeOf } from "./alarm.js";
import { conditionOf, nameOf } from "./alerts.js";
import { facts } from "./entries.js";
import { clock, countdown, number } from "./format.js";
import { fromTemplate, partsOf, write } from "./parts.js";

/** The name in the log: this page does not know which person looks at it. */
const NAME = "dashboard";

/** One open alert: what, how long, where it stands, what one can do, and its log. */
export class OpenAlert {
  element = fromTemplate("open-alert");
  #parts = partsOf(this.element);
  #id;
  #requests;
  #canAcknowledge;
  /** @type {import("../state.js").Alert | null} */
  #alert = null;

  /**
   * @param {string} id
   * @param {() => import("./alert_requests.js").AlertRequests | undefined} requests
   * @param {() => boolean} canAcknowledge
   */
  constructor(id, requests, canAcknowledge) {
    this.#id = id;
    this.#requests = requests;
    this.#canAcknowledge = canAcknowledge;
    const { acknowledge, snooze, cancel, form, log } = this.#parts;
    acknowledge?.addEventListener("click", () => void this.#acknowledge());
    snooze?.addEventListener("click", () => this.#showForm(true));
    cancel?.addEventListener("click", () => this.#showForm(false));
    form?.addEventListener("submit", (event) => {
      // The browser must not send the form.
      event.preventDefault();
      void this.#snooze(new FormData(/** @type {HTMLFormElement} */ (form)));
    });
    log?.addEventListener("toggle", () => void this.#readLog());
  }

  /** @param {import("../state.js").Alert} alert */
  update = (alert) => {
    const changed = alert !== this.#alert;
    this.#alert = alert;
    const { severity, acknowledged_at, resolved_at } = alert;
    const { title, tag, acts, acknowledge, snooze, form } = this.#parts;
    this.element.dataset.kind = resolved_at || acknowledged_at ? "over" : severity;
    write(title, titleOf(alert));
    write(tag, severity === "critical" ? "Critical" : "Warning");
    acknowledge?.setAttribute("aria-label", `Acknowledge: ${titleOf(alert)}`);
    snooze?.setAttribute("aria-label", `Snooze: ${titleOf(alert)}`);
    if (acknowledge) acknowledge.hidden = acknowledged_at !== undefined;
    if (snooze) snooze.hidden = resolved_at !== undefined;
    if (acts) acts.hidden = !this.#canAcknowledge() || (acknowledge?.hidden === true && snooze?.hidden === true);
    if (acts?.hidden && form) form.hidden = true;
    if (changed) void this.#readLog();
  };

  /** @param {number} nowMs */
  tick(nowMs) {
    if (!this.#alert) return;
    write(this.#parts.left, leftOf(this.#alert, nowMs));
    write(this.#parts.standing, standingOf(this.#alert, nowMs));
  }

  async #acknowledge() {
    const generation = this.#alert?.generation ?? 0;
    await this.#ask((requests) => requests.acknowledge(this.#id, { generation, as: NAME, action: "received" }));
  }

  /** @param {FormData} data */
  async #snooze(data) {
    const generation = this.#alert?.generation ?? 0;
    const [seconds, reason] = [Number(data.get("seconds")), String(data.get("reason")).trim()];
    const done = await this.#ask((requests) => requests.snooze(this.#id, { generation, as: NAME, seconds, reason }));
    if (done) this.#showForm(false);
  }

  /** @param {boolean} isOpen */
  #showForm(isOpen) {
    const { form, snooze } = this.#parts;
    if (!form) return;
    form.hidden = !isOpen;
    snooze?.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) form.querySelector("select")?.focus();
    else snooze?.focus();
  }

  /**
   * Asks the server for something, with the buttons off meanwhile; whether it was done.
   *
   * @param {(requests: import("./alert_requests.js").AlertRequests) => Promise<unknown>} request
   */
  async #ask(request) {
    const requests = this.#requests();
    if (!requests) return false;
    this.#say("");
    const buttons = this.element.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      await request(requests);
      return true;
    } catch (error) {
      this.#say(`Not done: ${error instanceof Error ? error.message : error}`);
      return false;
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }

  /** @param {string} problem */
  #say(problem) {
    const { problem: element } = this.#parts;
    write(element, problem);
    if (element) element.hidden = problem === "";
  }

  /** Shows the log while it is open; it is read again with each change of the alert. */
  async #readLog() {
    const { log, entries } = this.#parts;
    const requests = this.#requests();
    if (!log?.hasAttribute("open") || !entries || !requests) return;
    const lines = await requests.log(this.#id).then(
      (read) => read.map(lineOf),
      (error) => [`The log cannot be read: ${error instanceof Error ? error.message : error}`],
    );
    entries.replaceChildren(
      ...lines.map((line) => {
        const item = document.createElement("li");
        item.textContent = line;
        return item;
      }),
    );
  }
}

/** @param {{ at: string, entry: string, who: string | null, detail: { [name: string]: unknown } | null }} record */
function lineOf({ at, entry, who, detail }) {
  return facts(`${clock(at)} ${entry}${who ? ` by ${who}` : ""}`, ...Object.entries(detail ?? {}).map(([name, value]) => `${name.replaceAll("_", " ")}: ${value}`));
}

/** @type {{ [kind: string]: string }} */
const TITLES = {
  drawdown: "Drawdown",
  unattended: "No bot attends this account",
  delivery: "A webhook takes no messages any more",
};

/**
 * An alert in a few words. A kind that this page does not know is shown as it is.
 *
 * @param {Pick<import("../state.js").Alert, "kind" | "subject" | "symbol" | "condition_type" | "observed" | "limit">} alert
 */
export function titleOf({ kind, subject, symbol = "*", condition_type = "other", observed, limit }) {
  const bound = limit === undefined ? "" : `, limit ${number(limit, 0, 2)} %`;
  if (kind === "market") return `${nameOf(symbol)}: ${conditionOf(condition_type, observed).toLowerCase()}${bound}`;
  if (kind === "drawdown" && observed !== undefined) return `Drawdown ${number(observed, 2)} %${bound}`;
  return TITLES[kind] ?? `${kind} ${subject}`.trim();
}

/**
 * Where an alert stands, in sentences.
 *
 * @param {import("../state.js").Alert} alert
 * @param {number} nowMs
 */
export function standingOf(alert, nowMs) {
  const { acknowledged_by, acknowledged_at, action, hold_until, resolved_at, snoozed_until, level, occurrences } = alert;
  return [
    `Raised at ${clock(alert.first_raised_at, nowMs)}${occurrences > 1 ? `, ${occurrences} times since` : ""}.`,
    resolved_at && `Over since ${clock(resolved_at, nowMs)}; it stays here until somebody acknowledges it.`,
    acknowledged_by && acknowledged_at && `${acknowledged_by} ${ANSWERS[action ?? "received"]} at ${clock(acknowledged_at, nowMs)}.`,
    acknowledged_by && !resolved_at && holdOf(hold_until, nowMs),
    !acknowledged_by && !resolved_at && ESCALATIONS[Math.min(level, 2)],
    snoozed_until && Date.parse(snoozed_until) > nowMs && `Snoozed until ${clock(snoozed_until, nowMs)}.`,
  ].filter(Boolean).join(" ");
}

const ANSWERS = { received: "saw it", acting: "said that it acts", done: "said that it is done" };
const ESCALATIONS = [
  "Nobody acknowledged it.",
  "Nobody acknowledged it: webhooks were called.",
  "Nobody acknowledged it: webhooks were called and people notified.",
];

/**
 * @param {string | undefined} until
 * @param {number} nowMs
 */
function holdOf(until, nowMs) {
  const leftMs = until === undefined ? 0 : Date.parse(until) - nowMs;
  return leftMs > 0 && `If positions are open then, it escalates in ${countdown(leftMs)}.`;
}

/**
 * The time that is left, for an alert that is not over.
 *
 * @param {import("../state.js").Alert} alert
 * @param {number} nowMs
 */
export function leftOf({ deadline_at, resolved_at }, nowMs) {
  return resolved_at ? "" : timeOf(deadline_at, nowMs).long;
}
