import { entryList, facts } from "./entries.js";
import { signed } from "./format.js";
import { partsOf } from "./parts.js";

/** The stream keeps the newest five; this page remembers what it has seen. */
const REMEMBERED = 20;

/** @type {{ [type: string]: string }} */
const KINDS = {
  position_closed: "over",
  position_matched: "good",
  divergence_detected: "warning",
  drawdown_alert: "critical",
  market_condition_alert: "warning",
};

/** The newest events of the account, newest first. */
export class EventsElement extends HTMLElement {
  #parts = partsOf(this);
  #list = entryList(/** @type {HTMLElement} */ (this.#parts.list), describe);
  /** @type {{ [id: string]: import("../state.js").AccountEvent } | undefined} */
  #shown;
  /** @type {[string, import("../state.js").AccountEvent][]} newest first */
  #seen = [];

  /** @param {import("./view.js").View} view */
  render({ state: { status } }) {
    if (status?.recent_events === this.#shown || !status) return;
    this.#shown = status.recent_events;
    const all = new Map([...this.#seen, ...Object.entries(status.recent_events)]);
    this.#seen = [...all].sort(([, one], [, other]) => other.created_at.localeCompare(one.created_at)).slice(0, REMEMBERED);
    this.#list.update(this.#seen);
    if (this.#parts.nothing) this.#parts.nothing.hidden = this.#seen.length > 0;
  }
}

/** @param {import("../state.js").AccountEvent} event */
function describe({ event_type, description, created_at, mt5_ticket, pnl_gbp }) {
  return {
    title: description,
    at: created_at,
    // Most descriptions name the ticket.
    detail: facts(mt5_ticket && !description.includes(mt5_ticket) && `#${mt5_ticket}`, pnl_gbp !== undefined && `${signed(pnl_gbp)} GBP`),
    tag: "",
    kind: KINDS[event_type] ?? "",
  };
}
