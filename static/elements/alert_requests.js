/**
 * Requests of the page about one alert, over HTTP. A click gets its answer or its failure at once, where `account.acknowledge` would
 * wait for the stream and try again.
 */
export class AlertRequests {
  #token;
  #fetch;

  /**
   * @param {object} parts
   * @param {() => Promise<string | null | undefined>} parts.token
   * @param {typeof globalThis.fetch} parts.fetch
   */
  constructor({ token, fetch }) {
    this.#token = token;
    this.#fetch = fetch;
  }

  /**
   * The log of an alert, oldest first.
   *
   * @param {string} id
   * @returns {Promise<{ generation: number, at: string, entry: string, who: string | null, detail: { [name: string]: unknown } | null }[]>}
   */
  async log(id) {
    return (await this.#request(`api/v1/alerts/${encodeURIComponent(id)}`)).log;
  }

  /**
   * Resolves once the acknowledgement is committed.
   *
   * @param {string} id
   * @param {{ generation: number, as: string, action: "received" | "acting" | "done" }} answer
   */
  acknowledge(id, answer) {
    return this.#request(`api/v1/alerts/${encodeURIComponent(id)}/ack`, answer);
  }

  /**
   * Resolves once the snooze is committed.
   *
   * @param {string} id
   * @param {{ generation: number, as: string, seconds: number, reason: string }} answer
   */
  snooze(id, answer) {
    return this.#request(`api/v1/alerts/${encodeURIComponent(id)}/snooze`, answer);
  }

  /**
   * @param {string} path
   * @param {object} [body] sent by POST; without one it is a GET
   */
  async #request(path, body) {
    const fetch = this.#fetch;
    const token = await this.#token();
    const response = await fetch(new URL(path, document.baseURI), {
      method: body ? "POST" : "GET",
      headers: { Authorization: `Bearer ${token}`, ...(body && { "Content-Type": "application/json" }) },
      ...(body && { body: JSON.stringify(body) }),
      cache: "no-store",
      redirect: "error",
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail ?? `The server answered ${response.status}.`);
    return answer;
  }
}
