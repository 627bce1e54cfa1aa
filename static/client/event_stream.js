/**
 * Server-Sent Events out of a stream of text (WHATWG HTML, "Parsing an event stream"), reduced to what is needed here:
 * the data of each event. Comments and other fields are skipped.
 */
export class EventStreamParser {
  #pending = "";
  /** @type {string[]} */
  #data = [];

  /**
   * @param {string} text the next piece, cut anywhere
   * @returns {string[]} the data of the events that it completed
   */
  push(text) {
    const lines = (this.#pending + text).split(/\r\n|\n|\r(?!$)/);
    this.#pending = lines.pop() ?? "";
    return lines.flatMap((line) => this.#line(line));
  }

  /** @param {string} line */
  #line(line) {
    if (line === "") {
      const data = this.#data;
      this.#data = [];
      return data.length > 0 ? [data.join("\n")] : [];
    }
    const field = /^data(?:: ?|$)/.exec(line);
    if (field) this.#data.push(line.slice(field[0].length));
    return [];
  }
}
