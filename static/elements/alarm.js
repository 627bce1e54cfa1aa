import { conditionOf, nameOf } from "./alerts.js";
import { demandOf } from "./demand.js";
import { clock, countdown, money, number } from "./format.js";
import { partsOf, write } from "./parts.js";

/** More reasons would push everything else off a phone's screen; the list of alerts has them all. */
const MOST_REASONS = 2;
/** Kinds of alerts that the guards' own demand already speaks of. */
const GUARD_KINDS = ["drawdown", "market"];

/**
 * The demand on the trader who looks at the page.
 *
 * @typedef {object} Alarm
 * @property {string} demand
 * @property {string} reason
 * @property {string} time how long there is, or since when it was due; empty where there is no time limit
 * @property {string} advice what to do, in a sentence
 * @property {string} title the demand in a few words, for the tab
 */

/** The bar at the top of the page while somebody has to act. */
export class AlarmElement extends HTMLElement {
  #parts = partsOf(this);

  render() {}

  /** @param {import("./view.js").View} view */
  tick(view) {
    const alarm = alarmOf(view);
    this.hidden = alarm === null;
    for (const part of /** @type {const} */ (["demand", "reason", "time", "advice"])) {
      write(this.#parts[part], alarm?.[part] ?? "");
    }
  }
}

/**
 * The alarm now; null when nothing has to be done. Positions that should close come first: nothing costs more.
 *
 * @param {Pick<import("./view.js").View, "state" | "databaseNowMs">} view
 * @returns {Alarm | null}
 */
export function alarmOf({ state: { guards, alerts }, databaseNowMs }) {
  const open = Object.values(alerts?.open ?? {}).filter(({ resolved_at, severity }) => !resolved_at && severity === "critical");
  const demand = demandOf(guards);
  if (guards && demand) return closing(guards, demand, open.filter(({ kind }) => GUARD_KINDS.includes(kind)), databaseNowMs);
  const other = open.find(({ kind, acknowledged_at }) => !GUARD_KINDS.includes(kind) && !acknowledged_at);
  return other ? attending(other, alerts?.attendance, databaseNowMs) : null;
}

/**
 * @param {import("../state.js").Guards} guards
 * @param {import("./demand.js").Demand} demand
 * @param {import("../state.js").Alert[]} open
 * @param {number} nowMs
 * @returns {Alarm}
 */
function closing({ drawdown }, { closesAll, symbols, alerts }, open, nowMs) {
  // The deadline of an alert stays where it was when the condition comes and goes, and that of the drawdown does not.
  const deadlines = [drawdown.liquidation_at, ...open.map(({ deadline_at }) => deadline_at)].filter((at) => at !== undefined);
  const { long, short, isOver } = timeOf(deadlines.sort()[0], nowMs);
  const reasons = [...(drawdown.should_close_all ? [drawdownReason(drawdown)] : []), ...alerts.map(alertReason)];
  const more = reasons.length - MOST_REASONS;
  return {
    demand: closesAll ? "Close all positions" : `Close ${symbols.join(", ")}`,
    reason: [...reasons.slice(0, MOST_REASONS), ...(more > 0 ? [`${more} more`] : [])].join(" · "),
    time: long,
    advice: adviceOf(open, isOver, nowMs),
    title: `⚠ ${short} ${closesAll ? "CLOSE ALL" : "CLOSE POSITIONS"}`.replace("  ", " "),
  };
}

/**
 * @param {import("../state.js").Alert[]} open
 * @param {boolean} isOver
 * @param {number} nowMs
 */
function adviceOf(open, isOver, nowMs) {
  const [first] = open;
  if (first?.acknowledged_by && first.acknowledged_at && open.every(({ acknowledged_by }) => acknowledged_by)) {
    const said = `${first.acknowledged_by} answered at ${clock(first.acknowledged_at, nowMs)}.`;
    return `${said} See that the positions close${first.hold_until ? ` by ${clock(first.hold_until, nowMs)}` : ""}.`;
  }
  const where = "at your broker: Guardwire closes nothing itself.";
  return isOver ? `The time is over. Close now ${where}` : `Close ${where}`;
}

/**
 * @param {import("../state.js").Alert} alert
 * @param {import("../state.js").Attendance | undefined} attendance
 * @param {number} nowMs
 * @returns {Alarm}
 */
function attending({ kind, subject, deadline_at, raised_at }, attendance, nowMs) {
  const { long, short } = timeOf(deadline_at, nowMs);
  if (kind !== "unattended") {
    const title = `⚠ ${short} ALERT`.replace("  ", " ");
    return { demand: `Alert: ${kind}`, reason: subject, time: long, advice: "Somebody has to act on it.", title };
  }
  return {
    demand: "No bot attends this account",
    reason: `since ${clock(attendance?.since ?? raised_at, nowMs)}`,
    time: long,
    advice: "Nobody would close positions for you now. Start the bot again, or watch the account yourself.",
    title: "⚠ NO BOT ATTENDS",
  };
}

/**
 * @param {string | undefined} at
 * @param {number} nowMs
 */
export function timeOf(at, nowMs) {
  if (at === undefined) return { long: "", short: "", isOver: false };
  const leftMs = Date.parse(at) - nowMs;
  if (leftMs <= 0) return { long: `due since ${clock(at, nowMs)}`, short: "OVERDUE", isOver: true };
  return { long: `${countdown(leftMs)} left`, short: countdown(leftMs), isOver: false };
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
