import { decimalsOf } from "./format.js";

const FEWEST = 2;
const MOST = 10;

/** Prices of one symbol are shown with the same decimals, as many as any of them ever had, or the columns would flicker. */
export class Decimals {
  /** @type {Map<string, number>} */
  #bySymbol = new Map();

  /** @param {import("../state.js").Position} position */
  of({ symbol = "" }) {
    return this.#bySymbol.get(symbol) ?? FEWEST;
  }

  /**
   * Takes note of the positions' prices; true when any symbol needs more decimals than before.
   *
   * @param {import("../state.js").Position[]} positions
   */
  learn(positions) {
    let grew = false;
    for (const position of positions) {
      const { symbol = "", entry_price, current_price, stop_loss, take_profit } = position;
      const most = Math.max(...[entry_price, current_price, stop_loss, take_profit].map(decimalsOfPrice));
      if (most <= this.of(position) || this.of(position) === MOST) continue;
      this.#bySymbol.set(symbol, Math.min(most, MOST));
      grew = true;
    }
    return grew;
  }
}

/** Decimals of a price, without the noise of binary fractions such as 1.0980000000000001. @param {number | undefined} price */
function decimalsOfPrice(price) {
  return decimalsOf(price && Number(price.toFixed(MOST)));
}
