import { entryList, facts } from "./entries.js";
import { number } from "./format.js";
import { partsOf, write } from "./parts.js";

/** @type {{ [condition: string]: string }} */
const CONDITIONS = {
  price_gap: "Price gap",
  bid_ask_spread: "Spread",
  low_liquidity: "Low liquidity",
  other: "Market condition",
};
const MOST_DECIMALS = 8;
const RANKS = { critical: 0, warning: 1, normal: 2 };

/** The market conditions that hold now, critical ones first; last those that the platform reported within the limits. */
export class AlertsElement extends HTMLElement {
  #parts = partsOf(this);
  #list = entryList(/** @type {HTMLElement} */ (this.#parts.list), describe);
  /** @type {import("../state.js").Guards | undefined} */
  #shown;

  /** @param {import("./view.js").View} view */
  render({ state: { guards } }) {
    if (!guards || (guards.alerts === this.#shown?.alerts && guards.normal_alerts === this.#shown.normal_alerts)) return;
    this.#shown = guards;
    const entries = Object.entries({ ...guards.alerts, ...guards.normal_alerts }).sort(worstFirst);
    this.#list.update(entries);
    const alerts = Object.keys(guards.alerts).length;
    write(this.#parts.count, alerts > 0 ? String(alerts) : "");
    if (this.#parts.nothing) this.#parts.nothing.hidden = entries.length > 0;
  }
}

/**
 * @param {string} condition
 * @param {number | undefined} percent
 */
export function conditionOf(condition, percent) {
  const name = CONDITIONS[condition] ?? condition;
  return percent === undefined ? name : `${name} ${number(percent, 2)} %`;
}

/** @param {string} symbol */
export function nameOf(symbol) {
  return symbol === "*" ? "All symbols" : symbol;
}

/** @param {import("../state.js").MarketAlert} alert */
function describe(alert) {
  const { open_price, close_price, bid, ask } = alert;
  const prices = [pair("close", close_price), pair("open", open_price), pair("bid", bid), pair("ask", ask)];
  return {
    title: nameOf(alert.symbol),
    at: alert.detected_at,
    detail: facts(conditionOf(alert.condition_type, alert.price_gap_pct ?? alert.bid_ask_spread_pct), ...prices),
    tag: tagOf(alert),
    kind: alert.alert_type,
  };
}

/** @param {import("../state.js").MarketAlert} alert */
function tagOf({ should_close_positions, alert_type }) {
  if (should_close_positions) return "Close positions";
  return alert_type === "normal" ? "Within limits" : "Warning";
}

/**
 * @param {string} name
 * @param {number | undefined} price
 */
function pair(name, price) {
  return price === undefined ? "" : `${name} ${number(price, 2, MOST_DECIMALS)}`;
}

/**
 * @param {[string, import("../state.js").MarketAlert]} one
 * @param {[string, import("../state.js").MarketAlert]} other
 */
function worstFirst([, one], [, other]) {
  if (one.alert_type !== other.alert_type) return RANKS[one.alert_type] - RANKS[other.alert_type];
  return other.detected_at.localeCompare(one.detected_at);
}
