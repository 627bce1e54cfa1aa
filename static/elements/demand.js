/**
 * The guards' demand to close positions: the drawdown closes all, a market alert those in its symbol.
 *
 * @typedef {object} Demand
 * @property {boolean} closesAll
 * @property {string[]} symbols sorted; empty where all are meant
 * @property {import("../state.js").MarketAlert[]} alerts those that demand it
 */

/**
 * The demand that stands now; null when there is none.
 *
 * @param {import("../state.js").Guards | undefined} guards
 * @returns {Demand | null}
 */
export function demandOf(guards) {
  if (!guards?.any_positions_should_close) return null;
  const alerts = Object.values(guards.alerts).filter(({ should_close_positions }) => should_close_positions);
  const closesAll = guards.drawdown.should_close_all || alerts.some(({ symbol }) => symbol === "*");
  return { closesAll, symbols: closesAll ? [] : [...new Set(alerts.map(({ symbol }) => symbol))].sort(), alerts };
}

/**
 * Whether the demand means this position. Brokers write one symbol in several ways, so its instrument counts too.
 *
 * @param {Demand | null} demand
 * @param {import("../state.js").Position} position
 */
export function concerns(demand, { symbol, instrument }) {
  if (demand === null) return false;
  const names = [symbol, instrument].flatMap((name) => name?.trim().toUpperCase() ?? []);
  return demand.closesAll || demand.symbols.some((each) => names.includes(each.trim().toUpperCase()));
}
