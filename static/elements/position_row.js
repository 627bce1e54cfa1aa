import { UNKNOWN, day, decimalsOf, number, signed, tone } from "./format.js";
import { flash } from "./flash.js";
import { fromTemplate, partsOf, write } from "./parts.js";

const SIDES = { buy: "Buy", sell: "Sell" };
const MOST_DECIMALS = 8;
const VOLUME_DECIMALS = 2;

/** One position's row. It lives as long as the position is open, whatever changes in it. */
export class PositionRow {
  element = fromTemplate("position-row");
  #parts = partsOf(this.element);
  /** Prices of one symbol are shown with the same decimals, or the column would flicker. */
  #decimals = 2;
  #lively;
  /** @type {import("../state.js").Position | null} */
  #shown = null;

  /**
   * @param {string} ticket
   * @param {() => boolean} lively whether a change is news, and not the catching up after an absence
   */
  constructor(ticket, lively) {
    this.#lively = lively;
    write(this.#parts.ticket, ticket);
  }

  /** @param {import("../state.js").Position} position */
  update = (position) => {
    const { entry_price, current_price, stop_loss, take_profit } = position;
    const prices = [entry_price, current_price, stop_loss, take_profit];
    this.#decimals = Math.min(Math.max(this.#decimals, ...prices.map(decimalsOf)), MOST_DECIMALS);
    this.#describe(position);
    write(this.#parts.entry, this.#price(entry_price));
    write(this.#parts.stop, this.#price(stop_loss));
    write(this.#parts.target, this.#price(take_profit));
    this.#move("price", this.#price(current_price), current_price, this.#shown?.current_price);
    this.#profit(position);
    this.#shown = position;
  };

  /** @param {import("../state.js").Position} position */
  #describe({ symbol = UNKNOWN, direction, volume, entry_time }) {
    const { symbol: name, side, opened } = this.#parts;
    if (write(name, symbol) && name) name.title = symbol;
    write(side, direction ? SIDES[direction] : UNKNOWN);
    if (side) side.className = direction ?? "";
    this.#move("volume", number(volume, VOLUME_DECIMALS, MOST_DECIMALS), volume, this.#shown?.volume);
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

  /** @param {number | undefined} price */
  #price(price) {
    return number(price, this.#decimals, MOST_DECIMALS);
  }

  /**
   * @param {string} part
   * @param {string} text
   * @param {number | undefined} now
   * @param {number | undefined} before
   */
  #move(part, text, now, before) {
    const cell = this.#parts[part]?.closest("td");
    if (!write(this.#parts[part], text) || !cell || !this.#shown || !this.#lively()) return;
    flash(cell, now === undefined || before === undefined ? "new" : now > before ? "up" : "down");
  }
}
