import { UNKNOWN, duration, money, number, signed, tone } from "./format.js";
import { History } from "./history.js";
import { partsOf, write } from "./parts.js";
import { sparkline } from "./sparkline.js";

const LABEL_EVERY_MS = 30_000;

/** Total unrealized P&L and how it went while this page was open. */
export class ProfitElement extends HTMLElement {
  #parts = partsOf(this);
  #history = new History();
  #labelledAtMs = -Infinity;

  /** @param {import("./view.js").View} view */
  render({ state: { positions } }) {
    if (!positions) return;
    const { total, currency, share, chart } = this.#parts;
    const { total_unrealized_pnl: pnl, total_unrealized_pnl_pct: percent, currency: unit } = positions;
    write(total, pnl === undefined ? subtotals(positions) : signed(pnl));
    total?.toggleAttribute("data-several", pnl === undefined);
    if (total) total.dataset.tone = tone(pnl);
    if (chart) chart.hidden = pnl === undefined;
    write(currency, pnl === undefined ? "" : (unit ?? ""));
    const known = percent === undefined ? "" : `${signed(percent)} % of the balance`;
    write(share, [pnl === undefined ? whyNoTotal(positions) : known, uncounted(positions)].filter(Boolean).join(" · "));
  }

  /** @param {import("./view.js").View} view */
  tick({ state: { positions }, level }) {
    const nowMs = performance.now();
    this.#history.add((level === "connected" ? positions?.total_unrealized_pnl : undefined) ?? null, nowMs);
    this.#draw(nowMs);
  }

  /** @param {number} nowMs */
  #draw(nowMs) {
    const { sparkline: svg, span, high, low } = this.#parts;
    const { samples } = this.#history;
    const drawn = sparkline(samples, nowMs);
    if (!svg || !drawn) return;
    for (const name of /** @type {const} */ (["line", "area", "now"])) {
      svg.querySelector(`.${name}`)?.setAttribute("d", drawn[name]);
    }
    const zero = svg.querySelector(".zero");
    zero?.toggleAttribute("hidden", drawn.zero === null);
    for (const end of ["y1", "y2"]) zero?.setAttribute(end, String(drawn.zero ?? 0));
    write(high, money(drawn.high));
    write(low, drawn.low === drawn.high ? "" : money(drawn.low));
    const text = `last ${duration(Math.max(nowMs - /** @type {any} */ (samples[0]).atMs, 10_000))}`;
    write(span, text);
    if (nowMs - this.#labelledAtMs < LABEL_EVERY_MS) return;
    this.#labelledAtMs = nowMs;
    svg.setAttribute("aria-label", `P&L, ${text}: between ${money(drawn.low)} and ${money(drawn.high)}`);
  }
}

/** @param {import("../state.js").Positions} positions */
function whyNoTotal({ open, currency }) {
  const all = Object.values(open);
  const assumed = all.filter(({ contract_size_assumed }) => contract_size_assumed).length;
  if (assumed > 0) return `No total: ${assumed} of ${all.length} positions ${assumed === 1 ? "has" : "have"} no known contract size.`;
  if (all.some(({ unrealized_pnl }) => unrealized_pnl === undefined)) return "No total: a position's P&L is not known.";
  if (currency === undefined) return "No total: the account's currency is not known yet.";
  return "No total: a rate between these currencies is not known.";
}

/** @param {import("../state.js").Positions} positions */
function uncounted({ unmatched = {} }) {
  const count = Object.keys(unmatched).length;
  return count === 0 ? "" : `+${count} not counted`;
}

/**
 * The sum for each currency, where one sum of all would be wrong.
 *
 * @param {import("../state.js").Positions} positions
 */
function subtotals({ open }) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const { unrealized_pnl, pnl_currency, contract_size_assumed } of Object.values(open)) {
    if (unrealized_pnl === undefined || !pnl_currency || contract_size_assumed) return UNKNOWN;
    sums.set(pnl_currency, (sums.get(pnl_currency) ?? 0) + unrealized_pnl);
  }
  return [...sums].map(([currency, sum]) => `${signed(Number(sum.toFixed(2)))} ${currency}`).join(" · ") || number(undefined);
}
