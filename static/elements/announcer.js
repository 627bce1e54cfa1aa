import { clock } from "./format.js";
import { wordFor } from "./connection_state.js";
import { partsOf, write } from "./parts.js";

/** A shorter interruption is not announced. */
const SETTLED_MS = 1_500;

/** Announces to screen readers a changed state of the connection, and a guard that became critical. */
export class AnnouncerElement extends HTMLElement {
  #parts = partsOf(this);
  #word = "";
  #wordSinceMs = 0;
  #critical = "";

  /** @param {import("./view.js").View} view */
  render(view) {
    const word = wordFor(view);
    if (word !== this.#word) [this.#word, this.#wordSinceMs] = [word, performance.now()];
    const critical = criticalOf(view.state);
    if (critical !== this.#critical) write(this.#parts.urgent, critical);
    this.#critical = critical;
  }

  tick() {
    if (performance.now() - this.#wordSinceMs >= SETTLED_MS) write(this.#parts.polite, SENTENCES[this.#word] ?? "");
  }
}

/** @type {{ [word: string]: string }} */
const SENTENCES = {
  Live: "Live.",
  Stale: "Stale: the numbers may be out of date.",
  Reconnecting: "Reconnecting: the numbers may be out of date.",
  Blind: "Blind: the numbers are out of date.",
  Disconnected: "Disconnected: the numbers are out of date.",
};

/** @param {import("../state.js").AccountState} state */
function criticalOf({ guards, alerts: channel }) {
  if (!guards) return "";
  const { drawdown, alerts } = guards;
  const symbols = Object.values(alerts).filter(({ alert_type }) => alert_type === "critical").map(({ symbol }) => symbol);
  const due = drawdown.liquidation_at ? `, close by ${clock(drawdown.liquidation_at)}` : "";
  const isUnattended = Object.values(channel?.open ?? {}).some(({ kind, resolved_at }) => kind === "unattended" && !resolved_at);
  return [
    drawdown.alert_type === "critical" ? `Critical drawdown${due}.` : "",
    symbols.length > 0 ? `Critical market alert: ${symbols.join(", ")}.` : "",
    isUnattended ? "No bot attends this account." : "",
  ].join(" ").trim();
}
