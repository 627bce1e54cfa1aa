/** The receiver's page of the demo: the calls that arrived, newest first, and whether their signatures are valid. */

import { facts } from "../elements/entries.js";
import { clock } from "../elements/format.js";
import { KeyedList } from "../elements/keyed_list.js";
import { titleOf } from "../elements/open_alert.js";
import { fromTemplate, partsOf, write } from "../elements/parts.js";
import { DemoRequests } from "./requests.js";

const REFRESH_MS = 1_000;

/**
 * A call that arrived; one that is not valid has no content.
 *
 * @typedef {object} Received
 * @property {number} number
 * @property {string} at
 * @property {"webhook" | "person"} reader
 * @property {boolean} is_valid
 * @property {string} [webhook_id]
 * @property {{ type: string, data: import("../state.js").Alert }} [event] of a webhook
 * @property {string} [title] of a message to a person
 * @property {string} [text]
 */

class ReceivedElement extends HTMLElement {
  #parts = partsOf(this);
  #requests = new DemoRequests({ folder: new URL(".", document.baseURI), fetch });
  /** @type {KeyedList<Received>} */
  #list = new KeyedList(/** @type {HTMLElement} */ (this.#parts.list), () => receivedItem());

  connectedCallback() {
    setInterval(() => void (document.hidden || this.#refresh()), REFRESH_MS);
    void this.#refresh();
  }

  async #refresh() {
    try {
      this.#show((await this.#requests.send("GET", "received")).received);
      this.#say("");
    } catch (error) {
      this.#say(error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {Received[]} received */
  #show(received) {
    this.#list.update(received.map((each) => [String(each.number), each]));
    write(this.#parts.count, received.length > 0 ? String(received.length) : "");
    if (this.#parts.nothing) this.#parts.nothing.hidden = received.length > 0;
  }

  /** @param {string} problem */
  #say(problem) {
    const { problem: element } = this.#parts;
    write(element, problem);
    document.documentElement.dataset.level = problem === "" ? "connected" : "blind";
    if (element) element.hidden = problem === "";
  }
}

function receivedItem() {
  const element = fromTemplate("received");
  const parts = partsOf(element);
  return {
    element,
    /** @param {Received} received */
    update(received) {
      const { title, level, signature, about, body } = wordsOf(received);
      write(parts.title, title);
      write(parts.level, level);
      write(parts.time, clock(received.at));
      parts.time?.setAttribute("datetime", received.at);
      write(parts.signature, signature);
      write(parts.about, about);
      write(parts.body, body);
      if (parts.more) parts.more.hidden = body === "";
      element.dataset.kind = received.is_valid ? "good" : "critical";
    },
  };
}

/** @param {Received} received */
function wordsOf({ reader, is_valid, webhook_id = "", event, title = "", text = "" }) {
  if (reader === "person") {
    if (!is_valid) return { title: "A message to a person", level: "", signature: "Key not valid", about: "", body: "" };
    return { title: `To a person: ${title}`, level: "", signature: "Key valid", about: "", body: text };
  }
  if (!is_valid || !event) return { title: "A call", level: "", signature: "Signature not valid", about: "", body: "" };
  return {
    title: titleOf(event.data),
    level: `Level ${event.data.level}`,
    signature: "Signature valid",
    about: facts(event.type, webhook_id),
    body: JSON.stringify(event, null, 2),
  };
}

customElements.define("gw-received", ReceivedElement);
