/** Requests of the demo's pages to its server, with the token that it gives to pages of this machine. */
export class DemoRequests {
  #folder;
  #fetch;
  /** @type {Promise<string> | null} */
  #token = null;

  /**
   * @param {object} parts
   * @param {URL} parts.folder the address of `/demo/`
   * @param {typeof globalThis.fetch} parts.fetch
   */
  constructor({ folder, fetch }) {
    this.#folder = folder;
    this.#fetch = fetch;
  }

  /**
   * The server's answer; rejects with a sentence when there is none.
   *
   * @param {"GET" | "PUT" | "POST"} method
   * @param {string} path below `/demo/`
   * @param {object} [body]
   * @returns {Promise<any>}
   */
  async send(method, path, body) {
    this.#token ??= this.#newToken();
    try {
      const headers = { Authorization: `Bearer ${await this.#token}` };
      return await this.#answer(path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
    } catch (error) {
      // The next request gets a new one: this one may have failed, or has ended.
      this.#token = null;
      throw error;
    }
  }

  async #newToken() {
    return (await this.#answer("token", {})).token;
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   */
  async #answer(path, init) {
    const fetch = this.#fetch;
    const response = await fetch(new URL(path, this.#folder), { cache: "no-store", redirect: "error", ...init }).catch(() => {
      throw new Error("The demo does not answer.");
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail ?? `The demo answered ${response.status}.`);
    return answer;
  }
}
