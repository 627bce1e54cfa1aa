import { UNKNOWN, day, number, signed, tone } from "./format.js";
import { flash } from "./flash.js";
import { fromTemplate, partsOf, write } from "./parts.js";

const SIDES = { buy: "Buy", sell: "Sell" };
const VOLUME_DECIMALS = 2;
const MOST_VOLUME_DECIMALS = 8;

/** One position's row. It is kept while the position is open, and changes in place. */
export class PositionRow {
  element = fromTemplate("position-row");
  #parts = partsOf(this.element);
  #decimals;
  #lively;
  #shouldClose;
  /** @type {import("../state.js").Position | null} */
  #shown = null;

  /**
   * @param {string} ticket
   * @param {import("./decimals.js").Decimals} decimals
   * @param {() => boolean} lively whether a change is news, and not the catching up after an absence
   * @param {(position: import("../state.js").Position) => boolean} shouldClose whether the guards demand that it is closed
   */
  constructor(ticket, decimals, lively, shouldClose) {
    this.#shouldClose = shouldClose;
    this.#decimals = decimals;
    this.#lively = lively;
    write(this.#parts.ticket, ticket);
  }

  /** @param {import("../state.js").Position} position */
  update = (position) => {
    const { entry_price, current_price, stop_loss, take_profit } = position;
    const decimals = this.#decimals.of(position);
    this.#describe(position);
    write(this.#parts.entry, number(entry_price, decimals));
    write(this.#parts.stop, number(stop_loss, decimals));
    write(this.#parts.target, number(take_profit, decimals));
    this.#move("price", number(current_price, decimals), current_price, this.#shown?.current_price);
    this.#profit(position);
    this.#shown = position;
  };

  /** @param {import("../state.js").Position} position */
  #describe(position) {
    const { symbol = UNKNOWN, instrument, direction, volume, entry_time } = position;
    const { symbol: name, side, opened, mark } = this.#parts;
    if (write(name, symbol) && name) name.title = instrument ? `${symbol}: ${instrument}` : symbol;
    write(mark, markOf(position));
    if (mark) mark.hidden = markOf(position) === "";
    const isDue = this.#shouldClose(position);
    write(this.#parts.demand, isDue ? "Close" : "");
    this.element.toggleAttribute("data-due", isDue);
    this.element.toggleAttribute("data-uncounted", position.matched !== undefined);
    write(side, direction ? SIDES[direction] : UNKNOWN);
    if (side) side.className = direction ?? "";
    this.#move("volume", number(volume, VOLUME_DECIMALS, MOST_VOLUME_DECIMALS), volume, this.#shown?.volume);
    if (write(opened, day(entry_time)) && opened) opened.title = new Date(entry_time).toLocaleString("en-GB");
    opened?.setAttribute("datetime", entry_time);
  }

  /** @param {import("../state.js").Position} position */
  #profit({ unrealized_pnl: pnl, unrealized_pnl_pct: percent, pnl_currency, contract_size_assumed }) {
    const { pnl: amount, share, unit } = this.#parts;
    this.#move("pnl", signed(pnl), pnl, this.#shown?.unrealized_pnl);
    this.#move("share", signed(percent), percent, this.#shown?.unrealized_pnl_pct);
    write(unit, pnl_currency ?? "");
    if (!amount || !share) return;
    amount.dataset.tone = share.dataset.tone = tone(pnl);
    amount.toggleAttribute("data-assumed", contract_size_assumed === true);
  }

  /**
   * @param {string} part
   * @param {string} text
   * @param {number | undefined} now
   * @param {number | undefined} before
   */
  #move(part, text, now, before) {
    const cell = this.#parts[part]?.closest("td");
    if (!write(this.#parts[part], text) || !cell || now === before || !this.#shown || !this.#lively()) return;
    flash(cell, now === undefined || before === undefined ? "new" : now > before ? "up" : "down");
  }
}

/**
 * The problem with a position in words; empty without one.
 *
 * @param {import("../state.js").Position} position
 */
function markOf({ matched, divergence_reason, unconfirmed_since }) {
  const match = matched === 2 ? "Diverges from the broker" : matched === 0 ? "Not matched yet" : "";
  const reasoned = match && divergence_reason ? `${match}: ${divergence_reason}` : match;
  return [reasoned, unconfirmed_since && "No longer mentioned by the platform"].filter(Boolean).join(". ");
}
