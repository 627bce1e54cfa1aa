/** The panel of the demo on the dashboard: it starts and stops the example bot. */

import { facts } from "../elements/entries.js";
import { clock } from "../elements/format.js";
import { KeyedList } from "../elements/keyed_list.js";
import { titleOf } from "../elements/open_alert.js";
import { partsOf, write } from "../elements/parts.js";
import { DemoRequests } from "./requests.js";

const REFRESH_MS = 1_000;
const RUNNING = "The example bot attends this account. It closes positions when an alert says so.";
const STOPPED = "The example bot is stopped. An alarm is raised, and alerts go to a webhook and then to a person.";

/**
 * An alert that the bot acted on.
 *
 * @typedef {Pick<import("../state.js").Alert, "kind" | "subject" | "symbol" | "condition_type" | "observed"> & { at: string, closed: number }} Acted
 */

class DemoElement extends HTMLElement {
  #parts = partsOf(this);
  #requests = new DemoRequests({ folder: new URL("demo/", document.baseURI), fetch });
  /** @type {KeyedList<Acted>} */
  #acted = new KeyedList(/** @type {HTMLElement} */ (this.#parts.acted), () => actedItem());
  #isRunning = true;

  connectedCallback() {
    const { toggle, widen } = this.#parts;
    toggle?.addEventListener("click", () => void this.#ask("PUT", "bot", { running: !this.#isRunning }));
    widen?.addEventListener("click", () => void this.#ask("POST", "spread"));
    setInterval(() => void (document.hidden || this.#ask("GET", "state")), REFRESH_MS);
    void this.#ask("GET", "state");
  }

  /**
   * @param {"GET" | "PUT" | "POST"} method
   * @param {string} path
   * @param {object} [body]
   */
  async #ask(method, path, body) {
    try {
      this.#show(await this.#requests.send(method, path, body));
      this.#say("");
    } catch (error) {
      this.#say(error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {{ running: boolean, acted: Acted[], received: number }} state */
  #show({ running, acted, received }) {
    this.#isRunning = running;
    this.toggleAttribute("data-running", running);
    write(this.#parts.bot, running ? RUNNING : STOPPED);
    write(this.#parts.toggle, running ? "Stop the bot" : "Start the bot");
    write(this.#parts.received, received > 0 ? String(received) : "");
    this.#acted.update(acted.map((each) => [each.at, each]));
  }

  /** @param {string} problem */
  #say(problem) {
    const { problem: element, toggle, widen } = this.#parts;
    write(element, problem);
    if (element) element.hidden = problem === "";
    for (const button of [toggle, widen]) button?.toggleAttribute("disabled", problem !== "");
  }
}

function actedItem() {
  const element = document.createElement("li");
  return {
    element,
    /** @param {Acted} acted */
    update(acted) {
      const did = acted.closed === 0 ? "nothing to close" : `closed ${acted.closed} position${acted.closed === 1 ? "" : "s"}`;
      write(element, facts(clock(acted.at), titleOf(acted), did));
    },
  };
}

customElements.define("gw-demo", DemoElement);
