import { conditionOf, nameOf } from "./alerts.js";
import { clock, countdown, money, number } from "./format.js";
import { partsOf, write } from "./parts.js";

/**
 * A demand of the guards to close positions.
 *
 * @typedef {object} Alarm
 * @property {string} demand
 * @property {string} reason
 * @property {string} time how long there is, or since when it was due; empty where there is no time limit
 * @property {string} title the same in a few words, for the tab
 */

/** The bar at the top of the page while a guard demands that positions are closed. */
export class AlarmElement extends HTMLElement {
  #parts = partsOf(this);

  render() {}

  /** @param {import("./view.js").View} view */
  tick(view) {
    const alarm = alarmOf(view);
    this.hidden = alarm === null;
    write(this.#parts.demand, alarm?.demand ?? "");
    write(this.#parts.reason, alarm?.reason ?? "");
    write(this.#parts.time, alarm?.time ?? "");
  }
}

/**
 * The demand that the guards make now; null when they make none.
 *
 * @param {Pick<import("./view.js").View, "state" | "databaseNowMs">} view
 * @returns {Alarm | null}
 */
export function alarmOf({ state: { guards }, databaseNowMs }) {
  if (!guards?.any_positions_should_close) return null;
  const { drawdown } = guards;
  const alerts = Object.values(guards.alerts).filter(({ should_close_positions }) => should_close_positions);
  const closesAll = drawdown.should_close_all || alerts.some(({ symbol }) => symbol === "*");
  const symbols = [...new Set(alerts.map(({ symbol }) => symbol))].sort();
  const { long, short } = timeOf(drawdown.liquidation_at, databaseNowMs);
  return {
    demand: closesAll ? "Close all positions" : `Close ${symbols.join(", ")}`,
    reason: [...(drawdown.should_close_all ? [drawdownReason(drawdown)] : []), ...alerts.map(alertReason)].join(" · "),
    time: long,
    title: `⚠ ${short} ${closesAll ? "CLOSE ALL" : "CLOSE POSITIONS"}`.replace("  ", " "),
  };
}

/**
 * @param {string | undefined} at
 * @param {number} nowMs
 */
function timeOf(at, nowMs) {
  if (at === undefined) return { long: "", short: "" };
  const leftMs = Date.parse(at) - nowMs;
  if (leftMs <= 0) return { long: `due since ${clock(at, nowMs)}`, short: "OVERDUE" };
  return { long: `${countdown(leftMs)} left`, short: countdown(leftMs) };
}

/** @param {import("../state.js").Drawdown} drawdown */
function drawdownReason({ current_drawdown_pct = 0, critical_pct, minimum_equity, currency = "" }) {
  if (current_drawdown_pct < critical_pct) return `equity below ${money(minimum_equity)} ${currency}`.trim();
  return `drawdown ${number(current_drawdown_pct, 2)} %, limit ${number(critical_pct, 0, 2)} %`;
}

/** @param {import("../state.js").MarketAlert} alert */
function alertReason({ symbol, condition_type, price_gap_pct, bid_ask_spread_pct }) {
  const condition = conditionOf(condition_type, price_gap_pct ?? bid_ask_spread_pct);
  return `${nameOf(symbol)}: ${condition[0]?.toLowerCase()}${condition.slice(1)}`;
}
