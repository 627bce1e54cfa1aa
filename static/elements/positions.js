import { concerns, demandOf } from "./demand.js";
import { Decimals } from "./decimals.js";
import { KeyedList } from "./keyed_list.js";
import { partsOf, write } from "./parts.js";
import { PositionRow } from "./position_row.js";

/** @typedef {[string, import("../state.js").Position]} Entry ticket and position */

/** The table of open positions, newest first. */
export class PositionsElement extends HTMLElement {
  #parts = partsOf(this);
  #lively = false;
  #decimals = new Decimals();
  #rows = new KeyedList(
    /** @type {HTMLElement} */ (this.#parts.rows),
    (ticket) => new PositionRow(ticket, this.#decimals, () => this.#lively, (position) => concerns(this.#demand, position)),
  );
  /** @type {import("./demand.js").Demand | null} */
  #demand = null;
  /** @type {import("../state.js").Positions | undefined} */
  #shown;

  /** @param {import("./view.js").View} view */
  render({ state: { positions, guards }, level }) {
    const demand = demandOf(guards);
    const isOther = demand?.closesAll !== this.#demand?.closesAll || demand?.symbols.join() !== this.#demand?.symbols.join();
    if ((positions === this.#shown && !isOther) || !positions) return;
    this.#demand = demand;
    this.#lively = level === "connected" && this.#shown !== undefined;
    this.#shown = positions;
    // Those that broker and bot do not agree on stand among the others, because they need a look the most.
    const entries = Object.entries({ ...positions.open, ...positions.unmatched }).sort(newestFirst);
    const list = entries.map(([, position]) => position);
    this.#rows.update(entries, { all: this.#decimals.learn(list) || isOther });
    this.#frame(list);
  }

  /** @param {import("../state.js").Position[]} positions */
  #frame(positions) {
    const { count, nothing, table, assumed, currency } = this.#parts;
    const unmatched = positions.filter(({ matched }) => matched !== undefined).length;
    write(count, unmatched === 0 ? String(positions.length) : `${positions.length - unmatched} + ${unmatched} not matched`);
    for (const [element, shown] of /** @type {const} */ ([
      [nothing, positions.length === 0],
      [table, positions.length > 0],
      [assumed, positions.some((position) => position.contract_size_assumed)],
    ])) {
      if (element) element.hidden = !shown;
    }
    const currencies = new Set(positions.flatMap(({ pnl_currency }) => pnl_currency ?? []));
    write(currency, currencies.size === 1 ? String([...currencies][0]) : "");
    table?.toggleAttribute("data-mixed", currencies.size > 1);
  }
}

/**
 * By entry time, newest first; tickets decide between equals, so that no two rows ever change places by chance.
 *
 * @param {Entry} one
 * @param {Entry} other
 */
export function newestFirst([ticket, { entry_time }], [otherTicket, other]) {
  if (entry_time !== other.entry_time) return entry_time < other.entry_time ? 1 : -1;
  // Tickets are longer than a number can hold exactly.
  return BigInt(ticket) < BigInt(otherTicket) ? 1 : -1;
}
