import { conditionOf, nameOf } from "./alerts.js";
import { entryList, facts } from "./entries.js";
import { clock, number } from "./format.js";
import { partsOf, write } from "./parts.js";

/** The guards that became critical. They stay here after they cleared, so that a trader who was away sees them. */
export class BreachesElement extends HTMLElement {
  #parts = partsOf(this);
  #list = entryList(/** @type {HTMLElement} */ (this.#parts.list), describe);
  /** @type {{ [id: string]: import("../state.js").Breach } | undefined} */
  #shown;

  /** @param {import("./view.js").View} view */
  render({ state: { guards } }) {
    if (guards?.breaches === this.#shown || !guards) return;
    this.#shown = guards.breaches;
    const entries = Object.entries(guards.breaches).sort(([, one], [, other]) => other.raised_at.localeCompare(one.raised_at));
    this.#list.update(entries);
    write(this.#parts.count, entries.length > 0 ? String(entries.length) : "");
    if (this.#parts.nothing) this.#parts.nothing.hidden = entries.length > 0;
  }
}

/** @param {import("../state.js").Breach} breach */
function describe({ kind, symbol = "*", condition_type = "other", raised_at, cleared_at, observed_pct }) {
  const percent = observed_pct === undefined ? "" : `${number(observed_pct, 2)} %`;
  return {
    title: kind === "drawdown" ? "Drawdown" : nameOf(symbol),
    at: raised_at,
    detail: facts(
      kind === "drawdown" ? percent : conditionOf(condition_type, observed_pct),
      cleared_at === undefined ? "" : `cleared at ${clock(cleared_at)}`,
    ),
    tag: cleared_at === undefined ? "Ongoing" : "",
    kind: cleared_at === undefined ? "critical" : "over",
  };
}
