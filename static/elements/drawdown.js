import { UNKNOWN, clock, countdown, money, number } from "./format.js";
import { partsOf, write } from "./parts.js";

/** Half a circle is the critical limit and half as much again. */
const SCALE_OF_CRITICAL = 1.5;
const LEVELS = { normal: "normal", warning: "warning", critical: "critical", unknown: "unknown" };

/** How far equity is below its peak, against the account's limits, and the countdown once that is too far. */
export class DrawdownElement extends HTMLElement {
  #parts = partsOf(this);
  /** @type {import("../state.js").Drawdown | undefined} */
  #shown;

  /** @param {import("./view.js").View} view */
  render({ state: { guards } }) {
    const drawdown = guards?.drawdown;
    if (drawdown === this.#shown || !drawdown) return;
    this.#shown = drawdown;
    this.dataset.level = drawdown.alert_type;
    this.#read(drawdown);
    this.#draw(drawdown);
    this.#note(drawdown);
  }

  /** @param {import("./view.js").View} view */
  tick({ databaseNowMs }) {
    const at = this.#shown?.liquidation_at;
    const { countdown: row, remaining, countdownLabel } = this.#parts;
    if (row) row.hidden = at === undefined;
    if (at === undefined) return;
    const leftMs = Date.parse(at) - databaseNowMs;
    write(countdownLabel, leftMs > 0 ? "Time to close" : "Was due at");
    write(remaining, leftMs > 0 ? countdown(leftMs) : clock(at));
  }

  /** @param {import("../state.js").Drawdown} drawdown */
  #read({ alert_type, current_drawdown_pct, current_equity, peak_equity, currency = "", ...limits }) {
    const { percent, level, equity, peak, warning, critical } = this.#parts;
    write(percent, current_drawdown_pct === undefined ? UNKNOWN : `${number(current_drawdown_pct, 2)} %`);
    write(level, LEVELS[alert_type]);
    write(equity, money(current_equity));
    write(peak, money(peak_equity));
    write(this.#parts.equityUnit, currency);
    write(this.#parts.peakUnit, currency);
    write(warning, `from ${number(limits.warning_pct, 0, 2)} %`);
    write(critical, `from ${number(limits.critical_pct, 0, 2)} %`);
  }

  /** @param {import("../state.js").Drawdown} drawdown */
  #draw({ alert_type, current_drawdown_pct = 0, warning_pct, critical_pct }) {
    const { gauge, arc, warningZone, criticalZone } = this.#parts;
    const scale = Math.min(critical_pct * SCALE_OF_CRITICAL, 100) || 100;
    /** @param {number} percent */
    const along = (percent) => Math.min(Math.max((percent / scale) * 100, 0), 100);
    const [warningAt, criticalAt] = [along(warning_pct), along(critical_pct)];
    arc?.setAttribute("stroke-dasharray", `${along(current_drawdown_pct)} 200`);
    warningZone?.setAttribute("stroke-dasharray", `0 ${warningAt} ${Math.max(criticalAt - warningAt, 0)} 200`);
    criticalZone?.setAttribute("stroke-dasharray", `0 ${criticalAt} ${100 - criticalAt} 200`);
    gauge?.setAttribute("aria-valuenow", String(current_drawdown_pct));
    gauge?.setAttribute("aria-valuetext", alert_type === "unknown" ? "unknown" : `${current_drawdown_pct} %, ${alert_type}`);
  }

  /** @param {import("../state.js").Drawdown} drawdown */
  #note(drawdown) {
    const { alert_type, current_equity, minimum_equity, current_drawdown_pct = 0, critical_pct, currency = "" } = drawdown;
    const minimum = `${money(minimum_equity)} ${currency}`.trim();
    const belowMinimum = alert_type === "critical" && current_drawdown_pct < critical_pct && current_equity !== undefined;
    if (drawdown.doubt !== undefined) write(this.#parts.note, doubtOf(drawdown));
    else if (alert_type === "unknown") write(this.#parts.note, "No equity on record yet.");
    else if (belowMinimum) write(this.#parts.note, `Equity is below the minimum of ${minimum}.`);
    else write(this.#parts.note, `Equity below ${minimum} is critical too.`);
  }
}

/** Why the equity cannot be trusted, in a sentence. @param {import("../state.js").Drawdown} drawdown */
function doubtOf({ doubt, doubted_equity, last_checked_at, currency = "" }) {
  const since = last_checked_at === undefined ? "" : ` Equity is from ${clock(last_checked_at)}.`;
  if (doubt === "implausible") return `Equity of ${money(doubted_equity)} ${currency} was read and is not confirmed.${since}`;
  if (doubt === "older") return `The platform's clock may have gone back.${since}`;
  return `No newer equity came.${since}`;
}
